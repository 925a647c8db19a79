import { Server as Code, TransactionStatus } from '../../wire/codes.ts'
import { frame } from '../../wire/messages.ts'
import { Scanner } from '../../wire/scanner.ts'
import { Owed, OwedAnswers } from './answers.ts'

/** What a server's bytes tell about it. */
export interface ServerRelayEvents {
  /** The body of a ParameterStatus. */
  onParameter(body: Buffer): void
  /** A ReadyForQuery has come. */
  onReady(): void
  /** DISCARD ALL or DEALLOCATE ALL was carried out: no prepared statement is left. */
  onStatementsGone(all: boolean): void
  /** The statement that a DEALLOCATE names is gone. */
  onDeallocated(): void
  /** A prepared statement does not fit its tables any more. */
  onPlanChanged(): void
}

const headerLength = 5
const empty = Buffer.alloc(0)
const parseComplete = frame(Code.ParseComplete, empty)
const closeComplete = frame(Code.CloseComplete, empty)

/**
 * Reads along with a server's bytes on their way to the client: which requests they answer, whether the server is
 * at rest, and what it reports about itself. They are passed on as they came, but for answers to what only the
 * proxy has asked (left out) and to what it has not asked (put in).
 */
export class ServerRelay {
  /** What the server owes the client, in order. */
  readonly owed = new OwedAnswers()
  /** Transaction status at the last ReadyForQuery. */
  status: number = TransactionStatus.Idle
  /** WAL or decoded changes flow (CopyBothResponse) until one side ends it: there is no answer to wait for. */
  isStreaming = false
  violation = false
  readonly #scanner = new Scanner()
  readonly #events: ServerRelayEvents
  /** A ReadyForQuery or ParameterStatus body that is split over two pieces. */
  #split: Buffer[] = []
  /** A header of which only a part has come, while it may have to be left out. */
  #kept: Buffer = empty
  /** The rest of the message that is passing is left out. */
  #dropping = false
  /** A request is outstanding alone, and nothing of the answer has been passed on yet: it may be sent again. */
  isUntouched = false
  /** It is sent again when a plan does not fit. */
  #isArmed = false
  /** It is sent again, to another server, when only a standby would refuse it. */
  #isArmedForStandby = false
  /** The answer was taken back because only a standby refuses what was asked. */
  isForAnother = false
  isForGood = false
  /** The answer is taken back: all of it is left out. */
  #takesBack = false

  constructor(events: ServerRelayEvents) {
    this.#events = events
  }

  /** Whether what the client receives next begins a message. */
  get atBoundary(): boolean {
    return this.#scanner.atBoundary && this.#split.length === 0 && this.#kept.length === 0
  }

  /** Whether the last message was an error: a FATAL one, when nothing follows. */
  get endedWithError(): boolean {
    return this.#scanner.code === Code.ErrorResponse
  }

  /** Takes the next piece; returns what of it the client gets. */
  pass(piece: Buffer): Buffer {
    const chunk = this.#kept.length === 0 ? piece : Buffer.concat([this.#kept, piece])
    this.#kept = empty
    const passed = this.owed.hasSpecial || this.#dropping ? this.#passEdited(chunk) : this.#passAsIs(chunk)
    if (this.#takesBack) return empty
    this.isUntouched &&= passed.length === 0
    this.#isArmed &&= this.isUntouched
    this.#isArmedForStandby &&= this.isUntouched
    return passed
  }

  /**
   * The request that was just passed on is alone; `forPlans`: it is sent again when a plan does not fit; `forStandby`:
   * when only a standby would refuse it.
   */
  arm(forPlans: boolean, forStandby: boolean): void {
    this.isUntouched = true
    this.#isArmed = forPlans
    this.#isArmedForStandby = forStandby
    this.isForAnother = false
  }

  /** Something else was passed on since. */
  disarm(): void {
    this.isUntouched = false
    this.#isArmed = false
    this.#isArmedForStandby = false
  }

  /** Whether the answer that has just ended was taken back. */
  takeRetry(): boolean {
    if (!this.#takesBack || !this.owed.isEmpty) return false
    this.#takesBack = false
    return true
  }

  /** What the client gets of answers to requests that were not passed on; none when others come before them. */
  putIn(): Buffer {
    const { owed } = this
    if (!owed.hasSpecial || !this.atBoundary) return empty
    const parts: Buffer[] = []
    this.#putInto(parts)
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  }

  // The hot path: headers are looked at in place, nothing is copied.

  #passAsIs(chunk: Buffer): Buffer {
    const scanner = this.#scanner
    const end = chunk.length
    if (this.#split.length > 0) this.#joinSplit(chunk)
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) this.#look(chunk, at, end)
    this.violation = scanner.violation
    const kept = scanner.takePartialHeader()
    if (kept === 0) return chunk
    // Something may have to be put in before it.
    this.#kept = Buffer.from(chunk.subarray(end - kept))
    return chunk.subarray(0, end - kept)
  }

  #passEdited(chunk: Buffer): Buffer {
    const scanner = this.#scanner
    const end = chunk.length
    const parts: Buffer[] = []
    if (this.#split.length > 0) this.#joinSplit(chunk)
    let from = this.#dropping ? Math.min(scanner.remainingBytes, end) : 0
    this.#dropping &&= scanner.remainingBytes > end
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      const start = at - headerLength
      if (isSkipped(this.owed.head) && !this.#isRefusedHere(scanner.code, chunk, at, end)) {
        if (start > from) parts.push(chunk.subarray(from, start))
        this.#putInto(parts)
        from = start
      }
      if (this.#isOwn(scanner.code, chunk, at, end)) {
        if (start > from) parts.push(chunk.subarray(from, start))
        if (scanner.code === Code.ErrorResponse) parts.push(this.#errorInstead(chunk, at))
        from = at + scanner.bodyBytes
        this.#dropping = from > end
      }
      this.#look(chunk, at, end)
    }
    this.violation = scanner.violation
    const kept = scanner.takePartialHeader()
    if (kept > 0) this.#kept = Buffer.from(chunk.subarray(end - kept))
    if (end - kept > from) parts.push(chunk.subarray(from, end - kept))
    if (scanner.atBoundary) this.#putInto(parts)
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  }

  /** Whether a message answers a request of the proxy's own, and so is not for the client. */
  #isOwn(code: number, chunk: Buffer, at: number, end: number): boolean {
    const { head } = this.owed
    if (code === Code.ErrorResponse && this.owed.headOutcome?.rewrite && at + this.#scanner.bodyBytes <= end)
      return true
    if (code === Code.ErrorResponse && (head === Owed.Refused || head === Owed.RefusedQuery)) {
      const outcome = this.owed.headOutcome
      // It was told already: this is another error, the server's last one most likely.
      if (!outcome?.refusal) return false
      // One that has not come as a whole is most likely the one that was meant to come.
      if (at + this.#scanner.bodyBytes > end) return true
      return chunk
        .subarray(at, Math.min(end, at + this.#scanner.bodyBytes))
        .includes(`\0C${outcome.refuses}\0`)
    }
    return (
      (code === Code.ParseComplete && head === Owed.OwnParse) ||
      (code === Code.BindComplete && head === Owed.OwnBind) ||
      (code === Code.CommandComplete && head === Owed.OwnExecute) ||
      (head === Owed.OwnDescribe && isDescription(code)) ||
      (code === Code.CloseComplete && head === Owed.OwnClose)
    )
  }

  /** What the client gets in the place of an error. */
  #errorInstead(chunk: Buffer, at: number): Buffer {
    const { refusal, rewrite } = this.owed.headOutcome!
    return rewrite ? rewrite(chunk.subarray(at, at + this.#scanner.bodyBytes)) : refusal!
  }

  /**
   * Whether an error tells that a statement would not have been parsed. A statement that was parsed before is looked
   * at again when it is bound.
   */
  #isRefusedHere(code: number, chunk: Buffer, at: number, end: number): boolean {
    if (code !== Code.ErrorResponse || !this.owed.headOutcome?.isBehind) return false
    return has(chunk, at, Math.min(end, at + this.#scanner.bodyBytes), syntaxOrAccess)
  }

  #putInto(parts: Buffer[]): void {
    const { owed } = this
    while (isSkipped(owed.head)) {
      parts.push(owed.head === Owed.SkippedParse ? parseComplete : closeComplete)
      owed.shift()
    }
  }

  #look(chunk: Buffer, at: number, end: number): void {
    const { code, bodyBytes } = this.#scanner
    switch (code) {
      case Code.DataRow:
        return
      case Code.RowDescription:
        if (this.owed.headOutcome?.described === undefined) return this.#settle(code, chunk, at, end)
        if (end - at >= bodyBytes) this.#note(code, chunk, at, at + bodyBytes)
        else this.#split.push(Buffer.from(chunk.subarray(at, end)))
        return
      case Code.ReadyForQuery:
      case Code.ParameterStatus:
        if (end - at >= bodyBytes) this.#note(code, chunk, at, at + bodyBytes)
        else this.#split.push(Buffer.from(chunk.subarray(at, end)))
        return
      default:
        this.#settle(code, chunk, at, end)
    }
  }

  /** Which of the requests a message answers. */
  #settle(code: number, chunk: Buffer, at: number, end: number): void {
    const { owed } = this
    const { head } = owed
    const bodyEnd = Math.min(end, at + this.#scanner.bodyBytes)
    switch (code) {
      case Code.ParseComplete:
        if (head === Owed.Parse || head === Owed.OwnParse) owed.shift()
        return
      case Code.BindComplete:
        if (head === Owed.Bind || head === Owed.OwnBind) owed.shift()
        return
      case Code.CloseComplete:
        if (head === Owed.Close || head === Owed.OwnClose) owed.shift()
        return
      case Code.RowDescription:
      case Code.NoData:
        if (head !== Owed.Describe && head !== Owed.OwnDescribe) return
        if (code === Code.NoData) owed.headOutcome?.described?.(noColumns)
        owed.shift()
        return
      case Code.CommandComplete:
      case Code.EmptyQueryResponse:
      case Code.PortalSuspended:
        if (code === Code.CommandComplete) this.#lookAtTag(chunk, at, end)
        if (head === Owed.Execute || head === Owed.OwnExecute) owed.shift()
        return
      case Code.NoticeResponse:
        return owed.headOutcome?.noticed?.()
      case Code.CopyInResponse:
        return owed.copyIn()
      case Code.CopyBothResponse:
        this.isStreaming = true
        return
      case Code.ErrorResponse:
        if (isPlanChanged(chunk, at, bodyEnd)) {
          this.#events.onPlanChanged()
          this.#takesBack = this.#isArmed
        } else if (owed.headOutcome?.isBehind && !has(chunk, at, bodyEnd, intervention)) {
          // Whether its client would be told the same is not looked at: it is run as the client has sent it.
          this.#takesBack = this.#isArmed
        } else if (this.#isArmedForStandby && isStandbyRefusal(chunk, at, bodyEnd)) {
          this.#takesBack = true
          this.isForAnother = true
          this.isForGood = isLastingRefusal(chunk.subarray(at, bodyEnd))
        }
        this.#isArmed = false
        this.#isArmedForStandby = false
        return owed.failed()
      default:
    }
  }

  /** Tags are short, and one that is cut off after its first letters was not looked for. */
  #lookAtTag(chunk: Buffer, at: number, end: number): void {
    // 'D', and then DISCARD ALL or DEALLOCATE ALL: other tags fail at the first letters.
    if (chunk[at] !== 0x44 || end - at < 2) return
    const tag = chunk.toString('latin1', at, Math.min(end, at + this.#scanner.bodyBytes - 1))
    if (tag === 'DISCARD ALL' || tag === 'DEALLOCATE ALL')
      this.#events.onStatementsGone(tag === 'DISCARD ALL')
    else if (tag === 'DEALLOCATE') this.#events.onDeallocated()
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
    if (code === Code.ParameterStatus) return this.#events.onParameter(buffer.subarray(start, end))
    if (code === Code.RowDescription) {
      this.owed.headOutcome?.described?.(shapeOf(buffer, start))
      return this.#settle(code, buffer, start, end)
    }
    this.status = buffer[start] ?? TransactionStatus.Idle
    this.isStreaming = false
    this.owed.synced()
    this.#events.onReady()
  }
}

/** The routine that raised an error is named the same in every language. */
export function isPlanChanged(chunk: Buffer, start: number, end: number): boolean {
  return has(chunk, start, end, planChanged)
}

/**
 * Whether a primary might answer what a standby has refused with this error: it reads only (25006), lacks what a
 * transaction or table needs (0A000, 55000), was in the way of replay (40001), or does not know a definition yet (42).
 */
export function isStandbyRefusal(chunk: Buffer, start: number, end: number): boolean {
  const body = chunk.subarray(start, end)
  return standbyRefusals.some(code => body.includes(code))
}

/** Whether the next one would be refused as well: not for want of rights, nor for being in the way once. */
export function isLastingRefusal(body: Buffer): boolean {
  return ['25006', '0A000', '55000'].some(code => body.includes(`\0C${code}`))
}

const standbyRefusals = ['25006', '0A000', '55000', '40001', '42'].map(code => Buffer.from(`\0C${code}`))

/** Whether somebody has cancelled it, or ends the server. */
export function isIntervention(body: Buffer): boolean {
  return body.includes(intervention)
}

function has(chunk: Buffer, start: number, end: number, field: Buffer): boolean {
  return chunk.subarray(start, end).includes(field)
}

/** Of SQLSTATE class 42: what is told of a statement when it is parsed. */
const syntaxOrAccess = Buffer.from('\0C42')
/** Class 57: somebody has cancelled it, or ends the server. */
const intervention = Buffer.from('\0C57')
const planChanged = Buffer.from('\0RRevalidateCachedQuery\0')

function isDescription(code: number): boolean {
  return code === Code.ParameterDescription || code === Code.RowDescription || code === Code.NoData
}

export const noColumns = 'none'

/**
 * What PostgreSQL compares to tell whether a statement's result is another one: names, types and type modifiers of
 * the columns of a RowDescription.
 */
export function shapeOf(body: Buffer, start: number): string {
  let shape = ''
  let at = start + 2
  for (let count = body.readUInt16BE(start); count > 0; count--) {
    const end = body.indexOf(0, at)
    // Behind the name: table, column, type, size, modifier, format.
    shape += body.toString('latin1', at, end + 1) + body.toString('latin1', end + 7, end + 17)
    at = end + 19
  }
  return shape
}

function isSkipped(kind: number): boolean {
  return kind === Owed.SkippedParse || kind === Owed.SkippedClose
}
