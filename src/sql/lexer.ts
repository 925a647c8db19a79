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
  /** An operator or a mark: one character, or those that PostgreSQL takes together (`<=`, `::`, `->>`). */
  Other: 6,
} as const
export type Token = (typeof Token)[keyof typeof Token]

/** Forms of a string constant: what stands in it is read differently. */
const Form = {
  /** Backslashes escape unless standard_conforming_strings is on. */
  Plain: 0,
  Escaped: 1,
  /** No quote can be in it. */
  Bits: 2,
  Unicode: 3,
} as const
type Form = (typeof Form)[keyof typeof Form]

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
  /** A constant, a quoted identifier or a comment went on to the end of the text. */
  isUnterminated = false
  #buffer: Uint8Array
  #at: number
  #limit: number
  /** Whether a backslash in a plain string constant is only a backslash. */
  #standardStrings: boolean
  /** In the string constant that is being read. */
  #hasBackslash = false

  constructor(buffer: Uint8Array, start: number, end: number, standardStrings = true) {
    this.#buffer = buffer
    this.#at = start
    this.#limit = end
    this.#standardStrings = standardStrings
  }

  /** Begins anew with another text. */
  reset(buffer: Uint8Array, start: number, end: number, standardStrings: boolean): void {
    this.#buffer = buffer
    this.#at = start
    this.#limit = end
    this.#standardStrings = standardStrings
    this.isAmbiguous = false
    this.isUnterminated = false
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
    else if (byte === quote) this.#string(at + 1, Form.Plain)
    else if (byte === doubleQuote) this.#quoted(at + 1, false)
    else if (byte === dollar) this.#dollar(at)
    else if (isDigit(byte) || (byte === dot && isDigit(this.#byte(at + 1)))) this.#number(at)
    else this.#other(at, byte)
    return true
  }

  /** A U& identifier, whose name is in its escapes. */
  get isUnicode(): boolean {
    return this.kind === Token.Quoted && this.isEncoded && this.#buffer[this.from] !== doubleQuote
  }

  /** Whether the token is this character, or an operator that begins with it. */
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
    this.isUnterminated = true
  }

  #word(at: number, first: number): void {
    const buffer = this.#buffer
    const limit = this.#limit
    const next = at + 1 < limit ? buffer[at + 1]! : 0
    if (next === quote) {
      // E'..' has backslashes; B'..' and X'..' have none; N'..' is a plain constant.
      const letter = first | 0x20
      if (letter === 0x65) return this.#string(at + 2, Form.Escaped)
      if (letter === 0x62 || letter === 0x78) return this.#string(at + 2, Form.Bits)
      if (letter === 0x6e) return this.#string(at + 2, Form.Plain)
    }
    if ((first | 0x20) === 0x75 && next === 0x26 && at + 2 < limit) {
      // U&'..' and U&".."
      if (buffer[at + 2] === quote) return this.#string(at + 3, Form.Unicode)
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

  #string(start: number, form: Form): void {
    this.#hasBackslash = false
    const escapes = form === Form.Escaped || (form === Form.Plain && !this.#standardStrings)
    this.isEncoded = escapes || form !== Form.Plain
    let at = this.#closingQuote(start, escapes, form)
    // A constant goes on after a line break, and its later pieces have escapes if the first has.
    for (let piece = this.#nextPiece(at); piece >= 0; piece = this.#nextPiece(at)) {
      at = this.#closingQuote(piece, escapes, form)
      this.isEncoded = true
    }
    if (form === Form.Plain && this.#hasBackslash) this.isAmbiguous = true
    this.#between(Token.String, start, at)
  }

  #closingQuote(start: number, escapes: boolean, form: Form): number {
    const buffer = this.#buffer
    let at = start
    while (at < this.#limit) {
      const byte = buffer[at]!
      if (byte === backslash) {
        this.#hasBackslash = true
        at += escapes ? 2 : 1
      } else if (byte !== quote) at++
      else if (form !== Form.Bits && at + 1 < this.#limit && buffer[at + 1] === quote) at += 2
      else break
    }
    return at
  }

  /** After the quote at `at`: where the next piece of the same constant begins; -1 unless a line break leads to one. */
  #nextPiece(at: number): number {
    let hasLineBreak = false
    for (let next = at + 1; next < this.#limit; next++) {
      const byte = this.#buffer[next]!
      if (byte === quote) return hasLineBreak ? next + 1 : -1
      if (byte === 0x0a || byte === 0x0d) hasLineBreak = true
      else if (byte === 0x2d && this.#buffer[next + 1] === 0x2d) {
        while (next + 1 < this.#limit && !isLineBreak(this.#buffer[next + 1]!)) next++
      } else if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return -1
    }
    return -1
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
    this.isUnterminated = true
    this.kind = Token.String
    this.isEncoded = false
    this.start = end + 1
    this.end = this.#at = this.#limit
  }

  #number(at: number): void {
    let end = at
    while (end < this.#limit && isDigit(this.#buffer[end]!)) end++
    const next = this.#byte(end)
    // Nearly every number is nothing but digits.
    if (next === dot || wordBytes[next] !== 0) end = this.#radixEnd(at) || this.#decimalEnd(at)
    this.kind = Token.Number
    this.start = at
    this.end = this.#at = end
  }

  /** `1`, `1.5`, `.5`, `1.`, `1_000`, each with an exponent if digits follow the letter. */
  #decimalEnd(at: number): number {
    let end = this.#digitsEnd(at)
    // Of two dots neither belongs to the number.
    if (this.#byte(end) === dot && this.#byte(end + 1) !== dot) end = this.#digitsEnd(end + 1)
    if ((this.#byte(end) | 0x20) !== 0x65) return end
    const sign = this.#byte(end + 1)
    const digit = sign === plus || sign === minus ? end + 2 : end + 1
    return isDigit(this.#byte(digit)) ? this.#digitsEnd(digit) : end
  }

  #digitsEnd(at: number): number {
    let end = at
    while (isDigit(this.#byte(end)) || (end > at && this.#byte(end) === 0x5f && isDigit(this.#byte(end + 1))))
      end++
    return end
  }

  /** Behind `0x1F`, `0o17`, `0b01`, as PostgreSQL 16 and later read them; 0 when it is none of these. */
  #radixEnd(at: number): number {
    if (this.#byte(at) !== 0x30) return 0
    const letter = this.#byte(at + 1) | 0x20
    const radix = letter === 0x78 ? 16 : letter === 0x6f ? 8 : letter === 0x62 ? 2 : 0
    if (radix === 0) return 0
    let end = at + 2
    for (;;) {
      const digit = this.#byte(end) === 0x5f ? end + 1 : end
      if (digitValue(this.#byte(digit)) >= radix) return end > at + 2 ? end : 0
      end = digit + 1
    }
  }

  #other(at: number, byte: number): void {
    let end = at + 1
    if (operatorBytes[byte] !== 0) end = this.#operatorEnd(at)
    else if (byte === colon && (this.#byte(end) === colon || this.#byte(end) === equals)) end++
    else if (byte === dot && this.#byte(end) === dot) end++
    this.kind = Token.Other
    this.start = at
    this.end = this.#at = end
  }

  /** PostgreSQL documentation, "Operators": no comment begins in one, and few end in a sign. */
  #operatorEnd(at: number): number {
    const buffer = this.#buffer
    let end = at + 1
    while (end < this.#limit && operatorBytes[buffer[end]!] !== 0) {
      const pair = (buffer[end - 1]! << 8) | buffer[end]!
      if (pair === 0x2d2d || pair === 0x2f2a) {
        end--
        break
      }
      end++
    }
    for (let index = at; index < end - 1; index++) if (operatorBytes[buffer[index]!] === 2) return end
    while (end > at + 1 && (buffer[end - 1] === plus || buffer[end - 1] === minus)) end--
    return end
  }

  /** 0 beyond the end. */
  #byte(at: number): number {
    return at < this.#limit ? this.#buffer[at]! : 0
  }

  #between(kind: Token, start: number, end: number): void {
    if (end >= this.#limit) this.isUnterminated = true
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
const dot = 0x2e
const colon = 0x3a
const equals = 0x3d
const plus = 0x2b
const minus = 0x2d

/** 0 for what is in no operator; 2 for what lets one end in a sign. */
const operatorBytes = new Uint8Array(256)
for (const byte of Buffer.from('+-*/<>=')) operatorBytes[byte] = 1
for (const byte of Buffer.from('~!@#%^&|`?')) operatorBytes[byte] = 2

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

/** 255 for none. */
function digitValue(byte: number): number {
  if (isDigit(byte)) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : 255
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
