/**
 * What a server still owes, in the order of the requests: the proxy needs it to leave out answers to what it has
 * sent on its own account, and to put in answers to what it has not sent. Source: PostgreSQL documentation,
 * "Extended Query" and "Pipelining": after an error the server discards everything up to the next Sync.
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
  /** ParameterDescription, then what follows for `Describe`. */
  DescribeStatement: 5,
  /** RowDescription or NoData. */
  Describe: 6,
  Execute: 7,
  Close: 8,
  /** A Close that was not sent: CloseComplete is put in. */
  SkippedClose: 9,
  Sync: 10,
  /** A simple Query or a FunctionCall, up to its ReadyForQuery. */
  Query: 11,
} as const
export type Owed = (typeof Owed)[keyof typeof Owed]

/** A statement that a Parse on its way is about, to be kept or forgotten with its answer. */
export interface Pending {
  onParsed(): void
  onFailed(): void
}

export class OwedAnswers {
  #kinds = new Uint8Array(64)
  /** Beside each Parse the statement it is about. */
  #pending: (Pending | undefined)[] = []
  #head = 0
  #count = 0
  #special = 0

  get isEmpty(): boolean {
    return this.#count === 0
  }

  get size(): number {
    return this.#count
  }

  /** Whether anything has to be left out or put in; else answers pass as they come. */
  get hasSpecial(): boolean {
    return this.#special > 0
  }

  /** Kind of the oldest, 0 when nothing is owed. */
  get head(): Owed | 0 {
    return this.#count === 0 ? 0 : (this.#kinds[this.#head] as Owed)
  }

  push(kind: Owed, pending?: Pending): void {
    if (this.#count === this.#kinds.length) this.#grow()
    const at = (this.#head + this.#count) & (this.#kinds.length - 1)
    this.#kinds[at] = kind
    if (pending !== undefined) this.#pending[at] = pending
    this.#count++
    if (isSpecial(kind)) this.#special++
  }

  /** The oldest was answered. */
  shift(): void {
    if (this.#count === 0) return
    const at = this.#head
    if (isSpecial(this.#kinds[at]!)) this.#special--
    this.#pending[at] = undefined
    this.#head = (at + 1) & (this.#kinds.length - 1)
    this.#count--
  }

  /** The oldest, a Parse, succeeded. */
  parsed(): void {
    const pending = this.#pending[this.#head]
    this.shift()
    pending?.onParsed()
  }

  /**
   * The server reports an error. In a simple query its ReadyForQuery comes next; otherwise everything up to the
   * next Sync is discarded, and the statements in it do not exist.
   */
  failed(): void {
    while (this.#count > 0) {
      const kind = this.head
      if (kind === Owed.Sync || kind === Owed.Query) return
      const pending = this.#pending[this.#head]
      this.shift()
      pending?.onFailed()
    }
  }

  /** The connection is gone: nothing of it will be answered. */
  clear(): void {
    while (this.#count > 0) {
      const pending = this.#pending[this.#head]
      this.shift()
      pending?.onFailed()
    }
  }

  #grow(): void {
    const size = this.#kinds.length
    const kinds = new Uint8Array(size * 2)
    const pending: (Pending | undefined)[] = []
    for (let index = 0; index < this.#count; index++) {
      const at = (this.#head + index) & (size - 1)
      kinds[index] = this.#kinds[at]!
      pending[index] = this.#pending[at]
    }
    this.#kinds = kinds
    this.#pending = pending
    this.#head = 0
  }
}

function isSpecial(kind: number): boolean {
  return kind === Owed.OwnParse || kind === Owed.SkippedParse || kind === Owed.SkippedClose
}
