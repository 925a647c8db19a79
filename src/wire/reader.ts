import { Scanner } from './scanner.ts'

/**
 * Puts whole messages together, for the cold paths (login, reset, the proxy's own questions) where messages are
 * small and have to be understood. Bodies are copied only when they are split over pieces.
 */
export class MessageReader {
  readonly #scanner = new Scanner()
  readonly #bodyBytesMax: number
  #parts: Buffer[] = []
  /** Why the stream cannot be read on; undefined while it can. */
  problem: string | undefined

  constructor(bodyBytesMax: number) {
    this.#bodyBytesMax = bodyBytesMax
  }

  /**
   * Takes the next piece and hands every message it completes to `onMessage`. When that returns false reading
   * stops there. Returns the bytes that were not consumed, which belong to whoever reads on.
   */
  push(piece: Buffer, onMessage: (code: number, body: Buffer) => boolean): Buffer {
    const scanner = this.#scanner
    let at = 0
    while (this.problem === undefined) {
      if (scanner.remainingBytes > 0 || this.#inBody) {
        const from = at
        at = scanner.skip(at, piece.length)
        if (scanner.remainingBytes > 0) {
          this.#parts.push(piece.subarray(from, at))
          return empty
        }
        const body = this.#finish(piece.subarray(from, at))
        if (!onMessage(scanner.code, body)) return piece.subarray(at)
      }
      const body = scanner.next(piece, at, piece.length)
      if (scanner.violation) this.problem = 'a message has an impossible length'
      else if (body < 0) return empty
      else if (scanner.bodyBytes > this.#bodyBytesMax) {
        this.problem = `a message of ${scanner.bodyBytes} bytes is over the limit of ${this.#bodyBytesMax} here`
      } else {
        at = body
        this.#inBody = true
      }
    }
    return empty
  }

  /** True between two messages. */
  get atBoundary(): boolean {
    return !this.#inBody && this.#scanner.atBoundary
  }

  #inBody = false

  #finish(last: Buffer): Buffer {
    this.#inBody = false
    if (this.#parts.length === 0) return last
    this.#parts.push(last)
    const body = Buffer.concat(this.#parts)
    this.#parts = []
    return body
  }
}

const empty = Buffer.alloc(0)
