import { foldByte, Lexer, Token } from './lexer.ts'
import { constantsMax } from './parameters.ts'

/** Longer statements have no fingerprint; in bytes. */
export const statementBytesMax = 16 * 1024
/** Neither have those of more tokens: a parser's work and depth grow with them. */
const tokensMax = 4000

/** Why a text has no fingerprint. */
export type Unprintable = 'too_long' | 'unreadable'

/**
 * Writes a statement in the one form that all share which differ in constants, comments, blanks and the case of
 * words only: tokens with one blank between them, each constant replaced by one of its kind. That form is SQL
 * itself, and all that is ever judged: what is dropped cannot matter. It is in `bytes[0, length)` until the next
 * `read`, which allocates nothing.
 */
export class Fingerprinter {
  readonly bytes: Buffer = Buffer.alloc(2 * statementBytesMax + 64)
  length = 0
  /** Of the bytes, 30 bits. Two statements may share it: compare the bytes. */
  hash = 0
  /** Numbers and strings that the text has, and where the first ones begin and end. */
  constants = 0
  readonly starts = new Int32Array(constantsMax)
  readonly ends = new Int32Array(constantsMax)
  /** It has constants that are no numbers. */
  hasStrings = false
  /** What was read. */
  text: Uint8Array | undefined
  readonly #lexer = new Lexer(this.bytes, 0, 0)

  /** `standardStrings` as the session has standard_conforming_strings. */
  read(text: Uint8Array, start: number, end: number, standardStrings: boolean): Unprintable | undefined {
    if (end - start > statementBytesMax) return 'too_long'
    const lexer = this.#lexer
    lexer.reset(text, start, end, standardStrings)
    this.length = 0
    this.hash = hashSeed
    this.constants = 0
    this.hasStrings = false
    this.text = text
    let tokens = 0
    let isEscape = false
    let semicolonsFrom = -1
    let hash = 0
    while (lexer.next()) {
      if (++tokens > tokensMax) return 'too_long'
      if (lexer.kind !== Token.Other || text[lexer.start] !== semicolon) semicolonsFrom = -1
      else if (semicolonsFrom < 0) {
        semicolonsFrom = this.length
        hash = this.hash
      }
      if (tokens > 1) this.bytes[this.length++] = blank
      this.#token(text, isEscape)
      isEscape = lexer.kind === Token.Word && isUescape(text, lexer.start, lexer.end)
    }
    if (lexer.isUnterminated) return 'unreadable'
    if (semicolonsFrom >= 0) {
      this.length = semicolonsFrom
      this.hash = hash
    }
    this.hash >>>= 2
    return undefined
  }

  #token(text: Uint8Array, isEscape: boolean): void {
    const lexer = this.#lexer
    switch (lexer.kind) {
      case Token.Word:
        return this.#word(text, lexer.start, lexer.end)
      case Token.Number:
        this.#note(lexer.from, lexer.position)
        // Not 0, which is no precision of a float.
        return this.#put(one)
      case Token.String:
        this.hasStrings = true
        this.#note(lexer.from, lexer.position)
        return isEscape ? this.#copy(text, lexer.from, lexer.position) : this.#string(text)
      default:
        return this.#copy(text, lexer.from, lexer.position)
    }
  }

  #note(from: number, to: number): void {
    if (this.constants < constantsMax) {
      this.starts[this.constants] = from
      this.ends[this.constants] = to
    }
    this.constants++
  }

  #word(text: Uint8Array, start: number, end: number): void {
    const { bytes } = this
    let length = this.length
    for (let at = start; at < end; at++) bytes[length++] = foldByte(text[at]!)
    this.length = length
    this.#mix(this.#lexer.hash)
  }

  /** An empty constant of the same kind; one with Unicode escapes as it is, since UESCAPE may follow. */
  #string(text: Uint8Array): void {
    const lexer = this.#lexer
    const prefix = text[lexer.from]! | 0x20
    if (prefix === 0x75) return this.#copy(text, lexer.from, lexer.position)
    if (prefix === 0x62 || prefix === 0x78 || prefix === 0x6e) this.#put(prefix)
    this.#put(quote)
    this.#put(quote)
  }

  #copy(text: Uint8Array, start: number, end: number): void {
    const { bytes } = this
    let length = this.length
    let hash = hashSeed
    for (let at = start; at < end; at++) {
      const byte = text[at]!
      bytes[length++] = byte
      hash = Math.imul(hash ^ byte, hashPrime)
    }
    this.length = length
    this.#mix(hash)
  }

  #put(byte: number): void {
    this.bytes[this.length++] = byte
    this.#mix(byte)
  }

  #mix(hash: number): void {
    this.hash = Math.imul(this.hash ^ hash, hashPrime)
    this.hash ^= this.hash >>> 15
  }
}

/** FNV-1a, of tokens by the hash of each. */
const hashSeed = 0x811c9dc5 | 0
const hashPrime = 0x01000193

const blank = 0x20
const quote = 0x27
const one = 0x31
const semicolon = 0x3b
const uescape = Buffer.from('uescape')

function isUescape(text: Uint8Array, start: number, end: number): boolean {
  if (end - start !== uescape.length) return false
  for (let index = 0; index < uescape.length; index++) {
    if (foldByte(text[start + index]!) !== uescape[index]) return false
  }
  return true
}
