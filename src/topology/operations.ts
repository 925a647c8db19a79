import { namePattern } from '../config/names.ts'
import type { Store, Transaction, TransactionResult } from '../store/store.ts'
import { decodeNodeIntent, decodeNodeStatus, encode } from './codec.ts'
import { keysOf } from './keys.ts'
import type { NodeIntent, NodeState, NodeStatus } from './types.ts'

/**
 * What operators do to the intent, each a transaction: read, check, write only if nothing that was checked has
 * changed since. Two operators at once never lose a change: the later one checks again on what the earlier left.
 */
export class OperationError extends Error {
  readonly code: 'refused' | 'contended'
  /** What to do about it. */
  readonly hint: string | undefined
  constructor(code: 'refused' | 'contended', message: string, hint?: string) {
    super(message)
    this.name = 'OperationError'
    this.code = code
    this.hint = hint
  }
}

export interface Operations {
  store: Store
  cluster: string
}

/** What the checks of an operation see, all of one revision. */
interface Intent {
  nodes: Map<string, NodeIntent>
  statuses: Map<string, NodeStatus>
}

/** Tries of one operation before it gives up against others that keep writing. */
const attemptsMax = 50

/** Declares a node. The name and the address must be free, and its server of the same cluster as the others. */
export function addNode(
  at: Operations,
  name: string,
  node: Omit<NodeIntent, 'v'>,
  systemId: string | undefined,
): Promise<number> {
  if (!namePattern.test(name)) {
    throw new OperationError(
      'refused',
      `"${name}" cannot be a node's name`,
      'Use letters, digits, ".", "_" and "-".',
    )
  }
  return change(at, ({ nodes, statuses }) => {
    if (nodes.has(name)) {
      throw new OperationError(
        'refused',
        `node ${name} exists already`,
        `Change it with pgherd node weight ${name} ...`,
      )
    }
    const taken = addressHolder({ nodes, statuses }, name, node.host, node.port)
    if (taken !== undefined) {
      throw new OperationError('refused', `${node.host}:${node.port} is already the address of node ${taken}`)
    }
    for (const [other, status] of statuses) {
      if (systemId === undefined || status.systemId === '' || status.systemId === systemId) continue
      throw new OperationError(
        'refused',
        `the server at ${node.host}:${node.port} belongs to another cluster: its system identifier is ${systemId}, that of ${other} is ${status.systemId}`,
        'Only servers that replicate from each other can be nodes of one cluster.',
      )
    }
    return { name, node: { v: 1, ...node } }
  })
}

/** Declares a node unless there is one of that name; then gives back what the store has. */
export async function declareNode(
  at: Operations,
  name: string,
  node: Omit<NodeIntent, 'v'>,
): Promise<NodeIntent | undefined> {
  let known: NodeIntent | undefined
  await change(at, intent => {
    known = intent.nodes.get(name)
    if (known) return undefined
    const taken = addressHolder(intent, name, node.host, node.port)
    if (taken === undefined) return { name, node: { v: 1, ...node } }
    throw new OperationError('refused', `${node.host}:${node.port} is already the address of node ${taken}`)
  })
  return known
}

/** Takes a node out of the intent. A primary is refused, and one whose agent lives would come back. */
export function removeNode(at: Operations, name: string): Promise<number> {
  return change(at, intent => {
    const status = intent.statuses.get(name)
    if (status?.role === 'primary' && status.accepting) {
      throw new OperationError('refused', `node ${name} is the primary`, 'Promote another node first.')
    }
    if (status) {
      throw new OperationError(
        'refused',
        `the agent of node ${name} is running and would report it again`,
        `Stop the agent first; pgherd node drain ${name} keeps clients away meanwhile.`,
      )
    }
    if (!intent.nodes.has(name)) throw unknownNode(intent, name)
    return { name, node: undefined }
  })
}

/** Drains, resumes or sets apart. A primary is drained only by force: writes would wait. */
export function setNodeState(
  at: Operations,
  name: string,
  state: NodeState,
  force: boolean,
): Promise<number> {
  return change(at, intent => {
    const status = intent.statuses.get(name)
    const claimants = [...intent.statuses.values()].filter(each => each.role === 'primary' && each.accepting)
    // Of several that claim to be primary, setting one apart is how an operator decides.
    const decides = state === 'maintenance' && claimants.length > 1
    if (state !== 'active' && status?.role === 'primary' && status.accepting && !force && !decides) {
      throw new OperationError(
        'refused',
        `node ${name} is the primary: while it is ${state === 'drain' ? 'drained' : 'in maintenance'}, writes wait`,
        'Promote another node first, or say --force.',
      )
    }
    return { name, node: { ...knownNode(intent, name), state } }
  })
}

export function setNodeWeight(at: Operations, name: string, weight: number): Promise<number> {
  return change(at, intent => ({ name, node: { ...knownNode(intent, name), weight } }))
}

/** The node's intent; for one that only its agent has told of, what it would be. */
function knownNode(intent: Intent, name: string): NodeIntent {
  const declared = intent.nodes.get(name)
  if (declared) return declared
  const status = intent.statuses.get(name)
  if (!status) throw unknownNode(intent, name)
  const { host, port, zone } = status
  return { v: 1, host, port, weight: 1, zone, priority: 1, state: 'active', tags: {} }
}

function unknownNode({ nodes, statuses }: Intent, name: string): OperationError {
  const names = [...new Set([...nodes.keys(), ...statuses.keys()])].sort()
  const known = names.length === 0 ? 'No node is known yet.' : `Known nodes: ${names.join(', ')}.`
  return new OperationError('refused', `there is no node ${name}`, known)
}

function addressHolder(
  { nodes, statuses }: Intent,
  name: string,
  host: string,
  port: number,
): string | undefined {
  for (const [other, node] of [...nodes, ...statuses]) {
    if (other !== name && node.host === host && node.port === port) return other
  }
  return undefined
}

/**
 * Reads the intent, lets `decide` check it and say what to write, and writes that unless another operator was
 * faster; then it begins again. Every change bumps one generation key, so that checks which look at all nodes
 * (is the address free?) hold at the moment of the write. Returns the revision of the change, 0 for none.
 */
async function change(
  { store, cluster }: Operations,
  decide: (intent: Intent) => { name: string; node: NodeIntent | undefined } | undefined,
): Promise<number> {
  const keys = keysOf(cluster)
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const { entries } = await store.list(keys.root)
    const intent: Intent = { nodes: new Map(), statuses: new Map() }
    let generation = { count: 0, revision: 0 }
    for (const { key, value, modRevision } of entries) {
      if (key.startsWith(keys.nodeIntents)) {
        const { value: node } = decodeNodeIntent(value)
        if (node) intent.nodes.set(key.slice(keys.nodeIntents.length), node)
      } else if (key.startsWith(keys.nodeStatuses)) {
        const { value: status } = decodeNodeStatus(value)
        if (status) intent.statuses.set(key.slice(keys.nodeStatuses.length), status)
      } else if (key === keys.generation) generation = { count: Number(value) || 0, revision: modRevision }
    }
    const decision = decide(intent)
    if (!decision) return 0
    const { name, node } = decision
    const key = keys.nodeIntent(name)
    const transaction: Transaction = {
      compares: [{ key: keys.generation, target: 'modified', revision: generation.revision }],
      writes: [
        { kind: 'put', key: keys.generation, value: String(generation.count + 1) },
        node ? { kind: 'put', key, value: encode(node) } : { kind: 'delete', key },
      ],
    }
    const result: TransactionResult = await store.transact(transaction)
    if (result.applied) return result.revision
  }
  throw new OperationError(
    'contended',
    `others changed the intent at the same time, ${attemptsMax} times in a row`,
    'Nothing was changed; try again.',
  )
}
