/**
 * What a server still owes, in the order of the requests. The proxy needs it to know when a connection is at
 * rest, to leave out answers to what it has sent on its own account, and to put in answers to what it has not
 * sent. Source: PostgreSQL documentation, "Extended Query", "Pipelining" and "COPY Operations".
 *
 * Kept in a ring of small integers that grows only when a client pipelines more than ever before; nothing is
 * allocated a message.
 */
export const Owed = {
  /** The client's Parse. */
  Parse: 1,
  /** A Parse that the proxy has sent; its answer is not for the client. */
  OwnParse: 2,
  /** A Parse that was not sent, because the server knows the statement: ParseComplete is put in. */
  SkippedParse: 3,
  Bind: 4,
  /** RowDescription or NoData; for a statement ParameterDescription comes before it. */
  Describe: 5,
  Execute: 6,
  Close: 7,
  /** A Close that the proxy has sent; its answer is not for the client. */
  OwnClose: 8,
  /** A Close that was not sent: CloseComplete is put in. */
  SkippedClose: 9,
  Sync: 10,
  /** A simple Query or a FunctionCall, up to its ReadyForQuery. */
  Query: 11,
  /** A Parse that must fail, sent in the place of what the proxy refuses: its error is replaced by another one. */
  Refused: 12,
  /** The same for a simple Query. */
  RefusedQuery: 13,
  /** A Describe of a statement that the proxy has sent; its answer is not for the client. */
  OwnDescribe: 14,
  /** A Bind that the proxy has sent; its answer is not for the client. */
  OwnBind: 15,
  /** An Execute that the proxy has sent of what gives no rows; its answer is not for the client. */
  OwnExecute: 16,
} as const
export type Owed = (typeof Owed)[keyof typeof Owed]

/** What depends on whether a request succeeds. */
export interface Outcome {
  succeeded?(): void
  /** It failed, or was discarded because something before it did. */
  failed?(discarded: boolean): void
  /** For a Describe: what columns the answer has, as `shapeOf` tells them. */
  described?(shape: string): void
  /** For a `Refused`: the ErrorResponse that the client gets. */
  refusal?: Buffer
  /** For a Parse that is not sent, or a Bind: of a statement that is prepared under a name behind its client's back. */
  isBehind?: boolean
  /** The ErrorResponse that the client gets when it fails, made of the body of the server's. */
  rewrite?: (body: Buffer) => Buffer
  /** The server has said something beside its answer. */
  noticed?(): void
  /** The SQLSTATE of the error that it takes the place of; another error is passed on as it is. */
  refuses?: string
}

const firstSize = 16
const copyEndsMax = 100

export class OwedAnswers {
  /** ReadyForQuery that are still to come. */
  ready = 0
  /** An error was reported and the client has not sent its Sync yet: everything up to it is discarded. */
  discarding = false
  #kinds = new Uint8Array(firstSize)
  #outcomes: (Outcome | undefined)[] = []
  #head = 0
  #count = 0
  #copyIn = false
  /** How many entries were answered or dropped since the start: the number of the oldest. */
  #first = 0
  /**
   * The client has ended copy data before the server has asked for it: numbers of the entries that it sent next.
   * Bounded, because clients that do so have few copies on the way.
   */
  #copyEnds: number[] = []
  /** Of kinds whose answers are left out or put in. */
  #special = 0

  /** Whether answers have to be left out or put in; else they pass as they come. */
  get hasSpecial(): boolean {
    return this.#special > 0
  }

  get isEmpty(): boolean {
    return this.#count === 0
  }

  /** Kind of the oldest, 0 when nothing is owed. */
  get head(): Owed | 0 {
    return this.#count === 0 ? 0 : (this.#kinds[this.#head] as Owed)
  }

  /** Whether nothing is owed but what is put in without the server. */
  get isAllSkipped(): boolean {
    for (let index = 0; index < this.#count; index++) {
      const kind = this.#kinds[(this.#head + index) & (this.#kinds.length - 1)]
      if (kind !== Owed.SkippedParse && kind !== Owed.SkippedClose) return false
    }
    return this.#count > 0
  }

  /** What depends on the oldest. */
  get headOutcome(): Outcome | undefined {
    return this.#count === 0 ? undefined : this.#outcomes[this.#head]
  }

  /** A request was passed on. False: the server will discard it, nothing is owed. */
  push(kind: Owed, outcome?: Outcome): boolean {
    if (kind === Owed.Sync) {
      // In copy-in mode a Sync is ignored, but for the one after CopyDone or CopyFail.
      if (this.#copyIn) return false
      this.discarding = false
      this.ready++
    } else if (this.discarding) {
      outcome?.failed?.(true)
      return false
    } else if (isQuery(kind)) this.ready++
    if (this.#count === this.#kinds.length) this.#grow()
    const at = (this.#head + this.#count) & (this.#kinds.length - 1)
    this.#kinds[at] = kind
    if (outcome !== undefined) this.#outcomes[at] = outcome
    this.#count++
    if (isSpecial(kind)) this.#special++
    return true
  }

  /** The oldest was answered well. */
  shift(): void {
    if (this.#count === 0) return
    const at = this.#head
    const kind = this.#kinds[at]!
    if (kind === Owed.Sync || isQuery(kind)) this.ready--
    if (isSpecial(kind)) this.#special--
    const outcome = this.#outcomes[at]
    this.#head = (at + 1) & (this.#kinds.length - 1)
    this.#count--
    this.#first++
    if (outcome === undefined) return
    this.#outcomes[at] = undefined
    outcome.succeeded?.()
  }

  /**
   * The server reports an error. In a simple query its ReadyForQuery comes next; otherwise everything up to the
   * next Sync is discarded, simple queries included.
   */
  failed(): void {
    this.#copyIn = false
    if (isQuery(this.head)) return this.#failQuery()
    let discarded = false
    while (this.#count > 0) {
      if (this.head === Owed.Sync) return
      this.#drop(discarded)
      discarded = true
    }
    this.discarding = true
  }

  /** It stays owed until its ReadyForQuery, but it is known what comes of it. */
  #failQuery(): void {
    const outcome = this.#outcomes[this.#head]
    this.#outcomes[this.#head] = undefined
    outcome?.failed?.(false)
  }

  /** ReadyForQuery has come: the request that it ends is answered, and whatever was before it. */
  synced(): void {
    while (this.#count > 0) {
      const kind = this.head
      if (kind === Owed.Sync || isQuery(kind)) return this.shift()
      this.#drop(true)
    }
  }

  /** The server waits for copy data. */
  get isCopyIn(): boolean {
    return this.#copyIn
  }

  /** The server has answered an Execute or a Query with CopyInResponse. */
  copyIn(): void {
    // What was sent before the oldest entry was no end of this one.
    while (this.#copyEnds.length > 0 && this.#copyEnds[0]! <= this.#first) this.#copyEnds.shift()
    const end = this.#copyEnds.shift()
    this.#copyIn = end === undefined
    this.#dropSyncsBefore(end ?? Infinity)
  }

  /** The client has ended its copy data with CopyDone or CopyFail. */
  copyInEnds(): void {
    if (!this.#copyIn && this.#count > 0 && this.#copyEnds.length < copyEndsMax) {
      this.#copyEnds.push(this.#first + this.#count)
    }
    this.#copyIn = false
  }

  /** Syncs that the server reads while it waits for copy data are ignored: they are taken out. */
  #dropSyncsBefore(end: number): void {
    const kept: [Owed, Outcome | undefined][] = []
    const mask = this.#kinds.length - 1
    let dropped = 0
    for (let index = 0; index < this.#count; index++) {
      const at = (this.#head + index) & mask
      const kind = this.#kinds[at] as Owed
      if (kind === Owed.Sync && this.#first + index < end) {
        this.ready--
        dropped++
      } else kept.push([kind, this.#outcomes[at]])
      this.#outcomes[at] = undefined
    }
    this.#count = 0
    for (const [kind, outcome] of kept) {
      const at = (this.#head + this.#count++) & mask
      this.#kinds[at] = kind
      this.#outcomes[at] = outcome
    }
    this.#copyEnds = this.#copyEnds.map(number => number - dropped)
  }

  /** The connection is gone: nothing of it will be answered. */
  clear(): void {
    while (this.#count > 0) this.#drop(true)
    this.ready = 0
  }

  /** The oldest will not be answered. */
  #drop(discarded: boolean): void {
    const at = this.#head
    const kind = this.#kinds[at]!
    if (kind === Owed.Sync || isQuery(kind)) this.ready--
    if (isSpecial(kind)) this.#special--
    const outcome = this.#outcomes[at]
    this.#outcomes[at] = undefined
    this.#head = (at + 1) & (this.#kinds.length - 1)
    this.#count--
    this.#first++
    outcome?.failed?.(discarded)
  }

  #grow(): void {
    const size = this.#kinds.length
    const kinds = new Uint8Array(size * 2)
    const outcomes: (Outcome | undefined)[] = []
    for (let index = 0; index < this.#count; index++) {
      const at = (this.#head + index) & (size - 1)
      kinds[index] = this.#kinds[at]!
      outcomes[index] = this.#outcomes[at]
    }
    this.#kinds = kinds
    this.#outcomes = outcomes
    this.#head = 0
  }
}

function isQuery(kind: number): boolean {
  return kind === Owed.Query || kind === Owed.RefusedQuery
}

function isSpecial(kind: number): boolean {
  return (
    kind === Owed.OwnParse ||
    kind === Owed.OwnClose ||
    kind === Owed.SkippedParse ||
    kind === Owed.SkippedClose ||
    kind === Owed.Refused ||
    kind === Owed.RefusedQuery ||
    kind === Owed.OwnDescribe ||
    kind === Owed.OwnBind ||
    kind === Owed.OwnExecute
  )
}
