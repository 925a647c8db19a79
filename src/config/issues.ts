import type { z } from 'zod'
import type { FieldMeta } from './fields.ts'
import { dotted, type Field, fieldAt, fields, type KeyPath, sectionAt, sections, valueAt } from './keys.ts'
import { didYouMean, editDistance, nearest } from './suggest.ts'
import { formatSize, parseSize } from './units.ts'

/** What is wrong with a value, before it is known where that stands. */
export interface Finding {
  path: KeyPath
  /** Where it stands in the file, when that is not at `path`. */
  place?: KeyPath
  /** `key` where the key itself is wrong, not its value. */
  at: 'key' | 'value'
  /** Follows the name of the key: "must be a port from 1 to 65535, not `70000`". */
  message: string
  hint?: string | undefined
}

type Issue = z.core.$ZodIssue

/** Puts what the schema found into sentences. Values are shown unless they are, or could be, secrets. */
export function findingsOf(issues: readonly Issue[], root: unknown): Finding[] {
  const findings: Finding[] = []
  const seen = new Set<string>()
  for (const issue of issues) {
    const found = issue.code === 'unrecognized_keys' ? unknownKeys(issue) : [describe(issue, root)]
    for (const finding of found) {
      // A value may fail several checks (a pattern and a length); one sentence says it all.
      const id = `${dotted(finding.path)} ${finding.message}`
      if (!seen.has(id)) findings.push(finding)
      seen.add(id)
    }
  }
  return findings
}

function describe(issue: Issue, root: unknown): Finding {
  const path = issue.path as KeyPath
  const at = 'value'
  if (issue.code === 'custom' && issue.params?.['rule'] === true) return { path, at, message: issue.message }
  const value = valueAt(root, path)
  if (value === null) return { path, at, message: 'has no value', hint: 'give it one, or remove the key' }
  const field = fieldAt(path)
  if (!field) return describeSection(path, value)
  if (value === undefined) return { path, at, message: `is missing: it must be ${field.meta.expected}` }
  const { meta } = field
  const isElement = fieldAt(path.slice(0, -1)) === field
  const expected = isElement ? (meta.element ?? meta.expected) : meta.expected
  const hint = isElement ? textHint(value) : hintFor(meta, value)
  return { path, at, message: `must be ${expected}, not ${shown(meta, value)}`, hint }
}

function describeSection(path: KeyPath, value: unknown): Finding {
  const isList = sections.some(({ pattern }) => pattern === `${dotted(path)}[]`)
  if (Array.isArray(value) && isList) {
    return { path, at: 'value', message: `holds ${value.length} elements, more than are allowed` }
  }
  const expected = isList ? 'a list of mappings, as in `- host: 10.0.0.1`' : 'a mapping of keys to values'
  return { path, at: 'value', message: `must be ${expected}, not ${typeName(value)}` }
}

function unknownKeys(issue: z.core.$ZodIssueUnrecognizedKeys): Finding[] {
  const parent = issue.path as KeyPath
  return issue.keys.map(key => {
    // Without a space after its colon a key swallows its value, which may be a secret.
    const [name = ''] = key.split(':')
    if (name !== key) {
      const message = 'has no space after its colon, so YAML takes the whole for a key'
      return { path: [...parent, name], place: [...parent, key], at: 'key', message }
    }
    return { path: [...parent, key], at: 'key', message: 'is not a known key', hint: suggestKey(parent, key) }
  })
}

/** A key of this section that is spelt alike, else the places where a key of just this name is known. */
function suggestKey(parent: KeyPath, key: string): string | undefined {
  const renamed = namesElsewhere.get(key)
  if (renamed?.startsWith(`${dotted(parent)}.`)) return didYouMean([renamed])
  const siblings = alike(key, sectionAt(parent)?.keys ?? [])
  if (siblings.length > 0) return didYouMean(siblings)
  const elsewhere = fields.filter(field => field.name === key).map(field => field.pattern)
  return didYouMean(renamed === undefined ? elsewhere : [renamed])
}

/** One slip of the finger, else the keys of which it is a part, else whatever is near. */
function alike(key: string, known: readonly string[]): string[] {
  const near = nearest(key, known)
  if (near.some(word => editDistance(key, word) <= 1)) return near
  const longer = key.length < partLengthMin ? [] : known.filter(word => word.includes(key))
  return longer.length > 0 ? longer : near
}

/** Shorter ones are a part of too much. */
const partLengthMin = 4

/** Names that PgBouncer and HAProxy users will try, where ours differ. */
const namesElsewhere: ReadonlyMap<string, string> = new Map([
  ['listen_addr', 'proxy.listen'],
  ['listen_port', 'proxy.port'],
  ['pool_size', 'proxy.default_pool_size'],
  ['max_connections', 'proxy.max_client_conn'],
  ['servers', 'nodes'],
  ['backends', 'nodes'],
])

function hintFor(meta: FieldMeta, value: unknown): string | undefined {
  const text = typeof value === 'number' ? String(value) : value
  if (meta.kind === 'duration' && typeof text === 'string' && /^\d+$/.test(text)) {
    return `a duration needs a unit: \`${text}s\` for seconds, \`${text}ms\` for milliseconds`
  }
  if (meta.kind === 'size' && typeof text === 'string') return sizeHint(text)
  if (meta.kind === 'list' && typeof value === 'string') return 'a list is written `[a, b]`'
  if ((meta.kind === 'integer' || meta.kind === 'port') && typeof value === 'string' && /^\d+$/.test(value)) {
    return 'a number stands without quotes'
  }
  if (meta.kind === 'host' && typeof value === 'string' && /.:\d+$/.test(value))
    return 'the port has a key of its own'
  if (meta.kind === 'choice' && typeof value === 'string') {
    return didYouMean(
      nearest(
        value,
        [...meta.expected.matchAll(/`([^`]+)`/g)].map(match => match[1]!),
      ),
    )
  }
  const isText = meta.kind !== 'map' && meta.kind !== 'integer' && meta.kind !== 'port'
  return isText ? textHint(value) : undefined
}

function textHint(value: unknown): string | undefined {
  return typeof value === 'number' || typeof value === 'boolean' ? 'put the text in quotes' : undefined
}

const sizeUnits = ['B', 'kB', 'MB', 'GB', 'TB']

function sizeHint(text: string): string | undefined {
  if (/^\d+$/.test(text)) return `a size needs a unit: \`${text}MB\`, \`${text}kB\`, \`${text}B\``
  const parts = /^([\d.]+) ?([bkmgt])(?:i?b)?$/i.exec(text)
  const unit = sizeUnits.find(unit => unit[0]?.toLowerCase() === parts?.[2]?.toLowerCase())
  const bytes = unit === undefined ? undefined : parseSize(`${parts?.[1]}${unit}`)
  return bytes === undefined ? undefined : `did you mean \`${formatSize(bytes)}\`?`
}

/** A value for a message: quoted and short, and only its type when it could be a secret. */
function shown(meta: Field['meta'], value: unknown): string {
  if (meta.secret || (typeof value === 'object' && value !== null)) return typeName(value)
  if (value === '') return 'an empty text'
  const text = JSON.stringify(String(value)).slice(1, -1)
  return `\`${text.length > 60 ? `${text.slice(0, 60)}…` : text}\``
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  switch (typeof value) {
    case 'string':
      return value === '' ? 'an empty text' : 'a text'
    case 'number':
      return 'a number'
    case 'boolean':
      return 'true or false'
    case 'object':
      return 'a mapping'
    default:
      return 'nothing'
  }
}
