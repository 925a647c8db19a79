import type { Clock } from '../runtime/clock.ts'
import { Fingerprinter } from './fingerprint.ts'
import { classify, noDependencies, type Parse, StatementClass } from './statement-class.ts'

export { type ShareRefusal, StatementClass } from './statement-class.ts'

export interface ClassLimits {
  /** Classes that are kept. */
  readonly countMax: number
  /** What they take, in bytes, roughly. */
  readonly bytesMax: number
  /** How much of a second may go into parsing new statements. */
  readonly parseMsPerSecond: number
}

const defaults: ClassLimits = { countMax: 10_000, bytesMax: 16 * 1024 * 1024, parseMsPerSecond: 50 }

/** After a rest, so many seconds' worth may be parsed at once. */
const burstSeconds = 4
/** What a parse takes at least, and for each byte. */
const parseMs = 0.05
const parseMsPerByte = 0.001
/** What a class takes besides its text, roughly. */
const classBytes = 600

/**
 * The classes of a worker's statements. One that is new is parsed when it is seen for the second time, and only so
 * many in a second: a client that never says the same thing twice costs its fingerprints and nothing else. Bounded:
 * what was not used for long is forgotten; who holds a class keeps it.
 */
export class StatementClasses {
  readonly #clock: Clock
  readonly #limits: ClassLimits
  /** What was read last. */
  readonly fingerprinter = new Fingerprinter()
  #parse: Parse | undefined
  #isLoading: Promise<void> | undefined
  /** By hash; of two that share one the latest is kept. What is used moves from the old half to the new one. */
  #young = new Map<number, StatementClass>()
  #old = new Map<number, StatementClass>()
  #youngBytes = 0
  /** Hashes of what was seen once, each in its place. */
  readonly #seen = new Int32Array(8192)
  /** How long may be parsed at present; less than nothing after something that took long. */
  #budgetMs: number
  #budgetAtMs: number

  constructor(clock: Clock, limits: Partial<ClassLimits> = {}) {
    this.#clock = clock
    this.#limits = { ...defaults, ...limits }
    this.#budgetMs = burstSeconds * this.#limits.parseMsPerSecond
    this.#budgetAtMs = clock.nowMs()
  }

  get isLoaded(): boolean {
    return this.#parse !== undefined
  }

  /** Loads the parser, some 50 MB of memory: not before it is needed. Rejects when it cannot be loaded. */
  load(): Promise<void> {
    this.#isLoading ??= loadParser().then(parse => {
      this.#parse = parse
    })
    return this.#isLoading
  }

  get size(): number {
    return this.#young.size + this.#old.size
  }

  /**
   * The class of the statement in `text[start, end)`; undefined while nothing is known of it. `standardStrings` as
   * the session has standard_conforming_strings. Only for encodings that `isReadable`.
   */
  of(text: Uint8Array, start: number, end: number, standardStrings: boolean): StatementClass | undefined {
    const print = this.fingerprinter
    if (this.#parse === undefined) return undefined
    const unprintable = print.read(text, start, end, standardStrings)
    if (unprintable !== undefined) return unprintable === 'too_long' ? tooLong : unreadable
    return this.#find(print.hash) ?? this.#learn(this.#parse)
  }

  /** The class of a text that belongs to the catalog, as it stands; nothing is remembered. */
  ofDefinition(text: string): StatementClass {
    return this.#parse ? classify(Buffer.from(text, 'latin1'), this.#parse) : unreadable
  }

  #find(hash: number): StatementClass | undefined {
    const young = this.#young.get(hash)
    if (young !== undefined && this.#isSame(young)) return young
    const old = this.#old.get(hash)
    if (old === undefined || !this.#isSame(old)) return undefined
    this.#old.delete(hash)
    this.#keep(hash, old)
    return old
  }

  #isSame({ text }: StatementClass): boolean {
    const { bytes, length } = this.fingerprinter
    if (text.length !== length) return false
    for (let at = 0; at < length; at++) if (text[at] !== bytes[at]) return false
    return true
  }

  #learn(parse: Parse): StatementClass | undefined {
    const { bytes, length, hash } = this.fingerprinter
    const place = hash % this.#seen.length
    if (this.#seen[place] !== hash) {
      this.#seen[place] = hash
      return undefined
    }
    const fromMs = this.#clock.nowMs()
    if (!this.#mayParse(fromMs)) return undefined
    const learned = classify(Buffer.from(bytes.subarray(0, length)), parse)
    this.#budgetMs -= Math.max(parseMs + length * parseMsPerByte, this.#clock.nowMs() - fromMs)
    this.#keep(hash, learned)
    return learned
  }

  #mayParse(nowMs: number): boolean {
    const { parseMsPerSecond } = this.#limits
    const earnedMs = ((nowMs - this.#budgetAtMs) / 1000) * parseMsPerSecond
    this.#budgetMs = Math.min(this.#budgetMs + earnedMs, burstSeconds * parseMsPerSecond)
    this.#budgetAtMs = nowMs
    return this.#budgetMs > 0
  }

  #keep(hash: number, statement: StatementClass): void {
    const before = this.#young.get(hash)
    if (before) this.#youngBytes -= before.text.length + classBytes
    this.#young.set(hash, statement)
    this.#youngBytes += statement.text.length + classBytes
    const { countMax, bytesMax } = this.#limits
    if (this.#young.size < countMax / 2 && this.#youngBytes < bytesMax / 2) return
    this.#old = this.#young
    this.#young = new Map()
    this.#youngBytes = 0
  }
}

/** Nothing is remembered of these: their class is in every text again. */
const tooLong = new StatementClass(Buffer.alloc(0), 'too_long', noDependencies)
const unreadable = new StatementClass(Buffer.alloc(0), 'unreadable', noDependencies)

/** The parser of PostgreSQL itself, compiled to WebAssembly. */
export async function loadParser(): Promise<Parse> {
  const { loadModule, parseSync } = await import('libpg-query')
  await loadModule()
  return parseSync
}

/** What the parser says of a text that is no statement: `syntax error at or near "selec"`. Undefined for one that is. */
export async function syntaxErrorOf(text: string): Promise<string | undefined> {
  const parse = await loadParser()
  try {
    parse(text)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
