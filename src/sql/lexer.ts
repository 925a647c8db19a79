/**
 * PostgreSQL's lexical structure over raw bytes, as far as it matters for finding words: comments (nested),
 * string constants in every form, quoted identifiers, dollar quotes, numbers, parameters. Source: PostgreSQL
 * documentation, "Lexical Structure". Nothing is copied; a token is a kind and a range.
 */
export const Token = {
  End: 0,
  /** A keyword or an identifier without quotes. */
  Word: 1,
  /** An identifier in double quotes; the range is what stands between them, a quote in it still doubled. */
  Quoted: 2,
  /** A string constant of any form; the range is what stands between its quotes. */
  String: 3,
  Number: 4,
  /** `$1` */
  Parameter: 5,
  /** Any other single character. */
  Other: 6,
} as const
export type Token = (typeof Token)[keyof typeof Token]

export class Lexer {
  kind: Token = Token.End
  /** The token's range in the buffer. */
  start = 0
  end = 0
  /** Where the token begins with its quote or prefix; it ends at `position`. */
  from = 0
  /** Of a word (folded) or a quoted identifier (as it stands): see `hashOf`. */
  hash = 0
  /**
   * The token's bytes are not its text: a string constant with a prefix other than N or in several pieces, or an
   * identifier with a doubled quote or a U& prefix.
   */
  isEncoded = false
  /** There was a constant that standard_conforming_strings would make another one. */
  isAmbiguous = false
  #buffer: Uint8Array
  #at: number
  #limit: number
  /** Whether a backslash in a plain string constant is only a backslash. */
  readonly #standardStrings: boolean
  /** In the string constant that is being read. */
  #hasBackslash = false

  constructor(buffer: Uint8Array, start: number, end: number, standardStrings = true) {
    this.#buffer = buffer
    this.#at = start
    this.#limit = end
    this.#standardStrings = standardStrings
  }

  /** Where the next token is looked for. */
  get position(): number {
    return this.#at
  }

  /** Another lexer that reads on from here by itself. */
  ahead(): Lexer {
    return new Lexer(this.#buffer, this.#at, this.#limit, this.#standardStrings)
  }

  /** Moves to the next token; false at the end. */
  next(): boolean {
    this.#skipBlanks()
    const at = this.#at
    this.from = at
    if (at >= this.#limit) {
      this.kind = Token.End
      return false
    }
    const byte = this.#buffer[at]!
    if (isWordStart(byte)) this.#word(at, byte)
    else if (byte === quote) this.#string(at + 1, !this.#standardStrings, !this.#standardStrings, true)
    else if (byte === doubleQuote) this.#quoted(at + 1, false)
    else if (byte === dollar) this.#dollar(at)
    else if (isDigit(byte)) this.#number(at)
    else {
      this.kind = Token.Other
      this.start = at
      this.end = this.#at = at + 1
    }
    return true
  }

  /** A U& identifier, whose name is in its escapes. */
  get isUnicode(): boolean {
    return this.kind === Token.Quoted && this.isEncoded && this.#buffer[this.from] !== doubleQuote
  }

  /** Whether the token is this single character. */
  isOther(character: number): boolean {
    return this.kind === Token.Other && this.#buffer[this.start] === character
  }

  /** The token as a string, one character a byte: words in lower case, as PostgreSQL folds them; one quote for two. */
  text(): string {
    let text = ''
    const fold = this.kind === Token.Word
    const doubled = this.kind === Token.Quoted ? doubleQuote : -1
    for (let at = this.start; at < this.end; at++) {
      const byte = this.#buffer[at]!
      if (byte === doubled) at++
      text += String.fromCharCode(fold ? foldByte(byte) : byte)
    }
    return text
  }

  /** What a string constant says, as bytes; undefined when that takes more than its simplest escapes. */
  decoded(): Uint8Array | undefined {
    const buffer = this.#buffer
    const first = buffer[this.from]! | 0x20
    // B'..', X'..' and U&'..'
    if (this.isEncoded && (first === 0x62 || first === 0x78 || first === 0x75)) return undefined
    const bytes = new Uint8Array(this.end - this.start)
    const isDollarQuoted = buffer[this.from] === dollar
    let count = 0
    for (let at = this.start; at < this.end; at++) {
      let byte = buffer[at]!
      if (byte === quote && !isDollarQuoted) {
        // A quote that is not doubled: the constant goes on in another piece.
        if (buffer[++at] !== quote) return undefined
      } else if (byte === backslash && this.isEncoded) {
        byte = simpleEscapes.get(buffer[++at]!) ?? 0
        if (byte === 0) return undefined
      }
      bytes[count++] = byte
    }
    return bytes.subarray(0, count)
  }

  #skipBlanks(): void {
    const buffer = this.#buffer
    for (;;) {
      const byte = buffer[this.#at]
      if (this.#at >= this.#limit) return
      if (byte === 0x20 || (byte! >= 0x09 && byte! <= 0x0d)) this.#at++
      else if (byte === 0x2d && this.#at + 1 < this.#limit && buffer[this.#at + 1] === 0x2d)
        this.#lineComment()
      else if (byte === 0x2f && this.#at + 1 < this.#limit && buffer[this.#at + 1] === 0x2a)
        this.#blockComment()
      else return
    }
  }

  #lineComment(): void {
    while (this.#at < this.#limit) {
      const byte = this.#buffer[this.#at]
      if (byte === 0x0a || byte === 0x0d) return
      this.#at++
    }
  }

  #blockComment(): void {
    let depth = 0
    while (this.#at < this.#limit) {
      const byte = this.#buffer[this.#at]
      const next = this.#at + 1 < this.#limit ? this.#buffer[this.#at + 1] : 0
      if (byte === 0x2f && next === 0x2a) {
        depth++
        this.#at += 2
      } else if (byte === 0x2a && next === 0x2f) {
        depth--
        this.#at += 2
        if (depth === 0) return
      } else this.#at++
    }
  }

  #word(at: number, first: number): void {
    const buffer = this.#buffer
    const limit = this.#limit
    const next = at + 1 < limit ? buffer[at + 1]! : 0
    if (next === quote) {
      // E'..' has backslashes; B'..' and X'..' have none; N'..' is a plain constant.
      const letter = first | 0x20
      if (letter === 0x65) return this.#string(at + 2, true, true)
      if (letter === 0x62 || letter === 0x78) return this.#string(at + 2, false, true)
      if (letter === 0x6e) return this.#string(at + 2, !this.#standardStrings, !this.#standardStrings, true)
    }
    if ((first | 0x20) === 0x75 && next === 0x26 && at + 2 < limit) {
      // U&'..' and U&".."
      if (buffer[at + 2] === quote) return this.#string(at + 3, false, true)
      if (buffer[at + 2] === doubleQuote) return this.#quoted(at + 3, true)
    }
    let hash = hashSeed
    let end = at
    while (end < limit) {
      const folded = wordBytes[buffer[end]!]!
      if (folded === 0) break
      hash = Math.imul(hash ^ folded, hashPrime)
      end++
    }
    this.kind = Token.Word
    this.start = at
    this.end = this.#at = end
    this.isEncoded = false
    this.hash = end - at > nameBytesMax ? hashOf(buffer, at, end, true) : hash
  }

  /** `backslashes` escape; `isEncoded` when the bytes may not be the text. */
  #string(start: number, backslashes: boolean, isEncoded: boolean, isPlain = false): void {
    this.#hasBackslash = false
    let at = this.#closingQuote(start, backslashes)
    this.isEncoded = isEncoded
    if (isPlain && this.#hasBackslash) this.isAmbiguous = true
    if (backslashes) {
      // A constant goes on after a line break, and its later pieces have escapes too.
      for (let piece = this.#nextPiece(at); piece !== undefined; piece = this.#nextPiece(at)) {
        at = this.#closingQuote(piece, true)
      }
    }
    this.#between(Token.String, start, at)
  }

  #closingQuote(start: number, backslashes: boolean): number {
    const buffer = this.#buffer
    let at = start
    while (at < this.#limit) {
      const byte = buffer[at]!
      if (byte === backslash) {
        this.#hasBackslash = true
        at += backslashes ? 2 : 1
      } else if (byte !== quote) at++
      else if (at + 1 < this.#limit && buffer[at + 1] === quote) at += 2
      else break
    }
    return at
  }

  /** After the quote at `at`: where the next piece of the same constant begins, if a line break leads to one. */
  #nextPiece(at: number): number | undefined {
    let hasLineBreak = false
    for (let next = at + 1; next < this.#limit; next++) {
      const byte = this.#buffer[next]!
      if (byte === quote) return hasLineBreak ? next + 1 : undefined
      if (byte === 0x0a || byte === 0x0d) hasLineBreak = true
      else if (byte === 0x2d && this.#buffer[next + 1] === 0x2d) {
        while (next + 1 < this.#limit && !isLineBreak(this.#buffer[next + 1]!)) next++
      } else if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return undefined
    }
    return undefined
  }

  #quoted(start: number, isUnicode: boolean): void {
    const buffer = this.#buffer
    this.isEncoded = isUnicode
    let hash = hashSeed
    let at = start
    while (at < this.#limit) {
      const byte = buffer[at]!
      if (byte === doubleQuote) {
        if (at + 1 >= this.#limit || buffer[at + 1] !== doubleQuote) break
        this.isEncoded = true
        at++
      }
      hash = Math.imul(hash ^ byte, hashPrime)
      at++
    }
    this.#between(Token.Quoted, start, at)
    this.hash = this.end - this.start > nameBytesMax ? hashOf(buffer, this.start, this.end, false) : hash
  }

  /** `$1`, or a string between `$tag$` and `$tag$`. */
  #dollar(at: number): void {
    const buffer = this.#buffer
    let end = at + 1
    if (end < this.#limit && isDigit(buffer[end]!)) {
      while (end < this.#limit && isDigit(buffer[end]!)) end++
      this.kind = Token.Parameter
      this.start = at
      this.end = this.#at = end
      return
    }
    while (end < this.#limit && isWordPart(buffer[end]!) && buffer[end] !== dollar) end++
    if (end >= this.#limit || buffer[end] !== dollar) {
      this.kind = Token.Other
      this.start = at
      this.end = this.#at = at + 1
      return
    }
    const tagBytes = end + 1 - at
    for (let close = end + 1; close + tagBytes <= this.#limit; close++) {
      if (buffer[close] === dollar && this.#sameBytes(at, close, tagBytes)) {
        this.kind = Token.String
        this.isEncoded = false
        this.start = end + 1
        this.end = close
        this.#at = close + tagBytes
        return
      }
    }
    this.kind = Token.String
    this.isEncoded = false
    this.start = end + 1
    this.end = this.#at = this.#limit
  }

  #number(at: number): void {
    const buffer = this.#buffer
    let end = at + 1
    while (end < this.#limit) {
      const byte = buffer[end]!
      if (!isDigit(byte) && byte !== 0x2e && byte !== 0x5f) {
        if ((byte | 0x20) !== 0x65) break
        // An exponent has digits; without them the letter begins the next token.
        const sign = buffer[end + 1]
        const digit = sign === 0x2b || sign === 0x2d ? end + 2 : end + 1
        if (digit >= this.#limit || !isDigit(buffer[digit]!)) break
        end = digit
      }
      end++
    }
    this.kind = Token.Number
    this.start = at
    this.end = this.#at = end
  }

  #between(kind: Token, start: number, end: number): void {
    this.kind = kind
    this.start = Math.min(start, this.#limit)
    this.end = Math.min(end, this.#limit)
    this.#at = Math.min(end + 1, this.#limit)
  }

  #sameBytes(one: number, other: number, count: number): boolean {
    for (let index = 0; index < count; index++) {
      if (this.#buffer[one + index] !== this.#buffer[other + index]) return false
    }
    return true
  }
}

const quote = 0x27
const doubleQuote = 0x22
const backslash = 0x5c
const dollar = 0x24

/** PostgreSQL cuts identifiers to so many bytes. */
export const nameBytesMax = 63

const hashSeed = 0x811c9dc5 | 0
const hashPrime = 0x01000193

/** FNV-1a over an identifier's bytes as far as they count; `fold` as for a word without quotes. */
export function hashOf(buffer: Uint8Array, start: number, end: number, fold: boolean): number {
  let hash = hashSeed
  const last = Math.min(end, start + nameBytesMax)
  for (let at = start; at < last; at++) {
    const byte = buffer[at]!
    hash = Math.imul(hash ^ (fold ? foldByte(byte) : byte), hashPrime)
  }
  return hash
}

/** ASCII letters in lower case. */
export function foldByte(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
}

/** `\\n` and the like; what is not here has digits after it or stands for itself. */
const simpleEscapes = new Map([
  [0x6e, 0x0a],
  [0x72, 0x0d],
  [0x74, 0x09],
  [0x62, 0x08],
  [0x66, 0x0c],
  [backslash, backslash],
  [quote, quote],
])

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}

function isWordStart(byte: number): boolean {
  const folded = byte | 0x20
  return (folded >= 0x61 && folded <= 0x7a) || byte === 0x5f || byte >= 0x80
}

function isWordPart(byte: number): boolean {
  return isWordStart(byte) || isDigit(byte) || byte === dollar
}

function isLineBreak(byte: number): boolean {
  return byte === 0x0a || byte === 0x0d
}

/** What each byte of a word counts as; 0 where it belongs to none. */
const wordBytes = Uint8Array.from({ length: 256 }, (_, byte) => (isWordPart(byte) ? foldByte(byte) : 0))
