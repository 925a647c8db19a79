import { type DisconnectReason, disconnectReasons } from './client/failures.ts'
import { addLanes, LaneCounters, type LaneCountersData } from './lanes/counters.ts'
import { addRouted, RoutedCounters, type RoutedData } from './pool/routed.ts'
import { type PinReason, pinReasons } from './session/session-question.ts'
import { type LoginRefusal, loginRefusals } from './startup/login-refusals.ts'
import { addStats, type StatsData } from './stats.ts'

/**
 * What a data worker counts. Plain numbers in plain arrays, added to in place: nothing is allocated on the hot
 * path. Once in a while the worker sends a copy to the control process, which adds the workers up for `/metrics`.
 */

const pinReasonNames = Object.keys(pinReasons) as PinReason[]

/** Upper bounds of the latency buckets in seconds: 100 us to 60 s, about three a decade. */
export const latencyBucketsSeconds: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
]
const latencyBucketsMs = Float64Array.from(latencyBucketsSeconds, seconds => seconds * 1000)

/** A histogram as plain data: observations per bucket (the last one is +Inf), their sum and number. */
export interface HistogramData {
  buckets: number[]
  sumMs: number
  count: number
}

export class Histogram {
  readonly buckets = new Float64Array(latencyBucketsMs.length + 1)
  sumMs = 0
  count = 0

  observe(durationMs: number): void {
    let index = 0
    while (index < latencyBucketsMs.length && durationMs > latencyBucketsMs[index]!) index++
    this.buckets[index] = this.buckets[index]! + 1
    this.sumMs += durationMs
    this.count++
  }

  data(): HistogramData {
    return { buckets: [...this.buckets], sumMs: this.sumMs, count: this.count }
  }
}

/** Counts of one node, seen from one worker. */
export interface NodeCountersData {
  /** Client sessions bound to the node now. */
  sessions: number
  /** Connections to the node that wait for a client. */
  idle: number
  /** Connections being opened. */
  connecting: number
  /** Clients waiting for a connection to the node. */
  waiting: number
  /** Requests answered (one a ReadyForQuery). */
  queries: number
  connects: number
  connectFailures: number
  serverLost: number
  moved: number
  /** Clients that were sent there, new ones and from other nodes. */
  chosen: number
  ejections: number
  /** Workers that send it nothing for a while. */
  ejected: number
  /** Workers for which it comes back and has not its whole share yet. */
  comingBack: number
  /** How many times longer than usual its answers take; of several workers the worst. */
  slowdown: number
  latency: HistogramData
}

export class NodeCounters {
  sessions = 0
  idle = 0
  connecting = 0
  waiting = 0
  queries = 0
  connects = 0
  connectFailures = 0
  serverLost = 0
  moved = 0
  chosen = 0
  ejections = 0
  ejected = 0
  comingBack = 0
  slowdown = 1
  readonly latency = new Histogram()

  data(): NodeCountersData {
    const { sessions, idle, connecting, waiting, queries, connects, connectFailures, serverLost, moved } =
      this
    const { chosen, comingBack, ejected, ejections, slowdown } = this
    const latency = this.latency.data()
    return {
      sessions,
      idle,
      connecting,
      waiting,
      queries,
      connects,
      connectFailures,
      serverLost,
      moved,
      chosen,
      ejections,
      ejected,
      comingBack,
      slowdown,
      latency,
    }
  }
}

/** What one pool has now; `database` and `user` as text. */
export interface PoolGauges {
  database: string
  user: string
  node: string
  waiting: number
  active: number
  idle: number
}

/** Everything one worker has counted since it started. */
export interface WorkerCountersData {
  clients: number
  clientsWaiting: number
  accepted: number
  cancelsForwarded: number
  cancelsUnknown: number
  bytesFromClients: number
  bytesToClients: number
  disconnects: Record<DisconnectReason, number>
  /** How often clients began to keep their server connection. */
  pins: Record<PinReason, number>
  /** Clients that keep it now. */
  pinned: Record<PinReason, number>
  /** Logins that the proxy itself has refused. */
  loginRefusals: Record<LoginRefusal, number>
  lanes: LaneCountersData
  /** Transactions that were begun without a server, and those of them that ended so. */
  beginsDeferred: number
  beginsSpared: number
  /** Simple queries that were run as prepared statements with parameters: in lanes, and elsewhere. */
  queriesPrepared: number
  /** Requests of the port for everything, while there are replicas. */
  routed: RoutedData
  wait: HistogramData
  nodes: Record<string, NodeCountersData>
  /** By the name that clients ask for. */
  databases: Record<string, StatsData>
  pools: PoolGauges[]
}

export class WorkerCounters {
  readonly lanes = new LaneCounters()
  readonly routed = new RoutedCounters()
  clients = 0
  clientsWaiting = 0
  accepted = 0
  cancelsForwarded = 0
  cancelsUnknown = 0
  bytesFromClients = 0
  bytesToClients = 0
  beginsDeferred = 0
  beginsSpared = 0
  queriesPrepared = 0
  readonly disconnects = Object.fromEntries(disconnectReasons.map(reason => [reason, 0])) as Record<
    DisconnectReason,
    number
  >
  readonly loginRefusals = Object.fromEntries(loginRefusals.map(reason => [reason, 0])) as Record<
    LoginRefusal,
    number
  >
  readonly pins = Object.fromEntries(pinReasonNames.map(reason => [reason, 0])) as Record<PinReason, number>
  readonly pinned = { ...this.pins }
  /** Time clients waited for a server connection. */
  readonly wait = new Histogram()
  readonly nodes = new Map<string, NodeCounters>()

  node(name: string): NodeCounters {
    let counters = this.nodes.get(name)
    if (!counters) {
      counters = new NodeCounters()
      this.nodes.set(name, counters)
    }
    return counters
  }

  /** `databases` and `pools` are kept elsewhere. */
  data(databases: Record<string, StatsData> = {}, pools: PoolGauges[] = []): WorkerCountersData {
    const { clients, clientsWaiting, accepted, cancelsForwarded, cancelsUnknown } = this
    const { beginsDeferred, beginsSpared, bytesFromClients, bytesToClients, queriesPrepared } = this
    return {
      clients,
      clientsWaiting,
      accepted,
      cancelsForwarded,
      cancelsUnknown,
      bytesFromClients,
      bytesToClients,
      disconnects: { ...this.disconnects },
      pins: { ...this.pins },
      pinned: { ...this.pinned },
      loginRefusals: { ...this.loginRefusals },
      lanes: this.lanes.data(),
      beginsDeferred,
      beginsSpared,
      queriesPrepared: queriesPrepared + this.lanes.queriesPrepared,
      routed: this.routed.data(),
      wait: this.wait.data(),
      nodes: Object.fromEntries([...this.nodes].map(([name, counters]) => [name, counters.data()])),
      databases,
      pools,
    }
  }
}

/** The sum of several workers' counts. */
export function addCounters(all: readonly WorkerCountersData[]): WorkerCountersData {
  const sum = new WorkerCounters().data()
  for (const one of all) {
    sum.clients += one.clients
    sum.clientsWaiting += one.clientsWaiting
    sum.accepted += one.accepted
    sum.cancelsForwarded += one.cancelsForwarded
    sum.cancelsUnknown += one.cancelsUnknown
    sum.bytesFromClients += one.bytesFromClients
    sum.bytesToClients += one.bytesToClients
    for (const reason of disconnectReasons) sum.disconnects[reason] += one.disconnects[reason]
    for (const reason of loginRefusals) sum.loginRefusals[reason] += one.loginRefusals[reason]
    for (const reason of pinReasonNames) {
      sum.pins[reason] += one.pins[reason]
      sum.pinned[reason] += one.pinned[reason]
    }
    addLanes(sum.lanes, one.lanes)
    sum.beginsDeferred += one.beginsDeferred
    sum.beginsSpared += one.beginsSpared
    sum.queriesPrepared += one.queriesPrepared
    addRouted(sum.routed, one.routed)
    addStats(sum.databases, one.databases)
    addPools(sum.pools, one.pools)
    addHistogram(sum.wait, one.wait)
    for (const [name, counters] of Object.entries(one.nodes)) {
      const known = (sum.nodes[name] ??= new NodeCounters().data())
      addNode(known, counters)
    }
  }
  return sum
}

function addPools(sum: PoolGauges[], more: readonly PoolGauges[]): void {
  const known = new Map(sum.map(pool => [poolKey(pool), pool]))
  for (const pool of more) {
    const same = known.get(poolKey(pool))
    if (same) {
      same.waiting += pool.waiting
      same.active += pool.active
      same.idle += pool.idle
    } else sum.push({ ...pool })
  }
}

function poolKey({ database, node, user }: PoolGauges): string {
  return JSON.stringify([database, user, node])
}

function addNode(sum: NodeCountersData, one: NodeCountersData): void {
  sum.sessions += one.sessions
  sum.idle += one.idle
  sum.connecting += one.connecting
  sum.waiting += one.waiting
  sum.queries += one.queries
  sum.connects += one.connects
  sum.connectFailures += one.connectFailures
  sum.serverLost += one.serverLost
  sum.moved += one.moved
  sum.chosen += one.chosen
  sum.ejections += one.ejections
  sum.ejected += one.ejected
  sum.comingBack += one.comingBack
  sum.slowdown = Math.max(sum.slowdown, one.slowdown)
  addHistogram(sum.latency, one.latency)
}

function addHistogram(sum: HistogramData, one: HistogramData): void {
  one.buckets.forEach((value, index) => {
    sum.buckets[index] = (sum.buckets[index] ?? 0) + value
  })
  sum.sumMs += one.sumMs
  sum.count += one.count
}
