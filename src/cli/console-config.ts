import { type Field, valueAt } from '../config/keys.ts'
import type { Config } from '../config/schema.ts'
import { parseDuration, parseSize } from '../config/units.ts'
import { plainFields, redacted } from '../config/values.ts'
import type { Row } from '../proxy/console/columns.ts'

/**
 * `SHOW CONFIG`: key, value, default, and whether a reload applies a change. Settings of the proxy stand there under
 * their own names, which are PgBouncer's where it has them; times are in seconds, as there.
 */
export function configRows(config: Config): Row[] {
  return plainFields.map(field => {
    const value = field.meta.secret ? secretOf(field, config) : shown(field, valueAt(config, pathOf(field)))
    const byDefault = field.meta.defaultText ?? shown(field, field.byDefault)
    return [nameOf(field), value, byDefault, field.meta.reload === 'live' ? 'yes' : 'no']
  })
}

function pathOf({ pattern }: Field): string[] {
  return pattern.split('.')
}

function nameOf({ pattern }: Field): string {
  return pattern.replace(/^proxy\./, '')
}

function secretOf(field: Field, config: Config): string {
  return valueAt(config, pathOf(field)) === undefined ? '' : redacted
}

/** Of lists and mappings the names alone: what is in them may be secret. */
function shown({ meta }: Field, value: unknown): string {
  if (value === undefined || value === null) return ''
  if (Array.isArray(value))
    return value.map(each => (typeof each === 'string' ? each : nameIn(each))).join(', ')
  if (typeof value === 'object') return Object.keys(value).join(', ')
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  // Loaded values are numbers, defaults are as they are written in a file.
  const read = typeof value === 'string' ? (readers[meta.kind]?.(value) ?? value) : Number(value)
  return typeof read === 'number' && meta.kind === 'duration' ? String(read / 1000) : String(read)
}

const readers: Partial<Record<Field['meta']['kind'], (text: string) => number | undefined>> = {
  duration: parseDuration,
  size: parseSize,
}

function nameIn(element: unknown): string {
  const { name } = element as { name?: unknown }
  return typeof name === 'string' ? name : '...'
}
