import { connect, type Socket } from 'node:net'
import type { Clock } from '../runtime/clock.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { Authentication, Server as Code, TransactionStatus } from '../wire/codes.ts'
import { readErrorFields, readParameterStatus, terminate, writeQuery } from '../wire/messages.ts'
import { MessageReader } from '../wire/reader.ts'
import { Scanner } from '../wire/scanner.ts'
import { writeCancelRequest, writeStartup } from '../wire/startup.ts'
import type { NodeCounters } from './counters.ts'

/** Where a server connection goes. */
export interface Target {
  node: string
  host: string
  port: number
}

/** Why a login at a server did not end in a session. */
export type LoginFailure =
  /** Not reached, or it went away or fell silent before it asked or said anything. */
  | { kind: 'unreachable'; message: string }
  /** It answers, but takes no sessions now (57P03 while starting up or shutting down). */
  | { kind: 'not_accepting'; message: string }
  /** It has no connection left (53300). */
  | { kind: 'full'; message: string }
  /** It refused this user, database or parameter: its own ErrorResponse is the answer. */
  | { kind: 'refused'; body: Buffer }
  /** It was lost when the client had already answered a challenge. */
  | { kind: 'lost'; message: string }

/** The client that a server connection works for at the moment. */
export interface ServerUser {
  /** A challenge or a notice during login, to be passed on. */
  onLoginMessage(code: number, body: Buffer): void
  onServerReady(server: ServerConnection): void
  onLoginFailed(server: ServerConnection, failure: LoginFailure): void
  /** Answers to pass on; `idle` when after them nothing is outstanding and no transaction is open. */
  onServerData(chunk: Buffer, idle: boolean): void
  onServerWritable(): void
  onServerLost(server: ServerConnection, message: string): void
}

/** The pool that a server connection belongs to. */
export interface ServerOwner {
  onServerIdle(server: ServerConnection): void
  onServerClosed(server: ServerConnection): void
}

export interface ServerOptions {
  target: Target
  parameters: ReadonlyMap<string, string>
  /** Equal keys mean equal startup parameters: such connections can stand in for each other. */
  parametersKey: string
  /** Whether it may serve another client afterwards. */
  reusable: boolean
  connectTimeoutMs: number
  resetTimeoutMs: number
  clock: Clock
  timers: Timers
  counters: NodeCounters
  owner: ServerOwner
}

const State = { Connecting: 0, Login: 1, Active: 2, Asking: 3, Resetting: 4, Idle: 5, Closed: 6 } as const
type State = (typeof State)[keyof typeof State]

const loginBytesMax = 1024 * 1024
const discardAll = writeQuery('DISCARD ALL')
const rollback = writeQuery('ROLLBACK')

/**
 * One connection to a PostgreSQL server: logs in with a client's own startup parameters and passes its
 * authentication through, relays, is reset, and waits for the next client.
 *
 * ```
 * Connecting -> Login -> Active <-> Asking        (Asking: the proxy's own questions between two requests)
 *                          |  ^
 *                          v  |  use()
 *                      Resetting -> Idle          any -> Closed
 * ```
 */
export class ServerConnection {
  readonly target: Target
  readonly parametersKey: string
  readonly createdMs: number
  /** What the server reported about itself, kept up to date (ParameterStatus). */
  readonly reported = new Map<string, string>()
  processId = 0
  secret: Buffer = Buffer.alloc(0)
  /** Whether it asked for a password; then only the client who gave it may use this connection. */
  challenged = false
  idleSinceMs = 0
  /** ReadyForQuery still owed by the server. */
  outstanding = 0
  /** Extended messages were passed on that no Sync has followed yet. */
  unsynced = false
  status: number = TransactionStatus.Idle

  readonly #options: ServerOptions
  readonly #socket: Socket
  readonly #scanner = new Scanner()
  #reader = new MessageReader(loginBytesMax)
  #state: State = State.Connecting
  #user: ServerUser | undefined
  #timer: Timer | undefined
  #failure: LoginFailure | undefined
  #heard = false
  #used = false
  #unitStartMs = 0
  /** Whether the oldest outstanding request is a Sync; known only while just one is outstanding. */
  #syncOutstanding = false
  /** A ReadyForQuery or ParameterStatus body that is split over two pieces. */
  #split: Buffer[] = []
  #resetsOwed = 0
  #cancels = 0
  #releaseWanted = false
  #ask:
    | { replies: Reply[]; rows: Buffer[]; owed: number; failed: boolean; done: (a: Answer) => void }
    | undefined

  constructor(options: ServerOptions, user: ServerUser) {
    this.#options = options
    this.target = options.target
    this.parametersKey = options.parametersKey
    this.createdMs = options.clock.nowMs()
    this.#user = user
    this.#socket = connect({
      host: options.target.host,
      port: options.target.port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 30_000,
    })
    this.#socket.on('connect', () => this.#socket.write(writeStartup(options.parameters)))
    this.#socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    this.#socket.on('drain', () => this.#user?.onServerWritable())
    this.#socket.on('error', error => this.#close(describeSocketError(error)))
    this.#socket.on('close', () => this.#close('the server closed the connection'))
    this.#timer = options.timers.after(options.connectTimeoutMs, () =>
      this.#close(`no answer within ${options.connectTimeoutMs} ms`),
    )
    options.counters.connecting++
  }

  get isClosed(): boolean {
    return this.#state === State.Closed
  }

  /** Logged in and in the hands of a client. */
  get isActive(): boolean {
    return this.#state === State.Active
  }

  /** Nothing outstanding, nothing half-sent, no transaction open. */
  get isAtRest(): boolean {
    return (
      this.outstanding === 0 &&
      !this.unsynced &&
      this.status === TransactionStatus.Idle &&
      this.#scanner.atBoundary &&
      this.#split.length === 0
    )
  }

  /** Whether what the client receives next begins a message. */
  get atMessageBoundary(): boolean {
    return this.#scanner.atBoundary && this.#split.length === 0
  }

  /** Whether the last thing it sent was an error: a FATAL one, when nothing follows. */
  get endedWithError(): boolean {
    return this.#scanner.code === Code.ErrorResponse
  }

  /** Gives an idle connection to a client. */
  use(user: ServerUser): void {
    this.#user = user
    this.#state = State.Active
    this.#options.counters.idle--
  }

  /** Hands the user's role to another object, without any change on the wire. */
  handOver(user: ServerUser | undefined): void {
    this.#user = user
  }

  /** Passes bytes on. False: the server is slow, stop until `onServerWritable`. */
  write(chunk: Buffer): boolean {
    return this.#socket.write(chunk)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** A request was passed on that one ReadyForQuery will answer. */
  request(isSync: boolean, nowMs: number): void {
    this.#used = true
    this.unsynced = false
    if (this.outstanding++ === 0) {
      this.#unitStartMs = nowMs
      this.#syncOutstanding = isSync
    }
  }

  /**
   * Asks the server to cancel what it runs, on a connection of its own. The server connection is not given to
   * another client before the request was delivered, so that it can only hit the client it was meant for.
   */
  cancel(done: () => void): void {
    this.#cancels++
    const { host, port } = this.target
    const finish = (): void => {
      timer.cancel()
      socket.destroy()
      this.#cancels--
      if (this.#releaseWanted) this.release(true)
      done()
    }
    const socket = connect({ host, port })
    let finished = false
    const once = (): void => {
      if (finished) return
      finished = true
      finish()
    }
    const timer = this.#options.timers.after(this.#options.connectTimeoutMs, once)
    socket.on('connect', () => socket.write(writeCancelRequest(this.processId, this.secret)))
    socket.on('error', once)
    // PostgreSQL closes the connection when the signal has been sent.
    socket.on('close', once)
    socket.resume()
  }

  /**
   * The client is done. `clean` says that everything it sent was whole messages. The connection is reset and
   * kept when it can serve another client; else what still runs is cancelled and the connection closed.
   */
  release(clean: boolean): void {
    if (this.#state === State.Closed) return
    this.#user = undefined
    const reusable =
      clean &&
      this.#options.reusable &&
      this.#state === State.Active &&
      !this.challenged &&
      this.outstanding === 0 &&
      !this.unsynced &&
      this.atMessageBoundary
    if (!reusable) {
      if (this.outstanding > 0 && this.processId !== 0) this.cancel(() => undefined)
      return this.destroy()
    }
    if (this.#cancels > 0) {
      this.#releaseWanted = true
      return
    }
    this.#releaseWanted = false
    this.#socket.resume()
    if (!this.#used) return this.#becomeIdle()
    this.#reset()
  }

  /** Says goodbye and closes. */
  destroy(): void {
    if (this.#state === State.Closed) return
    if (this.#socket.writable) this.#socket.write(terminate)
    this.#close('closed by pgherd')
  }

  /**
   * The proxy's own questions, between two requests of the client: sends `messages`, which the server answers
   * with `readyForQueries` ReadyForQuery, and gives back the rows. The client must be at rest and stay so.
   */
  ask(messages: Buffer, readyForQueries: number, done: (answer: Answer) => void): void {
    this.#state = State.Asking
    this.#reader = new MessageReader(loginBytesMax)
    this.#ask = { replies: [], rows: [], owed: readyForQueries, failed: false, done }
    this.#used = true
    this.#socket.resume()
    this.#socket.write(messages)
  }

  #onData(chunk: Buffer): void {
    switch (this.#state) {
      case State.Active:
        return this.#relay(chunk)
      case State.Connecting:
      case State.Login:
        return this.#login(chunk)
      case State.Asking:
        return this.#answered(chunk)
      case State.Resetting:
        return this.#resetting(chunk)
      case State.Idle:
        return this.#whileIdle(chunk)
      default:
    }
  }

  // Relay: the hot path. Headers are looked at in place, the piece is passed on as it came.

  #relay(chunk: Buffer): void {
    const scanner = this.#scanner
    const end = chunk.length
    if (this.#split.length > 0) this.#joinSplit(chunk)
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      switch (scanner.code) {
        case Code.ReadyForQuery:
        case Code.ParameterStatus:
          if (end - at >= scanner.bodyBytes) this.#note(scanner.code, chunk, at, at + scanner.bodyBytes)
          else this.#split.push(Buffer.from(chunk.subarray(at, end)))
          break
        case Code.CopyInResponse:
          this.#enterCopyIn()
          break
        default:
      }
    }
    if (scanner.violation) return this.#close('the server sent a message with an impossible length')
    this.#user?.onServerData(chunk, this.isAtRest)
  }

  #joinSplit(chunk: Buffer): void {
    const scanner = this.#scanner
    const bytes = Math.min(scanner.remainingBytes, chunk.length)
    this.#split.push(Buffer.from(chunk.subarray(0, bytes)))
    if (scanner.remainingBytes > chunk.length) return
    const body = Buffer.concat(this.#split)
    this.#split = []
    this.#note(scanner.code, body, 0, body.length)
  }

  #note(code: number, buffer: Buffer, start: number, end: number): void {
    if (code === Code.ParameterStatus) {
      const parameter = readParameterStatus(buffer.subarray(start, end))
      if (parameter) this.reported.set(parameter.name, parameter.value)
      return
    }
    this.status = buffer[start] ?? TransactionStatus.Idle
    if (this.outstanding === 0) return
    this.outstanding--
    const nowMs = this.#options.clock.nowMs()
    this.#options.counters.queries++
    this.#options.counters.latency.observe(nowMs - this.#unitStartMs)
    this.#unitStartMs = nowMs
    this.#syncOutstanding = false
  }

  /**
   * In copy-in mode the server ignores a Sync that came along with the Execute: it owes no ReadyForQuery for it,
   * only for the one after CopyDone. Source: "COPY Operations".
   */
  #enterCopyIn(): void {
    if (this.outstanding === 1 && this.#syncOutstanding) {
      this.outstanding = 0
      this.unsynced = true
    }
  }

  // Login: every message is read whole.

  #login(chunk: Buffer): void {
    this.#heard = true
    const rest = this.#reader.push(chunk, (code, body) => this.#loginMessage(code, body))
    if (this.#reader.problem !== undefined) return this.#close(this.#reader.problem)
    if (rest.length > 0 && this.#state === State.Active) this.#relay(rest)
  }

  /** Returns false when the login is over. */
  #loginMessage(code: number, body: Buffer): boolean {
    this.#timer?.cancel()
    switch (code) {
      case Code.Authentication:
        if (this.#state === State.Connecting) this.#state = State.Login
        if (body.length >= 4 && body.readUInt32BE(0) === Authentication.Ok) return true
        this.challenged = true
        this.#user?.onLoginMessage(code, body)
        return true
      case Code.ParameterStatus: {
        const parameter = readParameterStatus(body)
        if (parameter) this.reported.set(parameter.name, parameter.value)
        return true
      }
      case Code.BackendKeyData:
        if (body.length >= 8) {
          this.processId = body.readInt32BE(0)
          this.secret = Buffer.from(body.subarray(4))
        }
        return true
      case Code.NoticeResponse:
        this.#user?.onLoginMessage(code, body)
        return true
      case Code.ErrorResponse:
        this.#failure = classify(body)
        this.#close('login failed')
        return false
      case Code.ReadyForQuery:
        this.#options.counters.connecting--
        this.#options.counters.connects++
        this.#state = State.Active
        this.#user?.onServerReady(this)
        return false
      default:
        this.#close(`unexpected message '${String.fromCharCode(code)}' during login`)
        return false
    }
  }

  // The proxy's own questions.

  #answered(chunk: Buffer): void {
    const ask = this.#ask
    if (!ask) return
    this.#reader.push(chunk, (code, body) => {
      if (code === Code.DataRow) ask.rows.push(Buffer.from(body))
      else if (code === Code.ErrorResponse) ask.failed = true
      else if (code === Code.ParameterStatus) this.#note(code, body, 0, body.length)
      else if (code === Code.CommandComplete) {
        ask.replies.push({ rows: ask.rows })
        ask.rows = []
      } else if (code === Code.ReadyForQuery) {
        this.status = body[0] ?? TransactionStatus.Idle
        ask.owed--
      }
      return ask.owed > 0
    })
    if (this.#reader.problem !== undefined) return this.#close(this.#reader.problem)
    if (ask.owed > 0) return
    this.#ask = undefined
    this.#state = State.Active
    ask.done({ failed: ask.failed, replies: ask.replies })
  }

  // Reset and idle.

  #reset(): void {
    this.#state = State.Resetting
    this.#reader = new MessageReader(loginBytesMax)
    const inTransaction = this.status !== TransactionStatus.Idle
    this.#resetsOwed = inTransaction ? 2 : 1
    this.#socket.write(inTransaction ? Buffer.concat([rollback, discardAll]) : discardAll)
    this.#timer = this.#options.timers.after(this.#options.resetTimeoutMs, () =>
      this.#close('reset timed out'),
    )
  }

  #resetting(chunk: Buffer): void {
    this.#reader.push(chunk, (code, body) => {
      if (code === Code.ErrorResponse) this.#close('DISCARD ALL failed')
      else if (code === Code.ParameterStatus) this.#note(code, body, 0, body.length)
      else if (code === Code.ReadyForQuery) {
        this.status = body[0] ?? TransactionStatus.Idle
        this.#resetsOwed--
      }
      return this.#state === State.Resetting
    })
    if (this.#state !== State.Resetting || this.#resetsOwed > 0) return
    this.#timer?.cancel()
    this.#used = false
    this.#becomeIdle()
  }

  #becomeIdle(): void {
    this.#state = State.Idle
    this.#reader = new MessageReader(loginBytesMax)
    this.idleSinceMs = this.#options.clock.nowMs()
    this.#options.counters.idle++
    this.#options.owner.onServerIdle(this)
  }

  /** An idle server may report a changed parameter; anything else (mostly: it shuts down) ends it. */
  #whileIdle(chunk: Buffer): void {
    this.#reader.push(chunk, (code, body) => {
      if (code === Code.ParameterStatus) this.#note(code, body, 0, body.length)
      else if (code !== Code.NoticeResponse) this.#close('the server ended an idle connection')
      return this.#state === State.Idle
    })
  }

  #close(message: string): void {
    if (this.#state === State.Closed) return
    const before = this.#state
    this.#state = State.Closed
    this.#timer?.cancel()
    // What a hung server has not taken yet is not waited for.
    if (before === State.Connecting || this.#socket.writableLength > 0) this.#socket.destroy()
    else this.#socket.destroySoon()
    const { counters, owner } = this.#options
    const user = this.#user
    this.#user = undefined
    if (before === State.Idle) counters.idle--
    if (before === State.Connecting || before === State.Login) {
      counters.connecting--
      const failure = this.#failure ?? this.#silentFailure(message)
      if (failure.kind !== 'refused') counters.connectFailures++
      owner.onServerClosed(this)
      user?.onLoginFailed(this, failure)
      return
    }
    owner.onServerClosed(this)
    this.#ask?.done({ failed: true, replies: [] })
    this.#ask = undefined
    if (user) {
      counters.serverLost++
      user.onServerLost(this, message)
    }
  }

  #silentFailure(message: string): LoginFailure {
    if (this.challenged) return { kind: 'lost', message }
    return { kind: this.#heard ? 'not_accepting' : 'unreachable', message }
  }
}

/** The rows of each statement that completed; `failed` when any of them did not. */
export interface Answer {
  failed: boolean
  replies: Reply[]
}

export interface Reply {
  rows: Buffer[]
}

/** What an ErrorResponse during login means for the one who wanted to log in. */
function classify(body: Buffer): LoginFailure {
  const fields = readErrorFields(body)
  const message = fields.get('M') ?? 'no message'
  const sqlstate = fields.get('C') ?? ''
  if (sqlstate === '57P03' || sqlstate === '57P01' || sqlstate === '57P02')
    return { kind: 'not_accepting', message }
  if (sqlstate === '53300') return { kind: 'full', message }
  return { kind: 'refused', body: Buffer.from(body) }
}

function describeSocketError(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ECONNREFUSED') return 'connection refused'
  if (code === 'ECONNRESET') return 'connection reset by the server'
  if (code === 'ENOTFOUND') return 'its host name is unknown'
  return error.message
}
