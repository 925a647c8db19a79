import { lateMsMin } from '../../routing/hedge.ts'
import type { Parameterized } from '../../sql/parameterized.ts'
import { Server as Code } from '../../wire/codes.ts'
import {
  frame,
  readyForQueryIdle,
  writeCloseStatement,
  writeDescribeStatement,
  writeErrorResponse,
} from '../../wire/messages.ts'
import { ServerOutput } from '../relay/server-output.ts'
import type { ServerConnection } from '../server.ts'
import type { NamedStatement } from '../session/pooled-session.ts'
import type { Statement } from '../session/statements.ts'
import { AnswerReader } from './answer-reader.ts'
import type { GivenBackReason } from './counters.ts'
import { type Learned, stallMs } from './learned.ts'
import { Hedging, type LaneClient, type LaneUnit, UnitRing } from './unit.ts'
import { UnitKind, type UnitReader } from './unit-reader.ts'

/** What a lane tells the lanes around it. */
export interface LaneEvents {
  /** There is something to send, by `flush`, when everything that has come by now was looked at. */
  onDirty(lane: Lane): void
  /** A unit is on its way that nobody waits for: `checkStall` has to be called now and then. */
  onAbandoned(): void
  /** Units were answered, `sumMs` after they had come, all together. */
  onAnswered(units: number, sumMs: number, nowMs: number): void
  /** It has nothing to do any more and was asked to end. */
  onDone(lane: Lane): void
  onLost(lane: Lane): void
  /** Units were given back to be run elsewhere. */
  onGivenBack(reason: GivenBackReason, units: number): void
  /** The server has said what no single read can bring about. */
  onBroken(lane: Lane, problem: string): void
  nowMs(): number
}

/** A statement that a unit binds. */
export interface Bound {
  statement: Statement
  /** Undefined for the unnamed statement. */
  named: NamedStatement | undefined
  /** What was prepared before this moment may mean something else by now. */
  changedAt: number
  /** Most named statements on a server connection. */
  preparedMax: number
  /** What a Query has in place of its parameters; undefined for what came as extended messages. */
  values: Parameterized | undefined
}

/** What a server does not take is kept up to here before the lane gets no more. */
const unsentBytesMax = 256 * 1024

/**
 * A server connection that several clients use at once: each sends units of its own, which the server works off in
 * order, and gets its own answers. Every unit has its own Sync or is its own Query, so each is a transaction of its
 * own, and an error ends nobody else's. What the server says is read by an `AnswerReader`.
 *
 * Of what is sent each byte is copied once.
 */
export class Lane {
  readonly server: ServerConnection
  readonly #events: LaneEvents
  readonly #units = new UnitRing()
  readonly #output = new ServerOutput()
  readonly #answers: AnswerReader
  /** No unit joins: it is to end, or to drain. */
  #isClosing = false
  /** Joins again when all its units are answered. */
  #isRelieved = false
  #cancels = 0
  /** The client of the head does not read its answer. */
  #isPaused = false
  #isOver = false
  /** How long the units in this piece have waited for their answers, together. */
  #answeredMs = 0
  /** Units in this piece whose clients had other answers. */
  #beaten = 0
  /** Whether it is looked for units that take too long: see `Hedges`. */
  isWatched = false
  /** Since when it is one. */
  readonly sinceMs: number
  /** When it had nothing more to do. */
  idleSinceMs: number
  /** Units that it has answered. */
  answered = 0

  constructor(server: ServerConnection, events: LaneEvents) {
    this.server = server
    this.#events = events
    this.sinceMs = events.nowMs()
    this.idleSinceMs = this.sinceMs
    this.#answers = new AnswerReader(server, this.#units, {
      onAnswered: (head, isFirst, nowMs) => this.#onAnswered(head, isFirst, nowMs),
      onRead: (answered, nowMs) => this.#onRead(answered, nowMs),
      onUnfit: (head, reason) => this.#giveBack(head, reason),
      onUnread: () => this.#waitForHead(),
      onClosing: () => {
        this.#isClosing = true
      },
      onBroken: problem => this.#break(problem),
    })
    server.share({
      onBytes: piece => this.#answers.read(piece, events.nowMs()),
      onLost: message => this.#onLost(message),
    })
  }

  /** Units on their way; those that nobody waits for any more are counted too. */
  get count(): number {
    return this.#units.count
  }

  /** Whether a unit may join. */
  get isOpen(): boolean {
    return (
      !this.#isClosing &&
      !this.#isRelieved &&
      !this.#isOver &&
      this.#cancels === 0 &&
      !this.#isPaused &&
      this.server.unsentBytes < unsentBytesMax
    )
  }

  /** Clients that wait for an answer. */
  get clientCount(): number {
    let count = 0
    for (let index = 0; index < this.#units.count; index++) if (this.#units.at(index).client) count++
    return count
  }

  /** `held`: no unit joins until the head, a cancel request or a client that does not read is done. */
  get stateName(): 'open' | 'held' | 'closing' {
    if (this.#isClosing || this.#isOver) return 'closing'
    return this.isOpen ? 'open' : 'held'
  }

  /** It was lost, or has gone back to its pool. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** For how long the server has worked on the head. */
  headMs(nowMs: number): number {
    return this.#units.headMs(nowMs)
  }

  // In.

  /**
   * A unit joins. `bound` for extended messages whose statement is prepared here, as it is otherwise. `waitedMs`: for so
   * long it is on its way elsewhere.
   */
  submit(
    client: LaneClient,
    request: Buffer,
    reader: UnitReader,
    learned: Learned,
    bound: Bound | undefined,
    nowMs: number,
    waitedMs = 0,
  ): void {
    const isIdle = this.#units.count === 0
    const unit = this.#units.push(nowMs)
    unit.client = client
    unit.request = request
    unit.learned = learned
    unit.submittedMs = nowMs
    unit.waitedMs = waitedMs
    unit.isParsing = reader.kind === UnitKind.Parsed
    if (bound) this.#bind(unit, reader, bound)
    else this.#output.add(request)
    // Nobody else is there to send something together with.
    if (isIdle) this.flush()
    else this.#events.onDirty(this)
  }

  #bind(unit: LaneUnit, reader: UnitReader, bound: Bound): void {
    const { statement, named, preparedMax, values } = bound
    const { statements } = this.server
    const { request } = unit
    const isParsed = reader.kind === UnitKind.Parsed
    let name = statements.use(statement)
    if (name !== undefined && !named && statements.isOutdated(statement, bound.changedAt)) {
      this.#output.add(writeCloseStatement(name))
      unit.ownCloses++
      statements.forget(statement, name)
      name = undefined
    }
    if (name === undefined) {
      const evicted = statements.evict(preparedMax - 1)
      if (evicted) {
        this.#output.add(writeCloseStatement(evicted.name))
        unit.ownCloses++
      }
      name = statements.add(statement, this.server.unit)
      this.#output.add(statement.parse(name))
      unit.preparing = statement
      unit.hidesParse = !isParsed
    } else {
      unit.skipsParse = isParsed
      if (isParsed) unit.before = parseComplete
    }
    unit.statement = statement
    unit.name = name
    unit.isBinding = true
    if (values) {
      unit.isQuery = true
      this.#output.addQuery(name, request, values, true)
      return
    }
    if (named?.shape !== undefined && !reader.describes) {
      const there = statements.shapeOf(statement)
      unit.named = named
      if (there?.shape === undefined) {
        this.#output.add(writeDescribeStatement(name))
        unit.hidesDescription = true
      }
    }
    const nameBytes = reader.nameEnd - reader.nameStart
    this.#output.addBind(name, reader.bindBodyBytes, nameBytes, request, reader.nameEnd)
  }

  /** Sends what has come together. */
  flush(): void {
    if (this.#output.isEmpty || this.#isOver) return
    this.server.write(this.#output.take())
    this.#output.reuse(this.server.unsentBytes === 0)
  }

  // Answered.

  /** The answer of the head has come. */
  #onAnswered(head: LaneUnit, isFirst: boolean, nowMs: number): void {
    // Answers that come together say nothing about how long each took.
    const ms = isFirst ? this.#units.headMs(nowMs) : undefined
    if (ms !== undefined && head.statement) this.server.statements.answered(head.statement, ms)
    head.learned?.ranShared(ms, head.answerBytes, this.#isRelieved, nowMs)
    this.#count(head, nowMs - head.submittedMs, nowMs)
    this.#units.shift(nowMs)
    this.resume()
  }

  #count(
    { client, isBeaten, isCancelled, lateAfterMs, learned, waitedMs }: LaneUnit,
    ms: number,
    nowMs: number,
  ): void {
    if (isBeaten) {
      this.#beaten++
      // Its kind is not to seem the quicker for it, nor the slower.
      learned?.tail.observe(Math.min(ms, lateAfterMs))
      // Else it has been counted as a stall.
      if (learned && !isCancelled) this.server.tally.noteShared(ms, learned.typical, nowMs)
      return
    }
    this.#answeredMs += ms
    if (client) learned?.tail.observe(ms)
    // What nobody waits for any more has been counted as a stall.
    this.server.tally.countShared(ms, client && learned?.typical, nowMs, waitedMs)
  }

  /** All of a piece is read, by which so many units were answered. */
  #onRead(answered: number, nowMs: number): void {
    if (answered > 0) {
      this.answered += answered
      this.#events.onAnswered(answered - this.#beaten, this.#answeredMs, nowMs)
      this.#answeredMs = 0
      this.#beaten = 0
      if (this.#units.count > 0) return
      this.#isRelieved = false
      this.idleSinceMs = nowMs
    }
    this.#endWhenDone()
  }

  // When not all goes well.

  /** Whether something may have to be done by `checkStall`. */
  get needsCheck(): boolean {
    return this.#units.count > 1 || this.#isAbandoned
  }

  /** Nobody waits for what the server works on. */
  get #isAbandoned(): boolean {
    const { head } = this.#units
    return head !== undefined && head.client === undefined && !head.isCancelled
  }

  /** Now and then while there is something to do. */
  checkStall(nowMs: number): void {
    if (this.headMs(nowMs) < stallMs) return
    if (this.#isAbandoned) {
      if (this.#units.head!.isBeaten) this.server.tally.noteStall(this.headMs(nowMs), nowMs)
      this.#cancelHead(() => undefined)
    } else if (this.#units.count > 1 && !this.#isRelieved) {
      this.server.tally.noteStall(this.headMs(nowMs), nowMs)
      this.#relieve('stall')
    }
  }

  /** Those behind the head are run elsewhere; their answers are thrown away when they come. */
  #relieve(reason: 'stall' | 'cancel'): void {
    this.#isRelieved = true
    const behind = this.#takeAll(1)
    this.#events.onGivenBack(reason, behind.length)
    for (const [client, request] of behind) client.giveBack(request, false)
  }

  /** One whose answer is not for its client is run elsewhere. */
  #giveBack(unit: LaneUnit, reason: 'plan' | 'standby'): void {
    const { client, request } = unit
    unit.client = undefined
    this.#events.onGivenBack(reason, 1)
    client?.giveBack(request, true)
  }

  #takeAll(first: number): [LaneClient, Buffer][] {
    const taken: [LaneClient, Buffer][] = []
    for (let index = first; index < this.#units.count; index++) {
      const unit = this.#units.at(index)
      if (!unit.client || unit.deliveredBytes > 0) continue
      taken.push([unit.client, unit.request])
      unit.client = undefined
    }
    return taken
  }

  /** The client of the head does not read: the server is not read from until it does, and nobody waits behind it. */
  #waitForHead(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.server.pause()
    this.#relieve('stall')
    this.#units.head?.learned?.wasLarge()
  }

  /** The client of the head has read what there was. */
  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.server.resume()
  }

  /**
   * A client cancels its unit: the server is asked when it works on it, and nobody else is hit. Otherwise it is
   * answered here. Returns whether the server was asked.
   */
  cancel(client: LaneClient, done: () => void): boolean {
    for (let index = 1; index < this.#units.count; index++) {
      const unit = this.#units.at(index)
      if (unit.client !== client) continue
      unit.client = undefined
      client.deliver(cancelled, true)
      done()
      return false
    }
    if (this.#units.head?.client !== client) {
      done()
      return false
    }
    this.#cancelHead(done)
    return true
  }

  /** No unit joins until the request was delivered and all are answered: it can only hit what it was meant for. */
  #cancelHead(done: () => void): void {
    this.flush()
    this.#relieve('cancel')
    this.#cancels++
    this.#units.head!.isCancelled = true
    this.server.cancel(() => {
      this.#cancels--
      this.#endWhenDone()
      done()
    })
  }

  /** A client has gone: nobody waits for its answer, and what goes on for long is cancelled. */
  forget(client: LaneClient): void {
    if (this.#isOver) return
    for (let index = 0; index < this.#units.count; index++) {
      const unit = this.#units.at(index)
      if (unit.client === client) unit.client = undefined
    }
    if (this.#units.head?.client === undefined) this.resume()
    this.#events.onAbandoned()
  }

  // When a unit is asked twice: see `Race`.

  /**
   * Tells the clients of units that take longer than almost all of their kind, and have not got a byte. Returns whether
   * there is something to look at again.
   */
  tellLate(nowMs: number): boolean {
    const { count } = this.#units
    if (count === 0 || this.#isOver) return false
    for (let index = 0; index < count; index++) {
      const unit = this.#units.at(index)
      const ms = nowMs - unit.submittedMs
      // Those behind it came later.
      if (ms < lateMsMin) break
      const { client, learned } = unit
      if (!client || !learned || unit.deliveredBytes > 0 || unit.isCancelled) continue
      if (unit.hedging === Hedging.Settled) continue
      const { lateAfterMs } = learned.tail
      if (lateAfterMs === undefined || ms <= lateAfterMs) continue
      unit.lateAfterMs = Math.min(unit.lateAfterMs, lateAfterMs)
      client.onLate(this, unit)
    }
    return true
  }

  /** The unit of `client` is that of `other` from now on; undefined: of nobody, for it was beaten. */
  passOn(client: LaneClient, other: LaneClient | undefined): void {
    for (let index = 0; index < this.#units.count; index++) {
      const unit = this.#units.at(index)
      if (unit.client !== client) continue
      unit.client = other
      if (other) return
      unit.isBeaten = true
      this.#events.onAbandoned()
    }
  }

  /** Whether the server works on the unit of `client`. */
  worksOn(client: LaneClient): boolean {
    return this.#units.head?.client === client
  }

  /** Takes no more units, and ends when those that it has are answered. */
  close(): void {
    if (this.#isClosing || this.#isOver) return
    this.#isClosing = true
    this.#endWhenDone()
  }

  /** Ends at once; units without an answer are run elsewhere. */
  abort(): void {
    if (this.#isOver) return
    this.server.destroy()
    this.#onLost('closed by pgherd')
  }

  /** Whether a client has got a part of a message, and waits for the rest. */
  isMidMessage(client: LaneClient): boolean {
    const { head } = this.#units
    return head?.client === client && head.deliveredBytes > 0 && this.#answers.isMidMessage
  }

  /** Those who wait, and since when. */
  *waiting(): Iterable<{ client: LaneClient; submittedMs: number }> {
    for (let index = 0; index < this.#units.count; index++) {
      const { client, submittedMs } = this.#units.at(index)
      if (client) yield { client, submittedMs }
    }
  }

  /** A cancel request that is on its way must not hit who comes next. */
  #endWhenDone(): void {
    if (!this.#isClosing || this.#isOver || this.#units.count > 0 || this.#cancels > 0) return
    this.#isOver = true
    this.#answers.end()
    // What it has prepared stays known; its unnamed statement nobody knows.
    this.server.unnamed = undefined
    this.#events.onDone(this)
  }

  /** Nothing that the server says can be trusted to be anybody's. */
  #break(problem: string): void {
    this.#events.onBroken(this, problem)
    this.abort()
  }

  #onLost(message: string): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#answers.end()
    this.#events.onLost(this)
    const undelivered = this.#takeAll(0)
    this.#events.onGivenBack('lost', undelivered.length)
    const torn = this.#units.head?.client
    for (const [client, request] of undelivered) client.giveBack(request, true)
    torn?.loseAnswer(message)
  }
}

const parseComplete = frame(Code.ParseComplete, Buffer.alloc(0))
const cancelled = Buffer.concat([
  writeErrorResponse({
    severity: 'ERROR',
    code: '57014',
    message: 'canceling statement due to user request',
    detail: 'It was waiting behind other statements.',
  }),
  readyForQueryIdle,
])
