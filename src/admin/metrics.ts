import { Counter, Gauge, type Metric, Registry } from 'prom-client'
import { type HistogramData, latencyBucketsSeconds, type WorkerCountersData } from '../proxy/counters.ts'
import type { Connection } from '../store/store.ts'
import type { Topology } from '../topology/types.ts'

/** Where the figures come from; read anew at every scrape. */
export interface MetricSources {
  version: string
  topology: () => Topology
  store: () => Connection
  /** Undefined where no proxy runs in this process. */
  proxy:
    | (() => { counters: WorkerCountersData; workers: number; crashes: number; appliedRevision: number })
    | undefined
}

/** The Prometheus registry of a process. Names and help texts are listed in `docs/metrics.md`. */
export function createMetrics(sources: MetricSources): Registry {
  const registry = new Registry()
  const gauge = (name: string, help: string, labelNames: string[], collect: (gauge: Gauge) => void): void => {
    const metric: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        metric.reset()
        collect(metric)
      },
    })
  }
  const total = (
    name: string,
    help: string,
    labelNames: string[],
    collect: (counter: Counter) => void,
  ): void => {
    const metric: Counter = new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        metric.reset()
        collect(metric)
      },
    })
  }
  gauge('pgherd_info', 'Version of pgherd, as a label of a constant 1.', ['version'], metric =>
    metric.set({ version: sources.version }, 1),
  )
  addTopologyMetrics(sources, gauge)
  if (sources.proxy) addProxyMetrics(sources.proxy, registry, gauge, total)
  return registry
}

type AddGauge = (name: string, help: string, labels: string[], collect: (gauge: Gauge) => void) => void
type AddTotal = (name: string, help: string, labels: string[], collect: (counter: Counter) => void) => void

function addTopologyMetrics({ topology, store }: MetricSources, gauge: AddGauge): void {
  gauge('pgherd_store_up', 'Whether the last exchange with the store succeeded.', [], metric =>
    metric.set(store().up ? 1 : 0),
  )
  gauge('pgherd_topology_revision', 'Store revision that the topology was made from.', [], metric =>
    metric.set(topology().revision),
  )
  gauge('pgherd_topology_alarms', 'Number of things that are wrong with the cluster now.', [], metric =>
    metric.set(topology().alarms.length),
  )
  const ofNodes = (
    name: string,
    help: string,
    value: (node: Topology['nodes'][number]) => number | undefined,
  ): void =>
    gauge(name, help, ['node'], metric => {
      for (const node of topology().nodes) {
        const found = value(node)
        if (found !== undefined) metric.set({ node: node.name }, found)
      }
    })
  ofNodes('pgherd_node_accepting', 'Whether the node accepts connections.', node => (node.accepting ? 1 : 0))
  ofNodes('pgherd_node_primary', 'Whether the node says that it is a primary.', node =>
    node.role === 'primary' ? 1 : 0,
  )
  ofNodes('pgherd_node_writable', 'Whether new writes go to the node.', node => (node.writable ? 1 : 0))
  ofNodes('pgherd_node_readable', 'Whether new reads go to the node as a replica.', node =>
    node.readable ? 1 : 0,
  )
  ofNodes('pgherd_node_lag_bytes', 'WAL that a replica has not replayed yet.', node => node.lagBytes)
  ofNodes('pgherd_node_timeline', 'Timeline of the node.', node => node.timeline)
  ofNodes(
    'pgherd_node_connections',
    'Connections in use on the node, by anyone.',
    node => node.connections?.used,
  )
}

function addProxyMetrics(
  proxy: NonNullable<MetricSources['proxy']>,
  registry: Registry,
  gauge: AddGauge,
  total: AddTotal,
): void {
  const counters = (): WorkerCountersData => proxy().counters
  gauge('pgherd_workers', 'Data workers that run.', [], metric => metric.set(proxy().workers))
  total('pgherd_worker_crashes_total', 'Data workers that ended unasked and were replaced.', [], metric =>
    metric.inc(proxy().crashes),
  )
  gauge('pgherd_applied_revision', 'Newest intent revision that every worker has applied.', [], metric =>
    metric.set(proxy().appliedRevision),
  )
  gauge('pgherd_clients', 'Client connections.', [], metric => metric.set(counters().clients))
  gauge('pgherd_clients_waiting', 'Clients that wait for a node to go to.', [], metric =>
    metric.set(counters().clientsWaiting),
  )
  total('pgherd_client_connections_total', 'Client connections accepted.', [], metric =>
    metric.inc(counters().accepted),
  )
  total('pgherd_login_refusals_total', 'Logins that the proxy itself has refused.', ['reason'], metric => {
    for (const [reason, count] of Object.entries(counters().loginRefusals)) metric.inc({ reason }, count)
  })
  total('pgherd_client_disconnects_total', 'Client connections ended, by reason.', ['reason'], metric => {
    for (const [reason, count] of Object.entries(counters().disconnects)) metric.inc({ reason }, count)
  })
  total('pgherd_client_bytes_total', 'Bytes exchanged with clients.', ['direction'], metric => {
    metric.inc({ direction: 'received' }, counters().bytesFromClients)
    metric.inc({ direction: 'sent' }, counters().bytesToClients)
  })
  total(
    'pgherd_cancel_requests_total',
    'Cancel requests, by whether their key was known.',
    ['key'],
    metric => {
      metric.inc({ key: 'known' }, counters().cancelsForwarded)
      metric.inc({ key: 'unknown' }, counters().cancelsUnknown)
    },
  )
  gauge(
    'pgherd_server_connections',
    'Connections to servers, by what they do.',
    ['node', 'state'],
    metric => {
      for (const [node, one] of Object.entries(counters().nodes)) {
        metric.set({ node, state: 'active' }, one.sessions)
        metric.set({ node, state: 'idle' }, one.idle)
        metric.set({ node, state: 'connecting' }, one.connecting)
      }
    },
  )
  total(
    'pgherd_pins_total',
    'How often clients of shared pools began to keep their server connection, by reason.',
    ['reason'],
    metric => {
      for (const [reason, count] of Object.entries(counters().pins)) metric.inc({ reason }, count)
    },
  )
  gauge(
    'pgherd_pinned_clients',
    'Clients of shared pools that keep their server connection now, by reason.',
    ['reason'],
    metric => {
      for (const [reason, count] of Object.entries(counters().pinned)) metric.set({ reason }, count)
    },
  )
  total(
    'pgherd_lane_units_total',
    'Requests answered on server connections that clients share.',
    [],
    metric => {
      metric.inc(counters().lanes.shared)
    },
  )
  total(
    'pgherd_lane_refused_total',
    'Requests that got a server connection of their own, by reason.',
    ['reason'],
    metric => {
      for (const [reason, count] of Object.entries(counters().lanes.refused)) metric.inc({ reason }, count)
    },
  )
  total(
    'pgherd_lane_given_back_total',
    'Requests that were taken out of a shared server connection and run elsewhere, by reason.',
    ['reason'],
    metric => {
      for (const [reason, count] of Object.entries(counters().lanes.givenBack)) metric.inc({ reason }, count)
    },
  )
  total(
    'pgherd_hedged_total',
    'Reads that were sent to a second replica as well, for the first took unusually long.',
    [],
    metric => {
      metric.inc(counters().lanes.hedged)
    },
  )
  total('pgherd_hedge_won_total', 'Reads of these that the second replica has answered.', [], metric => {
    metric.inc(counters().lanes.hedgesWon)
  })
  total(
    'pgherd_hedge_refused_total',
    'Reads that took unusually long and were not sent to a second replica, by reason.',
    ['reason'],
    metric => {
      for (const [reason, count] of Object.entries(counters().lanes.hedgesRefused))
        metric.inc({ reason }, count)
    },
  )
  total(
    'pgherd_routed_total',
    'Requests of the port for everything while there were replicas, by where they went; why, when to the primary.',
    ['to', 'reason'],
    metric => {
      const { primary, replica } = counters().routed
      metric.inc({ to: 'replica', reason: '' }, replica)
      for (const [reason, count] of Object.entries(primary)) metric.inc({ to: 'primary', reason }, count)
    },
  )
  total(
    'pgherd_stale_refused_total',
    'Requests of clients that keep their connection to a replica, which did not have in time what they must see.',
    [],
    metric => {
      metric.inc(counters().routed.stale)
    },
  )
  total(
    'pgherd_queries_prepared_total',
    'Simple queries that were run as prepared statements, with parameters in place of constants.',
    [],
    metric => {
      metric.inc(counters().queriesPrepared)
    },
  )
  total('pgherd_begins_deferred_total', 'Transactions that were begun without a server.', [], metric => {
    metric.inc(counters().beginsDeferred)
  })
  total(
    'pgherd_begins_spared_total',
    'Transactions of these that ended before a server was needed.',
    [],
    metric => {
      metric.inc(counters().beginsSpared)
    },
  )
  gauge(
    'pgherd_pool_connections',
    'Connections of each pool to servers, by what they do.',
    ['database', 'user', 'node', 'state'],
    metric => {
      for (const { active, database, idle, node, user } of counters().pools) {
        metric.set({ database, user, node, state: 'active' }, active)
        metric.set({ database, user, node, state: 'idle' }, idle)
      }
    },
  )
  gauge(
    'pgherd_pool_clients_waiting',
    'Clients that wait for a connection of a pool.',
    ['database', 'user', 'node'],
    metric => {
      for (const { database, node, user, waiting } of counters().pools) {
        metric.set({ database, user, node }, waiting)
      }
    },
  )
  gauge(
    'pgherd_node_clients_waiting',
    'Clients that wait for a connection to the node.',
    ['node'],
    metric => {
      for (const [node, one] of Object.entries(counters().nodes)) metric.set({ node }, one.waiting)
    },
  )
  const perNode: [
    name: string,
    help: string,
    field: 'queries' | 'connects' | 'connectFailures' | 'serverLost' | 'moved' | 'chosen' | 'ejections',
  ][] = [
    ['pgherd_queries_total', 'Requests answered (one a ReadyForQuery).', 'queries'],
    ['pgherd_server_connects_total', 'Connections to servers opened.', 'connects'],
    [
      'pgherd_server_connect_failures_total',
      'Connections to servers that could not be opened.',
      'connectFailures',
    ],
    ['pgherd_server_lost_total', 'Connections to servers lost while a client used them.', 'serverLost'],
    ['pgherd_sessions_moved_total', 'Sessions moved from a drained node to another one.', 'moved'],
    ['pgherd_node_chosen_total', 'Clients that were sent to the node, new ones and from others.', 'chosen'],
    [
      'pgherd_node_ejections_total',
      'How often a worker found the node too slow or failing, and sent it nothing for a while.',
      'ejections',
    ],
  ]
  const perNodeNow: [name: string, help: string, field: 'ejected' | 'comingBack' | 'slowdown'][] = [
    ['pgherd_node_ejected_workers', 'Workers that send the node no reads for a while.', 'ejected'],
    [
      'pgherd_node_slow_start_workers',
      'Workers for which the node comes back and has not its whole share yet.',
      'comingBack',
    ],
    [
      'pgherd_node_slowdown',
      'How many times longer than usual the answers of the node take; of several workers the worst.',
      'slowdown',
    ],
  ]
  for (const [name, help, field] of perNodeNow) {
    gauge(name, help, ['node'], metric => {
      for (const [node, one] of Object.entries(counters().nodes)) metric.set({ node }, one[field])
    })
  }
  for (const [name, help, field] of perNode) {
    total(name, help, ['node'], metric => {
      for (const [node, one] of Object.entries(counters().nodes)) metric.inc({ node }, one[field])
    })
  }
  addHistogram(registry, 'pgherd_query_duration_seconds', 'Time from a request to its ReadyForQuery.', () =>
    Object.entries(counters().nodes).map(([node, one]) => ({ labels: { node }, data: one.latency })),
  )
  addHistogram(
    registry,
    'pgherd_client_wait_seconds',
    'Time a client waited for its server connection.',
    () => [{ labels: {}, data: counters().wait }],
  )
}

/** A histogram whose buckets were filled elsewhere: only its text form is made here. */
function addHistogram(
  registry: Registry,
  name: string,
  help: string,
  read: () => { labels: Record<string, string>; data: HistogramData }[],
): void {
  const get = () => ({
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    values: read().flatMap(({ labels, data }) => {
      let sum = 0
      const buckets = [...latencyBucketsSeconds, '+Inf'].map((le, index) => {
        sum += data.buckets[index] ?? 0
        return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: sum }
      })
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels, value: data.sumMs / 1000 },
        { metricName: `${name}_count`, labels, value: data.count },
      ]
    }),
  })
  // The registry asks a metric for its name and its values and nothing else.
  registry.registerMetric({ name, get, reset: () => undefined } as unknown as Metric)
}
