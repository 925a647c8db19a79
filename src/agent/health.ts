import type { Lsn, NodeStatus, Topology, TopologyNode } from '../topology/types.ts'
import { bytesBehind, type HealthQuery, HealthQueryError, parseHealthQuery } from './query.ts'

/** Everything an answer is made from: a snapshot, so that one answer never mixes two moments. */
export interface HealthView {
  cluster: string
  node: string
  agentVersion: string
  /** Undefined until PostgreSQL was asked for the first time. */
  status: NodeStatus | undefined
  /** Without nodes until the store was read for the first time. */
  topology: Topology
  storeUp: boolean
  /** Ms since the agent last finished asking PostgreSQL, and how many are too many. */
  probeAgeMs: number
  probeAgeMaxMs: number
}

export interface HealthAnswer {
  status: 200 | 400 | 404 | 503
  body: Record<string, unknown>
}

/** Yes, or no with the reason. */
type Verdict = string | undefined

/** `/readiness` without `lag=`: what Patroni allows a candidate at a failover by default. */
const readinessLagBytesMax = 1024 ** 2

/**
 * Answers the paths of Patroni's REST health checks with the same parameters and status codes: 200 when the
 * node is what the path asks for, else 503 with the reason in the body. Unknown parameters are ignored, as
 * there; a known one that cannot be understood is 400, so that a slip in a balancer's configuration shows.
 *
 * Where pgherd has no such thing as Patroni: there is no standby cluster (`/standby-leader` is always 503), and
 * synchronous standbys are not told apart (`/sync` and `/quorum` are 503, every replica counts as asynchronous).
 */
export function answerHealth(path: string, parameters: URLSearchParams, view: HealthView): HealthAnswer {
  try {
    const query = parseHealthQuery(parameters)
    const name = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
    if (name === '/cluster') return { status: 200, body: clusterBody(view) }
    if (name === '/patroni') return { status: 200, body: nodeBody(view) }
    const judge = judges[name]
    if (!judge)
      return { status: 404, body: { reason: `no such path; known are ${Object.keys(judges).join(' ')}` } }
    const reason = judge(view, query)
    if (reason === undefined) return { status: 200, body: nodeBody(view) }
    return { status: 503, body: { ...nodeBody(view), reason } }
  } catch (error) {
    if (error instanceof HealthQueryError) return { status: 400, body: { reason: error.message } }
    throw error
  }
}

type Judge = (view: HealthView, query: HealthQuery) => Verdict

const judges: Record<string, Judge> = {
  '/': isPrimary,
  '/primary': isPrimary,
  '/master': isPrimary,
  '/read-write': isPrimary,
  '/leader': isPrimary,
  '/standby-leader': () => 'there are no standby clusters',
  '/standby_leader': () => 'there are no standby clusters',
  '/replica': isReplica,
  '/async': isReplica,
  '/asynchronous': isReplica,
  '/sync': isSynchronous,
  '/synchronous': isSynchronous,
  '/quorum': isSynchronous,
  '/read-only': isReadOnly,
  '/read-only-sync': isReadOnlySynchronous,
  '/read-only-quorum': isReadOnlySynchronous,
  '/health': accepts,
  '/liveness': isAlive,
  '/readiness': isReady,
}

function accepts({ status }: HealthView): Verdict {
  if (!status) return 'PostgreSQL was not asked yet'
  return status.accepting ? undefined : (status.reason ?? 'PostgreSQL does not accept connections')
}

/**
 * A drained primary stays 200 here. Drain means "no new sessions, let those that are there finish", and a
 * balancer that checks this path can say neither: 503 makes it cut every session (`on-marked-down
 * shutdown-sessions`), and with a single primary there is nowhere else to send the next one. The agent-check
 * port says `drain`, which such a balancer does understand. Patroni's noloadbalance tag leaves `/primary` alone
 * for the same reason. Maintenance is different: the operator takes the server away, so nothing may go there.
 *
 * Of two servers that both say they are primary, only the one that the topology names gets 200; with the store
 * down that is the last one known. Patroni's leader lock does the same.
 */
function isPrimary(view: HealthView): Verdict {
  const { status, topology, node } = view
  const down = accepts(view)
  if (down !== undefined || !status) return down
  if (status.role !== 'primary') return `the role is ${status.role}, not primary`
  if (own(view)?.state === 'maintenance') return 'the node is in maintenance'
  if (topology.primary === node) return undefined
  if (topology.epoch > 0) return 'the leader key names another node'
  const rival = topology.nodes.find(other => other.name !== node && claimsPrimary(other, status.systemId))
  return rival && `node ${rival.name} says that it is the primary as well`
}

function claimsPrimary(node: TopologyNode, systemId: string): boolean {
  return node.role === 'primary' && node.accepting && node.systemId === systemId
}

/** Whether the operator lets new reads come here. */
function servesReads(view: HealthView): Verdict {
  const node = own(view)
  if (node?.state === 'drain') return 'the node is being drained'
  if (node?.state === 'maintenance') return 'the node is in maintenance'
  if (node?.weight === 0) return 'the weight of the node is 0'
  return undefined
}

function isReplica(view: HealthView, query: HealthQuery): Verdict {
  const { status } = view
  const down = accepts(view)
  if (down !== undefined || !status) return down
  if (status.role !== 'replica') return `the role is ${status.role}, not replica`
  const closed = servesReads(view)
  if (closed !== undefined) return closed
  const state = status.replicationState ?? 'not receiving'
  if (query.replicationState !== undefined && state !== query.replicationState)
    return `the replication state is ${state}, not ${query.replicationState}`
  const tags = own(view)?.tags ?? {}
  const missing = query.tags.find(([key, value]) => !Object.hasOwn(tags, key) || tags[key] !== value)
  if (missing) return `the tag ${missing[0]} is not ${JSON.stringify(missing[1])}`
  return query.lagBytesMax === undefined ? undefined : judgeLag(view, receivedLsn(status), query.lagBytesMax)
}

/** The parameters concern replicas only, as with Patroni: a primary is never behind itself. */
function isReadOnly(view: HealthView, query: HealthQuery): Verdict {
  if (view.status?.role === 'primary') return servesReads(view) ?? isPrimary(view)
  return isReplica(view, query)
}

function isSynchronous(): Verdict {
  return 'synchronous standbys are not told apart from others'
}

function isReadOnlySynchronous(view: HealthView, query: HealthQuery): Verdict {
  return view.status?.role === 'primary' ? isReadOnly(view, query) : isSynchronous()
}

function isAlive({ probeAgeMs, probeAgeMaxMs }: HealthView): Verdict {
  if (probeAgeMs <= probeAgeMaxMs) return undefined
  return `PostgreSQL was last asked ${Math.round(probeAgeMs)} ms ago, over ${probeAgeMaxMs} ms`
}

function isReady(view: HealthView, query: HealthQuery): Verdict {
  const { status } = view
  const down = accepts(view)
  if (down !== undefined || !status) return down
  if (status.role === 'primary') return undefined
  if (status.role !== 'replica') return `the role is ${status.role}`
  if (status.replicationState !== 'streaming') return 'the replica does not stream from its upstream'
  const position = query.mode === 'apply' ? status.replayLsn : receivedLsn(status)
  return judgeLag(view, position, query.lagBytesMax ?? readinessLagBytesMax)
}

/**
 * Against the primary's last known position. While none is known (no primary has reported yet) nobody can say
 * that the replica is behind, and taking every replica away would only make an outage larger.
 */
function judgeLag(view: HealthView, position: Lsn | undefined, lagBytesMax: number): Verdict {
  const lag = bytesBehind(primaryLsn(view), position)
  if (lag === undefined || lag <= lagBytesMax) return undefined
  return `${lag} bytes behind the primary, over ${lagBytesMax}`
}

/** The last known position of the primary; after a primary has gone, of the one on the newest timeline. */
function primaryLsn({ topology }: HealthView): Lsn | undefined {
  const primaries = topology.nodes.filter(node => node.role === 'primary' && node.lsn !== undefined)
  primaries.sort((a, b) => b.timeline - a.timeline)
  return (primaries.find(node => node.name === topology.primary) ?? primaries[0])?.lsn
}

/** WAL that is safe on this replica: what came by streaming, or from an archive. */
function receivedLsn({ receiveLsn, replayLsn }: NodeStatus): Lsn | undefined {
  if (receiveLsn === undefined || replayLsn === undefined) return receiveLsn ?? replayLsn
  return Math.max(receiveLsn, replayLsn)
}

function own({ topology, node }: HealthView): TopologyNode | undefined {
  return topology.nodes.find(({ name }) => name === node)
}

/** The fields that monitoring made for Patroni reads, and pgherd's own beside them. */
function nodeBody(view: HealthView): Record<string, unknown> {
  const { status, cluster, node, agentVersion, storeUp } = view
  const herd = { scope: cluster, name: node, version: agentVersion, store_up: storeUp }
  if (!status) return { state: 'unknown', role: 'unknown', pgherd: herd }
  const xlog =
    status.role === 'primary'
      ? { location: status.writeLsn }
      : { received_location: status.receiveLsn, replayed_location: status.replayLsn }
  return {
    state: status.accepting ? 'running' : 'down',
    role: status.role,
    server_version: status.version,
    xlog,
    timeline: status.timeline,
    replication_state: status.replicationState,
    database_system_identifier: status.systemId,
    tags: own(view)?.tags ?? {},
    intent: own(view)?.state ?? 'active',
    ...(status.reason !== undefined && { reason: status.reason }),
    pgherd: herd,
  }
}

function clusterBody({ cluster, topology }: HealthView): Record<string, unknown> {
  const members = topology.nodes.map(node => ({
    name: node.name,
    role: node.name === topology.primary ? 'leader' : node.role,
    state: node.accepting ? 'running' : 'down',
    host: node.host,
    port: node.port,
    timeline: node.timeline,
    lag: node.lagBytes,
    intent: node.state,
    tags: node.tags,
  }))
  return { scope: cluster, members, alarms: topology.alarms ?? [] }
}
