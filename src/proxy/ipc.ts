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
  | { kind: 'topology'; topology: Topology }
  | { kind: 'cancel'; processId: number; secret: string; request: number }
  | { kind: 'cancelled'; request: number; found: boolean }
  | { kind: 'stop' }

/** From a worker to the control process. */
export type FromWorker =
  /** It has loaded and waits for its settings: what was sent before is lost. */
  | { kind: 'loaded' }
  | { kind: 'listening' }
  | { kind: 'failed'; message: string }
  | { kind: 'applied'; revision: number }
  | { kind: 'suspect'; node: string; reason: string }
  | { kind: 'cancel'; processId: number; secret: string; request: number }
  | { kind: 'cancelled'; request: number; found: boolean }
  | { kind: 'counters'; counters: WorkerCountersData }
