import type { Config, NodeConfig } from '../config/schema.ts'
import type { Logger } from '../runtime/log.ts'
import type { Store } from '../store/store.ts'
import { decodeNodeIntent, encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import type { NodeIntent } from '../topology/types.ts'

/**
 * Declares the configuration's `nodes` in the store, each only if it is not there yet: what operators changed
 * since then stays. A store that is away is no reason not to start.
 */
export async function seedNodes(store: Store, config: Config, log: Logger): Promise<void> {
  for (const node of config.nodes) {
    const { name, host, port } = node
    try {
      const known = await declareNode(store, config.cluster, node)
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

/** Declares a node unless it is there already; then gives back what the store has. */
export async function declareNode(
  store: Store,
  cluster: string,
  { name, host, port, weight, zone, priority, tags }: NodeConfig,
): Promise<NodeIntent | undefined> {
  const key = keysOf(cluster).nodeIntent(name)
  const node = { v: 1, host, port, weight, zone, priority, state: 'active', tags } as const
  const { applied } = await store.transact({
    compares: [{ key, target: 'modified', revision: 0 }],
    writes: [{ kind: 'put', key, value: encode(node) }],
  })
  if (applied) return undefined
  const { entry } = await store.get(key)
  return entry && decodeNodeIntent(entry.value).value
}
