import { mkdir } from 'node:fs/promises'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { checkKey, checkTransaction, checkTtl } from './check.ts'
import { ConnectionTracker } from './connection.ts'
import { History } from './history.ts'
import { type Journal, noJournal, openJournal } from './journal.ts'
import { type FolderLock, lockFolder } from './lock.ts'
import { type Change, leaseNotFound, type Snapshot, StoreState } from './state.ts'
import {
  type Connection,
  type Entry,
  type Lease,
  type Store,
  StoreError,
  type Transaction,
  type TransactionResult,
  type Watch,
  type WatchHandler,
} from './store.ts'

export interface EmbeddedStoreOptions {
  /** Folder of the store's files, made if absent; undefined keeps everything in memory. */
  path: string | undefined
  clock: Clock
  timers: Timers
  log: Logger
  /** How many of the newest changes a watch may reach back. */
  historyMax?: number
}

/** Leases as the store sees them: they end unless somebody keeps them alive. For those who serve them to others. */
export interface LeaseTable {
  grant(ttlMs: number): Promise<{ id: string; ttlMs: number }>
  /** Gives the lease its full time again and returns it. @throws StoreError `lease_not_found` */
  keepAlive(id: string): number
  /** Resolves also when there is no such lease. */
  revoke(id: string): Promise<void>
}

export interface EmbeddedStore extends Store {
  readonly leases: LeaseTable
}

const historyMaxDefault = 10_000
/** Changes that may wait for the disk. */
const queueMax = 10_000
const leaseCheckPeriodMs = 100

/**
 * Opens the store that lives in this process. With a `path` every acknowledged write survives a crash: it is on
 * disk (fdatasync) before the promise resolves, and writes that arrive together share one sync. A lease asked for
 * with `grantLease` lives as long as the process does; after a restart it and all others get their time anew.
 * @throws StoreError `locked` (open in another process), `corrupt`, `unavailable` (the folder cannot be used)
 */
export async function openEmbeddedStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const { path, log } = options
  if (path === undefined) {
    return new EmbeddedStoreOfProcess(options, noJournal, undefined, new StoreState().snapshot(), [])
  }
  let lock: FolderLock | undefined
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
    lock = await lockFolder(path)
    const { journal, snapshot, changes } = await openJournal(path, log)
    return new EmbeddedStoreOfProcess(options, journal, lock, snapshot, changes)
  } catch (cause) {
    await lock?.release()
    if (cause instanceof StoreError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StoreError(
      'unavailable',
      `the store's folder ${path} cannot be used (${reason}): check that it may be written`,
      { cause },
    )
  }
}

interface Queued {
  change: Change | undefined
  resolve: () => void
  reject: (cause: unknown) => void
}

/**
 * Two copies of the state: `planned` is ahead by the changes that are on their way to disk and decides what a
 * transaction does; `durable` is what readers and watches see. If the disk refuses, `planned` goes back to it.
 */
export class EmbeddedStoreOfProcess implements EmbeddedStore {
  readonly kind = 'embedded'
  readonly leases: LeaseTable
  private readonly clock: Clock
  private readonly log: Logger
  private readonly journal: Journal
  private readonly lock: FolderLock | undefined
  private readonly durable: StoreState
  private planned: StoreState
  private readonly history: History
  private readonly tracker: ConnectionTracker
  private readonly leaseCheck: Timer
  /** When each lease ends (monotonic ms); Infinity for those of this process. */
  private readonly leaseEndsMs = new Map<string, number>()
  private readonly lostCalls = new Map<string, () => void>()
  private lastLeaseId = 0
  private queue: Queued[] = []
  private flushing: Promise<void> | undefined
  private closing: Promise<void> | undefined

  constructor(
    options: EmbeddedStoreOptions,
    journal: Journal,
    lock: FolderLock | undefined,
    snapshot: Snapshot,
    changes: Change[],
  ) {
    const { clock, timers, log, historyMax = historyMaxDefault } = options
    this.clock = clock
    this.log = log
    this.journal = journal
    this.lock = lock
    this.durable = StoreState.of(snapshot)
    this.history = new History(snapshot.revision, historyMax, log)
    for (const change of changes) this.applyDurably(change)
    this.planned = StoreState.of(this.durable.snapshot())
    for (const { id, ttlMs } of this.durable.leaseList()) this.leaseEndsMs.set(id, clock.nowMs() + ttlMs)
    this.tracker = new ConnectionTracker(clock, true)
    this.leaseCheck = timers.every(leaseCheckPeriodMs, () => this.endDueLeases())
    this.leases = {
      grant: ttlMs => this.grant(ttlMs),
      keepAlive: id => this.keepAlive(id),
      revoke: id => this.endLease(id),
    }
  }

  async get(key: string): Promise<{ entry: Entry | undefined; revision: number }> {
    this.assertOpen()
    checkKey(key)
    return { entry: this.durable.get(key), revision: this.durable.revision }
  }

  async list(prefix: string): Promise<{ entries: Entry[]; revision: number }> {
    this.assertOpen()
    return { entries: this.durable.list(prefix), revision: this.durable.revision }
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    this.assertOpen()
    checkTransaction(transaction)
    const change = this.planned.plan(transaction)
    const revision = change?.revision ?? this.planned.revision
    await this.commit(change)
    return { applied: change !== undefined, revision }
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    const { id } = await this.grant(ttlMs)
    this.leaseEndsMs.set(id, Number.POSITIVE_INFINITY)
    const lost = new Promise<void>(resolve => this.lostCalls.set(id, resolve))
    const revoke = async (): Promise<void> => {
      this.lostCalls.delete(id)
      await this.endLease(id).catch((cause: unknown) => {
        // It ends with its time instead.
        this.leaseEndsMs.set(id, this.clock.nowMs() + ttlMs)
        this.log.warn({ event: 'store.lease', err: cause }, 'a lease could not be revoked')
      })
    }
    return { id, ttlMs, lost, revoke }
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    this.assertOpen()
    return this.history.watch(prefix, fromRevision, handler)
  }

  get connection(): Connection {
    return this.tracker.current
  }

  onConnection(listener: (connection: Connection) => void): () => void {
    return this.tracker.subscribe(listener)
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown()
    return this.closing
  }

  private async shutDown(): Promise<void> {
    this.leaseCheck.cancel()
    await this.flushing
    this.history.close()
    await this.journal.close()
    await this.lock?.release()
  }

  private assertOpen(): void {
    if (this.closing) throw new StoreError('closed', 'the embedded store was closed: open it again')
  }

  private async grant(ttlMs: number): Promise<{ id: string; ttlMs: number }> {
    this.assertOpen()
    checkTtl(ttlMs)
    // Ids must not come again after a restart, when somebody may still hold an old one.
    this.lastLeaseId = Math.max(this.lastLeaseId + 1, Math.floor(this.clock.wallMs()) * 1000)
    const id = String(this.lastLeaseId)
    await this.commit(this.planned.planLeaseGrant(id, ttlMs))
    this.leaseEndsMs.set(id, this.clock.nowMs() + ttlMs)
    return { id, ttlMs }
  }

  private keepAlive(id: string): number {
    this.assertOpen()
    const ttlMs = this.planned.leaseTtlMs(id)
    if (ttlMs === undefined || !this.leaseEndsMs.has(id)) throw leaseNotFound(id)
    if (!this.lostCalls.has(id)) this.leaseEndsMs.set(id, this.clock.nowMs() + ttlMs)
    return ttlMs
  }

  private async endLease(id: string): Promise<void> {
    this.assertOpen()
    const change = this.planned.planLeaseEnd(id)
    if (change) await this.commit(change)
  }

  private endDueLeases(): void {
    const nowMs = this.clock.nowMs()
    for (const [id, endMs] of this.leaseEndsMs) {
      if (endMs > nowMs) continue
      this.endLease(id).catch((cause: unknown) => {
        this.log.warn({ event: 'store.lease', err: cause }, 'an expired lease could not be ended yet')
      })
    }
  }

  /** Settles when `change`, and every change decided before it, is on disk. */
  private commit(change: Change | undefined): Promise<void> {
    if (this.queue.length >= queueMax) {
      const message = `${queueMax} writes wait for the disk of the embedded store: write less, or use a faster disk`
      return Promise.reject(new StoreError('full', message))
    }
    if (change) this.planned.apply(change)
    return new Promise((resolve, reject) => {
      this.queue.push({ change, resolve, reject })
      this.flushing ??= this.flush()
    })
  }

  private async flush(): Promise<void> {
    // Lets everything that is written in this turn of the event loop share the first sync.
    await Promise.resolve()
    while (this.queue.length > 0) {
      const batch = this.queue
      this.queue = []
      const changes = batch.flatMap(({ change }) => (change && isRecorded(change) ? [change] : []))
      try {
        if (changes.length > 0) await this.journal.append(changes)
      } catch (cause) {
        this.refuse(batch, cause)
        continue
      }
      this.tracker.becomeUp()
      for (const change of changes) this.applyDurably(change)
      for (const { resolve } of batch) resolve()
      if (this.journal.grown) await this.journal.compact(this.durable.snapshot())
    }
    this.flushing = undefined
  }

  /** Nothing of the batch happened, so nothing that was decided on top of it may happen either. */
  private refuse(batch: Queued[], cause: unknown): void {
    this.tracker.becomeDown(cause instanceof Error ? cause.message : String(cause))
    const refused = [...batch, ...this.queue]
    this.queue = []
    this.planned = StoreState.of(this.durable.snapshot())
    for (const { reject } of refused) reject(cause)
  }

  private applyDurably(change: Change): void {
    this.durable.apply(change)
    if (change.events.length > 0) this.history.append(change.revision, change.events)
    const ended = change.leaseEnded
    if (ended === undefined) return
    this.leaseEndsMs.delete(ended)
    this.lostCalls.get(ended)?.()
    this.lostCalls.delete(ended)
  }
}

function isRecorded(change: Change): boolean {
  return change.events.length > 0 || change.leaseGranted !== undefined || change.leaseEnded !== undefined
}
