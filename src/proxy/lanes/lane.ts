import { lateMsMin } from '../../routing/hedge.ts'
import type { Parameterized } from '../../sql/parameterized.ts'
import { Server as Code, headerBytes, TransactionStatus } from '../../wire/codes.ts'
import {
  frame,
  readyForQueryIdle,
  writeCloseStatement,
  writeDescribeStatement,
  writeErrorResponse,
} from '../../wire/messages.ts'
import { Scanner } from '../../wire/scanner.ts'
import { isFatal, saysStop } from '../relay/farewell.ts'
import { ServerOutput } from '../relay/server-output.ts'
import { isIntervention, isPlanChanged, noColumns, shapeOf } from '../relay/server-relay.ts'
import type { ServerConnection } from '../server.ts'
import type { NamedStatement } from '../session/pooled-session.ts'
import { dialectOf } from '../session/reported.ts'
import type { Statement } from '../session/statements.ts'
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

/** What a client does not read is kept up to here; then the others in its lane are run elsewhere, and the lane waits. */
const unreadBytesMax = 256 * 1024
/** What a server does not take is kept up to here before the lane gets no more. */
const unsentBytesMax = 256 * 1024

/**
 * A server connection that several clients use at once: each sends units of its own, which the server works off in
 * order, and gets its own answers. Every unit has its own Sync or is its own Query, so each is a transaction of its
 * own, and an error ends nobody else's.
 *
 * Nothing is copied but what is sent, once; answers are passed on as they lie in the piece that was read.
 */
export class Lane {
  readonly server: ServerConnection
  readonly #events: LaneEvents
  readonly #units = new UnitRing()
  readonly #output = new ServerOutput()
  readonly #scanner = new Scanner()
  /** The beginning of a message that has to be seen as a whole. */
  #kept: Buffer[] = []
  #keptBytes = 0
  #neededBytes = 0
  /** Since when the server works on the head. */
  #headSinceMs = 0
  /** No unit joins: it is to end, or to drain. */
  #isClosing = false
  /** The server has said that the connection ends. */
  #isStopping = false
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
  /** When it had nothing more to do. */
  idleSinceMs: number

  constructor(server: ServerConnection, events: LaneEvents) {
    this.server = server
    this.#events = events
    this.idleSinceMs = events.nowMs()
    server.share({
      onBytes: chunk => this.#onBytes(chunk),
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

  /** It was lost, or has gone back to its pool. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** For how long the server has worked on the head. */
  headMs(nowMs: number): number {
    return this.#units.count === 0 ? 0 : nowMs - this.#headSinceMs
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
    const unit = this.#units.push()
    unit.client = client
    unit.request = request
    unit.learned = learned
    unit.submittedMs = nowMs
    unit.waitedMs = waitedMs
    if (isIdle) this.#headSinceMs = nowMs
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

  // Out.

  #onBytes(piece: Buffer): void {
    const chunk = this.#join(piece)
    if (!chunk) return
    const scanner = this.#scanner
    const end = chunk.length
    const nowMs = this.#events.nowMs()
    let from = 0
    let until = end
    let answered = 0
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      const { code, bodyBytes } = scanner
      // Rows pass as they come, whatever their size. All else has to be here as a whole.
      if (code === Code.DataRow) continue
      const messageEnd = at + bodyBytes
      if (messageEnd > end) {
        scanner.rewind()
        until = at - headerBytes
        this.#keep(chunk, until, headerBytes + bodyBytes)
        break
      }
      if (code === Code.ReadyForQuery) {
        if (chunk[at] !== TransactionStatus.Idle) return this.#break('a read has opened a transaction')
        if (this.#units.count === 0) return this.#break('an answer that nobody has asked for')
        this.#finish(chunk, from, messageEnd, answered === 0, nowMs)
        if (this.#isOver) return
        from = messageEnd
        answered++
      } else if (this.#hides(code, chunk, at, messageEnd)) {
        this.#pass(chunk, from, at - headerBytes)
        from = messageEnd
      }
      if (this.#isOver) return
    }
    if (scanner.violation) return this.#break('a message has an impossible length')
    if (at < 0) {
      const partial = scanner.takePartialHeader()
      if (partial > 0) {
        until = end - partial
        this.#keep(chunk, until, headerBytes)
      }
    }
    this.#pass(chunk, from, until)
    if (answered > 0) this.#onAnswered(answered, nowMs)
    else this.#endWhenDone()
  }

  #join(piece: Buffer): Buffer | undefined {
    if (this.#keptBytes === 0) return piece
    this.#kept.push(piece)
    this.#keptBytes += piece.length
    if (this.#keptBytes < this.#neededBytes) return undefined
    const chunk = Buffer.concat(this.#kept, this.#keptBytes)
    this.#kept = []
    this.#keptBytes = 0
    return chunk
  }

  #keep(chunk: Buffer, start: number, bytes: number): void {
    const rest = Buffer.from(chunk.subarray(start))
    this.#kept = [rest]
    this.#keptBytes = rest.length
    this.#neededBytes = bytes
  }

  /** Whether a message that is here as a whole is not for the client of the head. */
  #hides(code: number, chunk: Buffer, at: number, end: number): boolean {
    const { head } = this.#units
    switch (code) {
      case Code.ParameterStatus:
        this.#noteParameter(chunk.subarray(at, end))
        return true
      case Code.NotificationResponse:
        return true
      case Code.NoticeResponse:
        // It would be said each time the statement is parsed.
        if (head?.isQuery && head.preparing) head.preparing.refusals = Number.POSITIVE_INFINITY
        // Said to whoever is there when the server stops: the request is run elsewhere.
        return head === undefined || this.#saysStop(chunk, at, end)
      case Code.ErrorResponse:
        return this.#onError(chunk, at, end, head)
      case Code.CopyInResponse:
      case Code.CopyOutResponse:
      case Code.CopyBothResponse:
        this.#break('a read has begun to copy')
        return true
      default:
        return head !== undefined && this.#isOwn(code, chunk, at, head)
    }
  }

  /** Nobody here sets anything: the server's configuration was changed. What that means for constants is not kept. */
  #noteParameter(body: Buffer): void {
    const { server } = this
    const before = dialectOf(server.reported)
    server.noteParameter(body)
    if (dialectOf(server.reported) === before) return
    server.notePlansChanged()
    this.#isClosing = true
  }

  /** Answers to what the proxy has sent on its own account come before the client's own. */
  #isOwn(code: number, chunk: Buffer, at: number, head: LaneUnit): boolean {
    const { statements } = this.server
    switch (code) {
      case Code.CloseComplete:
        if (head.ownCloses === 0) return false
        head.ownCloses--
        return true
      case Code.ParseComplete:
        if (head.preparing) statements.confirm(head.preparing, head.name)
        head.preparing = undefined
        head.isParsing = false
        return head.hidesParse
      case Code.ParameterDescription:
        return head.hidesDescription
      case Code.RowDescription:
      case Code.NoData:
        if (!head.hidesDescription) return false
        head.hidesDescription = false
        statements.describe(head.statement!, head.name, code === Code.NoData ? noColumns : shapeOf(chunk, at))
        return true
      case Code.BindComplete:
        head.isParsing = false
        head.isBinding = false
        // Columns other than those it was told are for the client's own connection to refuse.
        if (head.named && statements.shapeOf(head.statement!)?.shape !== head.named.shape)
          this.#takeBack(head)
        return head.isQuery
      default:
        return false
    }
  }

  /** Whether a notice is said to whoever is there because the server stops: the request is run elsewhere. */
  #saysStop(chunk: Buffer, at: number, end: number): boolean {
    const stops = saysStop(chunk.subarray(at, end))
    if (stops) this.#stop()
    return stops
  }

  /** The connection is about to end, and all units are run elsewhere. */
  #stop(): void {
    this.#isStopping = true
    this.#isClosing = true
    this.server.isSpoiled = true
  }

  /** Whether an error is not the client's. */
  #onError(chunk: Buffer, at: number, end: number, head: LaneUnit | undefined): boolean {
    const body = chunk.subarray(at, end)
    if (isFatal(body)) {
      this.#stop()
      return true
    }
    if (!head) return true
    if (head.preparing) {
      if (head.isQuery) head.preparing.refusals++
      this.server.statements.forget(head.preparing, head.name)
      head.preparing = undefined
    }
    head.hidesDescription = false
    // A Parse that fails leaves its client without an unnamed statement.
    if (head.isParsing) head.client?.session?.dropUnnamed()
    const isChanged = isPlanChanged(chunk, at, end)
    if (isChanged) this.#giveUpPlan(head)
    // The client must not see the name that its statement has here; and a Parse that was not sent might have failed.
    const isUnsure =
      body.includes(ownNames) ||
      (head.isParsing && head.skipsParse) ||
      (head.isQuery && !isIntervention(body))
    if (isChanged || isUnsure) this.#takeBack(head)
    else if (head.deliveredBytes === 0 && head.client?.isForAnother(body)) this.#takeBack(head, 'standby')
    head.isBinding = false
    return false
  }

  /** The next unit prepares it anew. */
  #giveUpPlan({ statement, name }: LaneUnit): void {
    if (statement) this.server.statements.forget(statement, name)
    this.server.notePlansChanged()
  }

  #takeBack(unit: LaneUnit, reason: 'plan' | 'standby' = 'plan'): void {
    const { client, request } = unit
    if (!client || unit.deliveredBytes > 0) return
    unit.client = undefined
    this.#events.onGivenBack(reason, 1)
    client.giveBack(request, true)
  }

  /** A part of the head's answer. */
  #pass(chunk: Buffer, from: number, to: number): void {
    const { head } = this.#units
    if (to <= from || !head) return
    head.answerBytes += to - from
    const { client } = head
    // What goes before a server's last words would only keep the request from being run elsewhere.
    if (!client || (this.#isStopping && head.deliveredBytes === 0)) return
    const answer = this.#answer(head, chunk, from, to)
    if (head.isBinding) {
      // Until it is bound it may have to be run elsewhere.
      head.before = Buffer.from(answer)
      return
    }
    head.deliveredBytes += answer.length
    client.deliver(answer, false)
    if (client.unsentBytes > unreadBytesMax && head.client === client) this.#waitForHead()
  }

  #finish(chunk: Buffer, from: number, to: number, isFirst: boolean, nowMs: number): void {
    const head = this.#units.head!
    const { client, learned } = head
    const answer = this.#answer(head, chunk, from, to)
    // Answers that come together say nothing about how long each took.
    const ms = isFirst ? nowMs - this.#headSinceMs : undefined
    if (ms !== undefined && head.statement) this.server.statements.answered(head.statement, ms)
    learned?.ranShared(ms, head.answerBytes + to - from, this.#isRelieved, nowMs)
    this.#count(head, nowMs - head.submittedMs, nowMs)
    this.#headSinceMs = nowMs
    this.#units.shift()
    this.resume()
    client?.deliver(answer, true)
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
      if (learned && !isCancelled) this.server.noteShared(ms, learned.typical, nowMs)
      return
    }
    this.#answeredMs += ms
    if (client) learned?.tail.observe(ms)
    // What nobody waits for any more has been counted as a stall.
    this.server.countShared(ms, client && learned?.typical, nowMs, waitedMs)
  }

  /** The next part of an answer, behind what comes before. */
  #answer(unit: LaneUnit, chunk: Buffer, from: number, to: number): Buffer {
    const { before } = unit
    if (!before) return chunk.subarray(from, to)
    unit.before = undefined
    const answer = Buffer.allocUnsafe(before.length + to - from)
    before.copy(answer)
    chunk.copy(answer, before.length, from, to)
    return answer
  }

  #onAnswered(units: number, nowMs: number): void {
    this.#events.onAnswered(units - this.#beaten, this.#answeredMs, nowMs)
    this.#answeredMs = 0
    this.#beaten = 0
    if (this.#units.count > 0) return
    this.#isRelieved = false
    this.idleSinceMs = nowMs
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
      if (this.#units.head!.isBeaten) this.server.noteStall(this.headMs(nowMs), nowMs)
      this.#cancelHead(() => undefined)
    } else if (this.#units.count > 1 && !this.#isRelieved) {
      this.server.noteStall(this.headMs(nowMs), nowMs)
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
    return head?.client === client && head.deliveredBytes > 0 && this.#scanner.remainingBytes > 0
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
    this.#events.onLost(this)
    const undelivered = this.#takeAll(0)
    this.#events.onGivenBack('lost', undelivered.length)
    const torn = this.#units.head?.client
    for (const [client, request] of undelivered) client.giveBack(request, true)
    torn?.loseAnswer(message)
  }
}

const parseComplete = frame(Code.ParseComplete, Buffer.alloc(0))
const ownNames = 'pgherd_'
const cancelled = Buffer.concat([
  writeErrorResponse({
    severity: 'ERROR',
    code: '57014',
    message: 'canceling statement due to user request',
    detail: 'It was waiting behind other statements.',
  }),
  readyForQueryIdle,
])
