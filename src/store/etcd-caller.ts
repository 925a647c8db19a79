import { type Client, type ClientDuplexStream, Metadata, type ServiceError } from '@grpc/grpc-js'
import type { Clock } from '../runtime/clock.ts'
import type { Random } from '../runtime/random.ts'
import { pause, type Timers, within } from '../runtime/timers.ts'
import { Backoff } from './backoff.ts'
import type { Endpoint, EtcdEndpoints } from './etcd-endpoints.ts'
import { type Failure, failureOf } from './etcd-errors.ts'
import { type Answer, type Header, type Method, methods } from './etcd-messages.ts'
import { StoreError } from './store.ts'

export interface EtcdCallerOptions {
  endpoints: EtcdEndpoints
  user: string | undefined
  password: string | undefined
  requestTimeoutMs: number
  clock: Clock
  timers: Timers
  random: Random
}

export interface CallOptions {
  /** Whether the request may be sent again when nobody knows whether it was carried out. */
  repeatable: boolean
  /** In all, over every attempt. The request timeout when absent. */
  limitMs?: number
  /** Without a token: for asking for one. */
  anonymous?: boolean
  /** The answer must be as new as anything seen before it was asked for. */
  current?: boolean
  /** One message over a stream instead of a call, as etcd wants it for renewing a lease. */
  streamed?: boolean
}

/** Where there are several members, a request has time for this many of them. */
const membersInTime = 3
/** No attempt begins with less than this part of the time for the request. */
const leastShare = 0.05
const pauseFirstMs = 50
const pauseMaxMs = 500
/** One attempt waits this long for a connection; the next one goes on with the same. */
const connectLimitMs = 2_000
/**
 * How long a member has for a login at first, and at most. A password costs etcd tens of milliseconds of processor time,
 * whether or not the asker still waits: a fleet that comes back at once must be patient, or nobody ever gets in.
 */
const loginFirstMs = 3_000
const loginMaxMs = 30_000
/** A token that is refused straight after it was renewed is a denial. */
const renewalsMax = 2

type Send<Request, Result> = (
  client: Client,
  method: Method<Request, Result>,
  request: Request,
  metadata: Metadata,
  deadlineWallMs: number,
  signal: AbortSignal,
) => Promise<Result>

/**
 * Requests to an etcd cluster: on another member when one fails and the request may be repeated, with a renewed
 * token when the old one is refused, and never believing a member that is behind what was seen already.
 */
export class EtcdCaller {
  private readonly options: EtcdCallerOptions
  private token: string | undefined
  private renewal: Promise<void> | undefined
  private loginLimitMs = loginFirstMs
  private raftTerm = 0
  private revision = 0
  private clusterId: string | undefined

  constructor(options: EtcdCallerOptions) {
    this.options = options
  }

  async call<Request, Result extends Answer>(
    method: Method<Request, Result>,
    request: Request,
    call: CallOptions,
  ): Promise<Result> {
    const { endpoints, clock, timers, random, requestTimeoutMs } = this.options
    const limitMs = call.limitMs ?? requestTimeoutMs
    const endMs = clock.nowMs() + limitMs
    const backoff = new Backoff(random, pauseFirstMs, pauseMaxMs)
    for (let attempt = 1, renewals = 0; ; attempt++) {
      const failure = await this.attempt(method, request, call, endMs, limitMs)
      if ('result' in failure) return failure.result
      if (failure.kind === 'final') throw failure.error
      if (failure.kind === 'token') {
        if (call.anonymous || this.options.user === undefined || ++renewals > renewalsMax) throw failure.error
      } else if (!failure.untouched && !call.repeatable) {
        throw outcomeUnknown(failure.error)
      }
      if (attempt % endpoints.count === 0) await pause(timers, backoff.nextMs())
      // An attempt without time for an answer would only hide what the one before has told.
      if (clock.nowMs() + limitMs * leastShare >= endMs) throw failure.error
    }
  }

  /** One attempt on the member in use. */
  private async attempt<Request, Result extends Answer>(
    method: Method<Request, Result>,
    request: Request,
    call: CallOptions,
    endMs: number,
    limitMs: number,
  ): Promise<Failure | { result: Result }> {
    const { endpoints, clock } = this.options
    const shareMs = endpoints.count === 1 ? limitMs : limitMs / membersInTime
    const leftMs = (): number => Math.max(1, endMs - clock.nowMs())
    let endpoint: Endpoint | undefined
    let token: string | undefined
    let client: Client
    try {
      if (!call.anonymous) token = await this.currentToken(leftMs())
      endpoint = endpoints.current
      client = await endpoints.connect(Math.min(shareMs, leftMs(), connectLimitMs))
    } catch (cause) {
      if (!(cause instanceof StoreError)) throw cause
      if (cause.code !== 'unavailable') return { kind: 'final', error: cause }
      // A login that is not done yet sees by itself to the members that it does not come through to.
      if (endpoint) endpoints.leave(endpoint, cause)
      return { kind: 'member', error: cause, untouched: true }
    }
    const send: Send<Request, Result> = call.streamed ? sendStreamed : sendUnary
    const seen = call.current ? this.revision : 0
    const timeoutMs = call.repeatable ? Math.min(shareMs, leftMs()) : leftMs()
    try {
      const deadlineWallMs = clock.wallMs() + timeoutMs
      const asked = send(client, method, request, metadataOf(token), deadlineWallMs, endpoint.gone)
      const result = await endpoints.unlessSlow(endpoint, asked)
      this.check(endpoint, result.header, seen)
      endpoints.heard()
      return { result }
    } catch (cause) {
      return this.failed(endpoint, token, endpoint.gone.aborted ? pathWasLost(endpoint) : cause)
    }
  }

  private failed(endpoint: Endpoint, token: string | undefined, cause: unknown): Failure {
    const { endpoints } = this.options
    const failure: Failure =
      cause instanceof StoreError
        ? { kind: 'member', error: cause, untouched: false }
        : failureOf(endpoint.target, cause as ServiceError)
    if (failure.kind === 'member') endpoints.leave(endpoint, failure.error, failure.silent)
    else endpoints.heard()
    if (failure.kind === 'token') this.forget(token)
    return failure
  }

  /** Metadata for a stream to the member in use. */
  async streamMetadata(): Promise<{ metadata: Metadata; token: string | undefined }> {
    const token = await this.currentToken(this.options.requestTimeoutMs)
    return { metadata: metadataOf(token), token }
  }

  /** `token` was refused: the next request asks for a new one. */
  forget(token: string | undefined): void {
    if (this.token === token) this.token = undefined
  }

  /**
   * Refuses an answer from a member that is behind the newest raft term seen (a partition's other side), behind
   * `revisionMin` (its data were restored from a backup) or belongs to another cluster.
   * @throws StoreError `unavailable`
   */
  check(endpoint: Endpoint, header: Header | null, revisionMin: number): void {
    if (!header) return
    const term = Number(header.raftTerm)
    // Zero where the server does not fill it in.
    if (term !== 0 && term < this.raftTerm) {
      throw distrusted(endpoint, `is at raft term ${term} although ${this.raftTerm} was seen`)
    }
    this.raftTerm = Math.max(this.raftTerm, term)
    if (header.clusterId === '0') return
    this.clusterId ??= header.clusterId
    if (header.clusterId !== this.clusterId) {
      throw distrusted(endpoint, 'belongs to another cluster than the members seen before')
    }
    const revision = Number(header.revision)
    if (revision < revisionMin) {
      throw distrusted(endpoint, `is at revision ${revision} although ${revisionMin} was seen`)
    }
    this.revision = Math.max(this.revision, revision)
  }

  private async currentToken(limitMs: number): Promise<string | undefined> {
    const { timers, user, password } = this.options
    if (user === undefined || this.token !== undefined) return this.token
    if (!this.renewal) {
      this.renewal = this.login(user, password ?? '').finally(() => {
        this.renewal = undefined
      })
      // Everybody who waits for it may have given up by the time it fails.
      this.renewal.catch(() => undefined)
    }
    await within(timers, limitMs, this.renewal, loginIsLate)
    return this.token
  }

  private async login(name: string, password: string): Promise<void> {
    const { endpoints } = this.options
    const limitMs = this.loginLimitMs * (endpoints.count === 1 ? 1 : membersInTime)
    const call: CallOptions = { repeatable: true, anonymous: true, limitMs }
    this.loginLimitMs = Math.min(2 * this.loginLimitMs, loginMaxMs)
    const { token } = await this.call(methods.authenticate, { name, password }, call)
    this.loginLimitMs = loginFirstMs
    this.token = token
  }
}

function metadataOf(token: string | undefined): Metadata {
  const metadata = new Metadata()
  // The member refuses at once instead of waiting when it knows no leader.
  metadata.set('hasleader', 'true')
  if (token !== undefined) metadata.set('token', token)
  return metadata
}

function sendUnary<Request, Result>(
  ...[client, method, request, metadata, deadline, signal]: Parameters<Send<Request, Result>>
): Promise<Result> {
  const { path, serialize, deserialize } = method
  return new Promise((resolve, reject) => {
    const call = client.makeUnaryRequest(
      path,
      serialize,
      deserialize,
      request,
      metadata,
      { deadline },
      (error, result) => {
        signal.removeEventListener('abort', cancel)
        if (result !== undefined) resolve(result)
        else reject(error ?? new StoreError('unavailable', 'etcd gave no answer: check the server'))
      },
    )
    const cancel = (): void => call.cancel()
    signal.addEventListener('abort', cancel)
  })
}

function sendStreamed<Request, Result>(
  ...[client, method, request, metadata, deadline, signal]: Parameters<Send<Request, Result>>
): Promise<Result> {
  const { path, serialize, deserialize } = method
  const stream: ClientDuplexStream<Request, Result> = client.makeBidiStreamRequest(
    path,
    serialize,
    deserialize,
    metadata,
    { deadline },
  )
  const cancel = (): void => stream.cancel()
  signal.addEventListener('abort', cancel)
  return new Promise<Result>((resolve, reject) => {
    stream.once('data', resolve)
    stream.on('error', reject)
    stream.on('end', () => reject(new StoreError('unavailable', 'etcd gave no answer: check the server')))
    stream.write(request)
    stream.end()
  }).finally(() => signal.removeEventListener('abort', cancel))
}

function distrusted(endpoint: Endpoint, why: string): StoreError {
  return new StoreError(
    'unavailable',
    `etcd at ${endpoint.target} ${why}: its answer is not used; if the cluster was rebuilt, restart this process`,
  )
}

function pathWasLost({ target }: Endpoint): StoreError {
  return new StoreError('unavailable', `the network to etcd at ${target} was away: check it`)
}

function loginIsLate(): StoreError {
  return new StoreError(
    'unavailable',
    'etcd has not answered the login yet: check its load; client certificates cost it less than passwords',
  )
}

function outcomeUnknown(cause: StoreError): StoreError {
  return new StoreError(
    'unavailable',
    `whether etcd carried out a write is unknown: read before trying again. ${cause.message}`,
    { cause },
  )
}
