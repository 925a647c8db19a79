import type { Problem } from '../config/problem.ts'
import { type AddressRange, parseAddress, parseMaskedRange, parseRange } from './addresses.ts'
import {
  type HbaDatabase,
  type HbaMethod,
  type HbaName,
  type HbaRule,
  type HbaType,
  type HbaUser,
  hbaMethods,
  hbaTypes,
} from './hba.ts'
import { type HbaField, type HbaToken, hbaFields, hbaLines } from './hba-tokens.ts'
import { compilePattern, isPattern } from './patterns.ts'

/** Reads access rules from the text of a pg_hba.conf or from objects of pgherd's own configuration. */

export interface HbaTable {
  rules: HbaRule[]
  /** With any of these the rules must not be used: what was meant to be refused may be let in. */
  problems: Problem[]
}

/** What is wrong with rules that name a map which is not there. `path` as for `parseHbaObjects`; else it is a file. */
export function missingMapProblems(
  rules: readonly HbaRule[],
  maps: ReadonlySet<string>,
  file: string,
  path?: string,
): Problem[] {
  const missing = rules.filter(({ map }) => map !== undefined && !maps.has(map))
  return missing.map(({ line, map }) => {
    const problem = problemAt(file, path === undefined ? line : 0, `there is no map "${map}"`)
    return path === undefined ? problem : { ...problem, path: `${path}[${line - 1}]` }
  })
}

export const hbaTextBytesMax = 1024 * 1024
export const hbaRulesMax = 10_000

/**
 * A rule in the configuration. Words as `all` have their meaning unless they stand in double quotes, as in
 * pg_hba.conf; everything else is taken as it is.
 */
export interface HbaRuleObject {
  type: string
  database: string | readonly string[]
  user: string | readonly string[]
  /** Not for `local`. */
  address?: string | undefined
  method: string
  map?: string | undefined
}

/** Reads the lines of a pg_hba.conf. `file` is how the problems name it. */
export function parseHba(text: string, file: string): HbaTable {
  if (Buffer.byteLength(text) > hbaTextBytesMax) {
    return { rules: [], problems: [problemAt(file, 0, `access rules of more than ${hbaTextBytesMax} bytes`)] }
  }
  const drafts = hbaLines(text)
    .map(line => ({ line: line.line, fields: hbaFields(line.text) ?? 'a quote is not closed' }))
    .filter(draft => draft.fields.length > 0)
  return build(file, drafts, line => ({ line, path: '' }))
}

/** Reads rules of the configuration. `file` and `path` (as `auth.rules`) are how the problems name them. */
export function parseHbaObjects(rules: readonly HbaRuleObject[], file: string, path: string): HbaTable {
  const drafts = rules.map((rule, index) => ({ line: index + 1, fields: fieldsOf(rule) }))
  return build(file, drafts, line => ({ line: 0, path: `${path}[${line - 1}]` }))
}

function fieldsOf(rule: HbaRuleObject): HbaField[] | string {
  if ((rule.type === 'local') !== (rule.address === undefined)) {
    return rule.type === 'local' ? 'a rule of type local has no address' : 'the address is missing'
  }
  const values = [rule.type, rule.database, rule.user, rule.address, rule.method]
  const fields = values.filter(value => value !== undefined).map(fieldOf)
  if (fields.some(field => field.length === 0)) return 'a list is empty: a rule for everything says all'
  if (rule.map !== undefined) fields.push(fieldOf(`map=${rule.map}`))
  return fields
}

function fieldOf(value: string | readonly string[]): HbaField {
  return (typeof value === 'string' ? [value] : value).map(text => {
    const quoted = text.length > 1 && text.startsWith('"') && text.endsWith('"')
    return { text: quoted ? text.slice(1, -1) : text, quoted }
  })
}

interface Draft {
  line: number
  /** Or what is wrong with them. */
  fields: HbaField[] | string
}

function build(
  file: string,
  drafts: readonly Draft[],
  place: (line: number) => { line: number; path: string },
): HbaTable {
  if (drafts.length > hbaRulesMax) {
    return { rules: [], problems: [problemAt(file, 0, `more than ${hbaRulesMax} access rules`)] }
  }
  const rules: HbaRule[] = []
  const problems: Problem[] = []
  for (const draft of drafts) {
    const rule = typeof draft.fields === 'string' ? draft.fields : readRule(draft.fields, draft.line)
    if (typeof rule !== 'string') rules.push(rule)
    else {
      const { line, path } = place(draft.line)
      problems.push({ ...problemAt(file, line, rule), path })
    }
  }
  return { rules, problems }
}

function problemAt(file: string, line: number, message: string): Problem {
  return { file, line, column: line > 0 ? 1 : 0, path: '', message }
}

/** A rule, or what is wrong with it. */
function readRule(fields: readonly HbaField[], line: number): HbaRule | string {
  const misplaced = fields.find(field => field.some(token => !token.quoted && /^@./.test(token.text)))
  if (misplaced) return 'lists from other files (@file) are not supported: write the names here'
  const [typeField, databaseField, userField, ...rest] = fields
  const type = readType(typeField!)
  if (typeof type === 'object') return type.problem
  if (!databaseField || !userField) return 'a rule is: type, database, user, address (not for local), method'
  const databases = readList(databaseField, readDatabase)
  if (typeof databases === 'string') return databases
  const users = readList(userField, readUser)
  if (typeof users === 'string') return users
  const address = type === 'local' ? { range: 'all' as const, fields: 0 } : readAddress(rest)
  if (typeof address === 'string') return address
  const [methodField, ...options] = rest.slice(address.fields)
  const method = readMethod(methodField, type)
  if (typeof method === 'object') return method.problem
  const map = readMap(options, method)
  if (typeof map === 'object') return map.problem
  return { type, databases, users, address: address.range, method, map, line }
}

function readType(field: HbaField): HbaType | { problem: string } {
  const text = only(field)
  const type = hbaTypes.find(known => known === text)
  if (type) return type
  if (text === 'hostgssenc' || text === 'hostnogssenc') {
    return { problem: `"${text}" is not supported, since pgherd does no GSSAPI encryption: use host` }
  }
  if (text?.startsWith('include')) {
    return { problem: `"${text}" is not supported: write the rules of the other file here` }
  }
  return { problem: `a rule begins with one of ${hbaTypes.join(', ')}${text ? `, not with "${text}"` : ''}` }
}

function readList<T>(field: HbaField, read: (token: HbaToken) => T | string): T[] | string {
  const values: T[] = []
  for (const token of field) {
    const value = read(token)
    if (typeof value === 'string') return value
    values.push(value)
  }
  return values
}

function readDatabase(token: HbaToken): HbaDatabase | string {
  if (!token.quoted) {
    if (token.text === 'all') return { kind: 'all' }
    if (token.text === 'sameuser') return { kind: 'sameuser' }
    if (token.text === 'replication') return { kind: 'replication' }
    if (token.text === 'samerole' || token.text === 'samegroup') {
      return `"${token.text}" is not supported, since pgherd does not know who is a member of what: name the databases`
    }
  }
  return readName(token)
}

function readUser(token: HbaToken): HbaUser | string {
  if (!token.quoted) {
    if (token.text === 'all') return { kind: 'all' }
    if (token.text.startsWith('+')) {
      return `"${token.text}" is not supported, since pgherd does not know who is a member of what: name the users`
    }
  }
  return readName(token)
}

/** A name; behind a slash a regular expression, quoted or not. */
function readName({ text }: HbaToken): HbaName | string {
  if (text === '') return 'a name is empty'
  if (!isPattern(text)) return { kind: 'name', name: text }
  const pattern = compilePattern(text)
  return typeof pattern === 'string' ? pattern : { kind: 'pattern', pattern }
}

function readAddress(fields: readonly HbaField[]): { range: 'all' | AddressRange; fields: number } | string {
  const [addressField, maskField] = fields
  if (!addressField) return 'the address and the method are missing'
  const text = only(addressField)
  if (text === undefined) return 'a rule has one address: write a rule for each'
  if (!addressField[0]!.quoted) {
    if (text === 'all') return { range: 'all', fields: 1 }
    if (text === 'samehost' || text === 'samenet')
      return `"${text}" is not supported: write the address range`
  }
  if (text.includes('/')) {
    const range = parseRange(text)
    return range
      ? { range, fields: 1 }
      : `"${text}" is not an address range such as 10.0.0.0/8 or 2001:db8::/32`
  }
  if (!parseAddress(text)) {
    return `"${text}" is not an address range: write one such as 10.0.0.0/8 (host names are not supported), or all`
  }
  const mask = maskField && only(maskField)
  const range = mask === undefined ? undefined : parseMaskedRange(text, mask)
  if (!range) {
    const alone = `${text}/${text.includes(':') ? 128 : 32}`
    return `the address ${text} has no prefix, or no valid mask behind it: write ${alone} for it alone`
  }
  return { range, fields: 2 }
}

function readMethod(field: HbaField | undefined, type: HbaType): HbaMethod | { problem: string } {
  const text = field && only(field)
  if (text === undefined) return { problem: 'the method is missing' }
  const method = hbaMethods.find(known => known === text)
  if (!method)
    return { problem: `the method "${text}" is not supported: use one of ${hbaMethods.join(', ')}` }
  if (method === 'cert' && type !== 'hostssl') {
    return { problem: 'the method cert needs TLS: the rule must be of type hostssl' }
  }
  return method
}

function readMap(options: readonly HbaField[], method: HbaMethod): string | undefined | { problem: string } {
  let map: string | undefined
  for (const field of options) {
    const text = only(field)
    const value = text !== undefined && text.startsWith('map=') ? text.slice('map='.length) : ''
    // An option that is not understood may be one that makes the rule stricter.
    if (value === '' || map !== undefined) return { problem: `the option "${text ?? ''}" is not supported` }
    if (method !== 'cert') return { problem: 'the option map is only for the method cert' }
    map = value
  }
  return map
}

/** The value of a field that may have only one. */
function only(field: HbaField): string | undefined {
  return field.length === 1 ? field[0]!.text : undefined
}
