import { foldByte, hashOf, type Lexer, nameBytesMax, Token } from './lexer.ts'

/**
 * Finds what is known about an identifier by its bytes, without making a string of it: the lexer has its hash, and
 * bytes are compared on a hit alone. Names are kept one after another in one buffer.
 */
export class WordTable<Value> {
  /** Index of an entry + 1; 0 is free. Open addressing, at most half full. */
  #slots = new Int32Array(512)
  #hashes = new Int32Array(256)
  /** Where each name ends in `#names`; it begins where the one before ends. */
  #ends = new Int32Array(256)
  #names = new Uint8Array(2048)
  readonly #values: Value[] = []

  get size(): number {
    return this.#values.length
  }

  /** `name` has one character a byte, and letters as PostgreSQL keeps them. */
  get(name: string): Value | undefined {
    const bytes = Buffer.from(name, 'latin1')
    const entry = this.#find(bytes, 0, bytes.length, hashOf(bytes, 0, bytes.length, false), false)
    return entry < 0 ? undefined : this.#values[entry]
  }

  set(name: string, value: Value): void {
    const bytes = Buffer.from(name, 'latin1').subarray(0, nameBytesMax)
    const hash = hashOf(bytes, 0, bytes.length, false)
    const known = this.#find(bytes, 0, bytes.length, hash, false)
    if (known >= 0) {
      this.#values[known] = value
      return
    }
    const entry = this.size
    if (entry === this.#hashes.length) this.#grow()
    const start = this.#startOf(entry)
    if (start + bytes.length > this.#names.length) this.#names = larger(this.#names)
    this.#names.set(bytes, start)
    this.#ends[entry] = start + bytes.length
    this.#hashes[entry] = hash
    this.#values.push(value)
    this.#place(entry)
  }

  /** What is known about the lexer's word or quoted identifier. */
  find(lexer: Lexer, buffer: Uint8Array): Value | undefined {
    const entry = this.#find(buffer, lexer.start, lexer.end, lexer.hash, lexer.kind === Token.Word)
    return entry < 0 ? undefined : this.#values[entry]
  }

  *entries(): IterableIterator<[name: string, value: Value]> {
    for (const [entry, value] of this.#values.entries()) {
      const name = this.#names.subarray(this.#startOf(entry), this.#ends[entry])
      yield [Buffer.from(name).toString('latin1'), value]
    }
  }

  /** The entry of a name; -1 for none. */
  #find(buffer: Uint8Array, start: number, end: number, hash: number, fold: boolean): number {
    const slots = this.#slots
    const mask = slots.length - 1
    for (let slot = slotOf(hash, mask); ; slot = (slot + 1) & mask) {
      const entry = slots[slot]! - 1
      if (entry < 0) return -1
      if (this.#hashes[entry] === hash && this.#isNamed(entry, buffer, start, end, fold)) return entry
    }
  }

  #isNamed(entry: number, buffer: Uint8Array, start: number, end: number, fold: boolean): boolean {
    const from = this.#startOf(entry)
    const length = this.#ends[entry]! - from
    if (Math.min(end - start, nameBytesMax) !== length) return false
    for (let index = 0; index < length; index++) {
      const byte = buffer[start + index]!
      if ((fold ? foldByte(byte) : byte) !== this.#names[from + index]) return false
    }
    return true
  }

  #startOf(entry: number): number {
    return entry === 0 ? 0 : this.#ends[entry - 1]!
  }

  #place(entry: number): void {
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = slotOf(this.#hashes[entry]!, mask)
    while (slots[slot] !== 0) slot = (slot + 1) & mask
    slots[slot] = entry + 1
  }

  #grow(): void {
    this.#hashes = larger(this.#hashes)
    this.#ends = larger(this.#ends)
    this.#slots = new Int32Array(this.#slots.length * 2)
    for (let entry = 0; entry < this.size; entry++) this.#place(entry)
  }
}

function slotOf(hash: number, mask: number): number {
  return (hash ^ (hash >>> 15)) & mask
}

function larger<Bytes extends Int32Array | Uint8Array>(array: Bytes): Bytes {
  const copy =
    array instanceof Int32Array ? new Int32Array(array.length * 2) : new Uint8Array(array.length * 2)
  copy.set(array)
  return copy as Bytes
}
