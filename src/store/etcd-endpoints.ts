import { setMaxListeners } from 'node:events'
import { readFile } from 'node:fs/promises'
import { type ChannelCredentials, Client, connectivityState, credentials } from '@grpc/grpc-js'
import type { Logger } from '../runtime/log.ts'
import type { ConnectionTracker } from './connection.ts'
import { unreachable } from './etcd-errors.ts'
import { methods } from './etcd-messages.ts'
import { EtcdPath, type PathOptions } from './etcd-path.ts'
import { StoreError } from './store.ts'

export interface EtcdTls {
  /** PEM files. They are read again whenever a member is turned to, so that renewed ones are picked up. */
  caFile?: string | undefined
  certFile?: string | undefined
  keyFile?: string | undefined
  /** The name the server's certificate must carry, when it is not the endpoint's own. */
  serverName?: string | undefined
}

/** A member in use. A new object each time, so that a late failure does not count against a later connection. */
export interface Endpoint {
  /** `host:port` */
  readonly target: string
  readonly secure: boolean
  /** Aborted when the network to it was away: no answer is to be waited for over the connection. */
  readonly gone: AbortSignal
}

export interface EtcdEndpointsOptions extends PathOptions {
  endpoints: string[]
  tls: EtcdTls | undefined
  tracker: ConnectionTracker
  log: Logger
  /** Called after the member in use was given up, with the reason. */
  onMove: (reason: string) => void
}

/**
 * etcd's server closes connections that ping more often than every 5 s. These pings are the second line: hung
 * members are found sooner by deadlines and the store's own probe.
 */
const channelOptions = {
  // How often a member that is away is tried, which gRPC jitters: not long after its return, and never in a hurry.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 500,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
}

/** An exchange, or connecting, that takes longer may do so because the network is away: that is looked into. */
const patienceMs = 250
/**
 * A channel that has tried to connect for this long is replaced. Not shorter, because a member that everybody comes back
 * to takes its time over each.
 */
const connectingMaxMs = 2_000
/** The same for a channel that failed before it tried again: then gRPC does not tell what it is doing. */
const failingMaxMs = 10_000

/** A member as the configuration names it. */
interface Member {
  target: string
  secure: boolean
  path: EtcdPath
}

/** The channel to one member. */
interface Channel {
  client: Client
  credentialsText: string
  /** Since when it has not stood, in monotonic ms; undefined while it does. */
  awaySinceMs: number | undefined
  /** It stood, and nothing came over it. */
  silent: boolean
}

/** The members of an etcd cluster: one in use at a time, the next one when it fails. */
export class EtcdEndpoints {
  readonly count: number
  private readonly options: EtcdEndpointsOptions
  private readonly members: Member[]
  private index = 0
  private inUse: Endpoint
  /** Ends what waits for an answer of the member in use. */
  private breakOff = new AbortController()
  /** Ends the search for a network that was away. */
  private search = new AbortController()
  private client: Promise<Client> | undefined
  /** One a member for as long as the store is open: a channel that is closed while it fails comes to life again. */
  private readonly channels = new Map<string, Channel>()
  private failuresInRow = 0
  private heardMs: number
  private closed = false

  /** @throws StoreError `invalid` for an address that cannot be one. */
  constructor(options: EtcdEndpointsOptions) {
    this.options = options
    if (options.endpoints.length === 0) throw new StoreError('invalid', 'no etcd endpoint is given: name one')
    this.members = options.endpoints.map(text => {
      const parsed = parseEndpoint(text, options.tls !== undefined)
      return { ...parsed, path: new EtcdPath(parsed.target, options) }
    })
    this.count = this.members.length
    this.inUse = this.take(0)
    this.heardMs = options.clock.nowMs()
  }

  get current(): Endpoint {
    return this.inUse
  }

  /** Milliseconds since a member last answered anything. */
  get silentMs(): number {
    return this.options.clock.nowMs() - this.heardMs
  }

  /** The connection to `current`, when it stands. Rejects with `unavailable`: then nothing was sent. */
  async connect(limitMs: number): Promise<Client> {
    const { clock } = this.options
    const endMs = clock.nowMs() + limitMs
    for (;;) {
      if (this.closed) throw new StoreError('closed', 'the connection to etcd was closed: open it again')
      const endpoint = this.current
      this.client ??= this.open(endpoint)
      const client = await this.client
      const failure = await this.unlessSlow(endpoint, ready(client, clock.wallMs() + endMs - clock.nowMs()))
      const channel = this.channels.get(endpoint.target)
      if (channel?.client === client) {
        // A connection that came to stand just now is as good as an answer: it is not to be given up.
        if (!failure && channel.awaySinceMs !== undefined && endpoint === this.current) this.wasReached()
        channel.awaySinceMs = failure ? (channel.awaySinceMs ?? clock.nowMs()) : undefined
      }
      if (failure === undefined) return client
      if (endpoint.gone.aborted && clock.nowMs() < endMs) continue
      throw unreachable(endpoint.target, failure === 'late' ? 'no connection in time' : failure.reason)
    }
  }

  /**
   * Waits for what is asked of `endpoint`. When that takes long and the network to it was away and is back, the
   * connection is given up for a new one.
   */
  async unlessSlow<T>(endpoint: Endpoint, work: Promise<T>): Promise<T> {
    const delayMs = this.path.isLost ? 0 : patienceMs
    const timer = this.options.timers.after(delayMs, () => void this.lookFor(endpoint))
    try {
      return await work
    } finally {
      timer.cancel()
    }
  }

  /** An answer came. */
  heard(): void {
    this.heardMs = this.options.clock.nowMs()
    this.failuresInRow = 0
    this.wasReached()
    this.options.tracker.becomeUp()
  }

  /**
   * Gives `endpoint` up for the next one, unless that has happened already. `silent`: it did not answer in time, so
   * that its connection is not to be trusted either.
   */
  leave(endpoint: Endpoint, cause: StoreError, silent = false): void {
    if (this.closed || endpoint !== this.current) return
    const channel = this.channels.get(endpoint.target)
    if (channel) channel.silent ||= silent
    this.failuresInRow++
    if (this.failuresInRow >= this.count) this.options.tracker.becomeDown(cause.message)
    if (this.count > 1) this.search.abort()
    this.inUse = this.take((this.index + 1) % this.count)
    const { log, onMove } = this.options
    log.debug(
      { event: 'store.move', err: cause, from: endpoint.target, to: this.current.target },
      'moving on',
    )
    onMove(cause.message)
  }

  close(): void {
    this.closed = true
    this.search.abort()
    this.client = undefined
    for (const { client } of this.channels.values()) client.close()
    this.channels.clear()
  }

  private get path(): EtcdPath {
    return (this.members[this.index] as Member).path
  }

  private take(index: number): Endpoint {
    const { target, secure } = this.members[index] as Member
    this.index = index
    this.client = undefined
    this.breakOff = new AbortController()
    // Each call that waits for an answer has one.
    setMaxListeners(0, this.breakOff.signal)
    return { target, secure, gone: this.breakOff.signal }
  }

  private wasReached(): void {
    this.path.heard()
    this.search.abort()
  }

  private async lookFor(endpoint: Endpoint): Promise<void> {
    if (this.closed || endpoint !== this.current) return
    if (this.search.signal.aborted) this.search = new AbortController()
    const isBack = await this.path.isBack(this.search.signal)
    if (isBack) this.beginAgain()
  }

  /** Gives the connection to the member in use up for a new one to the same. */
  private beginAgain(): void {
    const { target } = this.current
    const channel = this.channels.get(target)
    // One that has failed tries again by itself, and soon.
    if (channel?.client.getChannel().getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE)
      return
    channel?.client.close()
    this.channels.delete(target)
    const { breakOff, options } = this
    this.inUse = this.take(this.index)
    const reason = `the network to etcd at ${target} was away: it is connected to anew`
    options.log.debug({ event: 'store.path', target }, reason)
    breakOff.abort()
    options.onMove(reason)
  }

  /** The member's channel; a new one when its TLS files have changed, or nothing is to be expected of the old one. */
  private async open({ target, secure }: Endpoint): Promise<Client> {
    const { clock, tls } = this.options
    const files = secure ? await readTlsFiles(tls ?? {}) : undefined
    if (this.closed) throw new StoreError('closed', 'the connection to etcd was closed: open it again')
    const credentialsText = files ? files.map(String).join('\n') : ''
    const known = this.channels.get(target)
    if (known && known.credentialsText === credentialsText && !this.isHopeless(known)) return known.client
    known?.client.close()
    const name = tls?.serverName
    const naming = name ? { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name } : {}
    const channelCredentials = files ? makeCredentials(files) : credentials.createInsecure()
    const client = new Client(target, channelCredentials, { ...channelOptions, ...naming })
    this.channels.set(target, { client, credentialsText, awaySinceMs: clock.nowMs(), silent: false })
    return client
  }

  private isHopeless({ awaySinceMs, client, silent }: Channel): boolean {
    if (silent) return true
    if (awaySinceMs === undefined) return false
    const hasFailed = client.getChannel().getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE
    return this.options.clock.nowMs() - awaySinceMs > (hasFailed ? failingMaxMs : connectingMaxMs)
  }
}

/** @throws StoreError `unavailable` naming the file that cannot be read, or what is wrong with it. */
export async function readCredentials(tls: EtcdTls): Promise<ChannelCredentials> {
  return makeCredentials(await readTlsFiles(tls))
}

type TlsFiles = [ca: Buffer | null, key: Buffer | null, cert: Buffer | null]

function readTlsFiles(tls: EtcdTls): Promise<TlsFiles> {
  const read = async (path: string | undefined): Promise<Buffer | null> => {
    if (path === undefined) return null
    try {
      return await readFile(path)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new StoreError(
        'unavailable',
        `TLS file for etcd cannot be read (${reason}): check path and rights`,
        {
          cause,
        },
      )
    }
  }
  return Promise.all([read(tls.caFile), read(tls.keyFile), read(tls.certFile)])
}

function makeCredentials(files: TlsFiles): ChannelCredentials {
  try {
    return credentials.createSsl(...files)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StoreError(
      'unavailable',
      `TLS files for etcd cannot be used (${reason}): check that they match`,
      {
        cause,
      },
    )
  }
}

function parseEndpoint(text: string, tlsGiven: boolean): { target: string; secure: boolean } {
  const match = /^(?:(https?):\/\/)?((?:\[[0-9A-Fa-f:.]+\]|[^/:@\s]+):\d+)\/?$/.exec(text)
  if (!match) {
    throw new StoreError('invalid', `"${text}" is no etcd endpoint: write host:port or https://host:port`)
  }
  const [, scheme, target = ''] = match
  return { target, secure: scheme ? scheme === 'https' : tlsGiven }
}

/**
 * Waits for the channel to stand; a failed attempt to connect ends the wait, there may be a better member. Resolves to
 * what has failed, `late` when nothing has happened at all.
 */
async function ready(
  client: Client,
  deadlineWallMs: number,
): Promise<undefined | 'late' | { reason: string }> {
  const channel = client.getChannel()
  for (;;) {
    const state = channel.getConnectivityState(true)
    if (state === connectivityState.READY) return undefined
    if (state === connectivityState.SHUTDOWN) return { reason: 'given up meanwhile' }
    if (state === connectivityState.TRANSIENT_FAILURE) {
      return { reason: await connectError(client, deadlineWallMs) }
    }
    const isLate = await new Promise<boolean>(resolve => {
      channel.watchConnectivityState(state, deadlineWallMs, error => resolve(error !== undefined))
    })
    if (isLate) return 'late'
  }
}

/** What gRPC says around the error itself is of no use to anybody. */
function lastErrorIn(details: string): string {
  return details
    .replace(/^No connection established\. Last error: (Error: )?/, '')
    .replace(/\.? Resolution note:.*$/s, '')
}

/** The channel does not say why it failed, a call on it does. Status changes nothing if it goes through after all. */
function connectError(client: Client, deadlineWallMs: number): Promise<string> {
  const { path, serialize, deserialize } = methods.status
  return new Promise(resolve => {
    client.makeUnaryRequest(path, serialize, deserialize, {}, { deadline: deadlineWallMs }, error =>
      resolve(error ? lastErrorIn(error.details) : 'it came back just now'),
    )
  })
}
