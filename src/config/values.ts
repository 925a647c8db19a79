import type { FieldMeta } from './fields.ts'
import { type Field, fields, sections, valueAt } from './keys.ts'
import type { Config, NodeConfig } from './schema.ts'
import { formatDuration, formatSize } from './units.ts'

/** Stands wherever the value of a secret would. */
export const redacted = '[redacted]'

/** Fields outside lists, in the order of the schema; a list of sections is handled as one value. */
export const plainFields: readonly Field[] = fields.filter(({ pattern }) => !pattern.includes('[]'))
const nodeFields = fields.filter(({ section }) => section === 'nodes[]')

/** Sections whose presence means something by itself, such as `store.tls`. */
const optionalSections = sections.filter(
  ({ pattern, defaulted }) => !defaulted && pattern !== '' && !pattern.includes('[]'),
)

export function presentSections(config: Config): string[] {
  const present = optionalSections.filter(({ pattern }) => valueAt(config, pattern.split('.')) !== undefined)
  return present.map(({ pattern }) => pattern)
}

/** Keys of the top level, in the order of the schema. */
export const topKeys: readonly string[] = sections[0]?.keys ?? []

/** The loaded value of a field as it would be written in a file; secrets are redacted, undefined stays. */
export function writtenValue(field: Field, config: Config): unknown {
  return written(field.meta, valueAt(config, field.pattern.split('.')))
}

/** A node as it would be written in a file, without the keys that have their default. */
export function writtenNode(node: NodeConfig): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const { name, meta, byDefault } of nodeFields) {
    const value = written(meta, node[name as keyof NodeConfig])
    if (value !== undefined && JSON.stringify(value) !== JSON.stringify(byDefault)) result[name] = value
  }
  return result
}

function written(meta: FieldMeta, value: unknown): unknown {
  if (value === undefined) return undefined
  if (meta.secret) return redacted
  if (typeof value !== 'number') return value
  if (meta.kind === 'duration') return formatDuration(value) === '0' ? 0 : formatDuration(value)
  if (meta.kind === 'size') return formatSize(value) === '0' ? 0 : formatSize(value)
  return value
}
