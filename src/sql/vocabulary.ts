import { anyEffects, Effect, type NameEffects } from './effects.ts'
import { keywords, Special } from './keywords.ts'
import { WordTable } from './words.ts'

/** What a scan knows about one identifier. */
export interface WordFacts {
  /** As a keyword: see `Bit`. Void in quotes and after a dot. */
  readonly bits: number
  readonly special: Special
  /** Called as a function it is one that is known; `call` tells what comes with that, if anything. */
  readonly isFunction: boolean
  readonly call: NameEffects | undefined
  /** What comes with it as a relation or a type, wherever it stands. */
  readonly relation: NameEffects | undefined
}

/** What is known about one database, as far as statements may touch a session through it. Made by `session-facts.ts`. */
export interface SessionFacts {
  /** What is harmless by its words may still change the session: any statement counts as one that may. */
  readonly everything: boolean
  readonly words: WordTable<WordFacts>
  /** What may come with any statement (through an operator or a cast that has no name in the text). */
  readonly unnamed: NameEffects | undefined
  /** What comes with changing the catalog (event triggers). */
  readonly definition: NameEffects | undefined
  /** What all of the database's own code together may do: dynamic SQL may run any of it. */
  readonly anything: NameEffects
  /** A name that counts has other characters than plain ASCII, which another client_encoding writes differently. */
  readonly hasUnusualNames: boolean
  /** Of the catalog that they were read from; '' for none. */
  readonly fingerprint: string
  /**
   * Words before a parenthesis that were looked up since and are no functions: mostly lists of columns behind a name.
   * Added to by whoever looks up.
   */
  readonly noCalls: Set<string>
}

/** The rules of `set_config` need its arguments; the scan knows it by this object. */
export const setConfig: NameEffects = { mask: Effect.Changes, customSettings: [], obstacle: undefined }

/** `UPDATE pg_settings` calls set_config by a rule. */
export const settingsView: NameEffects = { mask: 0, customSettings: [], obstacle: undefined }

export const noNameEffects: NameEffects = { mask: 0, customSettings: [], obstacle: undefined }

interface BuiltinRule {
  names: string
  mask: number
  obstacle?: string
}

/**
 * The functions of PostgreSQL itself (versions 11 to 18) that reach beyond their transaction, or that run what
 * stands in their arguments: they take SQL text, or the name of a relation or a type.
 */
const builtinRules: readonly BuiltinRule[] = [
  {
    names:
      'pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared pg_replication_origin_session_reset',
    mask: Effect.Changes,
  },
  {
    names: 'pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all',
    mask: Effect.Changes | Effect.Ends,
  },
  { names: 'currval lastval', mask: Effect.ReadsSequence },
  { names: 'nextval setval', mask: Effect.WritesSequence },
  {
    names: `query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml table_to_xml_and_xmlschema
      schema_to_xml schema_to_xml_and_xmlschema database_to_xml database_to_xml_and_xmlschema cursor_to_xml
      ts_stat ts_rewrite pg_input_is_valid pg_input_error_info brin_summarize_new_values brin_summarize_range`,
    mask: anyEffects,
  },
  { names: 'setseed', mask: Effect.Changes, obstacle: 'it has seeded random() (setseed)' },
  {
    names: 'pg_create_physical_replication_slot pg_create_logical_replication_slot',
    mask: Effect.Changes,
    obstacle: 'it may own a temporary replication slot',
  },
  {
    names: 'pg_copy_physical_replication_slot pg_copy_logical_replication_slot',
    mask: Effect.Changes,
    obstacle: 'it may own a temporary replication slot',
  },
  {
    names: 'pg_replication_origin_session_setup',
    mask: Effect.Changes,
    obstacle: 'it has set a replication origin',
  },
  {
    names: 'pg_start_backup pg_backup_start pg_stop_backup pg_backup_stop',
    mask: Effect.Changes,
    obstacle: 'it has begun a base backup',
  },
]

/** The built-in functions that a view, a default or a policy may hide: their names in the catalog. */
export const touchyBuiltins: readonly string[] = [
  'set_config',
  ...builtinRules.flatMap(({ names }) => names.split(/\s+/)).filter(name => !/^(next|set)val$/.test(name)),
]

const unknownWord: WordFacts = {
  bits: 0,
  special: Special.None,
  isFunction: false,
  call: undefined,
  relation: undefined,
}
/** Nearly every function: one object for all of them. */
const harmlessFunction: WordFacts = { ...unknownWord, isFunction: true }

/** A table with the language's own words and rules, to which a database's names are added. */
export function newVocabulary(): WordTable<WordFacts> {
  const words = new WordTable<WordFacts>()
  for (const [name, { bits, special }] of keywords) words.set(name, { ...unknownWord, bits, special })
  for (const { names, mask, obstacle } of builtinRules) {
    const call: NameEffects = { mask, customSettings: [], obstacle }
    for (const name of names.split(/\s+/)) refine(words, name, { isFunction: true, call })
  }
  refine(words, 'set_config', { isFunction: true, call: setConfig })
  refine(words, 'pg_settings', { relation: settingsView })
  return words
}

/** `name` is that of a function; what is known about the name besides stays. */
export function addFunction(words: WordTable<WordFacts>, name: string): void {
  const word = words.get(name)
  if (!word) words.set(name, harmlessFunction)
  else if (!word.isFunction) words.set(name, { ...word, isFunction: true })
}

/** Replaces a part of what is known about `name`. */
export function refine(words: WordTable<WordFacts>, name: string, part: Partial<WordFacts>): void {
  words.set(name, { ...(words.get(name) ?? unknownWord), ...part })
}

/** Before the facts of a database are loaded, or when it has too many of them. */
export const unloadedFacts: SessionFacts = {
  everything: true,
  words: newVocabulary(),
  unnamed: { mask: anyEffects, customSettings: [], obstacle: undefined },
  definition: undefined,
  anything: { mask: anyEffects, customSettings: [], obstacle: undefined },
  hasUnusualNames: false,
  fingerprint: '',
  noCalls: new Set(),
}
