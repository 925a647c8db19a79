import { Counter, Gauge, Registry } from 'prom-client'
import type { NodeStatus, Topology } from '../topology/types.ts'
import type { ReporterState } from './reporter.ts'

/** What a scrape is made from. */
export interface MetricsView {
  status: NodeStatus | undefined
  topology: Topology
  storeUp: boolean
  reporter: Readonly<ReporterState>
}

const prefix = 'pgherd_agent_'

/** The agent's metrics; gauges are set from one snapshot at each scrape. Own registry, so agents do not mix. */
export class AgentMetrics {
  readonly #registry = new Registry()
  readonly #probes: Counter<'outcome'>
  readonly #reports: Counter<'outcome'>
  readonly #gauges = new Map<string, Gauge>()

  constructor(cluster: string, node: string) {
    this.#registry.setDefaultLabels({ cluster, node })
    this.#probes = new Counter({
      name: `${prefix}probes_total`,
      help: 'Times PostgreSQL was asked, by outcome: ok, or why there was no answer.',
      labelNames: ['outcome'],
      registers: [this.#registry],
    })
    this.#reports = new Counter({
      name: `${prefix}reports_total`,
      help: 'Status reports to the store, by outcome: written, or failed (tried again).',
      labelNames: ['outcome'],
      registers: [this.#registry],
    })
    for (const [name, help] of Object.entries(gaugeHelp)) {
      this.#gauges.set(name, new Gauge({ name: prefix + name, help, registers: [this.#registry] }))
    }
  }

  countProbe(outcome: string): void {
    this.#probes.inc({ outcome })
  }

  async render(view: MetricsView): Promise<{ contentType: string; text: string }> {
    // The reporter counts; here its counts are only copied.
    this.#reports.reset()
    this.#reports.inc({ outcome: 'written' }, view.reporter.written)
    this.#reports.inc({ outcome: 'failed' }, view.reporter.failed)
    const figures = figuresOf(view)
    for (const [name, gauge] of this.#gauges) {
      const value = figures[name as GaugeName]
      // What is not known is absent: a 0 would be a figure like any other.
      if (value === undefined) gauge.remove()
      else gauge.set(Number(value))
    }
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() }
  }
}

const gaugeHelp = {
  postgres_accepting: '1 when PostgreSQL accepts connections, else 0.',
  postgres_primary: '1 when PostgreSQL is a primary, else 0.',
  postgres_replica: '1 when PostgreSQL is a replica, else 0.',
  postgres_streaming: '1 when the replica streams from its upstream, else 0.',
  postgres_version: 'server_version_num of PostgreSQL.',
  postgres_timeline: 'Timeline of PostgreSQL.',
  postgres_write_lsn_bytes: 'Write position of a primary, in bytes since the start of WAL.',
  postgres_receive_lsn_bytes: 'Received position of a replica, in bytes since the start of WAL.',
  postgres_replay_lsn_bytes: 'Replayed position of a replica, in bytes since the start of WAL.',
  postgres_lag_seconds: 'Age of the last replayed commit while a replica is behind, 0 when it is not.',
  postgres_connections: 'Client connections of PostgreSQL.',
  postgres_connections_max: 'max_connections of PostgreSQL.',
  postgres_connections_active: 'Client connections that run a statement.',
  postgres_connections_idle_in_transaction: 'Client connections that idle in a transaction.',
  postgres_slot_retained_bytes_max: 'WAL held back by the replication slot that holds back most.',
  cpu_load_ratio: 'CPU load of the machine, 0 to 1, smoothed.',
  io_load_ratio: 'Share of time in which some task waited for a disk, 0 to 1.',
  store_up: '1 when the last exchange with the store succeeded, else 0.',
  topology_revision: 'Store revision of the topology this agent knows.',
  conflict: '1 while another agent reports the same node and this one keeps off, else 0.',
} as const

type GaugeName = keyof typeof gaugeHelp
type Figures = Record<GaugeName, number | boolean | undefined>

function figuresOf({ status, topology, storeUp, reporter }: MetricsView): Figures {
  const isReplica = status?.role === 'replica'
  return {
    postgres_accepting: status?.accepting,
    postgres_primary: status && status.role === 'primary',
    postgres_replica: status && isReplica,
    postgres_streaming: status && isReplica && status.replicationState === 'streaming',
    postgres_version: status?.version,
    postgres_timeline: status?.timeline,
    postgres_write_lsn_bytes: status?.writeLsn,
    postgres_receive_lsn_bytes: status?.receiveLsn,
    postgres_replay_lsn_bytes: status?.replayLsn,
    postgres_lag_seconds: status?.lagMs === undefined ? undefined : status.lagMs / 1000,
    postgres_connections: status?.connections.used,
    postgres_connections_max: status?.connections.max,
    postgres_connections_active: status?.connections.active,
    postgres_connections_idle_in_transaction: status?.connections.idleInTransaction,
    postgres_slot_retained_bytes_max: status && Math.max(0, ...status.slots.map(slot => slot.retainedBytes)),
    cpu_load_ratio: status?.load?.cpu,
    io_load_ratio: status?.load?.io,
    store_up: storeUp,
    topology_revision: topology.revision,
    conflict: reporter.conflict !== undefined,
  }
}
