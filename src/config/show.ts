import { stringify } from 'yaml'
import { twinOf } from './keys.ts'
import type { Origin, Origins } from './load.ts'
import type { Config } from './schema.ts'
import { plainFields, presentSections, topKeys, writtenNode, writtenValue } from './values.ts'

/** The effective configuration in the form of a file: secrets redacted, durations and sizes with units. */
export interface Effective {
  /** By key; what is not set is not in it. */
  values: Map<string, unknown>
  /** By key: `default`, `pgherd.yaml:12`, `fleet`, `PGHERD_CLUSTER` or `--port`. */
  origins: Map<string, string>
}

export function effectiveConfig(config: Config, origins: Origins): Effective {
  const effective: Effective = { values: new Map(), origins: new Map() }
  const add = (key: string, value: unknown): void => {
    effective.values.set(key, value)
    effective.origins.set(key, originText(origins.get(key)))
  }
  for (const field of plainFields) {
    const value = writtenValue(field, config)
    // A secret from a file is shown as the name of that file, which is what a configuration would hold.
    const twin = field.meta.secret ? twinOf(field) : undefined
    const fromFile = twin !== undefined && writtenValue(twin, config) !== undefined
    if (value !== undefined && !fromFile) add(field.pattern, value)
  }
  for (const section of presentSections(config)) {
    const hasKeys = [...effective.values.keys()].some(key => key.startsWith(`${section}.`))
    if (!hasKeys) add(section, {})
  }
  add('nodes', config.nodes.map(writtenNode))
  return effective
}

/** As `pgherd config show` writes it: `pgherd.yaml:12`, `PGHERD_CLUSTER`, `--port`. */
export function originText(origin: Origin | undefined): string {
  if (origin === undefined || origin.kind === 'default') return 'default'
  if (origin.kind === 'fleet') return 'fleet'
  return origin.kind === 'file' ? `${origin.file}:${origin.line}` : origin.name
}

/** As nested objects, for `--json`. */
export function effectiveObject(effective: Effective): Record<string, unknown> {
  const root: Record<string, unknown> = {}
  for (const key of topKeys) {
    for (const [path, value] of effective.values) {
      if (path === key || path.startsWith(`${key}.`)) place(root, path.split('.'), value)
    }
  }
  return root
}

/** As YAML with the origin of each value in a comment, aligned. */
export function effectiveYaml(effective: Effective): string {
  const lines: [text: string, comment: string][] = []
  const write = (value: Record<string, unknown>, prefix: string, depth: number): void => {
    for (const [name, child] of Object.entries(value)) {
      const key = prefix === '' ? name : `${prefix}.${name}`
      const indent = '  '.repeat(depth)
      const origin = effective.origins.get(key)
      if (origin === undefined) {
        lines.push([`${indent}${name}:`, ''])
        write(child as Record<string, unknown>, key, depth + 1)
      } else if (Array.isArray(child) && child.length > 0) {
        lines.push([`${indent}${name}:`, origin])
        for (const element of child) lines.push([`${indent}  - ${oneLine(element)}`, ''])
      } else if (typeof child === 'object' && child !== null && Object.keys(child).length > 0) {
        lines.push([`${indent}${name}:`, origin])
        for (const [key, value] of Object.entries(child)) {
          lines.push([`${indent}  ${oneLine(key)}: ${oneLine(value)}`, ''])
        }
      } else {
        lines.push([`${indent}${name}: ${oneLine(child)}`, origin])
      }
    }
  }
  write(effectiveObject(effective), '', 0)
  const width = Math.min(48, Math.max(...lines.map(([text]) => text.length)))
  return lines
    .map(([text, comment]) => `${comment ? `${text.padEnd(width)}  # ${comment}` : text}\n`)
    .join('')
}

/** A value as YAML on one line. */
export function oneLine(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0, blockQuote: false }).trim()
}

function place(root: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let parent = root
  for (const part of path.slice(0, -1)) {
    parent[part] ??= {}
    parent = parent[part] as Record<string, unknown>
  }
  parent[path.at(-1)!] = value
}
