import { snapshotNeed } from '../../sql/snapshot-need.ts'
import { Client as Code } from '../../wire/codes.ts'
import { Scanner } from '../../wire/scanner.ts'

/** Reads what a request may see, up to the message that is answered by a ReadyForQuery. One serves all of a worker. */
export class RequestReader {
  /** Behind the request, or behind what has come of it. */
  end = 0
  /** It is here as a whole, and nothing of it sees data. */
  seesNothing = false
  /** It may begin or end a transaction. */
  hasBound = false
  /** The transaction that is open behind it has its snapshot; undefined where nobody can tell. */
  hasLooked: boolean | undefined
  #isUnnamedKnown = false
  #binds = 0

  /** `hasLooked`: whether the transaction before it has its snapshot. */
  read(piece: Buffer, start: number, hasLooked: boolean): this {
    this.seesNothing = true
    this.hasBound = false
    this.hasLooked = hasLooked
    this.#isUnnamedKnown = false
    this.#binds = 0
    const scanner = new Scanner()
    let at = start
    while ((at = scanner.next(piece, at, piece.length)) >= 0) {
      this.end = at + scanner.bodyBytes
      if (this.end > piece.length) {
        this.hasLooked = undefined
        break
      }
      this.#message(scanner.code, piece, at)
      if (isEnd(scanner.code)) return this
    }
    // What is still to come may see anything.
    this.end = piece.length
    this.seesNothing = false
    return this
  }

  #message(code: number, piece: Buffer, at: number): void {
    switch (code) {
      case Code.Query:
        return this.#text(piece, at, this.end - 1)
      case Code.Parse: {
        const nameEnd = piece.indexOf(0, at)
        const textEnd = piece.indexOf(0, nameEnd + 1)
        this.#isUnnamedKnown ||= nameEnd === at
        return this.#text(piece, nameEnd + 1, textEnd < 0 ? this.end : Math.min(textEnd, this.end))
      }
      case Code.Bind: {
        const name = piece.indexOf(0, at) + 1
        this.#binds++
        if (piece[name] !== 0 || !this.#isUnnamedKnown) this.#unknown()
        return
      }
      case Code.Describe:
        if (piece[at] === statement && !this.#isUnnamedKnown) this.seesNothing = false
        return
      case Code.FunctionCall:
        return this.#unknown()
      default:
    }
  }

  #text(piece: Buffer, start: number, end: number): void {
    const need = snapshotNeed(piece, start, end, this.hasLooked ?? false)
    this.seesNothing &&= need.seesNothing
    this.hasBound ||= need.hasBound
    if (!need.seesNothing || need.hasBound) this.hasLooked = need.hasLooked
  }

  /** Of a statement that was prepared before. With others it may be what ends the transaction between them. */
  #unknown(): void {
    this.seesNothing = false
    this.hasBound ||= this.#binds > 1
    this.hasLooked = undefined
  }
}

const statement = 0x53 // 'S'

function isEnd(code: number): boolean {
  return code === Code.Query || code === Code.Sync || code === Code.FunctionCall || code === Code.Terminate
}
