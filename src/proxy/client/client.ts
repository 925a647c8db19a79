import type { Socket } from 'node:net'
import { stopReading } from '../../runtime/sockets.ts'
import { Client as Code, Server as ServerCode, TransactionStatus } from '../../wire/codes.ts'
import { frame, readErrorFields } from '../../wire/messages.ts'
import { causalDemand, type Demand } from '../pool/positions.ts'
import { ClientRelay } from '../relay/client-relay.ts'
import type { LoginFailure } from '../relay/conversations.ts'
import { PooledRelay } from '../relay/pooled-relay.ts'
import { hasRequest } from '../relay/requests.ts'
import { isLastingRefusal } from '../relay/server-relay.ts'
import type { ServerConnection, ServerUser } from '../server.ts'
import { type HandOver, handOverOf } from '../session/hand-over.ts'
import { PooledSession } from '../session/pooled-session.ts'
import type { Reported } from '../session/reported.ts'
import { fatalOf, SessionOpening } from '../session/session-opening.ts'
import type { Arrival } from '../startup/client-startup.ts'
import { ClientState as State } from './client-connection.ts'
import type { ClientHost, Leaving } from './client-host.ts'
import type { DeferredBegin } from './deferred-begin.ts'
import { DetachedClient } from './detached-client.ts'
import type { DisconnectReason } from './failures.ts'
import { checkOut, type PooledClient, settle } from './pooled-checkout.ts'
import { runInReading } from './reading-transaction.ts'
import { ReplayWait } from './replay-wait.ts'

/**
 * One client, on its way from server to server or on one of its own; in between it is a `DetachedClient`.
 *
 * ```
 * Waiting -> Login -> Active <-> Held     (Held: the proxy itself talks with the server)
 *    ^          |        |                  any -> Closed
 *    +----------+        v
 *    +--------------- Resting <-> Sharing   (Resting: a pooled client that needs no server;
 *    ^                   |  ^                Sharing: what it wants is done in a lane;
 *    |                   v  |                Begun: it has begun a transaction, and asked
 *    +------------------ Begun               for nothing in it yet)
 * ```
 */
export class Client extends DetachedClient implements ServerUser {
  /** What passes its bytes on; undefined for a pooled client without a server. */
  relay: ClientRelay | PooledRelay | undefined
  /** Belongs to `CancelKeys`. */
  cancelKey: string | undefined
  /** Set while the node asks the session to leave. */
  leaving: Leaving | undefined
  /** Whether the node of the server that it has got can show what it must see is still being asked elsewhere. */
  awaitsFreshness = false
  /** What its reads must see at least. */
  demand: Demand = causalDemand
  /** It has a replica for a transaction that only reads, and may go on with it on the primary. */
  readsOnly = false
  /** In its transaction on a standby it has asked for something that sees data. */
  hasLooked = false
  /** What it has begun on its server, which had to be told of it. */
  transaction: DeferredBegin | undefined
  #server: ServerConnection | undefined
  /** What passes until it has been told that its session has begun; undefined from then on. */
  #opening: SessionOpening | undefined
  /** What comes is kept until what was passed on is answered. */
  #isBehindBarrier = false
  /** What it waited for last on the standby that it keeps. */
  #replayWait: ReplayWait | undefined

  constructor(arrival: Arrival, host: ClientHost) {
    super(arrival, host)
    this.#opening = new SessionOpening(arrival.negotiation)
    if (this.mode === 'session') this.relay = new ClientRelay(arrival.route === 'replica')
    else this.session = new PooledSession(this.startup.settings)
  }

  #isPooled(): this is PooledClient {
    return this.session !== undefined
  }

  // Going to another worker.

  /**
   * Lets go of a client at rest, so that another worker can go on with it: of its socket nothing is read any more.
   * Undefined when it cannot go now; encrypted ones never can.
   */
  handOver(): { socket: Socket; client: Omit<HandOver, 'cancelKey'> } | undefined {
    if (!this.mayMove || !this.wantsNothing || this.unsentBytes > 0) return undefined
    const session = this.session?.handOver()
    if (!session || !stopReading(this.link.socket)) return undefined
    this.state = State.Closed
    return { socket: this.link.socket, client: handOverOf(this, session, this.host.clock.nowMs()) }
  }

  /** It is only a matter of moments until another worker can go on with it. */
  get mayMove(): boolean {
    return this.state === State.Resting && this.tls === '' && !this.isHalfClosed
  }

  /** Goes on with a client that was at rest in another worker. */
  takeOver(from: HandOver): void {
    if (!this.session) {
      return this.end('session_lost', 'the pool mode of this connection has changed', {
        hint: 'Connect again.',
      })
    }
    const nowMs = this.host.clock.nowMs()
    this.#opening = undefined
    this.state = State.Resting
    this.restingSinceMs = nowMs - from.idleMs
    this.readOn = from.readOn
    this.connectedMs = nowMs - from.connectedForMs
    this.home = from.home
    this.session.takeOver(from.session, this.host.knowledgeOf(this.database).statements)
  }

  // What it is doing.

  override get server(): ServerConnection | undefined {
    return this.#server
  }

  /** Where what it has asked for is done: a server connection of its own, or one that it shares. */
  get servedBy(): ServerConnection | undefined {
    return this.#server ?? this.lane?.server
  }

  /** It has asked for something that no server has got yet. */
  get hasAsked(): boolean {
    return this.hasAhead
  }

  /** It has been told that its session has begun. */
  get isGreeted(): boolean {
    return this.#opening === undefined
  }

  /** Everything that it has sent was whole messages, and was passed on. */
  get #isAtBoundary(): boolean {
    return this.relay?.atBoundary ?? true
  }

  /** Nothing of the client is on the way in either direction. */
  get isAtRest(): boolean {
    return (
      this.state === State.Active && this.#isAtBoundary && !this.hasAhead && (this.#server?.isAtRest ?? false)
    )
  }

  /** It receives WAL or decoded changes, which only ends when one side ends it; the next stream goes on from there. */
  get isStreaming(): boolean {
    return this.#server?.isStreaming ?? false
  }

  /** Ending it now cuts nothing off: it has asked for nothing yet, or has been answered. */
  get wantsNothing(): boolean {
    switch (this.state) {
      case State.Active:
        return this.isAtRest || this.isStreaming
      case State.Resting:
        return !this.hasAhead
      default:
        // Before it was told that its session has begun, it may send ahead but not count on an answer.
        return !this.isGreeted
    }
  }

  override idleMs(nowMs: number): number | undefined {
    if (!this.isGreeted || !this.wantsNothing) return undefined
    return nowMs - (this.#server ? this.#server.requestSinceMs : this.restingSinceMs)
  }

  protected override get isBetweenMessages(): boolean {
    if (this.lane) return !this.lane.isMidMessage(this)
    return this.#server === undefined || this.#server.isClosed || this.#server.atMessageBoundary
  }

  // What comes from the client.

  protected override onPiece(chunk: Buffer): void {
    if (this.state === State.Active && !this.#isBehindBarrier) {
      if (this.readsOnly) {
        this.keepAhead(chunk)
        return this.#lookInReading()
      }
      if (!this.staysForOne) {
        return this.#take(this.hasAhead ? Buffer.concat([this.takeAhead(), chunk]) : chunk)
      }
    }
    if (this.state === State.Closed) return
    if (this.state === State.Login) return this.#answer(chunk)
    if (this.isWithoutServer) return this.wake(chunk)
    this.keepAhead(chunk)
  }

  protected override onHalfClosed(): void {
    if (this.#isCutShort) return this.end('client_lost')
    if (this.state === State.Active && !this.#isDone) return
    if (this.state === State.Held || this.state === State.Sharing) return
    if (this.state === State.Waiting && this.isGreeted && this.hasAhead) return
    this.end('client_closed')
  }

  /**
   * What a server waits for will never come from a half-closed client: the rest of a message, of copy data, or how far
   * the receiver of a stream is.
   */
  get #isCutShort(): boolean {
    if (this.hasAhead) return false
    return !this.#isAtBoundary || (this.#server?.owed.isCopyIn ?? false) || this.isStreaming
  }

  /** Half-closed, and every answer has been passed on. */
  get #isDone(): boolean {
    return !this.hasAhead && (this.#server?.owed.ready ?? 0) === 0
  }

  override onDrain(): void {
    if (this.lane) this.lane.resume()
    else if (!this.isWithoutServer) this.#server?.resume()
    else if (this.hasAhead) this.wake(this.takeAhead())
    else this.link.resume()
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
    if (this.lane) return this.lane.cancel(this, done)
    if (this.#replayWait?.isOver === false) this.#replayWait.cancel()
    else if (this.isGreeted && this.session && (this.state === State.Waiting || this.isHeld)) {
      this.cancelAhead()
    }
    done()
    return false
  }

  // Login: the server's challenges are the client's to answer.

  /** Its session begins: on a server, unless it is known what that would say. */
  begin(): void {
    const { session } = this
    const reported = this.host.greetingFor(this)
    // Waiting for a server has limits of its own.
    if (!session || !reported) return this.lookForServer()
    session.told = reported
    this.#greet(reported, undefined)
    this.state = State.Resting
    this.restingSinceMs = this.host.clock.nowMs()
    if (this.hasAhead) this.wake(this.takeAhead())
  }

  #greet(reported: Reported, server: ServerConnection | undefined): void {
    const opening = this.#opening!
    this.#opening = undefined
    this.tell(opening.greeting(reported, this.host.register(this, server)))
  }

  /** Logs in on a new server connection, which calls the methods of `ServerUser`. */
  logInOn(server: ServerConnection): void {
    this.#server = server
    this.state = State.Login
    this.waitFreely()
    this.link.resume()
  }

  /** Another server is looked for; nothing has been answered by the client yet. */
  wantAnother(): void {
    this.#server = undefined
    this.#opening?.forgetNotices()
    if (this.state === State.Login) this.state = State.Waiting
  }

  #answer(chunk: Buffer): void {
    const server = this.#server
    const opening = this.#opening
    // Before a challenge came there is nothing to answer: it is kept until the session begins.
    if (!server?.challenged || !opening) return this.keepAhead(chunk)
    const problem = opening.answer(chunk, body => server.answerChallenge(body))
    if (problem !== undefined) this.end('protocol_violation', problem)
  }

  onChallenge(body: Buffer): void {
    const opening = this.#opening
    if (!opening) {
      const hint = 'The server does not let the proxy in any more without asking: connect again.'
      return this.end('session_lost', 'a server asks for a password in the middle of the session', { hint })
    }
    this.tell(opening.told(frame(ServerCode.Authentication, body)))
    const { loginTimeoutMs, timers } = this.host
    opening.limit(timers, loginTimeoutMs, () =>
      this.end('login_timeout', `the login did not finish within ${loginTimeoutMs} ms`),
    )
    if (this.hasAhead) this.#answer(this.takeAhead())
  }

  onLoginNotice(body: Buffer): void {
    this.#opening?.keepNotice(body)
  }

  onLoginFailed(server: ServerConnection, failure: LoginFailure): void {
    if (failure.kind !== 'refused') return this.host.onLoginFailed(this, server, failure)
    const sqlstate = readErrorFields(failure.body).get('C')
    this.host.log.debug({ client: this.address, sqlstate }, 'the server refused a login')
    this.#refuseWith(frame(ServerCode.ErrorResponse, failure.body))
  }

  /** A server refused the login of this client, with the body of its ErrorResponse. */
  refuse(error: Buffer): void {
    this.#refuseWith(fatalOf(error))
  }

  #refuseWith(last: Buffer): void {
    this.finish('login_refused', this.#opening?.told(last) ?? last)
  }

  onServerReady(server: ServerConnection): void {
    // Whoever has answered a challenge has a connection that is for nobody else.
    if (server.challenged && this.session) {
      this.session = undefined
      this.relay = new ClientRelay(this.route === 'replica')
    }
    // What is asked of a replication connection says nothing about others.
    if (!this.replication) server.owner.learnTrust(server.isTrusting)
    if (this.host.mayBegin(this, server)) return this.attach(server)
    if (server.challenged) {
      return this.end('server_demoted', `${server.target.node} is no longer the node to go to`)
    }
    this.wantAnother()
    server.release()
    this.host.acquire(this)
  }

  // Checkout: see `checkOut` for a pooled client.

  /** A server connection is there for what the client wants. */
  attach(server: ServerConnection): void {
    this.#opening?.stop()
    this.waitFreely()
    this.#server = server
    const waitedMs = this.host.clock.nowMs() - this.waitingSinceMs
    this.host.counters.wait.observe(waitedMs)
    this.stats ??= this.host.statsOf(this.database)
    this.stats.assignments++
    this.stats.waitMs += waitedMs
    this.host.onAttached(this, server)
    if (!this.#isPooled()) return this.start(server)
    this.relay = server.pooledRelay ??= new PooledRelay(server)
    this.relay.serve(this, this.host)
    checkOut(this, server, this.host)
  }

  /** Does without the server connection, on which nothing of it is outstanding, and waits for another one. */
  leave(server: ServerConnection): void {
    this.#leave(server, State.Waiting)
  }

  #leave(server: ServerConnection, next: State): void {
    this.#server = undefined
    this.transaction = undefined
    this.readsOnly = false
    this.relay = undefined
    this.state = next
    this.host.onDetached(this, server)
  }

  /** Gives the server back, and waits for what the client wants next. */
  #detach(session: PooledSession, server: ServerConnection): void {
    session.told = server.reported
    if (this.relay instanceof PooledRelay) this.relay.endRetry()
    this.restingSinceMs = server.requestSinceMs
    if (session.isOpaque) server.isSpoiled = true
    this.learning?.ranAlone(server.answerMs, server.answerBytes)
    this.learning = undefined
    this.#leave(server, this.restingState)
    server.checkIn()
    this.goOnWithoutServer()
  }

  /** The proxy itself talks with the server now; what the client sends is kept. */
  hold(): void {
    this.state = State.Held
  }

  /** What was sent ahead is run. At first the client learns what a server says after a login. */
  start(server: ServerConnection): void {
    this.state = State.Active
    server.typical = this.learning?.typical
    if (this.#opening) {
      if (this.session) server.owner.learnGreeting(server)
      this.#greet(server.reported, server)
    } else if (this.session && this.session.told !== server.reported) {
      this.tellUntold(this.session.told, server.reported)
    }
    // Where a pooled client's request goes was looked at before.
    if (!this.session || !this.hasAhead) return this.#goOn()
    const first = this.route === 'replica' ? (this.takeRequest() ?? this.takeAhead()) : this.#takeNext()
    if (this.route === 'replica') {
      this.hasLooked = false
      this.host.kept.noteLook(this, server, first)
    }
    this.#pass(first)
    if (this.route === 'replica' && !this.staysForOne && !this.readsOnly) this.#takeKept()
    else this.#goOnReading()
  }

  /** Goes on with `server`, the old one or a new one. */
  goOn(server: ServerConnection): void {
    if (this.state !== State.Held) return
    this.#server = server
    server.handOver(this)
    this.state = State.Active
    this.#goOn()
  }

  /** What came meanwhile is passed on, and the client is read from again. */
  #goOn(): void {
    if (this.hasAhead) this.#take(this.#takeNext())
    else this.#restIfNothingIsDue()
    this.#goOnReading()
  }

  #goOnReading(): void {
    if (this.state !== State.Active) return
    this.link.resume()
    if (!this.isHalfClosed) return
    if (this.#isCutShort) this.end('client_lost')
    else if (this.#isDone) this.end('client_closed')
  }

  /** What goes to the server that it has: all that has come, or only what that server was chosen for. */
  #takeNext(): Buffer {
    const first = this.staysForOne || this.readsOnly ? this.takeRequest() : undefined
    return first ?? this.takeAhead()
  }

  // On a standby that it keeps.

  /** Passes on what has come; on a standby not before that shows what it must see. */
  #take(piece: Buffer): void {
    const server = this.#server
    if (this.route === 'primary' || !server || !this.#isAtBoundary) return this.#pass(piece)
    const bytes = this.host.kept.passableBytes(this, server, piece)
    if (bytes === piece.length) return this.#pass(piece)
    const behind = this.takeAhead()
    this.keepAhead(piece.subarray(bytes))
    if (behind.length > 0) this.keepAhead(behind)
    if (bytes > 0) {
      this.#pass(piece.subarray(0, bytes))
      return this.#takeKept()
    }
    // While something is on the way nobody knows whether a transaction is open: it is looked at when that is answered.
    if (!server.isBusy) this.#awaitReplay(server)
  }

  #awaitReplay(server: ServerConnection): void {
    const { session } = this
    // What keeps it no more can be looked for elsewhere.
    if (session && !session.isPinned && !session.isDirty && server.isAtRest)
      return this.#detach(session, server)
    this.#replayWait = new ReplayWait(this, server, this.host)
  }

  /** Goes on with `piece`; what came behind it is looked at by itself. */
  goOnWith(piece: Buffer): void {
    this.state = State.Active
    this.#pass(piece)
    // In a transaction that only reads that is done when `piece` is answered.
    if (this.readsOnly) this.link.resume()
    else this.#takeKept()
  }

  /** What was held is answered already: goes on with what came behind it. */
  goOnAnswered(answer: Buffer, server: ServerConnection): void {
    this.tell(answer)
    this.goOn(server)
  }

  /** What was kept back is looked at when what was before it is answered. */
  #takeKept(): void {
    if (this.hasAhead && this.state === State.Active && !this.#isBehindBarrier) this.#take(this.takeAhead())
    this.#goOnReading()
  }

  // Relay.

  #pass(piece: Buffer): void {
    const server = this.#server
    const { relay } = this
    if (!server || !relay) return
    if (this.begun && relay instanceof PooledRelay) {
      relay.begin(this.begun)
      this.transaction = this.begun
      this.begun = undefined
    }
    switch (relay.pass(piece, server, this.host.clock.nowMs())) {
      case true:
        if (server.owed.isEmpty) this.#restIfNothingIsDue()
        else if (server.owed.hasSpecial && server.owed.isAllSkipped) this.#putIn(server)
        return
      case false:
        this.link.pause()
        return
      case 'barrier':
        this.ahead = Buffer.concat([(relay as PooledRelay).takeHeld(), this.ahead])
        this.#isBehindBarrier = true
        if (server.owed.isEmpty) this.#lookBehindBarrier()
        return
      case 'terminated':
        return this.end('client_closed')
      case 'violation':
        return this.end('protocol_violation', relay.problem)
      default:
    }
  }

  /** Answers that the server need not give, when none of its own comes before them. */
  #putIn(server: ServerConnection): void {
    const answers = server.putIn()
    if (answers.length > 0) this.tell(answers)
  }

  /** What was kept back goes on when what it waits for is answered, or waits for it itself. */
  #lookBehindBarrier(): void {
    const server = this.#server
    if (this.state !== State.Active || !server) return
    if (!server.owed.isEmpty && !server.owed.isCopyIn) return
    this.#isBehindBarrier = false
    if (this.#isPooled() && this.session.isDirty && server.isAtRest) settle(this, server, this.host)
    else this.#goOn()
  }

  /** When what was passed on asks for no answer, none will come to tell that the server is at rest. */
  #restIfNothingIsDue(): void {
    const server = this.#server
    if (server?.isAtRest && this.#isAtBoundary) this.#onPooledRest(server)
  }

  /** The server has nothing more to do for the client. */
  #onPooledRest(server: ServerConnection): void {
    if (!this.#isPooled()) return
    const { session } = this
    session.hasLocalSettings = false
    if (session.isDirty) return settle(this, server, this.host)
    if (!session.isPinned) return this.#detach(session, server)
    session.told = server.reported
    this.staysForOne = false
    if (this.hasAhead) return this.#takeKept()
    if (this.leaving) this.host.onRest(this)
  }

  onServerData(chunk: Buffer, idle: boolean): void {
    // It has not asked this server for anything yet: these are its last words, and another one is looked for.
    if (this.awaitsFreshness) return
    if (this.mode === 'statement' && this.#server && this.#refusesTransaction(this.#server)) return
    if (chunk.length > 0) this.#tellAnswer(chunk)
    if (this.isHalfClosed && this.state === State.Active) {
      if (this.#isDone) return this.end('client_closed')
      if (this.#isCutShort) return this.end('client_lost')
    }
    if (this.#isBehindBarrier) return this.#lookBehindBarrier()
    if (!idle) return this.#lookInTransaction()
    if (this.session) {
      if (this.state === State.Active && this.#isAtBoundary) this.#onPooledRest(this.#server!)
    } else if (this.hasAhead) this.#takeKept()
    else if (this.leaving) this.host.onRest(this)
  }

  // In a transaction.

  /** A transaction is open, and what was asked in it may have been answered. */
  #lookInTransaction(): void {
    if (this.readsOnly) return this.#lookInReading()
    if (this.#server?.isBusy !== false) return
    // What was to be alone has begun it.
    this.staysForOne = false
    if (this.hasAhead) this.#takeKept()
  }

  /** In a transaction that only reads each request is looked at by itself. */
  #lookInReading(): void {
    const server = this.#server
    if (!server || this.state !== State.Active || server.isBusy || !this.hasAhead) return
    if (!hasRequest(this.ahead)) {
      this.link.resume()
      return
    }
    const request = this.takeAhead()
    if (request[0] === Code.Terminate) return this.end('client_closed')
    runInReading(this, request, server, this.host)
  }

  #tellAnswer(chunk: Buffer): void {
    const server = this.#server!
    if (this.host.tracksWrites && !server.isStreaming && mayTellOfWrite(chunk, server)) this.host.noteWrite()
    if (this.readsOnly && this.reading && isLastingRefusal(chunk)) this.reading.needsPrimary = true
    this.tell(chunk)
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

  onAside(code: number, message: Buffer): void {
    // What a pooled client is told of parameters is compared when it goes on.
    if (this.session && code !== ServerCode.NotificationResponse) return
    // Whoever is told that something was committed must find it.
    if (this.host.tracksWrites && !this.#server?.isStandby) this.host.noteWrite()
    this.tell(message)
  }

  onStatementsGone(all: boolean): void {
    this.session?.dropStatements()
    const server = this.#server
    // What nobody could see is gone for this client, but for its names.
    if (all && server && this.session?.forgive()) server.isSpoiled = true
  }

  onServerWritable(): void {
    if (this.state === State.Active) this.link.resume()
  }

  // When something goes wrong.

  /** A prepared statement did not fit its tables any more: the request is sent again, and prepared anew. */
  onRetry(): void {
    const server = this.#server
    if (this.state !== State.Active || !server || !(this.relay instanceof PooledRelay)) return
    const piece = this.relay.takeRetry()
    if (server.isForAnother) return this.#askAnother(piece, server)
    if (!server.hasStalePlans) return this.#pass(piece)
    this.hold()
    server.giveUpPlans(() => {
      if (this.state !== State.Held) return
      this.putBack(piece)
      this.goOn(server)
    })
  }

  /** A standby has refused what a primary can do. */
  #askAnother(request: Buffer, server: ServerConnection): void {
    this.goToPrimary(server.isForGood)
    this.#leave(server, State.Resting)
    server.checkIn()
    this.runElsewhere(request)
  }

  onServerLost(server: ServerConnection, message: string): void {
    // It has gone on elsewhere when a question of the proxy's own failed.
    if (server !== this.#server || this.awaitsFreshness || this.#survives(server)) return
    // The server has told why itself, and one FATAL error is what a client expects.
    if (server.lastWords) this.send(server.lastWords)
    if (server.lastWords || server.endedWithError) return this.end('server_lost')
    const isUnknown = server.wasBusy && this.route === 'primary'
    const told = `the connection to ${server.target.node} was lost: ${message}`
    this.end('server_lost', told, isUnknown ? outcomeUnknown : undefined)
  }

  /**
   * A pooled client that has nothing on its server does without it. What it had asked of a standby, which can only
   * read, is asked again elsewhere when nothing of the answer was passed on.
   */
  #survives(server: ServerConnection): boolean {
    const { relay, session } = this
    if (this.readsOnly && this.state === State.Active && !server.wasBusy && this.transaction) {
      const begun = this.transaction
      this.#leave(server, State.Begun)
      this.begun = begun
      this.goOnWithoutServer()
      return true
    }
    const isPlain = session && !session.isPinned && !session.isDirty && server.transactionSinceMs === 0
    if (!isPlain || this.state !== State.Active || this.#isBehindBarrier) return false
    if (!(relay instanceof PooledRelay) || !relay.atBoundary) return false
    if (server.wasBusy) {
      const piece = server.isStandby && server.isUntouched ? relay.takeRetry() : undefined
      if (!piece?.length) return false
      this.putBack(piece)
    }
    this.#leave(server, State.Resting)
    this.goOnWithoutServer()
    return true
  }

  protected override onFinished(before: State, reason: DisconnectReason): void {
    this.#opening?.stop()
    if (before === State.Waiting) this.host.abandon(this)
    this.lane?.forget(this)
    this.lane = undefined
    const server = this.#server
    this.#server = undefined
    if (server && this.session?.isOpaque) server.isSpoiled = true
    // A server that has got a part of a message takes whatever comes next for the rest of it.
    const isWhole = before === State.Active && (this.relay?.isWhole ?? true)
    if (isWhole && (reason === 'client_closed' || server?.isAtRest)) server?.release()
    else server?.abort()
    this.host.onEnd(this, reason)
  }
}

const outcomeUnknown = {
  sqlstate: '08007',
  detail: 'Whether the running request took effect is not known.',
}

/** Whether an answer may tell its client that something was written, which only ends of transactions do. */
function mayTellOfWrite(chunk: Buffer, server: ServerConnection): boolean {
  if (server.isStandby) return false
  return !server.isInTransaction || !server.owed.isEmpty || server.wasIdle || chunk.includes(committed)
}

const committed = Buffer.from('COMMIT\0')
