import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import type { Timers } from '../runtime/timers.ts'
import { checkKey, checkTransaction, checkTtl } from './check.ts'
import { ConnectionTracker } from './connection.ts'
import { KeptLease } from './lease.ts'
import { type ErrorBody, heartbeatPeriodMs, storePath, type WatchLine } from './serve.ts'
import {
  type Connection,
  type Entry,
  type Lease,
  type Store,
  StoreError,
  type StoreErrorCode,
  type Transaction,
  type TransactionResult,
  type Watch,
  type WatchHandler,
} from './store.ts'
import { ResumingWatch, type WatchSink } from './watch.ts'

export interface RemoteStoreOptions {
  /** Where the admin server of the process that has the store listens: `http://127.0.0.1:8432`. */
  url: string
  /** Sent as a bearer token. */
  token?: string | undefined
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

const requestTimeoutMs = 5_000
/** A watch without even a heartbeat for this long is broken off and opened again. */
const watchSilenceMs = heartbeatPeriodMs * 3
/** The largest answer that is read. */
const answerBytesMax = 256 * 1024 * 1024

/**
 * The embedded store of another process, over its HTTP interface (`serve.ts`). Does not wait for a connection.
 * @throws StoreError `invalid` when `url` is none
 */
export function openRemoteStore(options: RemoteStoreOptions): Store {
  return new RemoteStore(options)
}

class RemoteStore implements Store {
  readonly kind = 'embedded'
  private readonly options: RemoteStoreOptions
  private readonly base: URL
  private readonly agent: HttpAgent | HttpsAgent
  private readonly tracker: ConnectionTracker
  private readonly watches = new Set<ResumingWatch>()
  private readonly leases = new Set<KeptLease>()
  private closed = false

  constructor(options: RemoteStoreOptions) {
    this.options = options
    if (!URL.canParse(options.url)) {
      throw new StoreError('invalid', `"${options.url}" is no address of a store: write http://host:port`)
    }
    this.base = new URL(storePath, options.url)
    this.agent =
      this.base.protocol === 'https:'
        ? new HttpsAgent({ keepAlive: true })
        : new HttpAgent({ keepAlive: true })
    this.tracker = new ConnectionTracker(options.clock, false, `${this.base.host} was not asked anything yet`)
  }

  async get(key: string): Promise<{ entry: Entry | undefined; revision: number }> {
    checkKey(key)
    const { entry, revision } = await this.ask<{ entry?: Entry; revision: number }>('GET', 'get', { key })
    return { entry: entry && whole(entry), revision }
  }

  async list(prefix: string): Promise<{ entries: Entry[]; revision: number }> {
    const { entries, revision } = await this.ask<{ entries: Entry[]; revision: number }>('GET', 'list', {
      prefix,
    })
    return { entries: entries.map(whole), revision }
  }

  async transact(transaction: Transaction): Promise<TransactionResult> {
    checkTransaction(transaction)
    return this.ask<TransactionResult>('POST', 'transact', {}, transaction)
  }

  async grantLease(ttlMs: number): Promise<Lease> {
    checkTtl(ttlMs)
    const { clock, timers, random, log } = this.options
    const askedMs = clock.nowMs()
    const granted = await this.ask<{ id: string; ttlMs: number }>('POST', 'lease/grant', {}, { ttlMs })
    const { id } = granted
    const renew = async (limitMs: number): Promise<number> => {
      try {
        const renewed = await this.ask<{ ttlMs: number }>('POST', 'lease/keepalive', {}, { id }, limitMs / 3)
        return renewed.ttlMs
      } catch (cause) {
        if (cause instanceof StoreError && cause.code === 'lease_not_found') return 0
        throw cause
      }
    }
    const revoke = async (): Promise<void> => {
      this.leases.delete(lease)
      await this.ask('POST', 'lease/revoke', {}, { id })
    }
    const lease = new KeptLease({
      id,
      ttlMs: granted.ttlMs,
      askedMs,
      calls: { renew, revoke },
      clock,
      timers,
      random,
      log,
    })
    this.leases.add(lease)
    void lease.lost.then(() => this.leases.delete(lease))
    return lease
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    this.assertOpen()
    const { timers, random, log } = this.options
    const watch: ResumingWatch = new ResumingWatch({
      fromRevision,
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
    for (const watch of this.watches) watch.close()
    for (const lease of this.leases) lease.stop()
    this.agent.destroy()
    return Promise.resolve()
  }

  private assertOpen(): void {
    if (this.closed) throw new StoreError('closed', 'the connection to the store was closed: open it again')
  }

  private async ask<Result>(
    method: 'GET' | 'POST',
    path: string,
    parameters: Record<string, string>,
    body?: object,
    limitMs = requestTimeoutMs,
  ): Promise<Result> {
    this.assertOpen()
    const limit = new AbortController()
    const timer = this.options.timers.after(limitMs, () => limit.abort(new Error('no answer in time')))
    try {
      const response = await this.send(method, path, parameters, limit.signal, body)
      const text = await readAll(response)
      if (response.statusCode !== 200) throw errorOf(this.base, response.statusCode ?? 0, text)
      this.tracker.becomeUp()
      return JSON.parse(text) as Result
    } catch (cause) {
      throw this.asStoreError(limit.signal.reason ?? cause)
    } finally {
      timer.cancel()
    }
  }

  private send(
    method: 'GET' | 'POST',
    path: string,
    parameters: Record<string, string>,
    signal: AbortSignal,
    body?: object,
  ): Promise<IncomingMessage> {
    const url = new URL(path, this.base)
    url.search = new URLSearchParams(parameters).toString()
    const headers: Record<string, string> = { 'content-type': 'application/json' }
    if (this.options.token !== undefined) headers['authorization'] = `Bearer ${this.options.token}`
    const start = url.protocol === 'https:' ? httpsRequest : httpRequest
    return new Promise((resolve, reject) => {
      const request = start(url, { method, headers, agent: this.agent }, resolve)
      request.on('error', reject)
      // Without an error: a connection on its way back to the agent has nobody to hear of it.
      signal.addEventListener('abort', () => request.destroy(), { once: true })
      request.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  /** Anything that is not the store's own answer means that it could not be reached. */
  private asStoreError(cause: unknown): StoreError {
    if (cause instanceof StoreError) {
      if (cause.code === 'unavailable') this.tracker.becomeDown(cause.message)
      else if (cause.code !== 'closed') this.tracker.becomeUp()
      return cause
    }
    const reason = cause instanceof Error ? cause.message : String(cause)
    const message =
      `the store at ${this.base.origin} cannot be reached (${reason}): check that the process with the ` +
      'embedded store runs and listens there'
    this.tracker.becomeDown(message)
    return new StoreError('unavailable', message, { cause })
  }

  private async openWatch(prefix: string, fromRevision: number, sink: WatchSink): Promise<() => void> {
    this.assertOpen()
    const { timers, clock } = this.options
    const broken = new AbortController()
    let heardMs = clock.nowMs()
    const silence = timers.every(heartbeatPeriodMs, () => {
      if (clock.nowMs() - heardMs > watchSilenceMs) broken.abort(new Error('no sign of life'))
    })
    let over = false
    const stop = (): void => {
      over = true
      silence.cancel()
      broken.abort(new Error('the watch was closed'))
    }
    const end = (cause: unknown): void => {
      if (over) return
      const reason = this.asStoreError(broken.signal.reason ?? cause)
      stop()
      sink.ended(reason)
    }
    try {
      const parameters = { prefix, from: String(fromRevision) }
      const response = await this.send('GET', 'watch', parameters, broken.signal)
      if (response.statusCode !== 200) {
        throw errorOf(this.base, response.statusCode ?? 0, await readAll(response))
      }
      response.on('error', end)
      response.on('close', () => end(new Error('the connection was closed')))
      readLines(response, text => {
        heardMs = clock.nowMs()
        this.tracker.becomeUp()
        const { events, compacted } = JSON.parse(text) as WatchLine
        if (compacted !== undefined) sink.compacted(compacted)
        else if (events) sink.events(events.map(({ kind, entry }) => ({ kind, entry: whole(entry) })))
        else sink.started()
      })
      return stop
    } catch (cause) {
      const reason = this.asStoreError(broken.signal.reason ?? cause)
      stop()
      throw reason
    }
  }
}

/** Splits at newlines only: the readline module also splits at U+2028, which JSON may hold. */
function readLines(response: IncomingMessage, onLine: (text: string) => void): void {
  let rest = ''
  response.setEncoding('utf8')
  response.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > answerBytesMax) response.destroy(new Error('a line without an end'))
    for (const line of lines) onLine(line)
  })
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response) {
    size += (chunk as Buffer).length
    if (size > answerBytesMax) throw new Error(`an answer of more than ${answerBytesMax} bytes`)
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString()
}

function errorOf(base: URL, status: number, text: string): StoreError {
  const denied = status === 401 || status === 403
  const code = denied ? 'denied' : 'unavailable'
  try {
    const { error } = JSON.parse(text) as {
      error: Omit<ErrorBody['error'], 'code'> & { code?: StoreErrorCode }
    }
    // A pgherd that has no store to offer does not know its paths.
    if (status === 404 && error.code === undefined) return new StoreError('invalid', keysInEtcd)
    return new StoreError(error.code ?? code, error.message)
  } catch {
    const advice = denied ? 'check the token' : 'check that pgherd listens at this address'
    return new StoreError(code, `the store at ${base.origin} answers with HTTP status ${status}: ${advice}`)
  }
}

const keysInEtcd = 'this pgherd keeps its keys in etcd: name it with --etcd HOST:PORT or --config FILE'

/** JSON leaves out what is undefined. */
function whole(entry: Entry): Entry {
  return { ...entry, leaseId: entry.leaseId }
}
