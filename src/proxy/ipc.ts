import type { Route } from '../routing/choose.ts'
import type { Topology } from '../topology/types.ts'
import type { WorkerCountersData } from './counters.ts'
import type { PoolLimits } from './pool.ts'

/** What a worker needs to know of the configuration. Times in ms. */
export interface WorkerSettings {
  listen: string
  port: number
  /** 0: no read-only port. */
  readPort: number
  zone: string
  clientLoginTimeoutMs: number
  queryWaitTimeoutMs: number
  /** How long a session waits for a node to go to, e.g. while there is no primary. */
  failoverWaitMs: number
  /** Most clients of this worker. */
  clientsMax: number
  shutdownTimeoutMs: number
  pool: PoolLimits
  log: { level: string; format: 'json' | 'text' }
}

/** From the control process to a worker. */
export type ToWorker =
  | { kind: 'settings'; settings: WorkerSettings; index: number }
  /** Answered by `applied`; the next one is sent after that. */
  | { kind: 'topology'; topology: Topology }
  /** Comes with the client's socket. Answered by `taken`. */
  | { kind: 'connection'; connection: number; route: Route }
  | { kind: 'cancel'; processId: number; secret: string; request: number }
  | { kind: 'cancelled'; request: number; found: boolean }
  | { kind: 'stop' }

/** From a worker to the control process. One that cannot start ends, and its last words are in the log. */
export type FromWorker =
  /** It has loaded and waits for its settings: what was sent before is lost. */
  | { kind: 'loaded' }
  /** It can take connections. */
  | { kind: 'ready' }
  /** It has the client's socket; `clients` is how many it has now. */
  | { kind: 'taken'; connection: number; clients: number }
  | { kind: 'applied'; revision: number }
  | { kind: 'suspect'; node: string; reason: string }
  | { kind: 'cancel'; processId: number; secret: string; request: number }
  | { kind: 'cancelled'; request: number; found: boolean }
  /** Sent all the time: a worker that does not is taken to hang. */
  | { kind: 'counters'; counters: WorkerCountersData }
