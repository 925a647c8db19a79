import type { Socket } from 'node:net'
import type { NodeLoad } from '../routing/node-load.ts'
import type { Typical } from '../routing/typical.ts'
import type { Clock } from '../runtime/clock.ts'
import { Link } from '../runtime/link.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { Server as Code, TransactionStatus } from '../wire/codes.ts'
import { frame, readParameterStatus, terminate, writeQuery } from '../wire/messages.ts'
import type { NodeCounters } from './counters.ts'
import { type Outcome, Owed, type OwedAnswers } from './relay/answers.ts'
import {
  type Answer,
  type Conversation,
  IdleConversation,
  type LoginFailure,
  QuestionConversation,
} from './relay/conversations.ts'
import { farewellAt, isTermination } from './relay/farewell.ts'
import type { PooledRelay } from './relay/pooled-relay.ts'
import { ServerRelay } from './relay/server-relay.ts'
import { ServerTally } from './server-tally.ts'
import type { Reported, ReportedValues } from './session/reported.ts'
import type { Settings } from './session/settings.ts'
import { ServerStatements, type Statement } from './session/statements.ts'
import { sendCancelRequest } from './startup/cancel-request.ts'
import { describeSocketError, type ServerTls } from './startup/dial.ts'
import type { ServerAccount } from './startup/server-account.ts'
import { ServerOpening } from './startup/server-opening.ts'
import type { DatabaseStats } from './stats.ts'

/** Where a server connection goes. */
export interface Target {
  node: string
  host: string
  port: number
  /** How connections that are opened from now on are encrypted; undefined: not at all. */
  tls: () => ServerTls | undefined
}

/** The client that a server connection works for at the moment. */
export interface ServerUser {
  /** The server asks for something that only the client knows: the body of an Authentication message. */
  onChallenge(body: Buffer): void
  /** A NoticeResponse during the login. */
  onLoginNotice(body: Buffer): void
  onServerReady(server: ServerConnection): void
  onLoginFailed(server: ServerConnection, failure: LoginFailure): void
  /** What the server says beside its answers to the proxy's own questions: a whole message. */
  onAside(code: number, message: Buffer): void
  /** DISCARD ALL (`all`) or DEALLOCATE ALL was carried out. */
  onStatementsGone(all: boolean): void
  /** The request has to be sent again: nothing of its answer was passed on. */
  onRetry(): void
  /** Answers to pass on; `idle` when after them nothing is outstanding and no transaction is open. */
  onServerData(chunk: Buffer, idle: boolean): void
  onServerWritable(): void
  onServerLost(server: ServerConnection, message: string): void
}

/** Several clients at once, who read what a server connection says by themselves. */
export interface SharedBy {
  onBytes(chunk: Buffer): void
  onLost(message: string): void
}

/** The pool that a server connection belongs to. */
export interface ServerOwner {
  /** A login has succeeded without a challenge, or with one. */
  learnTrust(trusts: boolean): void
  /** A session has begun on `server` and was told this. */
  learnGreeting(server: ServerConnection): void
  onServerIdle(server: ServerConnection): void
  onServerClosed(server: ServerConnection): void
}

export interface ServerOptions {
  target: Target
  parameters: ReadonlyMap<string, string>
  /** What to log in with; undefined: the client answers what the server asks. */
  credentials: ServerAccount | undefined
  /** Equal keys mean equal startup parameters: such connections can stand in for each other. */
  parametersKey: string
  /** Equal keys mean equal parameters but for settings. */
  fixedKey: string
  /** What a connection with these parameters has set by itself. */
  native: Settings
  /** Makes equal reports one object. */
  reports: ReportedValues
  /** Whether it may serve another client afterwards. */
  reusable: boolean
  /** Limit for connecting, and for each answer of the server during the login. */
  connectTimeoutMs: number
  /** Limit for the reset between two clients. */
  resetTimeoutMs: number
  /** Limit for what a client has left running. */
  finishTimeoutMs: number
  clock: Clock
  timers: Timers
  counters: NodeCounters
  /** What is seen of its node. */
  load: NodeLoad
  /** How long requests usually take of which nothing else is known. */
  typical: Typical
  /** What is counted of its database; asked for when the login has succeeded. */
  stats: () => DatabaseStats
  owner: ServerOwner
}

const State = { Login: 0, Active: 1, Asking: 2, Finishing: 3, Resetting: 4, Idle: 5, Closed: 6 } as const
type State = (typeof State)[keyof typeof State]

const discardAll = writeQuery('DISCARD ALL')
const rollback = writeQuery('ROLLBACK')
const deallocateAll = writeQuery('DEALLOCATE ALL')
const noNames: ReadonlySet<string> = new Set()
/** How long a question of the proxy's own may take, that about a database's functions included. */
const questionTimeoutMs = 30_000
const farewellBytesMax = 16 * 1024
/** What runs for longer and is terminated was most likely meant by somebody, and not only the server's end. */
const terminatedMs = 5000

/**
 * One connection to a PostgreSQL server: logs in with a client's own startup parameters and passes its
 * authentication through, relays, is reset, and waits for the next client.
 *
 * ```
 * Login -> Active <-> Asking            (Asking: the proxy's own questions between two requests)
 *            |  ^
 *            v  | use()
 *   Finishing -> Resetting -> Idle      any -> Closed
 * ```
 */
export class ServerConnection {
  readonly target: Target
  readonly parametersKey: string
  readonly fixedKey: string
  readonly createdMs: number
  /** The pool it belongs to. */
  readonly owner: ServerOwner
  /** What the server reported about itself, kept up to date (ParameterStatus). */
  reported: Reported = new Map()
  /** What is counted and timed of its work. */
  readonly tally: ServerTally
  /** The settings that the session on it has now. */
  settings: Settings
  /** Prepared statements of pooled clients that it knows. */
  readonly statements = new ServerStatements()
  /** What passes the bytes of pooled clients on to it, once it has had any. */
  pooledRelay: PooledRelay | undefined
  /** What its unnamed prepared statement is; undefined when there is none or nobody knows. */
  unnamed: Statement | undefined
  /** Settings of a made-up class that were ever set on it: they never quite go away. */
  customNames: ReadonlySet<string> = noNames
  /** Something was done on it that nobody else may see: it is closed when its client has gone. */
  isSpoiled = false
  /** Counts what has an end of its own (Sync or Query): an error discards the rest of its unit alone. */
  unit = 0
  /** What a DEALLOCATE that is on its way means, when it succeeds. */
  deallocating: (() => void) | undefined
  /** Whose sequence values `currval` and `lastval` tell: those of the session that has drawn from one last. */
  sequenceOwner: object | undefined
  processId = 0
  secret: Buffer = Buffer.alloc(0)
  idleSinceMs = 0
  /** Extended messages were passed on that no Sync has followed yet. */
  unsynced = false
  /** The piece that was read last has ended a transaction, whatever came behind. */
  wasIdle = false

  readonly #options: ServerOptions
  readonly #opening: ServerOpening
  /** Undefined until it is open. */
  #link: Link | undefined
  readonly #relayed = new ServerRelay({
    onParameter: body => this.noteParameter(body),
    onReady: () => this.#onReadyForQuery(),
    onStatementsGone: all => {
      this.#forgetStatements()
      this.#user?.onStatementsGone(all)
    },
    onDeallocated: () => {
      this.deallocating?.()
      this.deallocating = undefined
    },
    onPlanChanged: () => {
      this.#plansChanged = true
    },
  })
  #state: State = State.Login
  #conversation: Conversation | undefined
  #user: ServerUser | undefined
  #timer: Timer | undefined
  #abandoned = false
  /** A prepared statement does not fit its tables any more: all are given up before the next client. */
  #plansChanged = false
  readonly #idleConversation = new IdleConversation(body => this.noteParameter(body))
  #used = false
  #cancels = 0
  #releaseWanted = false
  #asked: ((answer: Answer) => void) | undefined
  #sharedBy: SharedBy | undefined

  constructor(options: ServerOptions, user: ServerUser) {
    this.#options = options
    this.target = options.target
    this.parametersKey = options.parametersKey
    this.fixedKey = options.fixedKey
    this.owner = options.owner
    this.settings = options.native
    this.createdMs = options.clock.nowMs()
    this.tally = new ServerTally(options.counters, options.load, options.typical)
    this.#user = user
    this.#opening = this.#open()
    this.#conversation = this.#opening
    options.counters.connecting++
  }

  get isClosed(): boolean {
    return this.#state === State.Closed
  }

  /** Logged in and in the hands of a client. */
  get isActive(): boolean {
    return this.#state === State.Active
  }

  /** Whether it asked for a password; then only the client who gave it may use this connection. */
  get challenged(): boolean {
    return this.#opening.challenged
  }

  /** Whether it let this user in without asking for anything; else it is only for clients that pgherd has checked. */
  get isTrusting(): boolean {
    return this.#opening.isTrusting
  }

  /** It works on something for its client, or holds something half-done. */
  get isBusy(): boolean {
    return !this.owed.isEmpty || this.unsynced || this.owed.discarding
  }

  /** Nothing outstanding, nothing half-sent, no transaction open. */
  get isAtRest(): boolean {
    return !this.isBusy && this.status === TransactionStatus.Idle && this.atMessageBoundary
  }

  /** Whether what the client receives next begins a message. */
  get atMessageBoundary(): boolean {
    return this.#relayed.atBoundary
  }

  /** What it owes the client, in order. */
  get owed(): OwedAnswers {
    return this.#relayed.owed
  }

  /** Transaction status at its last ReadyForQuery. */
  get status(): number {
    return this.#relayed.status
  }

  /** A transaction is open, which may have failed. */
  get isInTransaction(): boolean {
    return this.#relayed.status !== TransactionStatus.Idle
  }

  /** It sends WAL or decoded changes to a replication client, for as long as both want. */
  get isStreaming(): boolean {
    return this.#relayed.isStreaming
  }

  /** Whether the last thing it sent was an error: a FATAL one, when nothing follows. */
  get endedWithError(): boolean {
    return this.#relayed.endedWithError
  }

  /** Idle, and nothing that it says is half-way. */
  get isFree(): boolean {
    return this.#state === State.Idle && this.#idleConversation.atBoundary
  }

  /** Whom it works for; undefined for nobody. */
  get user(): ServerUser | undefined {
    return this.#user
  }

  /** What it does, in PgBouncer's words: `tested` while it is reset between two clients. */
  get stateName(): 'new' | 'active' | 'tested' | 'idle' {
    switch (this.#state) {
      case State.Login:
        return 'new'
      case State.Resetting:
        return 'tested'
      case State.Idle:
        return 'idle'
      default:
        return 'active'
    }
  }

  /** Where it connects from: `address:port`. */
  get localAddress(): string {
    const { localAddress = '?', localPort = 0 } = this.#opening.socket
    return `${localAddress}:${localPort}`
  }

  /** TLS for people; empty without. */
  get tls(): string {
    return this.#opening.security?.description ?? ''
  }

  /** What was sent to it and has not left yet. */
  get unsentBytes(): number {
    return this.#link?.unsentBytes ?? 0
  }

  /** How long requests like that of its client usually take, where that is known. */
  set typical(typical: Typical | undefined) {
    this.tally.typical = typical
  }

  /** How long its last answer took. */
  get answerMs(): number {
    return this.tally.answerMs
  }

  /** Bytes of what it has answered since it last had nothing to do. */
  get answerBytes(): number {
    return this.tally.answerBytes
  }

  /** Since when it works on the oldest request that it has not answered; else when it answered the last one. */
  get requestSinceMs(): number {
    return this.tally.requestSinceMs
  }

  /** When the transaction that is open began; 0 when there is none. */
  get transactionSinceMs(): number {
    return this.tally.transactionSinceMs
  }

  set transactionSinceMs(sinceMs: number) {
    this.tally.transactionSinceMs = sinceMs
  }

  /** Gives an idle connection to a client. */
  use(user: ServerUser): void {
    this.#user = user
    this.#state = State.Active
    this.#conversation = undefined
    this.#options.counters.idle--
  }

  /** Gives an idle connection to several clients at once, until `unshare`. */
  share(by: SharedBy): void {
    this.#sharedBy = by
    this.#state = State.Active
    this.#conversation = undefined
    this.#used = true
    this.#options.counters.idle--
  }

  /** Nothing of those who have shared it is on the way. */
  unshare(): void {
    this.#sharedBy = undefined
    this.checkIn()
  }

  get isShared(): boolean {
    return this.#sharedBy !== undefined
  }

  /** A prepared statement does not fit its tables any more: all are given up before the next client. */
  notePlansChanged(): void {
    this.#plansChanged = true
  }

  /** Hands the user's role to another object, without any change on the wire. */
  handOver(user: ServerUser | undefined): void {
    this.#user = user
  }

  /** Passes bytes on. False: the server is slow, stop until `onServerWritable`. */
  write(chunk: Buffer): boolean {
    return this.#link!.write(chunk)
  }

  /** The client's answer to a challenge: the body of its message. */
  answerChallenge(body: Buffer): void {
    this.#opening.answerChallenge(body)
  }

  pause(): void {
    this.#link?.pause()
  }

  resume(): void {
    this.#link?.resume()
  }

  /** A request was passed on. */
  request(kind: Owed, nowMs: number, outcome?: Outcome): void {
    this.#used = true
    if (this.owed.isEmpty) this.tally.begin(nowMs)
    this.tally.countRequest(kind)
    if (!this.owed.push(kind, outcome)) return
    const ends = kind === Owed.Sync || kind === Owed.Query || kind === Owed.RefusedQuery
    if (ends) this.unit++
    this.unsynced = !ends
  }

  /**
   * Asks the server to cancel what it runs, on a connection of its own. The server connection is not given to
   * another client before the request was delivered, so that it can only hit the client it was meant for.
   */
  cancel(done: () => void): void {
    const { host, port, tls } = this.target
    const { connectTimeoutMs: timeoutMs, timers } = this.#options
    const { processId, secret } = this
    this.#cancels++
    // Encrypted where the session is: a key that was read on the way could cancel what comes next.
    sendCancelRequest(
      { host, port, tls: this.#opening.security && tls(), processId, secret, timeoutMs, timers },
      () => {
        this.#cancels--
        if (this.#releaseWanted) this.#reset()
        done()
      },
    )
  }

  /** What the client gets of answers to requests that were not passed on, when nothing is due before them. */
  putIn(): Buffer {
    return this.#relayed.putIn()
  }

  /**
   * The request that was just passed on is alone, and its client can send it again. With `forPlans` that happens when
   * it fails because a prepared statement does not fit its tables any more.
   */
  armRetry(forPlans: boolean, forStandby: boolean): void {
    this.#relayed.arm(forPlans, forStandby)
  }

  /** The request is sent again because only a standby refuses it. */
  get isForAnother(): boolean {
    return this.#relayed.isForAnother
  }

  get isForGood(): boolean {
    return this.#relayed.isForGood
  }

  /** Whether it said when it was opened, or since, that it is a standby. */
  get isStandby(): boolean {
    return this.reported.get('in_hot_standby') === 'on'
  }

  disarmRetry(): void {
    this.#relayed.disarm()
  }

  /** Nothing of the answer to the request that is outstanding alone was passed on. */
  get isUntouched(): boolean {
    return this.#relayed.isUntouched
  }

  /** A prepared statement does not fit its tables any more. */
  get hasStalePlans(): boolean {
    return this.#plansChanged
  }

  #retry(): void {
    if (this.#state === State.Active) this.#user?.onRetry()
    else this.#finished()
  }

  /** Gives up all prepared statements; its client must wait for `done`. */
  giveUpPlans(done: () => void): void {
    this.#plansChanged = false
    this.ask(deallocateAll, 1, ({ failed }) => {
      if (this.#state === State.Closed) return
      this.#forgetStatements()
      if (failed) this.isSpoiled = true
      done()
    })
  }

  /** The proxy has closed it, for whatever reason. */
  get isEndedHere(): boolean {
    return this.#abandoned
  }

  /** It was working on something when it was lost. */
  wasBusy = false
  /** What it said when it ended, to a client whose request can be run elsewhere: not passed on yet. */
  lastWords: Buffer | undefined

  /**
   * The client needs it no longer: at rest, and all that the session has is known to be `settings`. It goes on to
   * the next client as it is.
   */
  checkIn(): void {
    this.#user = undefined
    this.tally.typical = undefined
    if (this.isSpoiled) return this.destroy()
    this.#link?.resume()
    if (this.#plansChanged) {
      this.#state = State.Active
      return this.giveUpPlans(() => this.checkIn())
    }
    // A cancel request that is on its way must not hit the next client.
    if (this.#cancels > 0) {
      this.#state = State.Resetting
      this.#releaseWanted = true
      this.#isClean = true
    } else this.#becomeIdle()
  }

  #isClean = false

  #forgetStatements(): void {
    this.statements.clear()
    this.unnamed = undefined
  }

  /**
   * The client has left in good order: what it had sent is finished (bounded), what it gets back is thrown away,
   * then the connection is reset and kept for the next client if it may be.
   */
  release(): void {
    if (this.#state === State.Closed) return
    this.#user = undefined
    // A server that waits for copy data would wait for ever, and one that streams would go on and keep its slot.
    if (this.#state !== State.Active || this.owed.isCopyIn || this.isStreaming) return this.abort()
    this.#link?.resume()
    // What no Sync has followed is not answered, and undone with the connection.
    if (this.owed.ready === 0) return this.#finished()
    this.#state = State.Finishing
    const { timers, finishTimeoutMs } = this.#options
    this.#timer = timers.after(finishTimeoutMs, () => this.abort())
  }

  /** The client is gone in the middle of something: what runs is cancelled and the connection closed. */
  abort(): void {
    if (this.#state === State.Closed) return
    this.#user = undefined
    if (!this.owed.isEmpty && this.processId !== 0) this.cancel(() => undefined)
    this.destroy()
  }

  /** Says goodbye and closes. */
  destroy(): void {
    if (this.#state === State.Closed) return
    this.#abandoned = true
    if (this.#link?.isOpen && this.#state !== State.Login) this.#link.write(terminate)
    this.#close('closed by pgherd')
  }

  /**
   * The proxy's own questions, between two requests of the client: sends `messages`, which the server answers
   * with `readyForQueries` ReadyForQuery, and gives back the rows. The client must be at rest and stay so.
   */
  ask(messages: Buffer, readyForQueries: number, done: (answer: Answer) => void): void {
    this.#state = State.Asking
    this.#used = true
    // A simple query does away with it.
    this.unnamed = undefined
    this.#asked = done
    this.#conversation = new QuestionConversation(readyForQueries, (code, body) => this.#aside(code, body))
    this.#timer?.cancel()
    this.#timer = this.#options.timers.after(questionTimeoutMs, () =>
      this.#close('it did not answer a question of the proxy in time'),
    )
    this.#link?.resume()
    this.#link!.write(messages)
  }

  #onData(chunk: Buffer): void {
    if (this.#sharedBy) return this.#sharedBy.onBytes(chunk)
    if (this.#state === State.Active || this.#state === State.Finishing) return this.#relay(chunk)
    const conversation = this.#conversation
    if (!conversation || this.#state === State.Closed) return
    const rest = conversation.push(chunk)
    if (conversation.problem !== undefined) return this.#close(conversation.problem)
    if (conversation instanceof QuestionConversation && conversation.isOver) this.#answered(conversation)
    if (rest.length > 0) this.#onData(rest)
  }

  // Relay.

  #relay(chunk: Buffer): void {
    if (this.#keepsFarewell(chunk)) return
    this.wasIdle = false
    const passed = this.#relayed.pass(chunk)
    if (this.#relayed.violation) return this.#close('the server sent a message with an impossible length')
    if (this.#relayed.takeRetry()) return this.#retry()
    this.tally.answerBytes += chunk.length
    this.#user?.onServerData(passed, this.isAtRest)
    if (this.#state !== State.Finishing) return
    if (this.owed.isCopyIn) this.abort()
    else if (this.owed.ready === 0 && this.atMessageBoundary) this.#finished()
  }

  /** A standby that stops says so to whoever waits for an answer, who can be answered elsewhere. */
  #keepsFarewell(chunk: Buffer): boolean {
    if (this.lastWords) return true
    if (!this.isUntouched || chunk.length > farewellBytesMax) return false
    const at = farewellAt(chunk)
    if (at < 0 || this.reported.get('in_hot_standby') !== 'on') return false
    const words = chunk.subarray(at)
    const ranMs = this.#options.clock.nowMs() - this.tally.requestSinceMs
    if (ranMs > terminatedMs && isTermination(words)) return false
    this.lastWords = Buffer.from(words)
    return true
  }

  #onReadyForQuery(): void {
    this.deallocating = undefined
    const isIdle = this.status === TransactionStatus.Idle
    this.tally.countAnswer(isIdle, this.#options.clock.nowMs())
    if (isIdle) this.wasIdle = true
  }

  /** The body of a ParameterStatus. */
  noteParameter(body: Buffer): void {
    const parameter = readParameterStatus(body)
    if (parameter) this.reported = this.#options.reports.with(this.reported, parameter.name, parameter.value)
  }

  // Login.

  #open(): ServerOpening {
    return new ServerOpening(this.#options, {
      onOpen: socket => (this.#link = this.#linkOver(socket)),
      onChallenge: body => this.#user?.onChallenge(body),
      onHeld: held => this.#onData(held),
      onNotice: body => this.#user?.onLoginNotice(body),
      onParameter: (name, value) => {
        this.reported = new Map([...this.reported, [name, value]])
      },
      onKey: (processId, secret) => {
        this.processId = processId
        this.secret = secret
      },
      onReady: () => this.#onReady(),
      onFailed: message => this.#close(message),
    })
  }

  #linkOver(socket: Socket): Link {
    return new Link(socket, {
      onData: chunk => this.#onData(chunk),
      onDrain: () => this.#user?.onServerWritable(),
      onEnd: () => undefined,
      onError: error => this.#close(describeSocketError(error)),
      onClose: () => this.#close('the server closed the connection'),
    })
  }

  #onReady(): void {
    this.#options.counters.connecting--
    this.#options.counters.connects++
    this.reported = this.#options.reports.of(this.reported)
    this.#state = State.Active
    this.#conversation = undefined
    this.tally.countFor(this.#options.stats())
    this.#user?.onServerReady(this)
  }

  // The proxy's own questions.

  /** What a server says beside an answer is the client's. */
  #aside(code: number, body: Buffer): void {
    if (code === Code.ParameterStatus) this.noteParameter(body)
    this.#user?.onAside(code, frame(code, body))
  }

  #answered({ answer, status }: QuestionConversation): void {
    this.#relayed.status = status
    if (this.#state === State.Resetting) return this.#onReset(answer)
    this.#timer?.cancel()
    this.#state = State.Active
    this.#conversation = undefined
    const done = this.#asked
    this.#asked = undefined
    try {
      done?.(answer)
    } catch (cause) {
      // Whoever has asked could not read it: to them the question has failed, and the connection is not to be trusted.
      this.#asked = done
      this.#close(`its answer to a question of the proxy cannot be read: ${(cause as Error).message}`)
    }
  }

  // Between two clients.

  #finished(): void {
    this.#timer?.cancel()
    if (
      !this.#options.reusable ||
      this.isSpoiled ||
      this.challenged ||
      this.isBusy ||
      !this.atMessageBoundary
    )
      return this.destroy()
    this.#state = State.Resetting
    if (this.#cancels > 0) this.#releaseWanted = true
    else this.#reset()
  }

  #reset(): void {
    this.#releaseWanted = false
    if (this.#state !== State.Resetting) return
    const isClean = this.#isClean || !this.#used
    this.#isClean = false
    if (isClean) return this.#becomeIdle()
    const inTransaction = this.status !== TransactionStatus.Idle
    this.#conversation = new QuestionConversation(inTransaction ? 2 : 1, (code, body) => {
      if (code === Code.ParameterStatus) this.noteParameter(body)
    })
    this.#link!.write(inTransaction ? Buffer.concat([rollback, discardAll]) : discardAll)
    const { timers, resetTimeoutMs } = this.#options
    this.#timer = timers.after(resetTimeoutMs, () => this.#close('the reset timed out'))
  }

  #onReset({ failed }: Answer): void {
    this.#timer?.cancel()
    if (failed || this.status !== TransactionStatus.Idle) return this.destroy()
    this.settings = this.#options.native
    this.sequenceOwner = undefined
    this.#plansChanged = false
    this.#forgetStatements()
    this.#becomeIdle()
  }

  #becomeIdle(): void {
    this.#used = false
    this.#state = State.Idle
    this.#conversation = this.#idleConversation
    this.idleSinceMs = this.#options.clock.nowMs()
    this.#options.counters.idle++
    this.#options.owner.onServerIdle(this)
  }

  #close(message: string): void {
    if (this.#state === State.Closed) return
    const before = this.#state
    this.#state = State.Closed
    this.#timer?.cancel()
    // What a hung server has not taken yet is not waited for.
    if (!this.#link) this.#opening.socket.destroy()
    else if (before === State.Login || this.unsentBytes > 0) this.#link.destroy()
    else this.#link.destroySoon()
    const { clock, counters, load, owner } = this.#options
    const user = this.#user
    if (before !== State.Login && !this.#abandoned && (user || this.#sharedBy)) load.failed(clock.nowMs())
    this.#user = undefined
    this.wasBusy = this.isBusy
    if (before === State.Idle) counters.idle--
    if (before === State.Login) {
      counters.connecting--
      const failure = this.#opening.end(message)
      if (failure.kind !== 'refused' && !this.#abandoned) counters.connectFailures++
      owner.onServerClosed(this)
      user?.onLoginFailed(this, failure)
      return
    }
    // Before the client goes on elsewhere with what it had asked here.
    this.owed.clear()
    owner.onServerClosed(this)
    const asked = this.#asked
    this.#asked = undefined
    asked?.({ failed: true, replies: [] })
    const sharedBy = this.#sharedBy
    this.#sharedBy = undefined
    if (sharedBy) {
      counters.serverLost++
      sharedBy.onLost(message)
    }
    if (user) {
      counters.serverLost++
      user.onServerLost(this, message)
    }
  }
}
