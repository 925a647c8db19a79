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
 * - Nodes of another system identifier are strangers and get nothing. When it cannot be told which identifier is
 *   the cluster's, nobody gets anything.
 * - Writes go to the only node that claims to be primary. Of several claimants the one that the leader key
 *   names is right; without a leader key nobody is, and writes stop until one is left.
 * - Reads go to replicas that accept connections, follow the primary closely enough and are not drained.
 */
export function buildTopology(cluster: string, state: ClusterState, defaults: TopologyDefaults): Topology {
  const settings = effectiveSettings(state.settings?.value, defaults)
  const evidence = new Map(state.nodeNames().map(name => [name, gather(state, name)]))
  const leader = state.leader?.value.node
  const nodes = [...evidence.values()].map(known => describe(known))
  const alarms = [...state.problems.values()].sort()
  const conflict: string[] = []
  const known = withoutSecondNames(nodes, evidence, alarms)
  const candidates = clusterSystemIds(
    known.map(node => evidence.get(node.name)!),
    leader,
  )
  const systemId = candidates.length === 1 ? candidates[0]! : ''

  let primary: TopologyNode | undefined
  if (candidates.length > 1) alarms.push(tellApart(known, candidates))
  else {
    judgeStrangers(known, systemId, alarms)
    const ours = known.filter(node => node.systemId === systemId)
    primary = choosePrimary(ours, evidence, leader, alarms, conflict)
    for (const node of ours) {
      if (node.role === 'replica') judgeReplica(node, evidence.get(node.name), primary, settings)
    }
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

/** The leader's system identifier; else the one that most nodes have. Several when as many have another. */
function clusterSystemIds(evidence: Evidence[], leader: string | undefined): string[] {
  const votes = new Map<string, number>()
  for (const known of evidence) {
    const id = systemIdOf(known)
    if (id === '') continue
    if (known.name === leader) return [id]
    votes.set(id, (votes.get(id) ?? 0) + 1)
  }
  const most = Math.max(...votes.values())
  return [...votes].flatMap(([id, count]) => (count === most ? id : [])).sort()
}

/** Nobody knows which of the identifiers is the cluster's: a write, or a read, to a stranger would be worse than none. */
function tellApart(nodes: TopologyNode[], candidates: string[]): string {
  for (const node of nodes) {
    if (node.systemId !== '')
      node.reasons.push(
        `its system identifier is ${node.systemId}, and it cannot be told whether that is the cluster's`,
      )
  }
  const groups = candidates.map(id => {
    const names = nodes.filter(node => node.systemId === id).map(node => node.name)
    return `${names.join(' and ')} ${names.length > 1 ? 'have' : 'has'} the system identifier ${id}`
  })
  return `it cannot be told which nodes are this cluster's: ${groups.join(', ')}; nothing is sent to either until the strangers are removed`
}

function judgeStrangers(nodes: TopologyNode[], systemId: string, alarms: string[]): void {
  for (const node of nodes) {
    if (node.systemId === '' || systemId === '' || node.systemId === systemId) continue
    node.reasons.push(
      `belongs to another cluster: its system identifier is ${node.systemId}, not ${systemId}`,
    )
    alarms.push(`node ${node.name} belongs to another cluster and is left alone`)
  }
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

/**
 * The nodes without those that are only another name of a server: two names must not count as two servers. The
 * declared name stands, then that of a living agent, then the smaller one.
 */
function withoutSecondNames(
  nodes: readonly TopologyNode[],
  evidence: ReadonlyMap<string, Evidence>,
  alarms: string[],
): TopologyNode[] {
  const isLive = ({ name }: TopologyNode): boolean => evidence.get(name)?.live !== undefined
  const rank = (node: TopologyNode): number => (node.declared ? 2 : 0) + (isLive(node) ? 1 : 0)
  const firsts = new Map<string, TopologyNode>()
  // Sorted by name, so that of equals the smaller one stays.
  for (const node of nodes) {
    const address = `${node.host}:${node.port}`
    const first = firsts.get(address)
    if (!first || rank(node) > rank(first)) firsts.set(address, node)
  }
  return nodes.filter(node => {
    const address = `${node.host}:${node.port}`
    const first = firsts.get(address)!
    if (first === node) return true
    node.reasons.push(`is left alone: ${address} is the address of node ${first.name}`)
    if (node.declared || isLive(node)) {
      alarms.push(
        `nodes ${first.name} and ${node.name} have the same address ${address}; ${node.name} is left alone: ` +
          "correct its agent's node name or address",
      )
    }
    return false
  })
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
  // An operator who sets one of several apart has decided.
  const active = claimants.filter(node => node.state !== 'maintenance')
  if (active.length > 0) claimants = active
  const chosen = leader === undefined ? undefined : claimants.find(node => node.name === leader)
  if (leader !== undefined && !chosen) alarms.push(`the leader ${leader} does not say that it is the primary`)
  const legitimate = leader === undefined ? claimants : claimants.filter(node => node === chosen)

  if (legitimate.length > 1) {
    conflict.push(...legitimate.map(node => node.name))
    const names = legitimate.map(node => `${node.name} (timeline ${node.timeline})`).join(' and ')
    alarms.push(
      `${legitimate.length} nodes claim to be primary: ${names}; writes stop until only one is left: ` +
        'stop the one that should not be, or set it apart with pgherd node maintenance',
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

function judgeReplica(
  node: TopologyNode,
  known: Evidence | undefined,
  primary: TopologyNode | undefined,
  settings: Required<Settings>,
): void {
  node.lagBytes = lagBytesOf(node, known, primary?.lsn)
  const no = (why: string): void => void node.reasons.push(`not a replica candidate: ${why}`)
  if (!node.accepting) return
  if (node.state !== 'active') return no(stateInWords(node))
  if (node.weight === 0) return no('its weight is 0')
  const strayed = primary && whyStrayed(node, known, primary)
  if (strayed !== undefined) return no(strayed)
  if (node.lagBytes !== undefined && node.lagBytes > settings.replicaLagBytesMax)
    return no(`lag ${inMegabytes(node.lagBytes)} over ${inMegabytes(settings.replicaLagBytesMax)}`)
  node.readable = true
}

/**
 * Why a replica does not follow the primary's history; undefined when it may. A promotion begins a new timeline:
 * a replica that is still on an older one is either about to switch, or was left behind for good. Its lag in bytes
 * does not tell, because a primary that has little to do does not get away from it.
 */
function whyStrayed(
  node: TopologyNode,
  known: Evidence | undefined,
  primary: TopologyNode,
): string | undefined {
  if (node.timeline === 0 || node.timeline >= primary.timeline) return undefined
  const where = `it is on timeline ${node.timeline}, the primary ${primary.name} on ${primary.timeline}`
  const facts = known && factsOf(known)
  if (facts?.replicationState !== 'streaming') return `${where}, and it follows nobody`
  // What both have in common ends before anything that the primary has written on its timeline. So however old
  // the primary's position is, nobody on the older timeline can be past it, unless it went another way.
  if (node.lsn !== undefined && primary.lsn !== undefined && node.lsn > primary.lsn)
    return `${where}, and it has replayed what the primary never had: rewind it or make it anew`
  return undefined
}

function inMegabytes(bytes: number): string {
  const megabytes = bytes / 1048576
  return `${megabytes >= 10 || Number.isInteger(megabytes) ? Math.round(megabytes) : megabytes.toFixed(1)} MB`
}
