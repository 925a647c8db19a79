import type { NamedStatement, PooledSession } from '../session/pooled-session.ts'
import type { Statement } from '../session/statements.ts'
import type { Lane } from './lane.ts'
import type { Learned } from './learned.ts'

/** What a lane needs of the client of a unit. */
export interface LaneClient {
  readonly session: PooledSession | undefined
  /** What was sent to it and has not left yet. */
  readonly unsentBytes: number
  /** A part of the answer, or with `isLast` the end of it. */
  deliver(answer: Buffer, isLast: boolean): void
  /** Nothing of the answer was delivered, and none will be: the request is to be run elsewhere. */
  giveBack(request: Buffer, alone: boolean): void
  /** A part of the answer was delivered, and the rest will not come. */
  loseAnswer(message: string): void
  /** Whether an error is only told by the server that it was read from, and another one is to be asked. */
  isForAnother(error: Buffer): boolean
  /** Its request took longer than it may. */
  endOverdue(limitMs: number): void
  /** `unit`, in `lane`, has not got a byte of an answer, and takes longer than almost all of its kind. */
  onLate(lane: Lane, unit: LaneUnit): void
}

export const Hedging = {
  None: 0,
  /** It was not to be had, and is counted; it may be later. */
  Refused: 1,
  /** It was asked a second time, or will not be. */
  Settled: 2,
} as const
export type Hedging = (typeof Hedging)[keyof typeof Hedging]

/**
 * A client's unit on its way through a lane. Units are kept in a ring and used again: `clear` lets go of what the
 * last one held.
 */
export class LaneUnit {
  /** Undefined: nobody waits for the answer, it is thrown away when it comes. */
  client: LaneClient | undefined
  /** The unit as it came. */
  request: Buffer = none
  learned: Learned | undefined
  submittedMs = 0
  /** For so long its client had waited before, in another lane. */
  waitedMs = 0
  /** How it stands with being asked a second time elsewhere. */
  hedging: Hedging = Hedging.None
  /** After so long it was late; Infinity while it was not. */
  lateAfterMs = Number.POSITIVE_INFINITY
  /** It was asked twice, and the other answer counts. */
  isBeaten = false
  /** Of the answer: passed on to the client, and to come altogether. */
  deliveredBytes = 0
  answerBytes = 0
  /** What goes before the rest of the answer. */
  before: Buffer | undefined
  /** The client's Parse was not sent: ParseComplete is put before the answer. */
  skipsParse = false
  /** Neither bound nor refused yet: nothing is passed on, for the client must not see an error about the binding. */
  isBinding = false
  /** The client's own Parse of the unnamed statement, sent or not, may still fail. */
  isParsing = false
  /** The server was asked to cancel it. */
  isCancelled = false
  /** CloseComplete that the client has not asked for. */
  ownCloses = 0
  /** ParseComplete that the client has not asked for. */
  hidesParse = false
  /** A Query that is run as a prepared statement: BindComplete is not the client's, and neither are its errors. */
  isQuery = false
  /** What was asked about the statement, which the client has not asked for. */
  hidesDescription = false
  /** The statement that it prepares, and under which name, until it is known whether that works. */
  preparing: Statement | undefined
  statement: Statement | undefined
  name = ''
  /** What the client was told of the columns; the answer must have the same. */
  named: NamedStatement | undefined

  clear(): void {
    this.client = undefined
    this.request = none
    this.learned = undefined
    this.waitedMs = 0
    this.hedging = Hedging.None
    this.lateAfterMs = Number.POSITIVE_INFINITY
    this.isBeaten = false
    this.deliveredBytes = 0
    this.answerBytes = 0
    this.before = undefined
    this.skipsParse = false
    this.isBinding = false
    this.isParsing = false
    this.isCancelled = false
    this.ownCloses = 0
    this.hidesParse = false
    this.isQuery = false
    this.hidesDescription = false
    this.preparing = undefined
    this.statement = undefined
    this.named = undefined
  }
}

const none = Buffer.alloc(0)

/** Units in the order of their answers. Grows with the most that were ever on their way. */
export class UnitRing {
  #units: LaneUnit[] = Array.from({ length: 16 }, () => new LaneUnit())
  #first = 0
  /** Since when the server works on the head. */
  #headSinceMs = 0
  count = 0

  get head(): LaneUnit | undefined {
    return this.count === 0 ? undefined : this.#units[this.#first]
  }

  /** For how long the server has worked on the head; 0 when there is none. */
  headMs(nowMs: number): number {
    return this.count === 0 ? 0 : nowMs - this.#headSinceMs
  }

  at(index: number): LaneUnit {
    return this.#units[(this.#first + index) & (this.#units.length - 1)]!
  }

  push(nowMs: number): LaneUnit {
    if (this.count === 0) this.#headSinceMs = nowMs
    if (this.count === this.#units.length) this.#grow()
    return this.at(this.count++)
  }

  /** The head is answered, and the server works on the next one. */
  shift(nowMs: number): void {
    this.#headSinceMs = nowMs
    this.head?.clear()
    this.#first = (this.#first + 1) & (this.#units.length - 1)
    this.count--
  }

  #grow(): void {
    const size = this.#units.length
    const units = Array.from({ length: size }, (_, index) => this.at(index))
    for (let more = 0; more < size; more++) units.push(new LaneUnit())
    this.#units = units
    this.#first = 0
  }
}
