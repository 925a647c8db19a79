import { isOwn } from './own-settings.ts'

/**
 * The settings that a session has on top of those that its database and user have by default. A client of a shared
 * pool keeps them here, and they are brought onto whichever server connection it gets.
 */
export class Settings {
  /** Nothing set. */
  static readonly none = new Settings(new Map())

  /** Values by name; names in lower case. Text is one character a byte. */
  readonly values: ReadonlyMap<string, string>
  /** Equal keys mean equal settings. */
  readonly key: string
  /** Equal ones mean that a server sees no difference: pgherd's own settings are left out. */
  readonly serverKey: string

  constructor(values: ReadonlyMap<string, string>) {
    this.values = values
    this.key = keyOf(values)
    const names = [...values.keys()]
    this.serverKey = names.some(isOwn)
      ? keyOf(new Map([...values].filter(([name]) => !isOwn(name))))
      : this.key
  }

  static of(values: ReadonlyMap<string, string>): Settings {
    return values.size === 0 ? Settings.none : new Settings(values)
  }

  equals(other: Settings): boolean {
    return this === other || this.key === other.key
  }

  /** These with one more, or with another value for it. */
  with(name: string, value: string): Settings {
    if (this.values.get(name) === value) return this
    return new Settings(new Map([...this.values, [name, value]]))
  }

  without(name: string): Settings {
    if (!this.values.has(name)) return this
    return Settings.of(new Map([...this.values].filter(([each]) => each !== name)))
  }

  /** The names of a made-up class (`app.tenant`): a server that has once had them never quite forgets. */
  get customNames(): string[] {
    return [...this.values.keys()].filter(name => name.includes('.'))
  }
}

function keyOf(values: ReadonlyMap<string, string>): string {
  return values.size === 0 ? '' : parametersKey(values)
}

/** What a StartupMessage asks for, sorted by how it can be had. */
export interface StartupSettings {
  /** Can be set on any connection. */
  settings: Settings
  /** Only a connection that was opened with them has them: user and database, and what cannot be set later. */
  fixed: ReadonlyMap<string, string>
  /** Equal keys mean equal `fixed`. */
  fixedKey: string
}

/** What a StartupMessage may hold that is no setting. */
const notSettings = new Set(['user', 'database', 'replication', 'options'])

/** Settings that PostgreSQL takes only while a connection begins (contexts `backend` and `superuser-backend`). */
const onlyAtStart = new Set([
  'ignore_system_indexes',
  'jit_debugging_support',
  'jit_profiling_support',
  'local_preload_libraries',
  'log_connections',
  'log_disconnections',
  'post_auth_delay',
])

/** Everything that follows from what a StartupMessage says. */
export interface StartupForm {
  user: string
  database: string
  /** With the database named, as it would be by default. */
  parameters: ReadonlyMap<string, string>
  /** Equal keys mean equal parameters. */
  parametersKey: string
  sorted: StartupSettings
  /** Database and user: which of a node's pools serves it. */
  poolKey: string
}

/** Clients of one program say the same: they share what follows from it. Bounded: who has a form keeps it. */
export class StartupForms {
  readonly #known = new Map<string, StartupForm>()

  of(asked: ReadonlyMap<string, string>, database: string, user: string): StartupForm {
    const parameters = new Map([...asked, ['database', database]])
    const key = parametersKey(parameters)
    const known = this.#known.get(key)
    if (known) return known
    const poolKey = `${database}\0${user}`
    const form = { user, database, parameters, parametersKey: key, sorted: sortStartup(parameters), poolKey }
    if (this.#known.size >= formsMax) this.#known.clear()
    this.#known.set(key, form)
    return form
  }
}

const formsMax = 1000

/** Sorts startup parameters. */
export function sortStartup(parameters: ReadonlyMap<string, string>): StartupSettings {
  const values = new Map<string, string>()
  const fixed = new Map<string, string>()
  for (const name of ['user', 'database', 'replication']) {
    const value = parameters.get(name)
    if (value !== undefined) fixed.set(name, value)
  }
  // In PostgreSQL too, what is named by itself comes after `options` and so wins.
  const options = parameters.get('options')
  if (options !== undefined) {
    const read = readOptions(options)
    if (!read || [...read.keys()].some(name => onlyAtStart.has(name))) fixed.set('options', options)
    else for (const [name, value] of read) values.set(name, value)
  }
  for (const [name, value] of parameters) {
    if (notSettings.has(name)) continue
    const folded = name.toLowerCase()
    if (onlyAtStart.has(folded)) fixed.set(name, value)
    else {
      // The last one counts, and the order of setting is that of naming.
      values.delete(folded)
      values.set(folded, value)
    }
  }
  return { settings: Settings.of(values), fixed, fixedKey: parametersKey(fixed) }
}

/** Equal keys mean equal parameters. */
export function parametersKey(values: ReadonlyMap<string, string>): string {
  return JSON.stringify([...values].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/**
 * Reads the command-line switches of the startup parameter `options`: `-c name=value` and `--name=value`, separated
 * by blanks, a backslash before a character that is meant as it is. Undefined when there is any other switch, which
 * only a server can make sense of.
 */
export function readOptions(options: string): Map<string, string> | undefined {
  const values = new Map<string, string>()
  const words = splitOptions(options)
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!
    let assignment: string | undefined
    if (word.startsWith('--')) assignment = word.slice(2)
    else if (word === '-c') assignment = words[++index]
    else if (word.startsWith('-c')) assignment = word.slice(2)
    const equals = assignment?.indexOf('=') ?? -1
    if (assignment === undefined || equals < 1) return undefined
    values.set(assignment.slice(0, equals).replaceAll('-', '_').toLowerCase(), assignment.slice(equals + 1))
  }
  return values
}

function splitOptions(options: string): string[] {
  const words: string[] = []
  let word: string | undefined
  for (let at = 0; at < options.length; at++) {
    const character = options[at]!
    if (/\s/.test(character)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (character === '\\' && at + 1 < options.length) word = (word ?? '') + options[++at]!
    else word = (word ?? '') + character
  }
  if (word !== undefined) words.push(word)
  return words
}

/** Set before all others, because it decides what the others' values mean. */
const first = new Set(['client_encoding'])
/** Set after all others: they decide what may be set, or how long it may take. */
const last = new Set(['role', 'statement_timeout', 'lock_timeout', 'transaction_timeout'])

/**
 * The statements that turn a server connection with `from` into one with `to`, to be sent as one Query each; none
 * when they are equal. Values are one character a byte.
 */
export function settingsChange(from: Settings, to: Settings): string[] {
  if (from.equals(to)) return []
  const statements: string[] = []
  const resets = [...from.values.keys()].filter(name => !to.values.has(name) || name === 'role')
  // The role that may not reset a setting may well be the one that is left here.
  resets.sort((a, b) => rank(b) - rank(a))
  const sets = [...to.values].filter(
    ([name, value]) => from.values.get(name) !== value || resets.includes(name),
  )
  // The text of a statement is read in the encoding that was set before it.
  const encodes = resets.includes('client_encoding') || sets.some(([name]) => name === 'client_encoding')
  if (encodes && sets.some(([, value]) => !isAscii(value))) {
    statements.push(writeSet('client_encoding', to.values.get('client_encoding')))
  }
  sets.sort(([a], [b]) => rank(a) - rank(b))
  const parts = resets.map(name => writeSet(name, undefined))
  if (sets.length > 0) {
    const calls = sets.map(
      ([name, value]) => `pg_catalog.set_config(${constant(name)}, ${constant(value)}, false)`,
    )
    parts.push(`SELECT ${calls.join(', ')}`)
  }
  if (parts.length > 0) statements.push(parts.join('; '))
  return statements
}

function rank(name: string): number {
  return first.has(name) ? 0 : last.has(name) ? 2 : 1
}

function writeSet(name: string, value: string | undefined): string {
  if (value !== undefined) return `SET ${identifier(name)} TO ${constant(value)}`
  return `RESET ${identifier(name)}`
}

/** A setting's name; the parts of a custom one are quoted each by itself. */
function identifier(name: string): string {
  return name
    .split('.')
    .map(part => `"${part.replaceAll('"', '""')}"`)
    .join('.')
}

function isAscii(text: string): boolean {
  return /^[\0-\x7f]*$/.test(text)
}

/** A string constant that means the same with standard_conforming_strings on and off. */
export function constant(value: string): string {
  const quoted = value.replaceAll("'", "''")
  return quoted.includes('\\') ? `E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`
}
