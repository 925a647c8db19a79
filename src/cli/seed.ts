import type { Config, NodeConfig } from '../config/schema.ts'
import type { Logger } from '../runtime/log.ts'
import type { Store } from '../store/store.ts'
import type { Operations } from '../topology/intent-change.ts'
import { declareNode } from '../topology/operations.ts'
import type { NodeIntent } from '../topology/types.ts'
import { operationsBy } from './operations.ts'

/**
 * Declares the configuration's `nodes` in the store, each only if it is not there yet: what operators changed
 * since then stays. A store that is away is no reason not to start.
 */
export async function seedNodes(store: Store, config: Config, log: Logger): Promise<void> {
  const at = operationsBy(`proxy ${config.proxy.id}`, store, config.cluster, 'listed in its configuration')
  for (const node of config.nodes) {
    const { name, host, port } = node
    try {
      const known = await declareConfigured(at, node)
      if (known && (known.host !== host || known.port !== port)) {
        log.warn(
          { event: 'nodes.differ', node: name },
          `node ${name} is ${known.host}:${known.port} in the store, which counts, and ${host}:${port} in the configuration`,
        )
      }
    } catch (cause) {
      log.warn(
        { event: 'nodes.seed', node: name, err: cause },
        `node ${name} could not be declared in the store`,
      )
    }
  }
}

/** Declares one of them; gives back what the store has when it was there already. */
export function declareConfigured(
  at: Operations,
  { name, ...node }: NodeConfig,
): Promise<NodeIntent | undefined> {
  return declareNode(at, name, { ...node, state: 'active' })
}
