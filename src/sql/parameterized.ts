import type { Fingerprinter } from './fingerprint.ts'
import { constantsMax } from './parameters.ts'

/** PostgreSQL's number of the type `integer` (pg_type). */
const integerOid = 23
/** What a number may have so that it is an `integer` whatever its digits. */
const digitsMax = 9
const bodyBytesMax = 20 * 1024

const blank = 0x20
const quote = 0x27
const dollar = 0x24
const zero = 0x30
const minus = 0x2d

/**
 * A statement with parameters in place of constants, and the values that it came with. The types of parameters are
 * those that PostgreSQL gives the constants, so that the statement means the same. One serves all statements of a
 * worker, and nothing is allocated for it.
 */
export class Parameterized {
  /** As in a Parse message behind the name: the text, and the types of its parameters. */
  readonly body: Buffer = Buffer.allocUnsafeSlow(bodyBytesMax)
  bodyBytes = 0
  /** Parameters. */
  count = 0
  /** Where their values are in the text that was read; strings between their quotes, which are still doubled. */
  readonly starts = new Int32Array(constantsMax)
  readonly ends = new Int32Array(constantsMax)
  /** Where they stand in the text with parameters, and how many bytes they have there. */
  readonly marks = new Int32Array(constantsMax)
  readonly markBytes = new Int32Array(constantsMax)
  /** Of the values, without what is doubled. */
  readonly lengths = new Int32Array(constantsMax)

  /**
   * Takes the constants out of `text[start, end)`, which `print` has just read. `places`: which of them. Returns
   * whether there are any.
   */
  read(text: Buffer, start: number, end: number, print: Fingerprinter, places: Uint8Array): boolean {
    this.count = 0
    if (print.constants !== places.length || end - start > bodyBytesMax / 2) return false
    // What is behind a zero the server does not take for text.
    const zeroAt = text.indexOf(0, start)
    if (zeroAt >= 0 && zeroAt < end) return false
    const { body } = this
    let types = 0
    let at = 0
    let from = start
    for (let place = 0; place < places.length; place++) {
      if (places[place] === 0) continue
      const constantStart = print.starts[place]! - (places[place] === 2 ? 1 : 0)
      const constantEnd = print.ends[place]!
      const isString = text[constantStart] === quote
      if (
        !(isString
          ? this.#string(text, constantStart, constantEnd)
          : this.#integer(text, constantStart, constantEnd))
      )
        continue
      if (isString) types |= 1 << this.count
      at = copyShort(text, from, constantStart, body, at)
      from = constantEnd
      const mark = at
      at = this.#mark(at, this.count + 1)
      this.marks[this.count] = mark
      this.markBytes[this.count++] = at - mark
    }
    if (this.count === 0) return false
    at = copyShort(text, from, end, body, at)
    body[at++] = 0
    at = body.writeUInt16BE(this.count, at)
    for (let index = 0; index < this.count; index++)
      at = body.writeUInt32BE((types >>> index) & 1 ? 0 : integerOid, at)
    this.bodyBytes = at
    return true
  }

  /** Writes `$7`, apart from what stands before and behind. */
  #mark(at: number, number: number): number {
    const { body } = this
    body[at++] = blank
    body[at++] = dollar
    if (number >= 10) body[at++] = zero + Math.floor(number / 10)
    body[at++] = zero + (number % 10)
    body[at++] = blank
    return at
  }

  /** What follows must not be part of a word: PostgreSQL refuses that, or takes it for another number. */
  #integer(text: Buffer, start: number, end: number): boolean {
    const digitsAt = text[start] === minus ? start + 1 : start
    if (end - digitsAt > digitsMax || isWordByte(text[end] ?? 0)) return false
    for (let at = digitsAt; at < end; at++) {
      const digit = text[at]! - zero
      if (digit < 0 || digit > 9) return false
    }
    return this.#value(start, end, end - start)
  }

  /** A plain one in one piece. */
  #string(text: Buffer, start: number, end: number): boolean {
    let doubled = 0
    for (let at = start + 1; at < end - 1; at++) {
      if (text[at] !== quote) continue
      if (text[++at] !== quote || at >= end - 1) return false
      doubled++
    }
    return this.#value(start + 1, end - 1, end - start - 2 - doubled)
  }

  #value(start: number, end: number, length: number): boolean {
    this.starts[this.count] = start
    this.ends[this.count] = end
    this.lengths[this.count] = length
    return true
  }
}

/** A text of a hundred bytes is copied in half the time that a call into Node.js takes. Returns where the copy ends. */
export function copyShort(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  at: number,
): number {
  let to = at
  for (let from = start; from < end; from++) target[to++] = source[from]!
  return to
}

function isWordByte(byte: number): boolean {
  return (
    byte >= 0x80 ||
    byte === 0x5f ||
    byte === dollar ||
    (byte >= zero && byte <= 0x39) ||
    ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a)
  )
}
