import { factsOf, type Known } from './evidence.ts'
import type { TopologyNode } from './types.ts'

/** What is decided about the cluster as a whole. What a node may do follows from this and what is known of it. */
export interface Decisions {
  /** Nodes that are only another name of a server, with the name that counts. */
  seconds: ReadonlyMap<string, string>
  /** The system identifier of the cluster; several when it cannot be told which one is. */
  candidates: readonly string[]
  leader: string | undefined
  /** The one node that is the primary, as its own agent or the server describes it. */
  primary: TopologyNode | undefined
  /** Names of those that claim to be primary, and are not. */
  denied: ReadonlySet<string>
  /** Names of the nodes of which it cannot be decided which one is the primary. */
  conflict: string[]
  alarms: string[]
}

/** `nodes` in the order of their names. */
export function decide(nodes: readonly Known[], leader: string | undefined): Decisions {
  const alarms: string[] = []
  const seconds = secondNames(nodes, alarms)
  const firsts = seconds.size === 0 ? nodes : nodes.filter(({ draft }) => !seconds.has(draft.name))
  const candidates = clusterSystemIds(firsts, leader)
  const undecided = { seconds, candidates, leader, primary: undefined, denied: new Set<string>(), alarms }
  if (candidates.length > 1) {
    alarms.push(tellApart(firsts, candidates))
    return { ...undecided, conflict: [] }
  }
  const systemId = candidates[0] ?? ''
  const ours = firsts.filter(({ draft }) => draft.systemId === systemId)
  for (const { draft } of firsts) {
    if (draft.systemId === '' || systemId === '' || draft.systemId === systemId) continue
    alarms.push(`node ${draft.name} belongs to another cluster and is left alone`)
  }
  return { ...undecided, ...choosePrimary(ours, leader, alarms) }
}

/**
 * Nodes that are only another name of a server: two names must not count as two servers. The declared name stands,
 * then that of a living agent, then the smaller one.
 */
function secondNames(nodes: readonly Known[], alarms: string[]): Map<string, string> {
  const isLive = ({ evidence }: Known): boolean => evidence.live !== undefined
  const rank = (known: Known): number => (known.draft.declared ? 2 : 0) + (isLive(known) ? 1 : 0)
  const firsts = new Map<string, Known>()
  // Sorted by name, so that of equals the smaller one stays.
  for (const known of nodes) {
    const first = firsts.get(known.address)
    if (!first || rank(known) > rank(first)) firsts.set(known.address, known)
  }
  const seconds = new Map<string, string>()
  if (firsts.size === nodes.length) return seconds
  for (const known of nodes) {
    const { address, draft } = known
    const first = firsts.get(address)
    if (!first || first === known) continue
    seconds.set(draft.name, first.draft.name)
    if (!draft.declared && !isLive(known)) continue
    alarms.push(
      `nodes ${first.draft.name} and ${draft.name} have the same address ${address}; ${draft.name} is left alone: ` +
        "correct its agent's node name or address",
    )
  }
  return seconds
}

/** The leader's system identifier; else the one that most nodes have. Several when as many have another. */
function clusterSystemIds(nodes: readonly Known[], leader: string | undefined): string[] {
  const votes = new Map<string, number>()
  for (const { evidence } of nodes) {
    const id = factsOf(evidence)?.systemId ?? ''
    if (id === '') continue
    if (evidence.name === leader) return [id]
    votes.set(id, (votes.get(id) ?? 0) + 1)
  }
  const most = Math.max(...votes.values())
  return [...votes].flatMap(([id, count]) => (count === most ? id : [])).sort()
}

/** Nobody knows which of the identifiers is the cluster's: a write, or a read, to a stranger would be worse than none. */
function tellApart(nodes: readonly Known[], candidates: readonly string[]): string {
  const groups = candidates.map(id => {
    const names = nodes.filter(({ draft }) => draft.systemId === id).map(({ draft }) => draft.name)
    return `${names.join(' and ')} ${names.length > 1 ? 'have' : 'has'} the system identifier ${id}`
  })
  return `it cannot be told which nodes are this cluster's: ${groups.join(', ')}; nothing is sent to either until the strangers are removed`
}

function choosePrimary(
  nodes: readonly Known[],
  leader: string | undefined,
  alarms: string[],
): Pick<Decisions, 'primary' | 'denied' | 'conflict'> {
  let claimants = nodes.filter(({ claims }) => claims)
  if (claimants.length === 0) {
    // Nobody claims, but nobody denies it either: the last known primary, its agent silent and not yet asked.
    claimants = nodes.filter(
      ({ draft, evidence }) => draft.role === 'primary' && draft.accepting && evidence.seen === undefined,
    )
  }
  // An operator who sets one of several apart has decided.
  const active = claimants.filter(({ draft }) => draft.state !== 'maintenance')
  if (active.length > 0) claimants = active
  const chosen = leader === undefined ? undefined : claimants.find(({ draft }) => draft.name === leader)
  if (leader !== undefined && !chosen) alarms.push(`the leader ${leader} does not say that it is the primary`)
  const legitimate = leader === undefined ? claimants : claimants.filter(known => known === chosen)

  const conflict: string[] = []
  if (legitimate.length > 1) {
    conflict.push(...legitimate.map(({ draft }) => draft.name))
    const names = legitimate.map(({ draft }) => `${draft.name} (timeline ${draft.timeline})`).join(' and ')
    alarms.push(
      `${legitimate.length} nodes claim to be primary: ${names}; writes stop until only one is left: ` +
        'stop the one that should not be, or set it apart with pgherd node maintenance',
    )
  }
  const primary = legitimate.length === 1 ? legitimate[0]!.draft : undefined
  if (primary && !primary.accepting) alarms.push(`the primary ${primary.name} cannot be reached`)
  else if (primary && primary.state !== 'active')
    alarms.push(`the primary ${primary.name} is ${stateInWords(primary)}: writes wait`)
  if (claimants.length === 0) alarms.push('no node is a primary that accepts connections')
  const denied = claimants.flatMap(({ draft }) => (draft === primary ? [] : draft.name))
  return { primary, denied: new Set(denied), conflict }
}

export function stateInWords(node: TopologyNode): string {
  return node.state === 'drain' ? 'being drained' : 'in maintenance'
}
