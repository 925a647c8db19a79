import { Client as Code } from '../../wire/codes.ts'
import { readyForQueryFailed, readyForQueryIdle, writeParameterStatus } from '../../wire/messages.ts'
import type { Lane } from '../lanes/lane.ts'
import type { Learned } from '../lanes/learned.ts'
import { Race, type RacingClient } from '../lanes/race.ts'
import type { SharingClient } from '../lanes/sharing.ts'
import type { LaneUnit } from '../lanes/unit.ts'
import type { PoolLimits } from '../pool/limits.ts'
import { hasRequest } from '../relay/requests.ts'
import { isLastingRefusal, isStandbyRefusal } from '../relay/server-relay.ts'
import type { PooledSession } from '../session/pooled-session.ts'
import { type Reported, untold } from '../session/reported.ts'
import { ClientConnection, ClientState as State } from './client-connection.ts'
import type { Beginner, DeferredBegin } from './deferred-begin.ts'
import { cancelledWhile } from './failures.ts'
import { overtime, queryTooLong } from './overtime.ts'

/**
 * A `Client` as long as it has no server connection of its own (Resting, Begun, Sharing, and Waiting for one): what it
 * asks for is answered here, done in a lane, or has it wait. `ClientHost.acquire` leads on to `Client.attach`.
 */
export abstract class DetachedClient
  extends ClientConnection
  implements SharingClient, RacingClient, Beginner
{
  /** What it carries from one server connection to the next; undefined when it keeps one for its whole life. */
  session: PooledSession | undefined
  /** What it has begun and no server knows of. */
  begun: DeferredBegin | undefined
  /** When it had what it last asked for. */
  restingSinceMs = 0
  /** What its next request on a connection of its own teaches about requests of its kind. */
  learning: Learned | undefined
  /** Where its request is done, together with those of others. */
  protected lane: Lane | Race | undefined
  /** Counts the waits for a node: one that is over is not heard of any more. */
  #turn = 0

  protected get isWithoutServer(): boolean {
    return this.state === State.Resting || this.state === State.Begun
  }

  protected get restingState(): State {
    return this.begun ? State.Begun : State.Resting
  }

  /** It wants something: a server is looked for, unless it does not even read its last answers. */
  protected wake(chunk: Buffer): void {
    const request = this.hasAhead ? Buffer.concat([this.takeAhead(), chunk]) : chunk
    if (request[0] === Code.Terminate) return this.end('client_closed')
    this.route = this.door
    if (this.#answerHere(request) || this.#explain(request)) return
    if (!hasRequest(request) || this.link.needsDrain) {
      this.ahead = request
      if (this.link.needsDrain) this.link.pause()
    } else if (this.host.direct(this, request)) this.#run(request)
    else this.#awaitNode(request)
  }

  #explain(request: Buffer): boolean {
    const told = this.begun ? undefined : this.host.explain(this, request)
    if (told) this.send(told)
    return told !== undefined
  }

  #run(request: Buffer): void {
    if (this.#share(request)) return
    this.ahead = request
    this.lookForServer()
  }

  /** The node that its request goes to has to replay first what that must see. */
  #awaitNode(request: Buffer): void {
    this.ahead = request
    this.state = State.Waiting
    this.waitingSinceMs = this.host.clock.nowMs()
    const turn = ++this.#turn
    const isWanted = (): boolean => this.state === State.Waiting && turn === this.#turn
    this.host.whenReady(this, isWanted, () => {
      this.state = this.restingState
      const ahead = this.takeAhead()
      // Something has come behind it: what there is now is looked at anew.
      if (ahead === request) this.#run(request)
      else this.wake(ahead)
    })
  }

  /** What has come meanwhile is next, or it is read from again. */
  protected goOnWithoutServer(): void {
    if (this.hasAhead) this.wake(this.takeAhead())
    if (!this.isWithoutServer) return
    if (this.isHalfClosed) return this.end('client_closed')
    if (!this.link.needsDrain) this.link.resume()
  }

  /** Whether all that has come begins or ends a transaction that needs no server. */
  #answerHere(request: Buffer): boolean {
    if (!this.session || this.link.needsDrain) return false
    const { host } = this
    const nowMs = host.clock.nowMs()
    const answered = host.transactions.answer(request, this, nowMs)
    if (!answered) return false
    this.#countAnswered(nowMs, answered.begun === undefined)
    this.begun = answered.begun
    this.state = this.restingState
    this.restingSinceMs = nowMs
    this.send(answered.answer)
    return true
  }

  #countAnswered(nowMs: number, isOver: boolean): void {
    const { counters } = this.host
    this.stats ??= this.host.statsOf(this.database)
    this.stats.queries++
    if (!isOver) {
      counters.beginsDeferred++
      return
    }
    counters.beginsSpared++
    this.stats.transactions++
    this.stats.transactionMs += nowMs - this.begun!.sinceMs
  }

  override limitIdleTime(nowMs: number, limits: PoolLimits): void {
    const begun = this.state === State.Begun ? this.begun : undefined
    if (!begun) return super.limitIdleTime(nowMs, limits)
    const { sinceMs } = begun
    const over = overtime(
      { isBusy: false, requestSinceMs: sinceMs, transactionSinceMs: sinceMs },
      limits,
      nowMs,
    )
    if (over) this.end(over.reason, over.message)
  }

  protected lookForServer(): void {
    this.state = State.Waiting
    this.#turn++
    this.waitingSinceMs = this.host.clock.nowMs()
    this.host.acquire(this)
  }

  /** Has `request`, which nothing came of where it was, run on another server, in what was `begun` there. */
  runElsewhere(request: Buffer, begun = this.begun): void {
    this.putBack(request)
    this.begun = begun
    this.lookForServer()
  }

  /** Answers the first request that waits here, instead of a server. */
  protected cancelAhead(): void {
    if (this.takeRequest() === undefined) return
    // What comes next in a transaction must fail too.
    if (this.begun) this.begun = { ...this.begun, hasFailed: true }
    this.tell(Buffer.concat([cancelled, this.begun ? readyForQueryFailed : readyForQueryIdle]))
    if (this.state !== State.Waiting) return
    this.host.abandon(this)
    this.waitFreely()
    this.state = this.restingState
    this.goOnWithoutServer()
  }

  // Sharing: what it wants is done on a server connection that others use too.

  /** Whether what has come goes into a lane. */
  #share(request: Buffer): boolean {
    if (this.begun || this.link.needsDrain) return false
    const lane = this.host.share(this, request)
    this.lane = lane
    if (!lane) return false
    this.state = State.Sharing
    this.readOn = lane.server.target.node
    return true
  }

  onLate(lane: Lane, unit: LaneUnit): void {
    if (this.state === State.Sharing && this.route === 'replica') this.host.onLate(this, lane, unit)
  }

  runsIn(where: Lane | Race): void {
    this.lane = where
    if (where instanceof Race) return
    // Where it has its answer from it goes on reading: that node has what it has seen.
    const { node } = where.server.target
    this.readOn = node
    this.freshOn = node
    this.home = node
  }

  deliver(answer: Buffer, isLast: boolean): void {
    if (this.state !== State.Sharing) return
    if (answer.length > 0) this.send(answer)
    if (!isLast) return
    this.lane = undefined
    this.state = State.Resting
    this.restingSinceMs = this.host.clock.nowMs()
    this.goOnWithoutServer()
  }

  giveBack(request: Buffer, alone: boolean): void {
    if (this.state !== State.Sharing) return
    this.lane = undefined
    this.state = State.Resting
    if (!alone && this.#share(request)) return
    // The node may have crashed, and be further back when it has started again.
    this.freshOn = ''
    this.runElsewhere(request)
  }

  loseAnswer(message: string): void {
    if (this.state === State.Sharing) this.end('server_lost', message)
  }

  isForAnother(error: Buffer): boolean {
    if (!this.isSplit || this.route !== 'replica' || !isStandbyRefusal(error, 0, error.length)) return false
    this.goToPrimary(isLastingRefusal(error))
    return true
  }

  /** Only a standby refuses what it has asked for. */
  protected goToPrimary(remembers: boolean): void {
    if (this.reading && remembers) this.reading.needsPrimary = true
    this.route = 'primary'
    this.staysForOne = false
    this.host.counters.routed.toPrimary('refused')
  }

  endOverdue(limitMs: number): void {
    this.end('query_timeout', queryTooLong(limitMs))
  }

  tellParameters(reported: Reported): void {
    const session = this.session!
    this.tellUntold(session.told, reported)
    session.told = reported
  }

  protected tellUntold(told: Reported, now: Reported): void {
    for (const [name, value] of untold(told, now)) {
      // It is not to notice that it reads elsewhere.
      if (name !== 'in_hot_standby' || this.door === 'replica') this.tellParameter(name, value)
    }
  }

  /** A parameter has another value on the new server than the client was told. */
  tellParameter(name: string, value: string): void {
    this.tell(writeParameterStatus(name, value))
  }
}

const cancelled = cancelledWhile('It was waiting for a server connection.')
