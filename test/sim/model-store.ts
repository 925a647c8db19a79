import { silentLogger } from '../../src/runtime/log.ts'
import type { Random } from '../../src/runtime/random.ts'
import { ConnectionTracker } from '../../src/store/connection.ts'
import { KeptLease } from '../../src/store/lease.ts'
import { Probe } from '../../src/store/probe.ts'
import {
  type Connection,
  type Entry,
  type Lease,
  type Store,
  StoreError,
  type Transaction,
  type TransactionResult,
  type Watch,
  type WatchEvent,
  type WatchHandler,
} from '../../src/store/store.ts'
import { ResumingWatch, type WatchSink } from '../../src/store/watch.ts'
import type { FakeTime } from '../support/fake-time.ts'

export type RequestKind = 'get' | 'list' | 'write' | 'grant' | 'renew' | 'watch' | 'status'

const sweepMs = 100
export const bucketMs = 100

/**
 * A store of which only that is modelled what its clients can feel: it answers at once, or not at all while it is down;
 * leases end by its own clock; a compaction forgets history. Counts what it is asked, in tenths of a second.
 */
export class ModelCluster {
  readonly time: FakeTime
  readonly random: Random
  revision = 1
  isUp = true
  readonly entries = new Map<string, Entry>()
  readonly #requests = new Map<RequestKind, number[]>()
  readonly #leases = new Map<string, { ttlMs: number; endMs: number }>()
  readonly #watchers = new Map<WatchSink, string>()
  readonly #clients: ModelClient[] = []
  #compactedTo = 0
  #lastLease = 0

  constructor(time: FakeTime, random: Random) {
    this.time = time
    this.random = random
    time.every(sweepMs, () => this.#endLeases())
  }

  /** The connection of one process. */
  connect(): ModelClient {
    const client = new ModelClient(this)
    this.#clients.push(client)
    return client
  }

  kill(): void {
    this.isUp = false
    const sinks = [...this.#watchers.keys()]
    this.#watchers.clear()
    for (const client of this.#clients) client.tracker.becomeDown('killed')
    for (const sink of sinks) sink.ended(away())
  }

  /** As after the election of a new leader every lease has its full time. */
  revive(): void {
    this.isUp = true
    for (const lease of this.#leases.values()) lease.endMs = this.time.nowMs() + lease.ttlMs
  }

  compact(): void {
    this.#compactedTo = this.revision
  }

  /** Most requests within `windowMs` from one moment to another, of the kinds named. */
  peak(fromMs: number, toMs: number, windowMs: number, ...kinds: RequestKind[]): number {
    const size = windowMs / bucketMs
    let most = 0
    for (let from = Math.floor(fromMs / bucketMs); from + size <= Math.ceil(toMs / bucketMs); from++) {
      most = Math.max(most, this.#between(from, from + size, kinds))
    }
    return most
  }

  total(fromMs: number, toMs: number, ...kinds: RequestKind[]): number {
    return this.#between(Math.floor(fromMs / bucketMs), Math.ceil(toMs / bucketMs), kinds)
  }

  /** Counts a request; throws while the store is down. */
  ask(kind: RequestKind, tracker: ConnectionTracker): void {
    const buckets = this.#requests.get(kind) ?? []
    this.#requests.set(kind, buckets)
    const bucket = Math.floor(this.time.nowMs() / bucketMs)
    buckets[bucket] = (buckets[bucket] ?? 0) + 1
    if (!this.isUp) {
      tracker.becomeDown('killed')
      throw away()
    }
    tracker.becomeUp()
  }

  grant(ttlMs: number): string {
    const id = String(++this.#lastLease)
    this.#leases.set(id, { ttlMs, endMs: this.time.nowMs() + ttlMs })
    return id
  }

  /** The time that is left, 0 when it is over. */
  renew(id: string): number {
    const lease = this.#leases.get(id)
    if (!lease) return 0
    lease.endMs = this.time.nowMs() + lease.ttlMs
    return lease.ttlMs
  }

  hasLease(id: string): boolean {
    return this.#leases.has(id)
  }

  endLease(id: string): void {
    if (!this.#leases.delete(id)) return
    const keys = [...this.entries.values()].filter(({ leaseId }) => leaseId === id).map(({ key }) => key)
    if (keys.length === 0) return
    this.revision++
    for (const key of keys) this.entries.delete(key)
    this.#tell(keys.map(key => ({ kind: 'delete', entry: this.#entry(key, '', undefined) })))
  }

  put(key: string, value: string, leaseId: string | undefined): void {
    this.revision++
    const entry = this.#entry(key, value, leaseId)
    this.entries.set(key, entry)
    this.#tell([{ kind: 'put', entry }])
  }

  /** What was missed is told as one listing of what stands, which is all that the mirrors of this test look at. */
  watch(prefix: string, fromRevision: number, sink: WatchSink): () => void {
    if (fromRevision <= this.#compactedTo) {
      queueMicrotask(() => sink.compacted(this.#compactedTo))
      return () => undefined
    }
    this.#watchers.set(sink, prefix)
    sink.started()
    const missed = [...this.entries.values()].filter(({ modRevision }) => modRevision >= fromRevision)
    missed.sort((a, b) => a.modRevision - b.modRevision)
    if (missed.length > 0) sink.events(missed.map(entry => ({ kind: 'put', entry })))
    return () => this.#watchers.delete(sink)
  }

  #entry(key: string, value: string, leaseId: string | undefined): Entry {
    return { key, value, createRevision: this.revision, modRevision: this.revision, leaseId }
  }

  #tell(events: WatchEvent[]): void {
    for (const [sink, prefix] of this.#watchers) {
      if (events[0]!.entry.key.startsWith(prefix)) sink.events(events)
    }
  }

  #endLeases(): void {
    if (!this.isUp) return
    const nowMs = this.time.nowMs()
    for (const [id, { endMs }] of this.#leases) if (endMs <= nowMs) this.endLease(id)
  }

  #between(from: number, to: number, kinds: readonly RequestKind[]): number {
    let sum = 0
    for (const kind of kinds.length > 0 ? kinds : this.#requests.keys()) {
      const buckets = this.#requests.get(kind) ?? []
      for (let at = from; at < to; at++) sum += buckets[at] ?? 0
    }
    return sum
  }
}

/** What one process sees of the store, with the watches, leases and probes of real ones. */
class ModelClient implements Store {
  readonly kind = 'model'
  readonly tracker: ConnectionTracker
  readonly #cluster: ModelCluster
  readonly #watches = new Set<ResumingWatch>()
  #probe: Probe | undefined

  constructor(cluster: ModelCluster) {
    this.#cluster = cluster
    this.tracker = new ConnectionTracker(cluster.time, true)
    this.tracker.subscribe(({ up }) => {
      this.#probe?.close()
      // While it is up its answers are its signs of life.
      this.#probe = up ? undefined : this.#startProbe()
      if (up) for (const watch of this.#watches) watch.retryNow()
    })
  }

  #startProbe(): Probe {
    const { random, time } = this.#cluster
    return new Probe({
      connection: () => this.tracker.current,
      silentMs: () => 0,
      isWatching: () => this.#watches.size > 0,
      spreadMs: () => Math.max(0, ...[...this.#watches].map(watch => watch.spreadMs)),
      ask: async () => {
        try {
          this.#cluster.ask('status', this.tracker)
        } catch {}
      },
      clock: time,
      timers: time,
      random,
    })
  }

  get connection(): Connection {
    return this.tracker.current
  }

  onConnection(listener: (connection: Connection) => void): () => void {
    return this.tracker.subscribe(listener)
  }

  async get(key: string): ReturnType<Store['get']> {
    this.#cluster.ask('get', this.tracker)
    return { entry: this.#cluster.entries.get(key), revision: this.#cluster.revision }
  }

  async list(prefix: string): ReturnType<Store['list']> {
    this.#cluster.ask('list', this.tracker)
    const { entries, revision } = this.#cluster
    return { entries: [...entries.values()].filter(({ key }) => key.startsWith(prefix)), revision }
  }

  async transact({ writes }: Transaction): Promise<TransactionResult> {
    this.#cluster.ask('write', this.tracker)
    for (const write of writes) {
      assertPut(write)
      const { key, leaseId, value } = write
      if (leaseId !== undefined && !this.#cluster.hasLease(leaseId)) {
        throw new StoreError('lease_not_found', `no lease ${leaseId}`)
      }
      this.#cluster.put(key, value, leaseId)
    }
    return { applied: true, revision: this.#cluster.revision }
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    const { random, time } = this.#cluster
    this.#cluster.ask('grant', this.tracker)
    const id = this.#cluster.grant(ttlMs)
    const renew = async (): Promise<number> => {
      this.#cluster.ask('renew', this.tracker)
      return this.#cluster.renew(id)
    }
    const revoke = async (): Promise<void> => {
      if (this.#cluster.isUp) this.#cluster.endLease(id)
    }
    const calls = { renew, revoke }
    const world = { clock: time, timers: time, random, log: silentLogger }
    return new KeptLease({ id, ttlMs, askedMs: time.nowMs(), calls, ...world })
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    const { random, time } = this.#cluster
    const open = async (from: number, sink: WatchSink): Promise<() => void> => {
      this.#cluster.ask('watch', this.tracker)
      return this.#cluster.watch(prefix, from, sink)
    }
    const watch: ResumingWatch = new ResumingWatch({
      fromRevision,
      handler,
      open,
      timers: time,
      random,
      log: silentLogger,
      onClose: () => this.#watches.delete(watch),
    })
    this.#watches.add(watch)
    return watch
  }

  async close(): Promise<void> {}
}

function assertPut(
  write: Transaction['writes'][number],
): asserts write is Extract<typeof write, { kind: 'put' }> {
  if (write.kind !== 'put') throw new StoreError('invalid', 'the model knows puts only')
}

function away(): StoreError {
  return new StoreError('unavailable', 'killed')
}
