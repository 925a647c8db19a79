import { parametersOf, plainlyWritten } from './parameters.ts'
import { type Dependencies, readTree } from './parse-tree.ts'

/** Why a statement gets a server connection of its own. */
export const shareRefusals = [
  // By its text.
  /** More than one statement. */
  'several',
  /** Anything but a SELECT, VALUES or TABLE that only reads. */
  'not_read',
  'locking',
  'into',
  'sampling',
  /** The parser refuses it, or a constant or comment in it never ends. */
  'unreadable',
  'too_long',
  /** Grammar whose meaning is not known here. */
  'unknown_node',
  /** A name with other characters than ASCII, which client and catalog may write differently. */
  'unusual_name',
  // By what the database's catalog says.
  /** Nothing is known of the database at present, or it has too much to know. */
  'facts_missing',
  /** Something that no statement names is volatile: an implicit cast, a comparison. */
  'volatile_implicit',
  'function_unknown',
  'function_volatile',
  'operator_unknown',
  'operator_volatile',
  'type_volatile',
  'relation_unknown',
  /** A column's type is volatile. */
  'relation_volatile',
  'policy_volatile',
  'view_volatile',
  'foreign_table',
  'system_view',
  'sequence',
  /** It may leave something behind in the session. */
  'session_effects',
] as const
export type ShareRefusal = (typeof shareRefusals)[number]

/** Refusals that leave it a statement which reads and does nothing else, as far as its text tells. */
const readRefusals: ReadonlySet<ShareRefusal | undefined> = new Set([undefined, 'sampling', 'unusual_name'])

/** What can be said of all statements with one fingerprint, whatever the database. */
export class StatementClass {
  /** As `Fingerprinter` writes it. */
  readonly text: Buffer
  /** Why none of them may share a lane anywhere. */
  readonly refusal: ShareRefusal | undefined
  /** By its text it only reads: no writing part, no row locks, no new table. It may be refused nevertheless. */
  readonly isRead: boolean
  /** What it means depends on these; of no account when it is refused. */
  readonly dependencies: Dependencies
  /** Which of its constants could be parameters; see `parametersOf`. */
  readonly parameters: Uint8Array | undefined
  /** The table that it writes to, when it is an INSERT, UPDATE or DELETE that calls no functions and gives no rows back. */
  readonly writes: string | undefined
  /** How often a text of it with parameters had not come before, and how often it had. */
  #newTexts = 0
  #knownTexts = 0
  /** How often it was left out since then because most texts are new. */
  #leftOut = 0

  constructor(
    text: Buffer,
    refusal: ShareRefusal | undefined,
    dependencies: Dependencies,
    parameters?: Uint8Array,
    writes?: string,
  ) {
    this.text = text
    this.refusal = refusal
    this.isRead = readRefusals.has(refusal)
    this.dependencies = dependencies
    this.parameters = parameters
    this.writes = writes
  }

  /** A text of it with parameters has come. */
  noteText(isKnown: boolean): void {
    if (isKnown) this.#knownTexts++
    else this.#newTexts++
  }

  /** Whether its texts differ in more than what could be parameters, so that most would be prepared for nothing. */
  isVaried(): boolean {
    if (this.#newTexts <= newTextsMax || this.#knownTexts >= this.#newTexts * 4) return false
    // Now and then it is looked at anew.
    if (++this.#leftOut % leftOutMax === 0) {
      this.#newTexts = 0
      this.#knownTexts = 0
    }
    return true
  }
}

const newTextsMax = 100
const leftOutMax = 10_000

/** Gives the parse tree of a text as libpg-query does; throws what cannot be parsed. */
export type Parse = (text: string) => unknown

/** `text` is what a `Fingerprinter` has written, and becomes the class's own. */
export function classify(text: Buffer, parse: Parse): StatementClass {
  const { refusal, dependencies, parameters, writes } = parseAndRead(text, parse)
  return new StatementClass(text, refusal, dependencies, parameters, writes)
}

function parseAndRead(
  text: Buffer,
  parse: Parse,
): ReturnType<typeof readTree> & { parameters?: Uint8Array | undefined; writes?: string | undefined } {
  // The parser takes this for a mistake of the caller.
  if (text.length === 0) return { refusal: 'not_read', dependencies: noDependencies }
  try {
    // A character a byte: in whatever encoding it is, what is not ASCII can only be part of a name.
    const tree = parse(text.toString('latin1'))
    const read = readTree(tree)
    const writes = read.refusal === 'not_read' ? plainlyWritten(tree) : undefined
    return read.refusal === undefined || writes !== undefined
      ? { ...read, parameters: parametersOf(tree, text), writes }
      : read
  } catch {
    // No SQL that the parser knows, or too deep for it.
    return { refusal: 'unreadable', dependencies: noDependencies }
  }
}

export const noDependencies: Dependencies = {
  functions: [],
  forms: [],
  operators: [],
  relations: [],
  types: [],
  fields: [],
}
