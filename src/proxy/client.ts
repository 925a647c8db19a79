import type { Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { Client as Code, Server as ServerCode } from '../wire/codes.ts'
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
import { ClientRelay } from './client-relay.ts'
import type { LoginFailure } from './conversations.ts'
import type { WorkerCounters } from './counters.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from './failures.ts'
import type { ServerConnection, ServerUser } from './server.ts'
import type { Arrival } from './startup/client-startup.ts'

/** What a client needs of the worker around it. */
export interface ClientHost {
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  readonly counters: WorkerCounters
  readonly loginTimeoutMs: number
  /** Finds a server connection, now or when there is one; ends in `attach`, `onLoginFailed` or `end`. */
  acquire(client: Client): void
  /** The client no longer waits for one. */
  abandon(client: Client): void
  /** A login at a server failed; the client may be given another one. */
  onLoginFailed(client: Client, server: ServerConnection, failure: LoginFailure): void
  /** Whether the session may still begin there: the world may have changed during the login. */
  mayBegin(client: Client, server: ServerConnection): boolean
  /** The session begins: remembers its cancel key. Returns the secret the client is told. */
  register(client: Client, server: ServerConnection): Buffer
  /** Nothing is outstanding and the client's node asks it to leave. */
  onRest(client: Client): void
  onEnd(client: Client, reason: DisconnectReason): void
}

const State = { Waiting: 0, Login: 1, Active: 2, Held: 3, Closed: 4 } as const
type State = (typeof State)[keyof typeof State]

/** What a client may send ahead before it has a server; then it is not read from until it has one. */
const aheadBytesMax = 64 * 1024
/** The longest answer to a challenge: GSS tokens are the largest. */
const answerBytesMax = 64 * 1024
/** Notices of a login that are kept for the client; more are left out. */
const noticesMax = 20
/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000

/** How a session is asked to leave its node. */
export interface Leaving {
  /** From then on it is ended when nothing is outstanding and no transaction is open; Infinity for never. */
  deadlineMs: number
  /** Moving it to another node was tried. */
  tried: boolean
  /** From the deadline on it is ended even inside a transaction. */
  byForce: boolean
}

/**
 * One client connection.
 *
 * ```
 * Waiting -> Login -> Active <-> Held     (Held: its session is being moved to another server)
 *    ^          |                           any -> Closed
 *    +----------+  the server was not to be had: another one
 * ```
 */
export class Client implements ServerUser {
  readonly route: Route
  /** Where it connects from: `address:port`. */
  readonly address: string
  readonly relay: ClientRelay
  readonly user: string
  readonly database: string
  readonly parameters: ReadonlyMap<string, string>
  readonly parametersKey: string
  /** A walsender session: on a connection of its own, never pooled. */
  readonly replication: boolean
  /** Nodes that could not be had for this client, in order not to try them again at once. */
  readonly tried = new Set<string>()
  waitingSinceMs = 0
  /** Set while the node asks the session to leave. */
  leaving: Leaving | undefined

  readonly #host: ClientHost
  readonly #socket: Socket
  readonly #answers = new MessageReader(answerBytesMax)
  #state: State = State.Waiting
  #server: ServerConnection | undefined
  /** What came before it could be passed on. */
  #ahead: Buffer = empty
  #notices: Buffer[] = []
  #loginTimer: Timer | undefined
  #waitTimer: Timer | undefined
  #negotiate: Buffer | undefined
  /** The client has said that it will send nothing more. */
  #halfClosed = false

  constructor(arrival: Arrival, host: ClientHost) {
    const { socket } = arrival
    this.#socket = socket
    this.route = arrival.route
    this.address = arrival.address
    this.user = arrival.user
    this.database = arrival.database
    this.parameters = arrival.parameters
    this.parametersKey = JSON.stringify([...arrival.parameters].sort(([a], [b]) => (a < b ? -1 : 1)))
    this.replication = arrival.replication
    this.#negotiate = arrival.negotiation
    this.#ahead = arrival.ahead
    this.relay = new ClientRelay(arrival.route === 'replica')
    this.#host = host
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#server?.resume())
    socket.on('end', () => this.#onHalfClosed())
    socket.on('error', () => this.end('client_lost'))
    socket.on('close', () => this.end('client_closed'))
  }

  get server(): ServerConnection | undefined {
    return this.#server
  }

  get isClosed(): boolean {
    return this.#state === State.Closed
  }

  get isWaiting(): boolean {
    return this.#state === State.Waiting
  }

  get isActive(): boolean {
    return this.#state === State.Active
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

  #onData(chunk: Buffer): void {
    this.#host.counters.bytesFromClients += chunk.length
    if (this.#state === State.Active) return this.#pass(chunk)
    if (this.#state === State.Closed) return
    if (this.#state === State.Login) return this.#answer(chunk)
    this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk])
    if (this.#ahead.length > aheadBytesMax) this.#socket.pause()
  }

  /** No more is to come; what was asked for is still answered. */
  #onHalfClosed(): void {
    this.#halfClosed = true
    // The rest of a message will never come.
    if (!this.relay.atBoundary || this.#server?.owed.isCopyIn) return this.end('client_lost')
    if (this.#state === State.Active && !this.#isDone) return
    if (this.#state === State.Held) return
    this.end('client_closed')
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
    this.#notices = []
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
    this.#answers.push(chunk, (code, body) => {
      if (code !== Code.Password) {
        const got = String.fromCharCode(code)
        this.end('protocol_violation', `expected the answer to a challenge, got message '${got}'`)
        return false
      }
      this.#loginTimer?.cancel()
      server.answerChallenge(frame(code, body))
      return true
    })
    if (this.#answers.problem !== undefined) this.end('protocol_violation', this.#answers.problem)
  }

  onChallenge(body: Buffer): void {
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
    if (this.#notices.length < noticesMax) this.#notices.push(frame(ServerCode.NoticeResponse, body))
  }

  onLoginFailed(server: ServerConnection, failure: LoginFailure): void {
    if (failure.kind !== 'refused') return this.#host.onLoginFailed(this, server, failure)
    const sqlstate = readErrorFields(failure.body).get('C')
    this.#host.log.debug({ client: this.address, sqlstate }, 'the server refused a login')
    this.#sendNegotiation()
    this.#finish('login_refused', frame(ServerCode.ErrorResponse, failure.body))
  }

  onServerReady(server: ServerConnection): void {
    if (this.#host.mayBegin(this, server)) return this.attach(server)
    if (server.challenged) {
      return this.end('server_demoted', `${server.target.node} is no longer the node to go to`)
    }
    this.wantAnother()
    server.release()
    this.#host.acquire(this)
  }

  /** The session begins: the client learns what a server says after a login, and what it sent ahead is run. */
  attach(server: ServerConnection): void {
    this.#loginTimer?.cancel()
    this.#waitTimer?.cancel()
    this.#server = server
    this.#state = State.Active
    this.#host.counters.wait.observe(this.#host.clock.nowMs() - this.waitingSinceMs)
    const secret = this.#host.register(this, server)
    this.#sendNegotiation()
    const greeting = [authenticationOk, ...this.#notices]
    this.#notices = []
    for (const [name, value] of server.reported) greeting.push(writeParameterStatus(name, value))
    greeting.push(writeBackendKeyData(server.processId, secret), readyForQueryIdle)
    this.#send(Buffer.concat(greeting))
    this.#goOn()
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
    if (this.#state !== State.Active) return
    this.#socket.resume()
    if (this.#halfClosed && this.#isDone) this.end('client_closed')
  }

  // Relay.

  #pass(piece: Buffer): void {
    const server = this.#server
    if (!server) return
    switch (this.relay.pass(piece, server, this.#host.clock.nowMs())) {
      case true:
        return
      case false:
        this.#socket.pause()
        return
      case 'terminated':
        return this.end('client_closed')
      case 'violation':
        return this.end('protocol_violation', this.relay.problem)
      default:
    }
  }

  onServerData(chunk: Buffer, idle: boolean): void {
    this.#send(chunk)
    if (this.#halfClosed && this.#state === State.Active) {
      if (this.#isDone) return this.end('client_closed')
      // The server waits for copy data that will never come.
      if (this.#server?.owed.isCopyIn) return this.end('client_lost')
    }
    if (idle && this.leaving) this.#host.onRest(this)
  }

  onServerWritable(): void {
    if (this.#state === State.Active) this.#socket.resume()
  }

  onServerLost(server: ServerConnection, message: string): void {
    // The server has told why itself, and one FATAL error is what a client expects.
    if (server.endedWithError) return this.end('server_lost')
    const isUnknown = server.isBusy && this.route === 'primary'
    const told = `the connection to ${server.target.node} was lost: ${message}`
    this.end('server_lost', told, isUnknown ? outcomeUnknown : undefined)
  }

  #send(chunk: Buffer): void {
    if (!this.#socket.writable) return
    this.#host.counters.bytesToClients += chunk.length
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
    // A server that has got a part of a message takes whatever comes next for the rest of it.
    const isWhole = before === State.Active && this.relay.atBoundary
    if (isWhole && (reason === 'client_closed' || server?.isAtRest)) server?.release()
    else server?.abort()
    this.#host.onEnd(this, reason)
  }
}

const empty = Buffer.alloc(0)
const outcomeUnknown = {
  sqlstate: '08007',
  detail: 'Whether the running request took effect is not known.',
}
