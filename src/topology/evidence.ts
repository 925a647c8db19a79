import type { ClusterState } from './state.ts'
import type { NodeFacts, NodeIntent, NodeStatus, Observation, TopologyNode } from './types.ts'

/** Everything known about one node before anything is decided about it. */
export interface Evidence {
  name: string
  intent: NodeIntent | undefined
  /** The agent's report while its lease lives, unless an outage of the store puts it in doubt. */
  live: NodeStatus | undefined
  /** The agent's newest report, living or not. */
  last: NodeStatus | undefined
  seen: Observation | undefined
}

/** A node and what is known of it, before it is compared with the others. None of it is changed once it is made. */
export interface Known {
  evidence: Evidence
  /** What routing sees of it, with nothing that it may do. */
  draft: TopologyNode
  address: string
  /** It claims to be primary: its living agent or the server itself says so. */
  claims: boolean
}

/** What is known of a node now; `before` itself when that is still all. */
export function knownOf(state: ClusterState, name: string, before: Known | undefined): Known {
  const intent = state.nodeIntents.get(name)?.value
  const last = state.lastStatuses.get(name)?.value
  const seen = state.observations.get(name)
  const report = state.nodeStatuses.get(name)
  const isDoubted = report && report.modRevision <= (seen?.doubtedRevision ?? -1)
  const live = isDoubted ? undefined : report?.value
  const then = before?.evidence
  const isSame =
    then && then.intent === intent && then.live === live && then.last === last && then.seen === seen
  if (isSame) return before
  const evidence = { name, intent, live, last, seen }
  const draft = describe(evidence)
  return { evidence, draft, address: `${draft.host}:${draft.port}`, claims: claims(evidence) }
}

/** First hand when the server answered; else the agent's newest word; else what was seen long ago. */
export function factsOf({ seen, last }: Evidence): NodeFacts | undefined {
  return seen?.reachable ? seen.facts : (last ?? seen?.facts)
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
