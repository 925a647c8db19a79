import type { ClusterState } from './state.ts'
import type {
  NodeFacts,
  NodeIntent,
  NodeStatus,
  Observation,
  Settings,
  Topology,
  TopologyNode,
} from './types.ts'

/** What a proxy decides by itself where the fleet's settings say nothing. */
export interface TopologyDefaults {
  replicaLagBytesMax: number
  readFallback: 'primary' | 'none'
  drainTimeoutMs: number
}

/** Everything known about one node before anything is decided about it. */
interface Evidence {
  name: string
  intent: NodeIntent | undefined
  /** The agent's report while its lease lives. */
  live: NodeStatus | undefined
  /** The agent's newest report, living or not. */
  last: NodeStatus | undefined
  seen: Observation | undefined
}

/**
 * Makes the one snapshot that everything else decides from. A function of the state alone: the same keys and
 * observations give the same topology, whatever the order in which they became known.
 *
 * The rules, each told in the node's `reasons`:
 * - What this process saw on the server itself counts more than the agent's word; the agent's word counts while
 *   its lease lives; after that the last known role stays, because a silent agent does not make a server bad.
 * - Nodes of another system identifier are strangers and get nothing.
 * - Writes go to the only node that claims to be primary. Of several claimants the one that the leader key
 *   names is right; without a leader key nobody is, and writes stop until one is left.
 * - Reads go to replicas that accept connections, follow closely enough and are not drained.
 */
export function buildTopology(cluster: string, state: ClusterState, defaults: TopologyDefaults): Topology {
  const settings = effectiveSettings(state.settings?.value, defaults)
  const evidence = new Map(state.nodeNames().map(name => [name, gather(state, name)]))
  const systemId = clusterSystemId([...evidence.values()], state.leader?.value.node)
  const nodes = [...evidence.values()].map(known => describe(known))
  const alarms = [...state.problems.values()].sort()

  for (const node of nodes) {
    if (node.systemId !== '' && systemId !== '' && node.systemId !== systemId) {
      node.reasons.push(
        `belongs to another cluster: its system identifier is ${node.systemId}, not ${systemId}`,
      )
      alarms.push(`node ${node.name} belongs to another cluster and is left alone`)
    }
  }
  const ours = nodes.filter(node => node.systemId === systemId)
  const conflict: string[] = []
  const primary = choosePrimary(ours, evidence, state.leader?.value.node, alarms, conflict)
  const newestLsn = primary?.lsn
  for (const node of ours) {
    if (node.role !== 'replica') continue
    node.lagBytes = lagBytesOf(node, evidence.get(node.name), newestLsn)
    judgeReplica(node, settings)
  }
  return {
    cluster,
    revision: state.revision,
    intentRevision: state.intentRevision,
    epoch: state.leader?.createRevision ?? 0,
    systemId,
    nodes,
    primary: primary?.name,
    conflict,
    alarms,
    settings,
  }
}

function effectiveSettings(fleet: Settings | undefined, defaults: TopologyDefaults): Required<Settings> {
  return {
    v: 1,
    replicaLagBytesMax: fleet?.replicaLagBytesMax ?? defaults.replicaLagBytesMax,
    readFallback: fleet?.readFallback ?? defaults.readFallback,
    drainTimeoutMs: fleet?.drainTimeoutMs ?? defaults.drainTimeoutMs,
  }
}

function gather(state: ClusterState, name: string): Evidence {
  return {
    name,
    intent: state.nodeIntents.get(name)?.value,
    live: state.nodeStatuses.get(name)?.value,
    last: state.lastStatuses.get(name)?.value,
    seen: state.observations.get(name),
  }
}

/** First hand when the server answered; else the agent's newest word; else what was seen long ago. */
function factsOf({ seen, last }: Evidence): NodeFacts | undefined {
  return seen?.reachable ? seen.facts : (last ?? seen?.facts)
}

/** The system identifier most nodes have; the leader's decides where there is one; ties go to the smallest. */
function clusterSystemId(evidence: Evidence[], leader: string | undefined): string {
  const votes = new Map<string, number>()
  for (const known of evidence) {
    const id = systemIdOf(known)
    if (id === '') continue
    if (known.name === leader) return id
    votes.set(id, (votes.get(id) ?? 0) + 1)
  }
  const ranked = [...votes].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
  return ranked[0]?.[0] ?? ''
}

function systemIdOf(known: Evidence): string {
  return factsOf(known)?.systemId ?? ''
}

function describe(known: Evidence): TopologyNode {
  const { intent, live, last, seen } = known
  const facts = factsOf(known)
  const role = facts?.role ?? 'unknown'
  const accepting = seen ? seen.reachable : (last?.accepting ?? false)
  const node: TopologyNode = {
    name: known.name,
    host: intent?.host ?? last?.host ?? '',
    port: intent?.port ?? last?.port ?? 0,
    weight: intent?.weight ?? 1,
    zone: intent?.zone || last?.zone || '',
    state: intent?.state ?? 'active',
    tags: intent?.tags ?? {},
    role,
    accepting,
    declared: intent !== undefined,
    source: seen?.reachable ? 'probe' : live ? 'agent' : seen ? 'probe' : 'none',
    systemId: facts?.systemId ?? '',
    timeline: facts?.timeline ?? 0,
    lsn: role === 'primary' ? facts?.writeLsn : facts?.replayLsn,
    lagBytes: undefined,
    lagMs: role === 'replica' ? facts?.lagMs : undefined,
    connections: facts?.connections,
    load: live?.load,
    version: facts?.version ?? 0,
    writable: false,
    readable: false,
    reasons: [],
  }
  if (!accepting) node.reasons.push(`does not accept connections: ${whyNotAccepting(known)}`)
  else if (role === 'unknown') node.reasons.push('its role is not known yet')
  if (!live && last && !seen && node.accepting)
    node.reasons.push('its agent is silent: its last known state is used')
  return node
}

function whyNotAccepting({ seen, last }: Evidence): string {
  if (seen) return seen.reason ?? 'it cannot be reached from here'
  if (last) return last.reason ?? 'its agent says so'
  return 'nobody has reached it yet'
}

/** A node claims to be primary when its living agent or the server itself says so. */
function claims({ live, seen }: Evidence): boolean {
  if (seen?.reachable) return seen.facts?.role === 'primary'
  if (live) return live.accepting && live.role === 'primary'
  return false
}

function choosePrimary(
  nodes: TopologyNode[],
  evidence: Map<string, Evidence>,
  leader: string | undefined,
  alarms: string[],
  conflict: string[],
): TopologyNode | undefined {
  let claimants = nodes.filter(node => {
    const known = evidence.get(node.name)
    return known !== undefined && claims(known)
  })
  if (claimants.length === 0) {
    // Nobody claims, but nobody denies it either: the last known primary, its agent silent and not yet asked.
    claimants = nodes.filter(node => {
      const known = evidence.get(node.name)
      return node.role === 'primary' && node.accepting && known?.seen === undefined
    })
  }
  const chosen = leader === undefined ? undefined : claimants.find(node => node.name === leader)
  if (leader !== undefined && !chosen) alarms.push(`the leader ${leader} does not say that it is the primary`)
  const legitimate = leader === undefined ? claimants : claimants.filter(node => node === chosen)

  if (legitimate.length > 1) {
    conflict.push(...legitimate.map(node => node.name))
    const names = legitimate.map(node => `${node.name} (timeline ${node.timeline})`).join(' and ')
    alarms.push(
      `${legitimate.length} nodes claim to be primary: ${names}; writes stop until only one is left`,
    )
  }
  const [only] = legitimate.length === 1 ? legitimate : []
  for (const node of claimants) {
    if (node === only) continue
    if (leader === undefined) node.reasons.push('not the primary to write to: another node claims it as well')
    else node.reasons.push(`not the primary to write to: the leader is ${leader}`)
  }
  if (!only) {
    if (claimants.length === 0) alarms.push('no node is a primary that accepts connections')
    return undefined
  }
  return judgePrimary(only, alarms)
}

function judgePrimary(node: TopologyNode, alarms: string[]): TopologyNode {
  if (!node.accepting) alarms.push(`the primary ${node.name} cannot be reached`)
  else if (node.state !== 'active') {
    node.reasons.push(`not the primary to write to: ${stateInWords(node)}`)
    alarms.push(`the primary ${node.name} is ${stateInWords(node)}: writes wait`)
  } else node.writable = true
  return node
}

function stateInWords(node: TopologyNode): string {
  return node.state === 'drain' ? 'being drained' : 'in maintenance'
}

/**
 * How far a replica is behind, in bytes: behind the primary as far as that is known here, and never less than
 * what it has received itself and not yet replayed.
 */
function lagBytesOf(node: TopologyNode, known: Evidence | undefined, newestLsn: number | undefined) {
  if (node.lsn === undefined) return undefined
  const facts = known && factsOf(known)
  return Math.max(0, (facts?.receiveLsn ?? 0) - node.lsn, (newestLsn ?? 0) - node.lsn)
}

function judgeReplica(node: TopologyNode, settings: Required<Settings>): void {
  const no = (why: string): void => void node.reasons.push(`not a replica candidate: ${why}`)
  if (!node.accepting) return
  if (node.state !== 'active') return no(stateInWords(node))
  if (node.weight === 0) return no('its weight is 0')
  if (node.lagBytes !== undefined && node.lagBytes > settings.replicaLagBytesMax)
    return no(`lag ${inMegabytes(node.lagBytes)} over ${inMegabytes(settings.replicaLagBytesMax)}`)
  node.readable = true
}

function inMegabytes(bytes: number): string {
  const megabytes = bytes / 1048576
  return `${megabytes >= 10 || Number.isInteger(megabytes) ? Math.round(megabytes) : megabytes.toFixed(1)} MB`
}
