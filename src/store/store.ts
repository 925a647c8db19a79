/**
 * The store: where a cluster's keys live. One interface for every backend (embedded file, etcd), in the terms
 * of etcd v3, because that is the strictest of them: one revision counts every change of the whole store,
 * transactions compare and then write, leases end keys whose writer went silent, and a watch replays every
 * change from a revision on, each exactly once and in order.
 */
export interface Store {
  /** For messages: `embedded` or `etcd`. */
  readonly kind: string

  /** The newest committed value. A read never returns less than what an earlier answer has shown. */
  get(key: string): Promise<{ entry: Entry | undefined; revision: number }>

  /** Every entry whose key starts with `prefix`, sorted by key, all as of one `revision`. */
  list(prefix: string): Promise<{ entries: Entry[]; revision: number }>

  /**
   * Applies all `writes` if all `compares` hold, else nothing. At most 128 operations.
   * Rejects with `StoreError` `unavailable` when the outcome is unknown: read before trying again.
   */
  transact(transaction: Transaction): Promise<TransactionResult>

  /** Asks for a lease that keeps itself alive until it is revoked, lost or the store is closed. */
  grantLease(ttlMs: number): Promise<Lease>

  /**
   * Replays every change under `prefix` with revision >= `fromRevision`, then follows. Reconnects by itself and
   * neither loses nor doubles an event. The store may have forgotten `fromRevision` (compaction): then
   * `onCompacted` is called once and the watch is over; list again and watch from there. `mirror()` in
   * `mirror.ts` does that for everyone who only wants the current contents.
   */
  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch

  /**
   * Whether what is read can be counted on to be what is written: the last exchange with the store succeeded, and it
   * takes writes. And since when (monotonic ms) that is so.
   */
  readonly connection: Connection

  /** Called on every change of `connection.up`. Returns the function that unsubscribes. */
  onConnection(listener: (connection: Connection) => void): () => void

  /** Ends watches and lease keep-alives without revoking, and lets go of files and sockets. */
  close(): Promise<void>
}

export interface Entry {
  key: string
  value: string
  /** Revision of the change that created the key (again after a delete); the fencing epoch of a leader key. */
  createRevision: number
  /** Revision of the last change. */
  modRevision: number
  /** Lease that ends the key, or undefined. */
  leaseId: string | undefined
}

/** `revision` 0 means: the key must not exist. `created` compares `createRevision` instead of `modRevision`. */
export interface Compare {
  key: string
  target: 'modified' | 'created'
  revision: number
}

export type Write =
  | { kind: 'put'; key: string; value: string; leaseId?: string | undefined }
  | { kind: 'delete'; key: string }

export interface Transaction {
  compares: Compare[]
  writes: Write[]
}

/** `revision`: of the change when it was applied, else of the store when the comparison failed. */
export interface TransactionResult {
  applied: boolean
  revision: number
}

export interface Lease {
  readonly id: string
  /** What the store granted, which may be more than was asked. */
  readonly ttlMs: number
  /**
   * Resolves once, when the lease can no longer be counted on: the store said it is gone, or the local monotonic
   * clock passed its end without a renewal. Keys under it must be taken for gone.
   */
  readonly lost: Promise<void>
  /** Ends the lease and every key under it, at once. Resolves also when the store could not be told. */
  revoke(): Promise<void>
}

export interface WatchEvent {
  kind: 'put' | 'delete'
  /** For a delete: `value` is '' and `modRevision` the revision of the delete. */
  entry: Entry
}

export interface WatchHandler {
  /** All events of one revision come in one call (a transaction is seen whole); revisions only grow. */
  onEvents(events: WatchEvent[], revision: number): void
  /** The store no longer has the history asked for. The watch is over. */
  onCompacted(compactRevision: number): void
  /**
   * How long this watch may take, by chance, before it comes back after a break: the many who lose a store in one moment
   * must not come back in one. 0 unless said.
   */
  spreadMs?: (() => number) | undefined
}

export interface Watch {
  close(): void
}

export interface Connection {
  up: boolean
  /** Monotonic ms of the last change of `up`. */
  sinceMs: number
  /** Why it is down, as a sentence; undefined when up. */
  reason: string | undefined
}

export type StoreErrorCode =
  /** Not reachable, or did not answer in time. A write may or may not have happened. */
  | 'unavailable'
  /** User, password or certificate refused, or the role may not do this. */
  | 'denied'
  /** The store is full (etcd NOSPACE alarm, disk full). Nothing was written. */
  | 'full'
  /** The lease named in a write does not exist. */
  | 'lease_not_found'
  /** The file or the answer cannot be understood. */
  | 'corrupt'
  /** Another process has the embedded store open. */
  | 'locked'
  /** The store was closed by this process. */
  | 'closed'
  /** The request itself is wrong (too many operations, too large). */
  | 'invalid'

export class StoreError extends Error {
  readonly code: StoreErrorCode
  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StoreError'
    this.code = code
  }
}

/** Most operations (compares, and separately writes) in one transaction: etcd's own limit. */
export const transactionOperationsMax = 128
/** Largest value in bytes: below etcd's request limit of 1.5 MiB. */
export const valueBytesMax = 1024 * 1024
