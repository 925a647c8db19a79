import type { Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { Client as Code, Server as ServerCode } from '../wire/codes.ts'
import {
  authenticationOk,
  type ErrorFields,
  frame,
  readErrorFields,
  readyForQueryIdle,
  writeBackendKeyData,
  writeErrorResponse,
  writeNegotiateProtocolVersion,
  writeParameterStatus,
} from '../wire/messages.ts'
import { MessageReader } from '../wire/reader.ts'
import { Scanner } from '../wire/scanner.ts'
import { readStartup, type StartupPacket } from '../wire/startup.ts'
import type { WorkerCounters } from './counters.ts'
import { type DisconnectReason, errorFor } from './failures.ts'
import type { LoginFailure, ServerConnection, ServerUser } from './server.ts'
import { keepsHiddenState } from './state-scan.ts'

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
  /** The session has begun: remembers its cancel key. Returns the secret the client is told. */
  register(client: Client, server: ServerConnection): Buffer
  cancel(processId: number, secret: Buffer, done: () => void): void
  /** Nothing is outstanding and the client's node asks it to leave. */
  onRest(client: Client): void
  onEnd(client: Client, reason: DisconnectReason): void
  /** Undefined when one more client is welcome, else the reason against it. */
  refusal(): string | undefined
}

const State = { Startup: 0, Waiting: 1, Login: 2, Active: 3, Held: 4, Closed: 5 } as const
type State = (typeof State)[keyof typeof State]

/** What a client may send ahead before it has a server; then it is not read from until it has one. */
const aheadBytesMax = 64 * 1024
/** The longest answer to a challenge: GSS tokens are the largest. */
const answerBytesMax = 64 * 1024
/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000

let lastId = 0

/** How a session is asked to leave its node. */
export interface Leaving {
  /** From then on it is ended when nothing is outstanding and no transaction is open. */
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
 * Startup -> Waiting -> Login -> Active <-> Held     (Held: its session is being moved to another server)
 *               ^          |                           any -> Closed
 *               +----------+  the server was not to be had: another one
 * ```
 */
export class Client implements ServerUser {
  readonly id = ++lastId
  readonly route: Route
  user = ''
  database = ''
  parameters: ReadonlyMap<string, string> = new Map()
  parametersKey = ''
  /** A walsender session: on a connection of its own, never pooled. */
  replication = false
  /** Nodes that could not be had for this client, in order not to try them again at once. */
  readonly tried = new Set<string>()
  waitingSinceMs = 0
  /** Set when the node asks the session to leave. */
  leaving: Leaving | undefined
  /** The session may hold settings that no question to the server would show. */
  hiddenState = false

  readonly #host: ClientHost
  readonly #socket: Socket
  readonly #scanner = new Scanner()
  readonly #answers = new MessageReader(answerBytesMax)
  #state: State = State.Startup
  #server: ServerConnection | undefined
  #buffered: Buffer = Buffer.alloc(0)
  #loginTimer: Timer | undefined
  #waitTimer: Timer | undefined
  #negotiate: Buffer | undefined
  #encryptionAsked = 0

  constructor(socket: Socket, route: Route, host: ClientHost) {
    this.#socket = socket
    this.route = route
    this.#host = host
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 30_000)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#server?.resume())
    socket.on('error', () => this.end('client_lost'))
    socket.on('close', () => this.end('client_closed'))
    this.#loginTimer = host.timers.after(host.loginTimeoutMs, () =>
      this.end('login_timeout', `the login did not finish within ${host.loginTimeoutMs} ms`),
    )
  }

  get address(): string {
    return `${this.#socket.remoteAddress ?? '?'}:${this.#socket.remotePort ?? 0}`
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
      this.#scanner.atBoundary &&
      this.#buffered.length === 0 &&
      (this.#server?.isAtRest ?? false)
    )
  }

  #onData(chunk: Buffer): void {
    this.#host.counters.bytesFromClients += chunk.length
    if (this.#state === State.Active) return this.#relay(chunk)
    if (this.#state === State.Login) return this.#answer(chunk)
    if (this.#state === State.Closed) return
    this.#buffered = this.#buffered.length === 0 ? chunk : Buffer.concat([this.#buffered, chunk])
    if (this.#state === State.Startup) this.#startup()
    else if (this.#buffered.length > aheadBytesMax) this.#socket.pause()
  }

  // The first packets.

  #startup(): void {
    while (this.#state === State.Startup) {
      const read = readStartup(this.#buffered)
      if (read.done === false) return
      if (read.done === 'invalid') return this.end('protocol_violation', read.problem)
      this.#buffered = this.#buffered.subarray(read.bytes)
      this.#onStartupPacket(read.packet)
    }
  }

  #onStartupPacket(packet: StartupPacket): void {
    switch (packet.kind) {
      case 'ssl':
      case 'gss':
        // PostgreSQL answers each once; a client that goes on asking is not one.
        if (++this.#encryptionAsked > 2)
          return this.end('protocol_violation', 'encryption was asked for too often')
        this.#socket.write(notEncrypted)
        return
      case 'cancel':
        this.#state = State.Waiting
        this.#host.cancel(packet.processId, packet.secret, () => this.end('cancel_request'))
        return
      case 'startup':
        return this.#onStartupMessage(packet.minor, packet.parameters)
      default:
        packet satisfies never
    }
  }

  #onStartupMessage(minor: number, asked: Map<string, string>): void {
    const refusal = this.#host.refusal()
    if (refusal !== undefined) return this.end('too_many_clients', refusal)
    const unknown = [...asked.keys()].filter(name => name.startsWith('_pq_.'))
    for (const name of unknown) asked.delete(name)
    if (minor > 0 || unknown.length > 0) this.#negotiate = writeNegotiateProtocolVersion(unknown)
    const user = asked.get('user') ?? ''
    if (user === '') {
      return this.end('login_refused', 'the startup packet names no PostgreSQL user', {
        hint: 'Give the user in the connection string, for example with psql -U.',
      })
    }
    this.user = user
    this.database = asked.get('database') || user
    this.replication = isReplication(asked.get('replication'))
    this.parameters = asked
    this.parametersKey = JSON.stringify([...asked].sort(([a], [b]) => (a < b ? -1 : 1)))
    this.#wait()
  }

  #wait(): void {
    this.#state = State.Waiting
    this.waitingSinceMs = this.#host.clock.nowMs()
    this.#host.acquire(this)
  }

  /** Ends the wait after `limitMs` unless a server was found; the newest call counts. */
  waitAtMost(limitMs: number, reason: DisconnectReason, message: () => string): void {
    this.#waitTimer?.cancel()
    this.#waitTimer = this.#host.timers.after(Math.max(0, limitMs), () => {
      if (this.#state === State.Waiting) this.end(reason, message())
    })
  }

  // Login: the server's challenges are the client's to answer.

  /** Logs in on a new server connection, which calls the `onLogin...` methods. */
  logInOn(server: ServerConnection): void {
    this.#server = server
    this.#state = State.Login
    this.#waitTimer?.cancel()
    if (this.#buffered.length > 0) {
      const ahead = this.#buffered
      this.#buffered = empty
      this.#answer(ahead)
    }
    this.#socket.resume()
  }

  /** Another server is looked for; nothing has been answered by the client yet. */
  wantAnother(): void {
    this.#server = undefined
    if (this.#state !== State.Login) return
    this.#state = State.Waiting
  }

  #answer(chunk: Buffer): void {
    const server = this.#server
    if (!server) return
    // Before a challenge came there is nothing to answer: it is kept until the session begins.
    if (!server.challenged) {
      this.#buffered = Buffer.concat([this.#buffered, chunk])
      if (this.#buffered.length > aheadBytesMax) this.#socket.pause()
      return
    }
    this.#answers.push(chunk, (code, body) => {
      if (code !== Code.Password) {
        this.end(
          'protocol_violation',
          `expected the answer to a challenge, got message '${String.fromCharCode(code)}'`,
        )
        return false
      }
      server.write(frame(code, body))
      return true
    })
    if (this.#answers.problem !== undefined) this.end('protocol_violation', this.#answers.problem)
  }

  onLoginMessage(code: number, body: Buffer): void {
    this.#sendNegotiation()
    this.#send(frame(code, body))
    if (this.#buffered.length === 0) return
    const ahead = this.#buffered
    this.#buffered = empty
    this.#answer(ahead)
  }

  onLoginFailed(server: ServerConnection, failure: LoginFailure): void {
    if (failure.kind === 'refused') {
      const fields = readErrorFields(failure.body)
      this.#host.log.debug({ client: this.address, sqlstate: fields.get('C') }, 'the server refused a login')
      return this.#finish('login_refused', frame(ServerCode.ErrorResponse, failure.body))
    }
    this.#host.onLoginFailed(this, server, failure)
  }

  onServerReady(server: ServerConnection): void {
    this.attach(server)
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
    const greeting = [authenticationOk]
    for (const [name, value] of server.reported) greeting.push(writeParameterStatus(name, value))
    greeting.push(writeBackendKeyData(server.processId, secret), readyForQueryIdle)
    this.#send(Buffer.concat(greeting))
    this.#runAhead()
  }

  #sendNegotiation(): void {
    if (!this.#negotiate) return
    this.#send(this.#negotiate)
    this.#negotiate = undefined
  }

  #runAhead(): void {
    const ahead = this.#buffered
    this.#buffered = empty
    if (ahead.length > 0) this.#relay(ahead)
    if (this.#state === State.Active) this.#socket.resume()
  }

  // Relay: the hot path. Headers are looked at in place, bodies are passed on as they came.

  #relay(piece: Buffer): void {
    const server = this.#server
    if (!server) return
    let chunk = piece
    if (this.#buffered.length > 0) {
      chunk = Buffer.concat([this.#buffered, piece])
      this.#buffered = empty
    }
    const scanner = this.#scanner
    const nowMs = this.#host.clock.nowMs()
    const end = chunk.length
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      switch (scanner.code) {
        case Code.Query:
          server.request(false, nowMs)
          this.#inspect(chunk, at, end)
          break
        case Code.Sync:
          server.request(true, nowMs)
          break
        case Code.FunctionCall:
          server.request(false, nowMs)
          break
        case Code.Parse:
          server.unsynced = true
          this.#inspect(chunk, at, end)
          break
        case Code.Bind:
        case Code.Execute:
        case Code.Describe:
        case Code.Close:
        case Code.Flush:
          server.unsynced = true
          break
        case Code.CopyData:
        case Code.CopyDone:
        case Code.CopyFail:
          break
        case Code.Terminate:
          // The server connection outlives the session: what came before is passed on, the goodbye is not.
          if (at - headerLength > 0) server.write(chunk.subarray(0, at - headerLength))
          return this.end('client_closed')
        default:
          return this.end(
            'protocol_violation',
            `unknown message '${printable(scanner.code)}' (0x${scanner.code.toString(16)})`,
          )
      }
    }
    if (scanner.violation) return this.end('protocol_violation', 'a message has an impossible length')
    const kept = scanner.takePartialHeader()
    if (kept > 0) {
      // A header that is not complete is kept back, so that a Terminate never reaches the server in part.
      this.#buffered = Buffer.from(chunk.subarray(end - kept))
      chunk = chunk.subarray(0, end - kept)
    }
    if (chunk.length > 0 && !server.write(chunk)) this.#socket.pause()
  }

  #inspect(chunk: Buffer, at: number, end: number): void {
    if (this.hiddenState || this.route !== 'replica') return
    const bodyEnd = at + this.#scanner.bodyBytes
    // What is not here as a whole is not searched for across pieces: it counts as found.
    this.hiddenState = bodyEnd > end || keepsHiddenState(chunk, at, bodyEnd)
  }

  onServerData(chunk: Buffer, idle: boolean): void {
    this.#send(chunk)
    if (idle && this.leaving) this.#host.onRest(this)
  }

  onServerWritable(): void {
    if (this.#state === State.Active) this.#socket.resume()
  }

  onServerLost(server: ServerConnection, message: string): void {
    // The server has told why itself, and one FATAL error is what a client expects.
    if (server.endedWithError) return this.end('server_lost')
    const busy = server.outstanding > 0
    const isUnknown = busy && this.route === 'primary'
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
    this.#runAhead()
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
  end(
    reason: DisconnectReason,
    message?: string,
    more?: { sqlstate?: string; detail?: string; hint?: string },
  ): void {
    const fields: ErrorFields | undefined =
      message === undefined ? undefined : errorFor(reason, message, more)
    const mayTell = this.#server === undefined || this.#server.isClosed || this.#server.atMessageBoundary
    this.#finish(reason, fields && mayTell ? writeErrorResponse(fields) : undefined, message)
  }

  #finish(reason: DisconnectReason, last: Buffer | undefined, message?: string): void {
    if (this.#state === State.Closed) return
    const before = this.#state
    this.#state = State.Closed
    this.#loginTimer?.cancel()
    this.#waitTimer?.cancel()
    if (before === State.Waiting) this.#host.abandon(this)
    if (reason !== 'client_closed' && reason !== 'cancel_request') {
      this.#host.log.debug({ client: this.address, user: this.user, reason }, message ?? 'client ended')
    }
    if (last) this.#send(last)
    // A client that does not read is not waited for long.
    this.#socket.destroySoon()
    if (this.#socket.writableLength > 0) this.#host.timers.after(farewellMs, () => this.#socket.destroy())
    const server = this.#server
    this.#server = undefined
    const clean = before === State.Active && this.#scanner.atBoundary && this.#buffered.length === 0
    server?.release(clean)
    this.#host.onEnd(this, reason)
  }
}

const empty = Buffer.alloc(0)
const outcomeUnknown = { sqlstate: '08007', detail: 'Whether the running request took effect is not known.' }
const notEncrypted = Buffer.from('N')
const headerLength = 5

function isReplication(value: string | undefined): boolean {
  return value !== undefined && !['', 'false', 'off', 'no', '0'].includes(value.toLowerCase())
}

function printable(code: number): string {
  return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : '?'
}
