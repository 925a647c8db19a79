import { Server as Code, headerBytes, TransactionStatus } from '../../wire/codes.ts'
import { Scanner } from '../../wire/scanner.ts'
import { isFatal, saysStop } from '../relay/farewell.ts'
import { isIntervention, isPlanChanged, noColumns, shapeOf } from '../relay/server-relay.ts'
import type { ServerConnection } from '../server.ts'
import { dialectOf } from '../session/reported.ts'
import type { LaneUnit, UnitRing } from './unit.ts'

/** What an `AnswerReader` tells the lane whose server it reads. */
export interface AnswerEvents {
  /**
   * The head is answered, and its client gets the end of the answer when this returns: the next unit is the head then.
   * `isFirst` in its piece.
   */
  onAnswered(head: LaneUnit, isFirst: boolean, nowMs: number): void
  /** All of a piece is read, and with it so many units were answered. */
  onRead(answered: number, nowMs: number): void
  /** The answer that has begun to come is not for its client, whose request is to be run elsewhere. */
  onUnfit(head: LaneUnit, reason: 'plan' | 'standby'): void
  /** The client of the head does not read what it gets. */
  onUnread(): void
  /** No more units may join. */
  onClosing(): void
  /** The server has said what no single read can bring about. */
  onBroken(problem: string): void
}

/** What a client does not read is kept up to here; then the others in its lane are run elsewhere, and the lane waits. */
const unreadBytesMax = 256 * 1024

/**
 * Reads what the server of a lane says: cuts it into the answers of the units, keeps back what the proxy has asked for on
 * its own account and what a client must not see, and gives the rest to the client whose unit is the head.
 *
 * Nothing is copied but what is torn between two pieces, or has to wait: answers are passed on as they lie in the piece
 * that was read.
 */
export class AnswerReader {
  readonly #server: ServerConnection
  readonly #units: UnitRing
  readonly #events: AnswerEvents
  readonly #scanner = new Scanner()
  /** The beginning of a message that has to be seen as a whole. */
  #kept: Buffer[] = []
  #keptBytes = 0
  #neededBytes = 0
  /** The server has said that the connection ends. */
  #isStopping = false
  #isOver = false

  /** `units` in the order in which they were sent to `server`. */
  constructor(server: ServerConnection, units: UnitRing, events: AnswerEvents) {
    this.#server = server
    this.#units = units
    this.#events = events
  }

  /** A part of a message was passed on, and the rest is still to come. */
  get isMidMessage(): boolean {
    return this.#scanner.remainingBytes > 0
  }

  /** Nothing more is read, nor is the rest of the piece that is being read. */
  end(): void {
    this.#isOver = true
  }

  /** Takes the next piece of what the server says. */
  read(piece: Buffer, nowMs: number): void {
    const chunk = this.#join(piece)
    if (!chunk) return
    const scanner = this.#scanner
    const end = chunk.length
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
        if (chunk[at] !== TransactionStatus.Idle)
          return this.#events.onBroken('a read has opened a transaction')
        if (this.#units.count === 0) return this.#events.onBroken('an answer that nobody has asked for')
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
    if (scanner.violation) return this.#events.onBroken('a message has an impossible length')
    if (at < 0) {
      const partial = scanner.takePartialHeader()
      if (partial > 0) {
        until = end - partial
        this.#keep(chunk, until, headerBytes)
      }
    }
    this.#pass(chunk, from, until)
    this.#events.onRead(answered, nowMs)
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
        this.#events.onBroken('a read has begun to copy')
        return true
      default:
        return head !== undefined && this.#isOwn(code, chunk, at, head)
    }
  }

  /** Nobody here sets anything: the server's configuration was changed. What that means for constants is not kept. */
  #noteParameter(body: Buffer): void {
    const server = this.#server
    const before = dialectOf(server.reported)
    server.noteParameter(body)
    if (dialectOf(server.reported) === before) return
    server.notePlansChanged()
    this.#events.onClosing()
  }

  /** Answers to what the proxy has sent on its own account come before the client's own. */
  #isOwn(code: number, chunk: Buffer, at: number, head: LaneUnit): boolean {
    const { statements } = this.#server
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
    this.#server.isSpoiled = true
    this.#events.onClosing()
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
      this.#server.statements.forget(head.preparing, head.name)
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
    if (statement) this.#server.statements.forget(statement, name)
    this.#server.notePlansChanged()
  }

  #takeBack(head: LaneUnit, reason: 'plan' | 'standby' = 'plan'): void {
    if (head.client && head.deliveredBytes === 0) this.#events.onUnfit(head, reason)
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
    if (client.unsentBytes > unreadBytesMax && head.client === client) this.#events.onUnread()
  }

  /** The end of the head's answer. */
  #finish(chunk: Buffer, from: number, to: number, isFirst: boolean, nowMs: number): void {
    const head = this.#units.head!
    const { client } = head
    const answer = this.#answer(head, chunk, from, to)
    head.answerBytes += to - from
    this.#events.onAnswered(head, isFirst, nowMs)
    client?.deliver(answer, true)
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
}

const ownNames = 'pgherd_'
