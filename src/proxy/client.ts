import type { Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import { stopReading } from '../runtime/sockets.ts'
import type { Timer } from '../runtime/timers.ts'
import { Client as Code, Server as ServerCode, TransactionStatus } from '../wire/codes.ts'
import {
  authenticationOk,
  frame,
  readErrorFields,
  readyForQueryIdle,
  writeBackendKeyData,
  writeErrorResponse,
  writeParameterStatus,
} from '../wire/messages.ts'
import { MessageReader } from '../wire/reader.ts'
import type { ClientHost, Leaving } from './client-host.ts'
import { ClientRelay } from './client-relay.ts'
import type { LoginFailure } from './conversations.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from './failures.ts'
import type { HandOver } from './hand-over.ts'
import type { PoolLimits, PoolMode } from './limits.ts'
import { overtime } from './overtime.ts'
import { bringSettings, settleSession } from './pooled-checkout.ts'
import { firstRequestBytes, hasRequest, PooledRelay } from './pooled-relay.ts'
import { PooledSession } from './pooled-session.ts'
import { untold } from './reported.ts'
import type { ServerConnection, ServerUser } from './server.ts'
import type { StartupForm, StartupSettings } from './settings.ts'
import type { Arrival } from './startup/client-startup.ts'
import type { ServerAccount } from './startup/server-account.ts'
import type { DatabaseStats } from './stats.ts'

const State = { Waiting: 0, Login: 1, Active: 2, Held: 3, Resting: 4, Closed: 5 } as const
type State = (typeof State)[keyof typeof State]

/** What a client may send ahead before it has a server; then it is not read from until it has one. */
const aheadBytesMax = 64 * 1024
/** The longest answer to a challenge: GSS tokens are the largest. */
const answerBytesMax = 64 * 1024
/** Notices of a login that are kept for the client; more are left out. */
const noticesMax = 20
/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000

/**
 * One client connection.
 *
 * ```
 * Waiting -> Login -> Active <-> Held     (Held: the proxy itself talks with the server)
 *    ^          |        |                  any -> Closed
 *    +----------+        v
 *    +--------------- Resting               (Resting: a pooled client that needs no server)
 * ```
 */
export class Client implements ServerUser {
  readonly route: Route
  /** Where it connects from: `address:port`. */
  readonly address: string
  relay: ClientRelay | PooledRelay
  readonly user: string
  readonly database: string
  readonly mode: PoolMode
  /** What it carries from one server connection to the next; undefined when it keeps one for its whole life. */
  session: PooledSession | undefined
  /** The node that it was at last. */
  home = ''
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
  /** Set while the node asks the session to leave. */
  leaving: Leaving | undefined

  readonly #host: ClientHost
  readonly #socket: Socket
  /** Puts the client's answers to a server's challenges together. */
  #answers: MessageReader | undefined
  readonly #form: StartupForm
  #state: State = State.Waiting
  #server: ServerConnection | undefined
  /** What came before it could be passed on. */
  #ahead: Buffer = empty
  #notices: readonly Buffer[] = noNotices
  #loginTimer: Timer | undefined
  #waitTimer: Timer | undefined
  #negotiate: Buffer | undefined
  /** It has been told that its session has begun. */
  #greeted = false
  #restingSinceMs = 0
  /** The node that it has read on last, on the port for reads. */
  #readOn = ''
  /** What is counted for its database, once it has had a server there. */
  #stats: DatabaseStats | undefined
  /** What comes is kept until what was passed on is answered. */
  #isBehindBarrier = false
  /** The client has said that it will send nothing more. */
  #halfClosed = false

  constructor(arrival: Arrival, host: ClientHost) {
    const { socket } = arrival
    this.#socket = socket
    this.route = arrival.route
    this.address = arrival.address
    this.tls = arrival.tls
    this.minor = arrival.minor
    this.connectedMs = host.clock.nowMs()
    this.user = arrival.user
    this.database = arrival.database
    this.#form = host.startups.of(arrival.parameters, arrival.database, arrival.user)
    this.mode = arrival.replication ? 'session' : host.modeOf(arrival.database, arrival.user)
    this.replication = arrival.replication
    this.credentials = arrival.credentials
    this.#negotiate = arrival.negotiation
    this.#ahead = arrival.ahead
    this.#host = host
    if (this.mode === 'session') this.relay = new ClientRelay(arrival.route === 'replica')
    else {
      this.session = new PooledSession(this.startup.settings)
      this.relay = new PooledRelay({
        session: this.session,
        user: this.user,
        database: host.knowledgeOf(arrival.database),
        preparedMax: () => host.preparedMaxOf(this),
        freeDatabase: name => host.freeDatabase(name),
      })
    }
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#onDrain())
    socket.on('end', () => this.#onHalfClosed())
    socket.on('error', () => this.end('client_lost'))
    socket.on('close', () => this.end('client_closed'))
  }

  /**
   * Lets go of a client at rest, so that another worker can go on with it: of its socket nothing is read any more.
   * Undefined when it cannot go now; encrypted ones never can.
   */
  handOver(): { socket: Socket; client: Omit<HandOver, 'cancelKey'> } | undefined {
    if (!this.mayMove || !this.wantsNothing || this.#socket.writableLength > 0) return undefined
    const session = this.session?.handOver()
    if (!session || !stopReading(this.#socket)) return undefined
    this.#state = State.Closed
    const nowMs = this.#host.clock.nowMs()
    const client = {
      route: this.route,
      address: this.address,
      user: this.user,
      database: this.database,
      parameters: [...this.parameters],
      minor: this.minor,
      home: this.home,
      readOn: this.#readOn,
      connectedForMs: nowMs - this.connectedMs,
      idleMs: nowMs - this.#restingSinceMs,
      session,
      credentials: this.credentials?.handOver(),
    }
    return { socket: this.#socket, client }
  }

  /** It is only a matter of moments until another worker can go on with it. */
  get mayMove(): boolean {
    return this.#state === State.Resting && this.tls === '' && !this.#halfClosed
  }

  /** Goes on with a client that was at rest in another worker. */
  takeOver(from: HandOver): void {
    if (!this.session) {
      return this.end('session_lost', 'the pool mode of this connection has changed', {
        hint: 'Connect again.',
      })
    }
    const nowMs = this.#host.clock.nowMs()
    this.#greeted = true
    this.#state = State.Resting
    this.#restingSinceMs = nowMs - from.idleMs
    this.#readOn = from.readOn
    this.connectedMs = nowMs - from.connectedForMs
    this.home = from.home
    this.session.takeOver(from.session, this.#host.knowledgeOf(this.database).statements)
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

  get server(): ServerConnection | undefined {
    return this.#server
  }

  /** Where it has connected to: `address:port`. */
  get localAddress(): string {
    return `${this.#socket.localAddress ?? '?'}:${this.#socket.localPort ?? 0}`
  }

  /** What was sent to it and has not left yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  get isClosed(): boolean {
    return this.#state === State.Closed
  }

  get isWaiting(): boolean {
    return this.#state === State.Waiting
  }

  /** Nothing of the client is on the way in either direction. */
  get isAtRest(): boolean {
    return (
      this.#state === State.Active &&
      this.relay.atBoundary &&
      this.#ahead.length === 0 &&
      (this.#server?.isAtRest ?? false)
    )
  }

  /** It receives WAL or decoded changes, which only ends when one side ends it; the next stream goes on from there. */
  get isStreaming(): boolean {
    return this.#server?.isStreaming ?? false
  }

  /** Ending it now cuts nothing off: it has asked for nothing yet, or has been answered. */
  get wantsNothing(): boolean {
    switch (this.#state) {
      case State.Active:
        return this.isAtRest || this.isStreaming
      case State.Resting:
        return this.#ahead.length === 0
      default:
        // Before it was told that its session has begun, it may send ahead but not count on an answer.
        return !this.#greeted
    }
  }

  /** For how long it has had what it asked for and asked for nothing more; undefined otherwise. */
  idleMs(nowMs: number): number | undefined {
    if (!this.#greeted || !this.wantsNothing) return undefined
    return nowMs - (this.#server ? this.#server.requestSinceMs : this.#restingSinceMs)
  }

  #onData(chunk: Buffer): void {
    this.#host.counters.bytesFromClients += chunk.length
    if (this.#stats) this.#stats.receivedBytes += chunk.length
    if (this.#state === State.Active && !this.#isBehindBarrier) return this.#pass(chunk)
    if (this.#state === State.Closed) return
    if (this.#state === State.Login) return this.#answer(chunk)
    if (this.#state === State.Resting) return this.#wake(chunk)
    this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk])
    if (this.#ahead.length > aheadBytesMax) this.#socket.pause()
  }

  /** No more is to come; what was asked for is still answered. */
  #onHalfClosed(): void {
    this.#halfClosed = true
    if (this.#isCutShort) return this.end('client_lost')
    if (this.#state === State.Active && !this.#isDone) return
    if (this.#state === State.Held) return
    if (this.#state === State.Waiting && this.#greeted && this.#ahead.length > 0) return
    this.end('client_closed')
  }

  #onDrain(): void {
    if (this.#state !== State.Resting) this.#server?.resume()
    else if (this.#ahead.length > 0) this.#lookForServer()
    else this.#socket.resume()
  }

  /**
   * Cancels what the client waits for: on its server, or here while it still waits for one. Returns whether a server
   * was asked. Between two requests there is nothing to cancel, and what comes next is not meant.
   */
  cancel(done: () => void): boolean {
    if (this.#server?.isBusy) {
      this.#server.cancel(done)
      return true
    }
    const isQueued = this.#state === State.Waiting || this.#state === State.Held
    if (isQueued && this.#greeted && this.session) this.#cancelAhead()
    done()
    return false
  }

  /** Answers the first request that waits here, instead of a server. */
  #cancelAhead(): void {
    const bytes = firstRequestBytes(this.#ahead)
    if (bytes === undefined) return
    this.#ahead = this.#ahead.subarray(bytes)
    this.#send(Buffer.concat([cancelled, readyForQueryIdle]))
    if (this.#ahead.length > 0 || this.#state !== State.Waiting) return
    this.#host.abandon(this)
    this.#waitTimer?.cancel()
    this.#state = State.Resting
    this.#socket.resume()
    if (this.#halfClosed) this.end('client_closed')
  }

  /** Ends the client when something takes longer than it may. Called about once a second while it has a server. */
  limitTime(nowMs: number, limits: PoolLimits): void {
    const server = this.#server
    if (this.#state !== State.Active || !server || this.replication) return
    const over = overtime(server, limits, nowMs)
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

  // Resting: a pooled client without a server.

  /** It wants something: a server is looked for, unless it does not even read its last answers. */
  #wake(chunk: Buffer): void {
    if (chunk[0] === Code.Terminate) return this.end('client_closed')
    this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk])
    if (!hasRequest(this.#ahead)) return
    if (this.#socket.writableNeedDrain) this.#socket.pause()
    else this.#lookForServer()
  }

  #lookForServer(): void {
    this.#state = State.Waiting
    this.waitingSinceMs = this.#host.clock.nowMs()
    this.#host.acquire(this)
  }

  /** Gives the server back, and waits for what the client wants next. */
  #detach(server: ServerConnection): void {
    const session = this.session!
    session.told = server.reported
    if (this.relay instanceof PooledRelay) this.relay.endRetry()
    this.#server = undefined
    this.#state = State.Resting
    this.#restingSinceMs = server.requestSinceMs
    if (session.isOpaque) server.isSpoiled = true
    this.#host.onDetached(this, server)
    server.checkIn()
    if (this.#ahead.length > 0) return this.#lookForServer()
    if (this.#halfClosed) return this.end('client_closed')
    this.#socket.resume()
  }

  onStatementsGone(all: boolean): void {
    this.session?.dropStatements()
    const server = this.#server
    // What nobody could see is gone for this client, but for its names.
    if (all && server && this.session?.forgive()) server.isSpoiled = true
  }

  /** A prepared statement did not fit its tables any more: the request is sent again, and prepared anew. */
  onRetry(): void {
    const server = this.#server
    if (this.#state !== State.Active || !server || !(this.relay instanceof PooledRelay)) return
    const piece = this.relay.takeRetry()
    this.#state = State.Held
    server.giveUpPlans(() => {
      if (this.#state !== State.Held) return
      this.#state = State.Active
      this.#ahead = Buffer.concat([piece, this.#ahead])
      this.#goOn()
    })
  }

  /** The server has nothing more to do for the client. */
  #onPooledRest(session: PooledSession, server: ServerConnection): void {
    session.hasLocalSettings = false
    if (session.isDirty) return this.#askSession(session, server)
    if (!session.isPinned) return this.#detach(server)
    session.told = server.reported
    if (this.leaving) this.#host.onRest(this)
  }

  /** Learns from the server what the session holds by now. The client is not read from meanwhile. */
  #askSession(session: PooledSession, server: ServerConnection): void {
    this.#state = State.Held
    settleSession(session, server, this.#host.knowledgeOf(this.database), this.user, this.mode, () => {
      if (this.#state !== State.Held || server.isClosed) return
      const before = session.pinsTold
      if (before !== session.pins) {
        session.pinsTold = session.pins
        this.#host.onPinned(this, before)
      }
      this.#state = State.Active
      // What it had asked for when it connected is back after a RESET; a client that gives its server back gets it
      // on the next one.
      const goesOn = session.isPinned || this.#ahead.length > 0
      const lacks = goesOn && !server.settings.equals(session.settings)
      if (lacks) this.#bringSettings(session, server)
      else this.#goOn()
    })
  }

  /** Brings the client's settings onto the server that it has got. */
  #bringSettings(session: PooledSession, server: ServerConnection, forgetsSequences = false): void {
    this.#state = State.Held
    bringSettings(session, server, forgetsSequences, failure => {
      if (this.#state !== State.Held) return
      if (this.#retryElsewhere(server)) return
      if (!failure) return this.#start(server)
      const wasUsed = server.settings.values.size > 0
      server.isSpoiled = true
      // What another client has left may be in the way; on a connection without settings it is the client's own.
      if (wasUsed) {
        server.abort()
        this.#retryElsewhere(server)
        return
      }
      if (!this.#greeted) return this.refuse(failure)
      const message = readErrorFields(failure).get('M') ?? ''
      this.end(
        'session_lost',
        `the session's settings could not be brought to ${server.target.node}: ${message}`,
      )
    })
  }

  /**
   * What a server waits for will never come from a half-closed client: the rest of a message, of copy data, or how far
   * the receiver of a stream is.
   */
  get #isCutShort(): boolean {
    if (this.#ahead.length > 0) return false
    return !this.relay.atBoundary || (this.#server?.owed.isCopyIn ?? false) || this.isStreaming
  }

  /** Half-closed, and every answer has been passed on. */
  get #isDone(): boolean {
    return this.#ahead.length === 0 && (this.#server?.owed.ready ?? 0) === 0
  }

  /** Asks for a server for the first time. */
  begin(): void {
    // Waiting for a server has limits of its own.
    this.waitingSinceMs = this.#host.clock.nowMs()
    this.#host.acquire(this)
  }

  #limitLogin(): void {
    this.#loginTimer?.cancel()
    const { timers, loginTimeoutMs } = this.#host
    this.#loginTimer = timers.after(loginTimeoutMs, () =>
      this.end('login_timeout', `the login did not finish within ${loginTimeoutMs} ms`),
    )
  }

  /** A server refused the login of this client, with the body of its ErrorResponse. */
  refuse(error: Buffer): void {
    const fields = readErrorFields(error)
    this.#sendNegotiation()
    const { message, ...more } = {
      message: fields.get('M') ?? 'the server refused the login',
      detail: fields.get('D'),
      hint: fields.get('H'),
    }
    const code = fields.get('C') ?? '28000'
    this.#finish('login_refused', writeErrorResponse({ severity: 'FATAL', code, message, ...more }))
  }

  /** Waits without a limit. */
  waitFreely(): void {
    this.#waitTimer?.cancel()
    this.#waitTimer = undefined
  }

  /** Ends the wait after `limitMs` unless a server was found; the newest call counts. */
  waitAtMost(limitMs: number, reason: DisconnectReason, message: () => string): void {
    this.#waitTimer?.cancel()
    this.#waitTimer = this.#host.timers.after(Math.max(0, limitMs), () => {
      if (this.#state === State.Waiting) this.end(reason, message())
    })
  }

  // Login: the server's challenges are the client's to answer.

  /** Logs in on a new server connection, which calls the methods of `ServerUser`. */
  logInOn(server: ServerConnection): void {
    this.#server = server
    this.#state = State.Login
    this.#waitTimer?.cancel()
    this.#socket.resume()
  }

  /** Another server is looked for; nothing has been answered by the client yet. */
  wantAnother(): void {
    this.#server = undefined
    this.#notices = noNotices
    if (this.#state === State.Login) this.#state = State.Waiting
  }

  #answer(chunk: Buffer): void {
    const server = this.#server
    // Before a challenge came there is nothing to answer: it is kept until the session begins.
    if (!server?.challenged) {
      this.#ahead = Buffer.concat([this.#ahead, chunk])
      if (this.#ahead.length > aheadBytesMax) this.#socket.pause()
      return
    }
    this.#answers ??= new MessageReader(answerBytesMax)
    this.#answers.push(chunk, (code, body) => {
      if (code !== Code.Password) {
        const got = String.fromCharCode(code)
        this.end('protocol_violation', `expected the answer to a challenge, got message '${got}'`)
        return false
      }
      this.#loginTimer?.cancel()
      server.answerChallenge(body)
      return true
    })
    if (this.#answers.problem !== undefined) this.end('protocol_violation', this.#answers.problem)
  }

  onChallenge(body: Buffer): void {
    if (this.#greeted) {
      const hint = 'The server does not let the proxy in any more without asking: connect again.'
      return this.end('session_lost', 'a server asks for a password in the middle of the session', { hint })
    }
    this.#sendNegotiation()
    this.#send(frame(ServerCode.Authentication, body))
    this.#limitLogin()
    if (this.#ahead.length === 0) return
    const ahead = this.#ahead
    this.#ahead = empty
    this.#answer(ahead)
  }

  /** Kept until the login has succeeded: before that, clients do not expect any. */
  onLoginNotice(body: Buffer): void {
    if (this.#notices.length < noticesMax) {
      this.#notices = [...this.#notices, frame(ServerCode.NoticeResponse, body)]
    }
  }

  onLoginFailed(server: ServerConnection, failure: LoginFailure): void {
    if (failure.kind !== 'refused') return this.#host.onLoginFailed(this, server, failure)
    const sqlstate = readErrorFields(failure.body).get('C')
    this.#host.log.debug({ client: this.address, sqlstate }, 'the server refused a login')
    this.#sendNegotiation()
    this.#finish('login_refused', frame(ServerCode.ErrorResponse, failure.body))
  }

  onServerReady(server: ServerConnection): void {
    // Whoever has answered a challenge has a connection that is for nobody else.
    if (server.challenged && this.session) {
      this.session = undefined
      this.relay = new ClientRelay(this.route === 'replica')
    }
    // What is asked of a replication connection says nothing about others.
    if (!this.replication) server.owner.learnTrust(server.isTrusting)
    if (this.#host.mayBegin(this, server)) return this.attach(server)
    if (server.challenged) {
      return this.end('server_demoted', `${server.target.node} is no longer the node to go to`)
    }
    this.wantAnother()
    server.release()
    this.#host.acquire(this)
  }

  /** A server connection is there for what the client wants. */
  attach(server: ServerConnection): void {
    this.#loginTimer?.cancel()
    this.#waitTimer?.cancel()
    this.#waitTimer = undefined
    this.#server = server
    const waitedMs = this.#host.clock.nowMs() - this.waitingSinceMs
    this.#host.counters.wait.observe(waitedMs)
    this.#stats ??= this.#host.statsOf(this.database)
    this.#stats.assignments++
    this.#stats.waitMs += waitedMs
    this.#host.onAttached(this, server)
    const { session } = this
    if (!session) return this.#start(server)
    const { node } = server.target
    if (this.route === 'replica' && this.#readOn !== '' && this.#readOn !== node) {
      return this.#catchUp(session, server, node)
    }
    this.#readOn = node
    this.#prepare(session, server)
  }

  /** The client has read on another node, and must not see less on this one. */
  #catchUp(session: PooledSession, server: ServerConnection, node: string): void {
    this.#state = State.Held
    this.#host.catchUp(this, this.#readOn, this.#restingSinceMs, server, isCaughtUp => {
      if (this.#state !== State.Held || this.#retryElsewhere(server)) return
      if (isCaughtUp) {
        this.#readOn = node
        return this.#prepare(session, server)
      }
      this.#server = undefined
      this.#state = State.Waiting
      this.#host.onDetached(this, server)
      server.checkIn()
      this.avoid(node)
      this.#host.acquire(this)
    })
  }

  #prepare(session: PooledSession, server: ServerConnection): void {
    const knowledge = this.#host.knowledgeOf(this.database)
    if (knowledge.isLoaded) return this.#bring(session, server)
    // Without it every call would have to be taken for one that changes the session.
    this.#state = State.Held
    knowledge.whenLoaded(server, () => {
      if (this.#state === State.Held && !this.#retryElsewhere(server)) this.#bring(session, server)
    })
  }

  #bring(session: PooledSession, server: ServerConnection): void {
    const { sequenceReaders } = this.#host.knowledgeOf(this.database)
    const isOthers = server.sequenceOwner !== undefined && server.sequenceOwner !== session
    // What somebody else has drawn must not be told as what this client has.
    const forgets = isOthers && sequenceReaders.has(this.user)
    if (!forgets && server.settings.equals(session.settings)) this.#start(server)
    else this.#bringSettings(session, server, forgets)
  }

  /** When a server is lost before anything of what the client wants was sent to it, another one is looked for. */
  #retryElsewhere(server: ServerConnection): boolean {
    if (!server.isClosed) return false
    this.#server = undefined
    this.#host.onDetached(this, server)
    this.#state = State.Waiting
    this.#host.acquire(this)
    return true
  }

  /** What was sent ahead is run. At first the client learns what a server says after a login. */
  #start(server: ServerConnection): void {
    this.#state = State.Active
    if (!this.#greeted) this.#greet(server)
    else if (this.session && this.session.told !== server.reported) {
      for (const [name, value] of untold(this.session.told, server.reported)) this.tellParameter(name, value)
    }
    this.#goOn()
  }

  #greet(server: ServerConnection): void {
    this.#greeted = true
    const { processId, secret } = this.#host.register(this, server)
    this.#sendNegotiation()
    const greeting = [authenticationOk, ...this.#notices]
    this.#notices = noNotices
    for (const [name, value] of server.reported) greeting.push(writeParameterStatus(name, value))
    greeting.push(writeBackendKeyData(processId, secret), readyForQueryIdle)
    this.#send(Buffer.concat(greeting))
  }

  #sendNegotiation(): void {
    if (!this.#negotiate) return
    this.#send(this.#negotiate)
    this.#negotiate = undefined
  }

  /** What came meanwhile is passed on, and the client is read from again. */
  #goOn(): void {
    const ahead = this.#ahead
    this.#ahead = empty
    if (ahead.length > 0) this.#pass(ahead)
    else this.#restIfNothingIsDue()
    if (this.#state !== State.Active) return
    this.#socket.resume()
    if (!this.#halfClosed) return
    if (this.#isCutShort) this.end('client_lost')
    else if (this.#isDone) this.end('client_closed')
  }

  /** When what was passed on asks for no answer, none will come to tell that the server is at rest. */
  #restIfNothingIsDue(): void {
    const { session } = this
    const server = this.#server
    if (session && server?.isAtRest && this.relay.atBoundary) this.#onPooledRest(session, server)
  }

  // Relay.

  #pass(piece: Buffer): void {
    const server = this.#server
    if (!server) return
    switch (this.relay.pass(piece, server, this.#host.clock.nowMs())) {
      case true:
        if (server.owed.isEmpty) this.#restIfNothingIsDue()
        else if (server.owed.hasSpecial && server.owed.isAllSkipped) this.#putIn(server)
        return
      case false:
        this.#socket.pause()
        return
      case 'barrier':
        this.#ahead = Buffer.concat([(this.relay as PooledRelay).takeHeld(), this.#ahead])
        this.#isBehindBarrier = true
        if (server.owed.isEmpty) this.#lookBehindBarrier()
        return
      case 'terminated':
        return this.end('client_closed')
      case 'violation':
        return this.end('protocol_violation', this.relay.problem)
      default:
    }
  }

  /** Answers that the server need not give, when none of its own comes before them. */
  #putIn(server: ServerConnection): void {
    const answers = server.putIn()
    if (answers.length > 0) this.#send(answers)
  }

  onAside(code: number, message: Buffer): void {
    // What a pooled client is told of parameters is compared when it goes on.
    if (this.session && code !== ServerCode.NotificationResponse) return
    this.#send(message)
  }

  onServerData(chunk: Buffer, idle: boolean): void {
    if (this.mode === 'statement' && this.#server && this.#refusesTransaction(this.#server)) return
    if (chunk.length > 0) this.#send(chunk)
    if (this.#halfClosed && this.#state === State.Active) {
      if (this.#isDone) return this.end('client_closed')
      if (this.#isCutShort) return this.end('client_lost')
    }
    if (this.#isBehindBarrier) return this.#lookBehindBarrier()
    if (!idle) return
    if (this.session) {
      if (this.#state === State.Active && this.relay.atBoundary)
        this.#onPooledRest(this.session, this.#server!)
    } else if (this.leaving) this.#host.onRest(this)
  }

  /** What was kept back goes on when what it waits for is answered, or waits for it itself. */
  #lookBehindBarrier(): void {
    const server = this.#server
    if (this.#state !== State.Active || !server) return
    if (!server.owed.isEmpty && !server.owed.isCopyIn) return
    this.#isBehindBarrier = false
    if (this.session?.isDirty && server.isAtRest) this.#askSession(this.session, server)
    else this.#goOn()
  }

  /** In statement mode no transaction stays open: the answer that opens one is not passed on. */
  #refusesTransaction(server: ServerConnection): boolean {
    if (!this.session || server.isBusy || server.status === TransactionStatus.Idle) return false
    this.end('protocol_violation', 'transactions are not allowed in pool mode `statement`', {
      sqlstate: '0A000',
      hint: 'Use pool_mode `auto` or `transaction` for this database or user.',
    })
    return true
  }

  /**
   * A pooled client that has nothing on its server does without it. What it had asked of a standby, which can only
   * read, is asked again elsewhere when nothing of the answer was passed on.
   */
  #survives(server: ServerConnection): boolean {
    const { session } = this
    const isPlain = session && !session.isPinned && !session.isDirty && server.transactionSinceMs === 0
    if (!isPlain || this.#state !== State.Active || this.#isBehindBarrier) return false
    if (!(this.relay instanceof PooledRelay) || !this.relay.atBoundary) return false
    if (server.wasBusy) {
      const isStandby = server.reported.get('in_hot_standby') === 'on'
      const piece = isStandby && server.isUntouched ? this.relay.takeRetry() : empty
      if (piece.length === 0) return false
      this.#ahead = Buffer.concat([piece, this.#ahead])
    }
    this.#server = undefined
    this.#host.onDetached(this, server)
    this.#state = State.Resting
    if (this.#ahead.length > 0) this.#lookForServer()
    return true
  }

  onServerWritable(): void {
    if (this.#state === State.Active) this.#socket.resume()
  }

  onServerLost(server: ServerConnection, message: string): void {
    // It has gone on elsewhere when a question of the proxy's own failed.
    if (server !== this.#server || this.#survives(server)) return
    // The server has told why itself, and one FATAL error is what a client expects.
    if (server.endedWithError) return this.end('server_lost')
    const isUnknown = server.wasBusy && this.route === 'primary'
    const told = `the connection to ${server.target.node} was lost: ${message}`
    this.end('server_lost', told, isUnknown ? outcomeUnknown : undefined)
  }

  #send(chunk: Buffer): void {
    if (!this.#socket.writable) return
    this.#host.counters.bytesToClients += chunk.length
    if (this.#stats) this.#stats.sentBytes += chunk.length
    if (!this.#socket.write(chunk)) this.#server?.pause()
  }

  // Moving: the client is held while its session is rebuilt on another server.

  /** Stops reading from the client; it must be at rest. */
  hold(): void {
    this.#state = State.Held
    this.#socket.pause()
  }

  /** Goes on with `server`, the old one or a new one. */
  goOn(server: ServerConnection): void {
    if (this.#state !== State.Held) return
    this.#server = server
    server.handOver(this)
    this.#state = State.Active
    this.#goOn()
  }

  /** A parameter has another value on the new server than the client was told. */
  tellParameter(name: string, value: string): void {
    this.#send(writeParameterStatus(name, value))
  }

  // The end.

  /**
   * Ends the client. With a message it is told why, as a FATAL ErrorResponse, where the stream is between two
   * messages; the server connection goes back to its pool or is closed.
   */
  end(reason: DisconnectReason, message?: string, more?: ErrorDetails): void {
    const mayTell = this.#server === undefined || this.#server.isClosed || this.#server.atMessageBoundary
    const tells = message !== undefined && mayTell
    this.#finish(reason, tells ? writeErrorResponse(errorFor(reason, message, more)) : undefined, message)
  }

  #finish(reason: DisconnectReason, last: Buffer | undefined, message?: string): void {
    if (this.#state === State.Closed) return
    const before = this.#state
    this.#state = State.Closed
    this.#loginTimer?.cancel()
    this.#waitTimer?.cancel()
    if (before === State.Waiting) this.#host.abandon(this)
    if (reason !== 'client_closed') {
      const who = { client: this.address, user: this.user, reason }
      this.#host.log.debug(who, message ?? 'client ended')
    }
    if (last) this.#send(last)
    // A client that does not read is not waited for long.
    this.#socket.destroySoon()
    if (this.#socket.writableLength > 0) {
      this.#host.timers.after(farewellMs, () => this.#socket.destroy())
    }
    const server = this.#server
    this.#server = undefined
    if (server && this.session?.isOpaque) server.isSpoiled = true
    // A server that has got a part of a message takes whatever comes next for the rest of it.
    const isWhole = before === State.Active && this.relay.isWhole
    if (isWhole && (reason === 'client_closed' || server?.isAtRest)) server?.release()
    else server?.abort()
    this.#host.onEnd(this, reason)
  }
}

const empty = Buffer.alloc(0)
const noNotices: readonly Buffer[] = []
const noNodes: ReadonlySet<string> = new Set()
const cancelled = writeErrorResponse({
  severity: 'ERROR',
  code: '57014',
  message: 'canceling statement due to user request',
  detail: 'It was waiting for a server connection.',
})
const outcomeUnknown = {
  sqlstate: '08007',
  detail: 'Whether the running request took effect is not known.',
}
