import type { Route } from '../../routing/choose.ts'
import { Link, type LinkUser } from '../../runtime/link.ts'
import { peerOf } from '../../runtime/sockets.ts'
import type { Timer } from '../../runtime/timers.ts'
import { writeErrorResponse } from '../../wire/messages.ts'
import type { Learned } from '../lanes/learned.ts'
import type { PoolLimits, PoolMode } from '../pool/limits.ts'
import { firstRequestBytes } from '../relay/requests.ts'
import type { ServerConnection } from '../server.ts'
import type { StartupForm, StartupSettings } from '../session/settings.ts'
import type { Arrival } from '../startup/client-startup.ts'
import type { ServerAccount } from '../startup/server-account.ts'
import type { DatabaseStats } from '../stats.ts'
import type { ClientHost } from './client-host.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from './failures.ts'
import { overtime } from './overtime.ts'

export const ClientState = {
  Waiting: 0,
  Login: 1,
  Active: 2,
  Held: 3,
  Resting: 4,
  Sharing: 5,
  Begun: 6,
  Closed: 7,
} as const
export type ClientState = (typeof ClientState)[keyof typeof ClientState]

/** What a client may send ahead before it has a server; then it is not read from until it has one. */
const aheadBytesMax = 64 * 1024
/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000

/**
 * The client's side of a `Client`: who it is, where its requests are to go, what it has sent that cannot be passed on
 * yet, what it is told, and how it ends. What it does without a server connection is in `DetachedClient`, what it does
 * with one in `Client`.
 */
export abstract class ClientConnection implements LinkUser {
  /** Of the port that it came to. */
  readonly door: Route
  /** Where what it asks for now is to go. */
  route: Route
  readonly mode: PoolMode
  /** The node that its reads go to, while that will have them. */
  home = ''
  /** The node that it has read on last. */
  readOn = ''
  /** The node that is known to have what its request must see. */
  freshOn = ''
  /** Its reads go to replicas although it came to the port for everything. */
  isSplit = false
  /** Only its first request goes where it was sent; what comes behind is looked at by itself. */
  staysForOne = false
  /** What is known of the statement that goes to a replica because it reads. */
  reading: Learned | undefined
  /** A walsender session: on a connection of its own, never pooled. */
  readonly replication: boolean
  /** What the proxy logs in to servers with for it; undefined: it answers the servers' challenges itself. */
  readonly credentials: ServerAccount | undefined
  /** Nodes that could not be had for this client, in order not to try them again at once. */
  tried: ReadonlySet<string> = noNodes
  waitingSinceMs = 0
  connectedMs: number
  /** TLS for people; empty without. */
  readonly tls: string
  /** Minor version of protocol 3 that it speaks. */
  readonly minor: number

  protected readonly host: ClientHost
  protected readonly link: Link
  protected state: ClientState = ClientState.Waiting
  /** What came before it could be passed on. */
  protected ahead: Buffer = empty
  /** The client has said that it will send nothing more. */
  protected isHalfClosed = false
  /** What is counted for its database, once it has had a server there. */
  protected stats: DatabaseStats | undefined
  /** Where it connects from, when that is not where its socket does. */
  readonly #from: string | undefined
  readonly #form: StartupForm
  #waitTimer: Timer | undefined

  constructor(arrival: Arrival, host: ClientHost) {
    this.door = arrival.route
    this.route = arrival.route
    this.#from = arrival.address === peerOf(arrival.socket) ? undefined : arrival.address
    this.tls = arrival.tls
    this.minor = arrival.minor
    this.connectedMs = host.clock.nowMs()
    this.#form = host.startups.of(arrival.parameters, arrival.database, arrival.user)
    this.mode = arrival.replication ? 'session' : host.modeOf(arrival.database, arrival.user)
    this.replication = arrival.replication
    this.credentials = arrival.credentials
    // What is empty is only part of what came before, which need not be kept.
    if (arrival.ahead.length > 0) this.ahead = arrival.ahead
    this.host = host
    this.link = new Link(arrival.socket, this)
  }

  /** The next piece of what the client sends. */
  protected abstract onPiece(chunk: Buffer): void
  /** The client has taken what it was slow to take. */
  abstract onDrain(): void
  /** The client will send nothing more; what it has asked for is still answered. */
  protected abstract onHalfClosed(): void
  /** The server connection that it has now. */
  abstract get server(): ServerConnection | undefined
  /** What it is sent next is the beginning of a message. */
  protected abstract get isBetweenMessages(): boolean
  /** For how long it has had what it asked for and asked for nothing more; undefined otherwise. */
  abstract idleMs(nowMs: number): number | undefined
  /** It has ended, and was in this state before: what it had is given back. */
  protected abstract onFinished(before: ClientState, reason: DisconnectReason): void

  /** Where it connects from: `address:port`. */
  get address(): string {
    return this.#from ?? peerOf(this.link.socket)
  }

  get user(): string {
    return this.#form.user
  }

  get database(): string {
    return this.#form.database
  }

  get parameters(): ReadonlyMap<string, string> {
    return this.#form.parameters
  }

  get parametersKey(): string {
    return this.#form.parametersKey
  }

  get startup(): StartupSettings {
    return this.#form.sorted
  }

  /** Database and user: which of a node's pools serves it. */
  get poolKey(): string {
    return this.#form.poolKey
  }

  /** This node could not be had, or lacks something: it is not tried again at once. */
  avoid(node: string): void {
    this.tried = new Set([...this.tried, node])
  }

  /** Everything may be tried again. */
  forgetTried(): void {
    this.tried = noNodes
  }

  /** Where it has connected to: `address:port`. */
  get localAddress(): string {
    return this.link.localAddress
  }

  /** What was sent to it and has not left yet. */
  get unsentBytes(): number {
    return this.link.unsentBytes
  }

  get isClosed(): boolean {
    return this.state === ClientState.Closed
  }

  get isWaiting(): boolean {
    return this.state === ClientState.Waiting
  }

  /** The proxy itself talks with its server. */
  get isHeld(): boolean {
    return this.state === ClientState.Held
  }

  /** It has sent something that is still to be passed on. */
  get hasAhead(): boolean {
    return this.ahead.length > 0
  }

  // Time.

  /** Waits without a limit. */
  waitFreely(): void {
    this.#waitTimer?.cancel()
    this.#waitTimer = undefined
  }

  /** Ends the wait after `limitMs` unless a server was found; the newest call counts. */
  waitAtMost(limitMs: number, reason: DisconnectReason, message: () => string): void {
    this.#waitTimer?.cancel()
    this.#waitTimer = this.host.timers.after(Math.max(0, limitMs), () => {
      if (this.isWaiting) this.end(reason, message())
    })
  }

  /** Ends the client when something takes longer than it may. Called about once a second while it has a server. */
  limitTime(nowMs: number, limits: PoolLimits): void {
    if (this.state !== ClientState.Active || !this.server || this.replication) return
    const over = overtime(this.server, limits, nowMs)
    if (over) this.end(over.reason, over.message)
    else this.limitIdleTime(nowMs, limits)
  }

  /** The same for a client that wants nothing. */
  limitIdleTime(nowMs: number, { clientIdleTimeoutMs }: PoolLimits): void {
    const idleMs = clientIdleTimeoutMs > 0 ? this.idleMs(nowMs) : undefined
    if (idleMs === undefined || idleMs <= clientIdleTimeoutMs) return
    const message = `the client was idle for longer than ${clientIdleTimeoutMs} ms (client_idle_timeout)`
    this.end('client_idle_timeout', message)
  }

  // Bytes.

  /** What its socket has read. */
  onData(chunk: Buffer): void {
    this.host.counters.bytesFromClients += chunk.length
    if (this.stats) this.stats.receivedBytes += chunk.length
    this.onPiece(chunk)
  }

  /** Its socket has read that nothing more will come. */
  onEnd(): void {
    this.isHalfClosed = true
    this.onHalfClosed()
  }

  onError(): void {
    this.end('client_lost')
  }

  onClose(): void {
    this.end('client_closed')
  }

  /** Keeps what cannot be passed on yet. */
  protected keepAhead(chunk: Buffer): void {
    this.ahead = this.ahead.length === 0 ? chunk : Buffer.concat([this.ahead, chunk])
    if (this.ahead.length > aheadBytesMax) this.link.pause()
  }

  /** Takes all of it. */
  takeAhead(): Buffer {
    const { ahead } = this
    this.ahead = empty
    return ahead
  }

  /** Puts what was taken before what has come since. */
  protected putBack(piece: Buffer): void {
    this.ahead = this.hasAhead ? Buffer.concat([piece, this.ahead]) : piece
  }

  /** Takes the first request of what is kept, up to the message that is answered by a ReadyForQuery; if it is whole. */
  takeRequest(): Buffer | undefined {
    const { ahead } = this
    const bytes = firstRequestBytes(ahead)
    if (bytes === undefined) return undefined
    if (bytes === ahead.length) return this.takeAhead()
    this.ahead = ahead.subarray(bytes)
    return ahead.subarray(0, bytes)
  }

  /** Sends something to the client. False: it is slow, and should be given no more until `onDrain`. */
  protected send(chunk: Buffer): boolean {
    if (!this.link.isOpen) return true
    this.host.counters.bytesToClients += chunk.length
    if (this.stats) this.stats.sentBytes += chunk.length
    return this.link.write(chunk)
  }

  /** Sends what a server has to say, or what is said in its place: while the client is slow, that stops. */
  protected tell(message: Buffer): void {
    if (!this.send(message)) this.server?.pause()
  }

  // The end.

  /**
   * Ends the client. With a message it is told why, as a FATAL ErrorResponse, where the stream is between two
   * messages; the server connection goes back to its pool or is closed.
   */
  end(reason: DisconnectReason, message?: string, more?: ErrorDetails): void {
    const tells = message !== undefined && this.isBetweenMessages
    this.finish(reason, tells ? writeErrorResponse(errorFor(reason, message, more)) : undefined, message)
  }

  /** Ends the client, with `last` as the last words to it; `message` is for the log. */
  protected finish(reason: DisconnectReason, last: Buffer | undefined, message?: string): void {
    if (this.state === ClientState.Closed) return
    const before = this.state
    this.state = ClientState.Closed
    this.waitFreely()
    if (reason !== 'client_closed') {
      const who = { client: this.address, user: this.user, reason }
      this.host.log.debug(who, message ?? 'client ended')
    }
    if (last) this.send(last)
    // A client that does not read is not waited for long.
    this.link.destroySoon()
    if (this.link.unsentBytes > 0) this.host.timers.after(farewellMs, () => this.link.destroy())
    this.onFinished(before, reason)
  }
}

const empty = Buffer.alloc(0)
const noNodes: ReadonlySet<string> = new Set()
