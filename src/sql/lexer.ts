/**
 * PostgreSQL's lexical structure over raw bytes, as far as it matters for finding words: comments (nested),
 * string constants in every form, quoted identifiers, dollar quotes, numbers, parameters. Source: PostgreSQL
 * documentation, "Lexical Structure". Nothing is copied; a token is a kind and a range.
 */
export const Token = {
  End: 0,
  /** A keyword or an identifier without quotes. */
  Word: 1,
  /** An identifier in double quotes; the range is what stands between them. */
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
  #buffer: Uint8Array
  #at: number
  #limit: number
  /** Whether a backslash in a plain string constant is only a backslash. */
  readonly #standardStrings: boolean

  constructor(buffer: Uint8Array, start: number, end: number, standardStrings = true) {
    this.#buffer = buffer
    this.#at = start
    this.#limit = end
    this.#standardStrings = standardStrings
  }

  /** Moves to the next token; false at the end. */
  next(): boolean {
    this.#skipBlanks()
    const at = this.#at
    if (at >= this.#limit) {
      this.kind = Token.End
      return false
    }
    const byte = this.#buffer[at]!
    if (isWordStart(byte)) this.#word(at, byte)
    else if (byte === quote) this.#string(at + 1, !this.#standardStrings)
    else if (byte === doubleQuote) this.#quoted(at + 1)
    else if (byte === dollar) this.#dollar(at)
    else if (isDigit(byte)) this.#number(at)
    else {
      this.kind = Token.Other
      this.start = at
      this.end = this.#at = at + 1
    }
    return true
  }

  /** Whether the token is this single character. */
  isOther(character: number): boolean {
    return this.kind === Token.Other && this.#buffer[this.start] === character
  }

  /** The token's bytes as a string; words in lower case, as PostgreSQL folds them. */
  text(): string {
    let text = ''
    const fold = this.kind === Token.Word
    for (let at = this.start; at < this.end; at++) {
      const byte = this.#buffer[at]!
      text += String.fromCharCode(fold && byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte)
    }
    return text
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
    const next = at + 1 < this.#limit ? buffer[at + 1]! : 0
    if (next === quote) {
      // E'..' has backslashes; B'..', X'..' and N'..' are plain.
      const letter = first | 0x20
      if (letter === 0x65) return this.#string(at + 2, true)
      if (letter === 0x62 || letter === 0x78 || letter === 0x6e) return this.#string(at + 2, false)
    }
    if ((first | 0x20) === 0x75 && next === 0x26 && at + 2 < this.#limit) {
      // U&'..' and U&".."
      if (buffer[at + 2] === quote) return this.#string(at + 3, false)
      if (buffer[at + 2] === doubleQuote) return this.#quoted(at + 3)
    }
    let end = at + 1
    while (end < this.#limit && isWordPart(buffer[end]!)) end++
    this.kind = Token.Word
    this.start = at
    this.end = this.#at = end
  }

  #string(start: number, backslashes: boolean): void {
    const buffer = this.#buffer
    let at = start
    while (at < this.#limit) {
      const byte = buffer[at]!
      if (byte === backslash && backslashes) at += 2
      else if (byte !== quote) at++
      else if (at + 1 < this.#limit && buffer[at + 1] === quote) at += 2
      else break
    }
    this.#between(Token.String, start, at)
  }

  #quoted(start: number): void {
    const buffer = this.#buffer
    let at = start
    while (at < this.#limit) {
      if (buffer[at] !== doubleQuote) at++
      else if (at + 1 < this.#limit && buffer[at + 1] === doubleQuote) at += 2
      else break
    }
    this.#between(Token.Quoted, start, at)
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
        this.start = end + 1
        this.end = close
        this.#at = close + tagBytes
        return
      }
    }
    this.kind = Token.String
    this.start = end + 1
    this.end = this.#at = this.#limit
  }

  #number(at: number): void {
    const buffer = this.#buffer
    let end = at + 1
    while (end < this.#limit) {
      const byte = buffer[end]!
      const isSign = (byte === 0x2b || byte === 0x2d) && (buffer[end - 1]! | 0x20) === 0x65
      if (!isDigit(byte) && byte !== 0x2e && byte !== 0x5f && (byte | 0x20) !== 0x65 && !isSign) break
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
