import type { FieldMeta } from './fields.ts'
import { type Field, fields, isInElement, sections, valueAt } from './keys.ts'
import type { Config, NodeConfig } from './schema.ts'
import { formatDuration, formatSize } from './units.ts'

/** Stands wherever the value of a secret would. */
export const redacted = '[redacted]'

/** Fields that stand in no element, in the order of the schema; a list of sections is handled as one value. */
export const plainFields: readonly Field[] = fields.filter(({ pattern }) => !isInElement(pattern))

/** Sections whose presence means something by itself, such as `store.tls`. */
const optionalSections = sections.filter(
  ({ pattern, defaulted }) => !defaulted && pattern !== '' && !isInElement(pattern),
)

export function presentSections(config: Config): string[] {
  const present = optionalSections.filter(({ pattern }) => valueAt(config, pattern.split('.')) !== undefined)
  return present.map(({ pattern }) => pattern)
}

/** Keys of the top level, in the order of the schema. */
export const topKeys: readonly string[] = sections[0]?.keys ?? []

/** The loaded value of a field as it would be written in a file; secrets are redacted, undefined stays. */
export function writtenValue(field: Field, config: Config): unknown {
  const value = valueAt(config, field.pattern.split('.'))
  if (Array.isArray(value)) return value.map(element => writtenElement(`${field.pattern}[]`, element))
  if (field.meta.kind !== 'map' || typeof value !== 'object' || value === null) {
    return written(field.meta, value)
  }
  const entries = Object.entries(value)
  return Object.fromEntries(
    entries.map(([name, element]) => [name, writtenElement(`${field.pattern}.*`, element)]),
  )
}

/** A node as it would be written in a file, without the keys that have their default. */
export function writtenNode(node: NodeConfig): Record<string, unknown> {
  return writtenElement('nodes[]', node) as Record<string, unknown>
}

/** An element that is not a section, such as a text, is written as it is. */
function writtenElement(section: string, element: unknown): unknown {
  if (typeof element !== 'object' || element === null) return element
  const result: Record<string, unknown> = {}
  for (const { name, meta, byDefault } of fieldsOfSection(section)) {
    const value = written(meta, (element as Record<string, unknown>)[name])
    if (value !== undefined && JSON.stringify(value) !== JSON.stringify(byDefault)) result[name] = value
  }
  return result
}

function fieldsOfSection(section: string): Field[] {
  return fields.filter(field => field.section === section)
}

function written(meta: FieldMeta, value: unknown): unknown {
  if (value === undefined) return undefined
  if (meta.secret) return redacted
  if (typeof value !== 'number') return value
  if (meta.kind === 'duration') return formatDuration(value) === '0' ? 0 : formatDuration(value)
  if (meta.kind === 'size') return formatSize(value) === '0' ? 0 : formatSize(value)
  return value
}

/** Puts the value that `source` has for the field into `target`, which has its section. */
export function copyField(target: Config, field: Field, source: unknown): void {
  const path = field.pattern.split('.')
  const parent = valueAt(target, path.slice(0, -1)) as Record<string, unknown>
  parent[field.name] = valueAt(source, path)
}
