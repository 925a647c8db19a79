import type { Running } from '../contestants/start.ts'
import type { MetricName, Sample } from '../metrics.ts'
import type { Placement } from '../placement.ts'
import type { BenchPostgres } from '../postgres.ts'

/** One run of a workload at one contestant. */
export interface Run {
  contestant: Running
  postgres: BenchPostgres
  clients: number
  /** How long is measured, after the warm-up. */
  seconds: number
  warmUpSeconds: number
  /** Threads of pgbench, at most one a client. */
  jobs: number
}

export interface Workload {
  name: string
  /** What happens, for tables. */
  title: string
  /** Another name that takes it along with others. */
  group: string
  /** How many clients at once, unless asked for others. */
  clients: readonly number[]
  /** The number of clients is a part of what it is. */
  hasFixedClients?: boolean
  /** What is told of it; the first is drawn. */
  columns: readonly MetricName[]
  /** What is compared between contestants. */
  compared: readonly MetricName[]
  placement: Placement
  /** Clients prove a password to the contestant; without it everybody is trusted. */
  login: 'trust' | 'scram'
  /** PostgreSQL itself takes no part, as it is about what a proxy takes. */
  proxiesOnly?: boolean
  /** Clients that come besides those that are counted. */
  extraClients?: number
  keepsStatements?: boolean
  /** It is about reads from so many replicas, for those who balance. */
  replicas?: number
  /** Processes of each contestant that has a choice, unless asked for another number. */
  workers?: number
  /** Each run begins with a contestant just started. */
  startsFresh?: boolean
  prepare?(postgres: BenchPostgres): Promise<void>
  run(run: Run): Promise<Sample>
}
