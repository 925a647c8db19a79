import { changeFleet, type FleetChange } from '../config/fleet-changes.ts'
import { namePattern } from '../config/names.ts'
import type { Problem } from '../config/problem.ts'
import { type Intent, oldestSnapshot, snapshotAt } from './intent.ts'
import {
  changeIntent,
  type Draft,
  draftOf,
  type Made,
  OperationError,
  type Operations,
} from './intent-change.ts'
import type { NodeIntent, NodeState } from './types.ts'

/** What operators do to the intent, each a change that is checked on what it finds. */

/** Declares a node. The name and the address must be free, and its server of the same cluster as the others. */
export function addNode(
  at: Operations,
  name: string,
  node: Omit<NodeIntent, 'v'>,
  systemId: string | undefined,
): Promise<Made> {
  if (!namePattern.test(name)) {
    throw new OperationError(
      'refused',
      `"${name}" cannot be a node's name`,
      'Use letters, digits, ".", "_" and "-".',
    )
  }
  return changeIntent(at, ({ nodes, statuses }) => {
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
    return nodeDraft(`node add ${name} ${node.host}:${node.port}`, name, { v: 1, ...node })
  })
}

/** Declares a node unless there is one of that name; then gives back what the store has. */
export async function declareNode(
  at: Operations,
  name: string,
  node: Omit<NodeIntent, 'v'>,
): Promise<NodeIntent | undefined> {
  let known: NodeIntent | undefined
  await changeIntent(at, intent => {
    known = intent.nodes.get(name)
    if (known) return undefined
    const taken = addressHolder(intent, name, node.host, node.port)
    if (taken === undefined) {
      return nodeDraft(`node add ${name} ${node.host}:${node.port}`, name, { v: 1, ...node })
    }
    throw new OperationError('refused', `${node.host}:${node.port} is already the address of node ${taken}`)
  })
  return known
}

/** Takes a node out of the intent. A primary is refused, and one whose agent lives would come back. */
export function removeNode(at: Operations, name: string): Promise<Made> {
  return changeIntent(at, intent => {
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
    return nodeDraft(`node remove ${name}`, name, undefined)
  })
}

/** Drains, resumes or sets apart. A primary is drained only by force: writes would wait. */
export function setNodeState(at: Operations, name: string, state: NodeState, force: boolean): Promise<Made> {
  return changeIntent(at, intent => {
    if (!force) refuseWithoutPrimary(intent, name, state)
    return nodeDraft(`node ${stateCommands[state]} ${name}`, name, { ...knownNode(intent, name), state })
  })
}

const stateCommands: Record<NodeState, string> = {
  active: 'resume',
  drain: 'drain',
  maintenance: 'maintenance',
}

function refuseWithoutPrimary({ statuses }: Intent, name: string, state: NodeState): void {
  const status = statuses.get(name)
  const claimants = [...statuses.values()].filter(each => each.role === 'primary' && each.accepting)
  // Of several that claim to be primary, setting one apart is how an operator decides.
  const decides = state === 'maintenance' && claimants.length > 1
  if (state === 'active' || status?.role !== 'primary' || !status.accepting || decides) return
  throw new OperationError(
    'refused',
    `node ${name} is the primary: while it is ${state === 'drain' ? 'drained' : 'in maintenance'}, writes wait`,
    'Promote another node first, or say --force.',
  )
}

export function setNodeWeight(at: Operations, name: string, weight: number): Promise<Made> {
  return changeIntent(at, intent =>
    nodeDraft(`node weight ${name} ${weight}`, name, { ...knownNode(intent, name), weight }),
  )
}

function nodeDraft(what: string, name: string, node: NodeIntent | undefined): Draft {
  return { what, nodes: new Map([[name, node]]) }
}

/** Settings of the fleet that are wrong: nothing was changed. */
export class SettingsError extends Error {
  readonly code = 'invalid'
  readonly problems: readonly Problem[]
  constructor(problems: readonly Problem[]) {
    super(problems.length === 1 ? 'a setting is wrong' : `${problems.length} settings are wrong`)
    this.name = 'SettingsError'
    this.problems = problems
  }
}

/**
 * Sets settings of the fleet, and takes out those without a text, all or none. With `base` it is refused when somebody
 * has changed settings after that change.
 * @throws SettingsError
 */
export function changeSettings(
  at: Operations,
  what: string,
  changes: readonly FleetChange[],
  base: number | undefined,
): Promise<Made> {
  return changeIntent(at, intent => {
    if (base !== undefined) refuseIfMoved(intent, base)
    const result = changeFleet(intent.values, changes)
    if (result.problems) throw new SettingsError(result.problems)
    return { what, values: result.values }
  })
}

/**
 * Makes the settings of the fleet those of `wanted`, which was made from what they were after change `base`. Refused
 * when somebody has changed them since: what that one did would be undone unseen.
 */
export function replaceSettings(
  at: Operations,
  what: string,
  wanted: Record<string, unknown>,
  base: number,
): Promise<Made> {
  return changeIntent(at, intent => {
    refuseIfMoved(intent, base)
    return { what, values: wanted }
  })
}

function refuseIfMoved(intent: Intent, base: number): void {
  const others = intent.history.filter(
    ({ change, entry }) => change > base && Object.keys(entry.settings).length > 0,
  )
  if (others.length === 0 && oldestSnapshot(intent) <= base) return
  const who = others.map(({ change, entry }) => `change ${change}, ${entry.who}: ${entry.what}`)
  const message =
    others.length === 0
      ? 'the settings may have been changed meanwhile: the history does not go back so far'
      : `the settings were changed meanwhile (${who.join('; ')})`
  throw new OperationError('refused', message, 'Nothing was written: see what they are now, and try again.')
}

/**
 * Makes nodes and settings what they were after change `target`, in a new change. A node that takes writes now is
 * not taken out of use that way unless by force.
 */
export function rollback(at: Operations, target: number, force: boolean): Promise<Made> {
  return changeIntent(at, intent => {
    const snapshot = snapshotAt(intent, target)
    if (!snapshot) {
      const [oldest, newest] = [oldestSnapshot(intent), intent.change]
      const known = oldest === newest ? 'There are no changes to undo.' : `Known are ${oldest} to ${newest}.`
      throw new OperationError('refused', `what was wanted after change ${target} is not known`, known)
    }
    for (const [name, status] of intent.statuses) {
      const state = snapshot.nodes.get(name)?.state ?? 'active'
      if (!force && status.role === 'primary' && intent.nodes.get(name)?.state !== state) {
        refuseWithoutPrimary(intent, name, state)
      }
    }
    return draftOf(intent, snapshot, `config rollback ${target}`)
  })
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
  { nodes, statuses }: Pick<Intent, 'nodes' | 'statuses'>,
  name: string,
  host: string,
  port: number,
): string | undefined {
  for (const [other, node] of [...nodes, ...statuses]) {
    if (other !== name && node.host === host && node.port === port) return other
  }
  return undefined
}
