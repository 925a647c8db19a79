import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import type { Timers } from '../runtime/timers.ts'
import { checkKey, checkTransaction, checkTtl } from './check.ts'
import { ConnectionTracker } from './connection.ts'
import { EtcdCaller } from './etcd-caller.ts'
import { EtcdEndpoints, type EtcdTls, readCredentials } from './etcd-endpoints.ts'
import { failureOf } from './etcd-errors.ts'
import {
  type CompareMessage,
  type KeyValue,
  methods,
  type OperationMessage,
  type WatchAnswer,
} from './etcd-messages.ts'
import { KeptLease } from './lease.ts'
import { Probe } from './probe.ts'
import {
  type Compare,
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
  type Write,
} from './store.ts'
import { ResumingWatch, type WatchSink } from './watch.ts'

export interface EtcdStoreOptions {
  /** `host:port` or `http(s)://host:port`, in order of preference. */
  endpoints: string[]
  user?: string | undefined
  password?: string | undefined
  tls?: EtcdTls | undefined
  /** How long one request may take in all, over every member that is tried. */
  requestTimeoutMs: number
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

const probeLimitMs = 2_000
/** How long a watch waits for a connection; the next attempt goes on with the same one. */
const connectLimitMs = 500

/**
 * A store in an etcd cluster (v3 API). Does not wait for a connection: `connection` says when there is one.
 * @throws StoreError `invalid` (an endpoint), `unavailable` (a TLS file)
 */
export async function openEtcdStore(options: EtcdStoreOptions): Promise<Store> {
  if (options.tls) await readCredentials(options.tls)
  return new EtcdStore(options)
}

class EtcdStore implements Store {
  readonly kind = 'etcd'
  private readonly options: EtcdStoreOptions
  private readonly tracker: ConnectionTracker
  private readonly endpoints: EtcdEndpoints
  private readonly caller: EtcdCaller
  private readonly watches = new Set<ResumingWatch>()
  private readonly leases = new Set<KeptLease>()
  private readonly probe: Probe
  private closed = false

  constructor(options: EtcdStoreOptions) {
    const { endpoints, user, password, tls, requestTimeoutMs, clock, timers, random, log } = options
    this.options = options
    this.tracker = new ConnectionTracker(clock, false, 'etcd was not asked anything yet')
    this.tracker.subscribe(({ up }) => {
      if (up) for (const watch of this.watches) watch.retryNow()
    })
    const spreadMs = (): number => Math.max(0, ...[...this.watches].map(watch => watch.spreadMs))
    const world = { clock, timers, random, spreadMs }
    const onMove = (reason: string): void => {
      for (const watch of this.watches) watch.reconnect(reason)
    }
    this.endpoints = new EtcdEndpoints({ endpoints, tls, tracker: this.tracker, log, onMove, ...world })
    this.caller = new EtcdCaller({
      endpoints: this.endpoints,
      user,
      password,
      requestTimeoutMs,
      clock,
      timers,
      random,
    })
    this.probe = new Probe({
      connection: () => this.tracker.current,
      silentMs: () => this.endpoints.silentMs,
      isWatching: () => this.watches.size > 0,
      ask: () => this.askMember(),
      ...world,
    })
  }

  async get(key: string): Promise<{ entry: Entry | undefined; revision: number }> {
    this.assertOpen()
    checkKey(key)
    const { kvs, header } = await this.caller.call(
      methods.range,
      { key: Buffer.from(key) },
      { repeatable: true, current: true },
    )
    const [found] = kvs
    return { entry: found && entryOf(found), revision: Number(header?.revision) }
  }

  async list(prefix: string): Promise<{ entries: Entry[]; revision: number }> {
    this.assertOpen()
    const call = { repeatable: true, current: true }
    const { kvs, header } = await this.caller.call(methods.range, rangeOf(prefix), call)
    return { entries: kvs.map(entryOf), revision: Number(header?.revision) }
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    this.assertOpen()
    checkTransaction(transaction)
    const compare = transaction.compares.map(compareMessage)
    const success = transaction.writes.map(operationMessage)
    const call = { repeatable: false, current: true }
    const asked = this.caller.call(methods.txn, { compare, success }, call)
    const { succeeded, header } = await asked.catch((cause: unknown) => this.failedWrite(cause))
    return { applied: succeeded, revision: Number(header?.revision) }
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    this.assertOpen()
    checkTtl(ttlMs)
    const { clock, timers, random, log } = this.options
    const request = { TTL: Math.ceil(ttlMs / 1000) }
    const askedMs = clock.nowMs()
    // A second lease, if the first was granted after all, runs out by itself.
    const { ID: id, TTL } = await this.caller.call(methods.leaseGrant, request, { repeatable: true })
    const renew = async (limitMs: number): Promise<number> => {
      const call = { repeatable: true, streamed: true, limitMs }
      const answer = await this.caller.call(methods.leaseKeepAlive, { ID: id }, call)
      return Number(answer.TTL) * 1000
    }
    const revoke = async (): Promise<void> => {
      this.leases.delete(lease)
      try {
        await this.caller.call(methods.leaseRevoke, { ID: id }, { repeatable: true })
      } catch (cause) {
        if (!(cause instanceof StoreError && cause.code === 'lease_not_found')) throw cause
      }
    }
    // Retries may have eaten into the time: counted from the first attempt, the lease ends here before it does there.
    const calls = { renew, revoke }
    const lease = new KeptLease({
      id,
      ttlMs: Number(TTL) * 1000,
      askedMs,
      calls,
      clock,
      timers,
      random,
      log,
    })
    this.leases.add(lease)
    void lease.lost.then(() => this.leases.delete(lease))
    if (this.closed) lease.stop()
    return lease
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    this.assertOpen()
    const { timers, random, log } = this.options
    const watch: ResumingWatch = new ResumingWatch({
      fromRevision: Math.max(1, fromRevision),
      handler,
      open: (from, sink) => this.openWatch(prefix, from, sink),
      timers,
      random,
      log,
      onClose: () => this.watches.delete(watch),
    })
    this.watches.add(watch)
    return watch
  }

  get connection(): Connection {
    return this.tracker.current
  }

  onConnection(listener: (connection: Connection) => void): () => void {
    return this.tracker.subscribe(listener)
  }

  close(): Promise<void> {
    this.closed = true
    this.probe.close()
    for (const watch of this.watches) watch.close()
    for (const lease of this.leases) lease.stop()
    this.endpoints.close()
    return Promise.resolve()
  }

  private assertOpen(): void {
    if (this.closed) throw new StoreError('closed', 'the connection to etcd was closed: open it again')
  }

  private async openWatch(prefix: string, fromRevision: number, sink: WatchSink): Promise<() => void> {
    const { metadata, token } = await this.caller.streamMetadata()
    const endpoint = this.endpoints.current
    const client = await this.endpoints.connect(connectLimitMs).catch((cause: unknown) => {
      if (cause instanceof StoreError && cause.code === 'unavailable') this.endpoints.leave(endpoint, cause)
      throw cause
    })
    const { path, serialize, deserialize } = methods.watch
    const stream: ClientDuplexStream<Parameters<typeof serialize>[0], WatchAnswer> =
      client.makeBidiStreamRequest(path, serialize, deserialize, metadata)
    let over = false
    const stop = (): void => {
      over = true
      stream.cancel()
    }
    const end = (cause: StoreError): void => {
      stop()
      sink.ended(cause)
    }
    stream.on('data', (answer: WatchAnswer) => {
      if (over) return
      try {
        // Of what is to come nothing was seen yet: a member that is further behind would keep silent for long.
        this.caller.check(endpoint, answer.header, answer.created ? fromRevision - 1 : 0)
      } catch (cause) {
        this.endpoints.leave(endpoint, cause as StoreError)
        return end(cause as StoreError)
      }
      this.endpoints.heard()
      if (answer.canceled) {
        const compactRevision = Number(answer.compactRevision)
        if (compactRevision > 0) sink.compacted(compactRevision)
        else end(this.watchCanceled(answer.cancelReason, token))
        return
      }
      if (answer.created) sink.started()
      if (answer.events.length > 0) sink.events(answer.events.map(eventOf))
    })
    stream.on('end', () =>
      sink.ended(new StoreError('unavailable', 'etcd ended a watch: it is opened again')),
    )
    stream.on('error', (cause: ServiceError) => {
      // That the stream was canceled from here says nothing about the member.
      if (over) return
      const failure = failureOf(endpoint.target, cause)
      if (failure.kind === 'token') this.caller.forget(token)
      if (failure.kind === 'member') this.endpoints.leave(endpoint, failure.error, failure.silent)
      sink.ended(failure.error)
    })
    stream.write({ createRequest: { ...rangeOf(prefix), startRevision: fromRevision } })
    return stop
  }

  /** etcd 3.4 says "permission denied" of a watch whose token has run out as well: try once more with a new one. */
  private watchCanceled(reason: string, token: string | undefined): StoreError {
    if (token !== undefined) this.caller.forget(token)
    this.options.log.warn({ event: 'store.watch', reason }, 'etcd canceled a watch: it is tried again')
    return new StoreError('denied', `etcd canceled a watch (${reason}): check the role's permissions`)
  }

  /** Whoever writes hears of a full database first. */
  private failedWrite(cause: unknown): never {
    if (cause instanceof StoreError && cause.code === 'full') this.tracker.setFault(faultOf('NOSPACE'))
    throw cause
  }

  /** Whether a member answers, and has raised an alarm. */
  private async askMember(): Promise<void> {
    try {
      // An answer alone would count for a member that has only old data.
      const call = { repeatable: true, current: true, limitMs: probeLimitMs }
      const { errors } = await this.caller.call(methods.status, {}, call)
      const alarm = errors.map(error => / alarm:(\w+)/.exec(error)?.[1]).find(name => name !== undefined)
      if (alarm !== undefined || this.tracker.hasFault) this.tracker.setFault(alarm && faultOf(alarm))
    } catch (cause) {
      this.options.log.debug({ event: 'store.probe', err: cause }, 'etcd gives no sign of life')
    }
  }
}

function faultOf(alarm: string): string {
  const advice = alarm === 'NOSPACE' ? ': compact, defragment and disarm it' : ''
  return `etcd has raised the alarm ${alarm} and takes no writes${advice}`
}

/** Every key that starts with `prefix`, as etcd's half-open range of bytes. */
function rangeOf(prefix: string): { key: Buffer; rangeEnd: Buffer } {
  const key = Buffer.from(prefix)
  // UTF-8 has no byte 0xff, so the last one can always be counted up.
  const rangeEnd = Buffer.from(key)
  const last = rangeEnd.length - 1
  if (last < 0) return { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) }
  rangeEnd.writeUInt8(rangeEnd.readUInt8(last) + 1, last)
  return { key, rangeEnd }
}

function entryOf(kv: KeyValue): Entry {
  return {
    key: kv.key.toString(),
    value: kv.value.toString(),
    createRevision: Number(kv.createRevision),
    modRevision: Number(kv.modRevision),
    leaseId: kv.lease === '0' ? undefined : kv.lease,
  }
}

function eventOf({ type, kv }: WatchAnswer['events'][number]): WatchEvent {
  return { kind: type === 'PUT' ? 'put' : 'delete', entry: entryOf(kv) }
}

function compareMessage({ key, target, revision }: Compare): CompareMessage {
  const compared = { result: 'EQUAL' as const, key: Buffer.from(key) }
  return target === 'created'
    ? { ...compared, target: 'CREATE', createRevision: revision }
    : { ...compared, target: 'MOD', modRevision: revision }
}

function operationMessage(write: Write): OperationMessage {
  const key = Buffer.from(write.key)
  if (write.kind === 'delete') return { requestDeleteRange: { key } }
  return { requestPut: { key, value: Buffer.from(write.value), lease: write.leaseId ?? '0' } }
}
