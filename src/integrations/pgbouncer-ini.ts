import { type ReadFile, readFailure, resolveBeside } from '../config/files.ts'

/** Reads the form of PgBouncer's configuration files: sections, `key = value`, comments, `%include`. */

export interface IniEntry {
  /** `databases`, `users`, `pgbouncer`, `peers`, or whatever stands in the brackets. */
  section: string
  key: string
  value: string
  file: string
  line: number
}

/** One `name=value` of a connection string. */
export interface Parameter {
  name: string
  value: string
}

export type PgBouncerIniErrorCode = 'unreadable' | 'syntax' | 'too_much'

/** The file cannot be read as PgBouncer would. The message names file and line, and shows nothing of the file. */
export class PgBouncerIniError extends Error {
  readonly code: PgBouncerIniErrorCode

  constructor(code: PgBouncerIniErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PgBouncerIniError'
    this.code = code
  }
}

export const iniLengthMax = 16 * 1024 * 1024
/** PgBouncer's own limit. */
const includeDepthMax = 10
const entriesMax = 100_000

/**
 * All entries of a file and those that it includes, in order: of two with the same key the later counts.
 * A relative `%include` is meant from the folder that PgBouncer was started in; here it is looked for in the
 * present folder, then beside the file.
 * @throws PgBouncerIniError
 */
export function readPgBouncerIni(file: string, readFile: ReadFile): IniEntry[] {
  const reader = new IniReader(readFile)
  reader.read(file, 0)
  return reader.entries
}

class IniReader {
  readonly entries: IniEntry[] = []
  readonly #readFile: ReadFile
  #section = ''

  constructor(readFile: ReadFile) {
    this.#readFile = readFile
  }

  read(file: string, depth: number): void {
    const text = this.#textOf(file)
    if (text.length > iniLengthMax) throw tooMuch(file, 'the file is larger than 16 MB')
    for (const [index, line] of text.split('\n').entries()) this.#line(line.trim(), file, index + 1, depth)
  }

  #textOf(file: string): string {
    try {
      return this.#readFile(file).text
    } catch (cause) {
      throw new PgBouncerIniError('unreadable', `${file}: the file ${readFailure(cause)}`, { cause })
    }
  }

  #line(line: string, file: string, number: number, depth: number): void {
    if (line === '' || line.startsWith(';') || line.startsWith('#')) return
    const included = /^%include[ \t]+(.+)$/s.exec(line)
    if (included) return this.#include(included[1]!, file, number, depth)
    const section = /^\[([^\]]*)\]/.exec(line)
    if (section) {
      this.#section = section[1]!
      return
    }
    const entry = readEntry(line)
    if (!entry) {
      const message = `${file}:${number}: neither a comment, a [section], an %include nor \`key = value\``
      throw new PgBouncerIniError('syntax', message)
    }
    if (this.entries.length >= entriesMax) throw tooMuch(file, `there are more than ${entriesMax} settings`)
    this.entries.push({ section: this.#section, ...entry, file, line: number })
  }

  #include(name: string, file: string, number: number, depth: number): void {
    if (depth >= includeDepthMax) throw tooMuch(file, `line ${number} includes files too deeply`)
    const beside = resolveBeside(file, name)
    this.read(this.#exists(name) ? name : beside, depth + 1)
  }

  #exists(file: string): boolean {
    try {
      this.#readFile(file)
      return true
    } catch (error) {
      return readFailure(error) !== 'does not exist'
    }
  }
}

function tooMuch(file: string, what: string): PgBouncerIniError {
  return new PgBouncerIniError('too_much', `${file}: ${what}, which no configuration needs`)
}

const plainKey = /^([\w.*-]+)[ \t]*=[ \t]*(.*)$/s
/** A quote within is doubled. Older files have single quotes. */
const quotedKey = /^(?:"((?:[^"]|"")+)"|'((?:[^']|'')+)')[ \t]*=[ \t]*(.*)$/s

function readEntry(line: string): { key: string; value: string } | undefined {
  const plain = plainKey.exec(line)
  if (plain) return { key: plain[1]!, value: plain[2]! }
  const quoted = quotedKey.exec(line)
  if (!quoted) return undefined
  const key = quoted[1]?.replaceAll('""', '"') ?? quoted[2]!.replaceAll("''", "'")
  return { key, value: quoted[3]! }
}

/**
 * The parameters of a connection string such as `host=a connect_query='select ''x'''`; undefined when PgBouncer
 * would not understand it.
 */
export function readConnectionString(text: string): Parameter[] | undefined {
  const parameter = /[ \t]*([^= \t]+)[ \t]*=[ \t]*(?:'((?:[^']|'')*)'|([^' ][^ ]*))[ \t]*/y
  const parameters: Parameter[] = []
  while (parameter.lastIndex < text.length) {
    const start = parameter.lastIndex
    const match = parameter.exec(text)
    if (!match) return text.slice(start).trim() === '' ? parameters : undefined
    const value = match[2]?.replaceAll("''", "'") ?? match[3]!
    if (value === '') return undefined
    parameters.push({ name: match[1]!, value })
  }
  return parameters
}
