import type { Parameterized } from '../../sql/parameterized.ts'
import { type PreparedVerb, preparedVerb } from '../../sql/prepared-verb.ts'
import type { SessionEffects } from '../../sql/session-effects.ts'
import type { StatementClass } from '../../sql/statement-class.ts'
import { Client as Code } from '../../wire/codes.ts'
import { firstOwnOid } from '../catalog/catalog-questions.ts'

/**
 * Prepared statements that outlive a server connection. A client's statement is its text and parameter types; each
 * server connection has it under a name of the proxy's own, as long as it is used there.
 */
export class Statement {
  /** The body of its Parse message behind the name: text and parameter types. */
  readonly body: Buffer
  /** What gives the text its meaning; see `StatementCache.of`. */
  readonly context: string
  /** Where its text ends in `body`. */
  readonly textEnd: number
  /** How often it came without a name, to be run by those who share server connections. */
  uses = 0
  /** How often it was bound without a name on connections that were not shared, at the least, */
  runs = 0
  /** with so many parameters. */
  parameters = -1
  /** It was answered quickly at least once. */
  wasQuick = false
  /** The longest that it has taken with a plan for its values. */
  plannedMs = 0
  /** How often it was refused by a server that was to prepare or bind it on the proxy's own account. */
  refusals = 0
  #isAscii: boolean | undefined
  #verb: PreparedVerb | 'other' | undefined
  #effects: SessionEffects | undefined
  #version = -1

  constructor(body: Buffer, context = '') {
    this.body = body
    this.context = context
    const textEnd = body.indexOf(0)
    this.textEnd = textEnd < 0 ? body.length : textEnd
  }

  /** What it may leave behind; looked through again when more is known of its database. */
  effectsIn(knowledge: StatementKnowledge): SessionEffects {
    if (this.#effects === undefined || this.#version !== knowledge.version) {
      this.#effects = knowledge.effectsOf(this.body, 0, this.textEnd)
      this.#version = knowledge.version
    }
    return this.#effects
  }

  /** Whether its parameters are declared to be of types that are not PostgreSQL's own. */
  get declaresOwnTypes(): boolean {
    const { body, textEnd } = this
    for (let at = textEnd + 3; at + 4 <= body.length; at += 4)
      if (body.readUInt32BE(at) >= firstOwnOid) return true
    return false
  }

  /** Counts that it came without a name. Returns whether it has come so often that it is prepared. */
  comes(): boolean {
    return ++this.uses >= usesToPrepare && this.refusals <= refusalsMax
  }

  /** Whether characters of its text are bytes. */
  get isAscii(): boolean {
    this.#isAscii ??= this.body.subarray(0, this.textEnd).every(byte => byte < 0x80)
    return this.#isAscii
  }

  /** See `preparedVerb`. */
  get verb(): PreparedVerb | undefined {
    this.#verb ??= preparedVerb(this.body, this.textEnd) ?? 'other'
    return this.#verb === 'other' ? undefined : this.#verb
  }

  /** The Parse message that makes it under a name. */
  parse(name: string): Buffer {
    const message = Buffer.allocUnsafe(headerBytes + name.length + 1 + this.body.length)
    message[0] = Code.Parse
    message.writeUInt32BE(message.length - 1, 1)
    message.write(name, headerBytes, 'latin1')
    message[headerBytes + name.length] = 0
    this.body.copy(message, headerBytes + name.length + 1)
    return message
  }
}

const headerBytes = 5

/** What the effects of statements depend on. */
export interface StatementKnowledge {
  /** Another one when more, or something else, is known. */
  readonly version: number
  effectsOf(body: Buffer, start: number, end: number): SessionEffects
}

/**
 * One object for every statement that looks the same to a server, so that clients share them and their text is
 * looked through once. Bounded: what was made first is forgotten first; who holds a statement keeps it.
 */
export class StatementCache {
  readonly #known = new Map<string, Statement>()
  readonly #countMax: number
  readonly #bytesMax: number
  readonly #unusual = new Map<string, Statement>()
  /** What a class was run as last: most are always the same. */
  readonly #ofClass = new WeakMap<StatementClass, Statement>()
  #bytes = 0
  /** The context that was the first, and likely is that of most: it makes no key longer. */
  #usual: string | undefined

  constructor(countMax = 20_000, bytesMax = 32 * 1024 * 1024) {
    this.#countMax = countMax
    this.#bytesMax = bytesMax
  }

  /**
   * The statement whose Parse body, behind the name, is `chunk[start, end)`. `context` stands for what changes its
   * meaning besides its text: search_path and role, and how its constants are read.
   */
  of(chunk: Buffer, start: number, end: number, context: string): Statement {
    this.#usual ??= context
    const text = chunk.toString('latin1', start, end)
    // In maps of their own: the text may be anything, and so may be made to look like another one with its context.
    const isUsual = context === this.#usual
    const all = isUsual ? this.#known : this.#unusual
    const key = isUsual ? text : `${context.length}:${context}${text}`
    const known = all.get(key)
    if (known) return known
    const statement = new Statement(Buffer.from(chunk.subarray(start, end)), context)
    all.set(key, statement)
    this.#bytes += 2 * key.length
    while (all.size > this.#countMax || (this.#bytes > this.#bytesMax && all.size > 1)) {
      const [oldest] = all.keys()
      all.delete(oldest!)
      this.#bytes -= 2 * oldest!.length
    }
    return statement
  }

  /**
   * The statement with parameters that a Query of class `found` is run as; undefined for one that is run as it came,
   * because it has not come often enough.
   */
  ofQuery({ body, bodyBytes }: Parameterized, context: string, found: StatementClass): Statement | undefined {
    const last = this.#ofClass.get(found)
    const isLast = last?.context === context && isSame(last.body, body, bodyBytes)
    const statement = isLast ? last : this.of(body, 0, bodyBytes, context)
    if (!isLast) this.#ofClass.set(found, statement)
    found.noteText(statement.uses > 0)
    return statement.comes() ? statement : undefined
  }
}

function isSame(body: Buffer, other: Buffer, bytes: number): boolean {
  if (body.length !== bytes) return false
  for (let at = 0; at < bytes; at++) if (body[at] !== other[at]) return false
  return true
}

let moment = 0

/** Counts up: of two moments the later one has the higher number. */
export function nextMoment(): number {
  return ++moment
}

/** Parsing and planning take tenths of a millisecond, of very large statements a few. */
const slowMs = 50
/** See `choose_custom_plan` in PostgreSQL's plancache.c. */
const customPlans = 5
const muchLonger = 1.5

/** A statement without a name is prepared when it has come so often, */
const usesToPrepare = 2
/** and not any more when it was refused more often than that. */
const refusalsMax = 3

interface OnServer {
  name: string
  usedAt: number
  /** When it was parsed, on the scale of `Moments`. */
  readonly parsedAt: number
  /** What columns its result has, as far as anybody has asked. It stays so: PostgreSQL refuses to change them. */
  shape: string | undefined
  /** It should be prepared anew where nobody can tell. */
  isDoubtful: boolean
  /** How often it was bound since it was parsed. */
  runs: number
  /** The unit of the server connection in which it is parsed, while nobody knows whether that succeeds. */
  unit: number | undefined
}

/** The statements that a server connection knows. */
export class ServerStatements {
  readonly #known = new Map<Statement, OnServer>()
  #uses = 0
  #names = 0

  get size(): number {
    return this.#known.size
  }

  /** Its name on the server; undefined when it is not there. */
  use(statement: Statement): string | undefined {
    const known = this.#known.get(statement)
    if (!known) return undefined
    known.usedAt = ++this.#uses
    known.runs++
    return known.name
  }

  /** A name for a statement that is about to be parsed. */
  add(statement: Statement, unit: number): string {
    const name = `pgherd_${++this.#names}`
    const parsedAt = nextMoment()
    this.#known.set(statement, {
      name,
      usedAt: ++this.#uses,
      unit,
      parsedAt,
      shape: undefined,
      isDoubtful: false,
      runs: 1,
    })
    return name
  }

  /**
   * It was answered. PostgreSQL plans a statement for its values five times, and may have one plan for all values then.
   * Where that seems to be a bad one, the statement is prepared anew: when it takes much longer than it ever did with a
   * plan for its values, and when it was never quick, so that being prepared spares nothing worth having. What waits
   * for a lock now and then does so with any plan.
   */
  answered(statement: Statement, ms: number): void {
    if (ms <= slowMs) {
      statement.wasQuick = true
      return
    }
    const known = this.#known.get(statement)
    if (!known) return
    if (!statement.wasQuick) known.isDoubtful = true
    else if (known.runs <= customPlans) statement.plannedMs = Math.max(statement.plannedMs, ms)
    else if (ms > muchLonger * statement.plannedMs) known.isDoubtful = true
  }

  /** What columns its result has, and since when. */
  shapeOf(statement: Statement): Readonly<OnServer> | undefined {
    return this.#known.get(statement)
  }

  /** Whether it is there and is to be prepared anew: it may mean something else since `changedAt`, or its plan is doubtful. */
  isOutdated(statement: Statement, changedAt: number): boolean {
    const known = this.#known.get(statement)
    return known !== undefined && (known.isDoubtful || known.parsedAt < changedAt)
  }

  describe(statement: Statement, name: string, shape: string): void {
    const known = this.#known.get(statement)
    if (known?.name === name) known.shape = shape
  }

  /** Its Parse has succeeded. */
  confirm(statement: Statement, name: string): void {
    const known = this.#known.get(statement)
    if (known?.name === name) known.unit = undefined
  }

  /** Whether it is parsed in a unit before `unit` that may still fail: then nobody knows whether it is there. */
  isUncertain(statement: Statement, unit: number): boolean {
    const parsedIn = this.#known.get(statement)?.unit
    return parsedIn !== undefined && parsedIn < unit
  }

  /** Takes the one out that was not used for longest, when there are more than `max`. Returns its name. */
  evict(max: number): { statement: Statement; name: string; isCertain: boolean } | undefined {
    if (this.#known.size <= max) return undefined
    let oldest: [Statement, OnServer] | undefined
    for (const entry of this.#known) if (!oldest || entry[1].usedAt < oldest[1].usedAt) oldest = entry
    if (!oldest) return undefined
    const [statement, { name, unit }] = oldest
    this.#known.delete(statement)
    return { statement, name, isCertain: unit === undefined }
  }

  /** It is not there under this name after all. */
  forget(statement: Statement, name: string): void {
    if (this.#known.get(statement)?.name === name) this.#known.delete(statement)
  }

  /** It is still there: the Close was not carried out. */
  restore(statement: Statement, name: string): void {
    if (!this.#known.has(statement))
      this.#known.set(statement, {
        name,
        usedAt: 0,
        unit: undefined,
        parsedAt: 0,
        shape: undefined,
        isDoubtful: false,
        runs: customPlans,
      })
  }

  clear(): void {
    this.#known.clear()
  }
}
