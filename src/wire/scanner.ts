import { headerBytes, messageBytesMax } from './codes.ts'

/**
 * Finds message boundaries in a stream of bytes that arrives in pieces of any size, without copying bodies.
 * Bodies are counted, not kept; a header that is split over two pieces is put together in place.
 *
 * ```
 * let at = start
 * while ((at = scanner.next(buffer, at, end)) >= 0) {
 *   // scanner.code and scanner.bodyBytes are known; the body begins at buffer[at], if it is in this piece
 *   at = scanner.skip(at, end)            // or look at the body first
 * }
 * ```
 * `next` returns -1 when the piece is used up. Then `atBoundary` tells whether it ended between two messages.
 */
export class Scanner {
  /** Code of the message whose header was read last. */
  code = 0
  /** Bytes of its body, header not counted. */
  bodyBytes = 0
  /** Bytes of its body that have not passed yet. */
  remainingBytes = 0
  /** Set when a length made no sense; nothing after it can be trusted. */
  violation = false
  #headerSeen = 0
  #length = 0

  /** True between two messages. */
  get atBoundary(): boolean {
    return this.remainingBytes === 0 && this.#headerSeen === 0
  }

  /**
   * Gives up a header of which only a part was seen, and returns how many bytes that were: the caller keeps them
   * and puts them before the next piece.
   */
  takePartialHeader(): number {
    const bytes = this.#headerSeen
    this.#headerSeen = 0
    return bytes
  }

  /** What comes next is the beginning of another stream. */
  reset(): void {
    this.remainingBytes = 0
    this.violation = false
    this.#headerSeen = 0
  }

  /** Forgets the message whose header was just read: the caller keeps it and passes it again from its beginning. */
  rewind(): void {
    this.remainingBytes = 0
  }

  /**
   * Position of the first body byte of the next message, after skipping what remains of the current one;
   * -1 when the piece ends before its header is complete.
   */
  next(buffer: Uint8Array, start: number, end: number): number {
    let at = start
    if (this.remainingBytes > 0) {
      at = this.skip(at, end)
      if (this.remainingBytes > 0) return -1
    }
    // The common case: the whole header lies in this piece.
    if (this.#headerSeen === 0 && end - at >= headerBytes) {
      this.code = buffer[at]!
      this.#length =
        (buffer[at + 1]! << 24) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 8) | buffer[at + 4]!
      return this.#accept(at + headerBytes)
    }
    while (at < end) {
      const byte = buffer[at]!
      at++
      if (this.#headerSeen === 0) {
        this.code = byte
        this.#length = 0
      } else this.#length = (this.#length << 8) | byte
      this.#headerSeen++
      if (this.#headerSeen === headerBytes) {
        this.#headerSeen = 0
        return this.#accept(at)
      }
    }
    return -1
  }

  /** Moves past the body of the current message as far as the piece goes. Returns the new position. */
  skip(at: number, end: number): number {
    const bytes = Math.min(this.remainingBytes, end - at)
    this.remainingBytes -= bytes
    return at + bytes
  }

  #accept(at: number): number {
    const bodyBytes = this.#length - 4
    if (bodyBytes < 0 || bodyBytes > messageBytesMax) {
      this.violation = true
      return -1
    }
    this.bodyBytes = bodyBytes
    this.remainingBytes = bodyBytes
    return at
  }
}
