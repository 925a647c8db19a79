import { type Finding, findingsOf } from './issues.ts'
import { dotted, type Field, type KeyPath, valueAt } from './keys.ts'
import type { Origins } from './load.ts'
import { type CheckedConfig, type Config, configSchema } from './schema.ts'
import { copyField, plainFields, writtenValue } from './values.ts'

/**
 * Settings of a whole fleet: keys of the configuration that stand in the store and count for every proxy whose own
 * file, environment and command line say nothing of them. They are the keys of `proxy` and `routing` themselves
 * that a running proxy takes over. What is below `proxy` (TLS, logins, the console) names files, secrets and whom to
 * trust, which is each machine's own affair.
 */
export const fleetFields: readonly Field[] = plainFields.filter(
  ({ section, meta }) =>
    (section === 'proxy' || section === 'routing') &&
    meta.reload === 'live' &&
    meta.secret === undefined &&
    meta.file === undefined,
)

const fieldsByKey = new Map(plainFields.map(field => [field.pattern, field]))
const fleetKeys = new Set(fleetFields.map(({ pattern }) => pattern))

/** Whether it can be set for a whole fleet. */
export function isFleetField({ pattern }: Field): boolean {
  return fleetKeys.has(pattern)
}

/** By key; each as it would stand in a file. */
export type FleetValues = Readonly<Record<string, unknown>>

/** What the values mean, as far as they are understood. */
export interface FleetReading {
  /** What the schema makes of them; only the fields of `keys` mean anything. */
  config: CheckedConfig
  /** Keys with a value that is right. */
  keys: readonly string[]
  /** What is wrong with the others. */
  findings: readonly Finding[]
}

/**
 * Reads the values key by key: one that is wrong, or that another version has and this one has not, is left out
 * and takes no other with it.
 */
export function readFleet(values: FleetValues): FleetReading {
  const kept = new Map(Object.entries(values))
  const findings: Finding[] = []
  for (const key of kept.keys()) {
    const finding = strangerFinding(key)
    if (!finding) continue
    kept.delete(key)
    findings.push(finding)
  }
  for (;;) {
    const root = nested(kept)
    const checked = configSchema.safeParse(root)
    if (checked.success) return { config: checked.data, keys: [...kept.keys()], findings }
    const found = findingsOf(checked.error.issues, root)
    findings.push(...found)
    const wrong = found.flatMap(({ path }) => fleetKeyOf(path) ?? [])
    for (const key of wrong) kept.delete(key)
    // A rule between keys may complain about one that is at its default: then none can be trusted.
    if (wrong.length === 0) kept.clear()
  }
}

/** Of a fleet that has no settings. */
export const emptyFleet: FleetReading = readFleet({})

/** The values as they would be written in a file in their usual form, of the keys that are right. */
export function writtenFleet({ config, keys }: FleetReading): Record<string, unknown> {
  return Object.fromEntries(
    fleetFields
      .filter(({ pattern }) => keys.includes(pattern))
      .map(field => [field.pattern, writtenValue(field, config as Config)]),
  )
}

/** A configuration with the fleet's values in the place of its defaults; what it says itself stays. */
export function overlayFleet(config: Config, origins: Origins, reading: FleetReading): Config {
  const effective = structuredClone(config)
  for (const field of fleetFields) {
    const { pattern } = field
    if (!reading.keys.includes(pattern) || origins.has(pattern)) continue
    copyField(effective, field, reading.config)
  }
  return effective
}

/** Where the values of such a configuration come from. */
export function overlayOrigins(origins: Origins, { keys }: FleetReading): Origins {
  const overlaid = new Map(origins)
  for (const key of keys) if (!origins.has(key)) overlaid.set(key, { kind: 'fleet' })
  return overlaid
}

/** Keys of the fleet that a configuration sets itself. */
export function ownKeys(origins: Origins): string[] {
  return fleetFields.map(({ pattern }) => pattern).filter(key => origins.has(key))
}

/** What is wrong with a key that is no setting of the fleet; undefined for one that is. */
export function strangerFinding(key: string): Finding | undefined {
  if (fleetKeys.has(key)) return undefined
  const path = key.split('.')
  const root = nested([[key, 0]])
  const issues = configSchema.safeParse(root).error?.issues ?? []
  const unknown = findingsOf(issues, root).find(({ at }) => at === 'key')
  if (unknown) return unknown
  const field = fieldsByKey.get(key)
  if (!field)
    return { path, at: 'key', message: 'is not a setting of the whole fleet', hint: sectionHint(key) }
  const why =
    field.meta.reload === 'restart' ? 'counts from the start of a process on' : 'is each machine’s own affair'
  return {
    path,
    at: 'key',
    message: `is not a setting of the whole fleet: it ${why}`,
    hint: 'set it in the configuration file of each proxy',
  }
}

function sectionHint(key: string): string {
  return key.startsWith('nodes')
    ? 'nodes are changed by pgherd node'
    : 'name a key, as in `proxy.query_wait_timeout=30s`'
}

/** The setting that the path leads to or into. */
export function fleetKeyOf(path: KeyPath): string | undefined {
  for (let length = path.length; length > 0; length--) {
    const key = dotted(path.slice(0, length))
    if (fleetKeys.has(key)) return key
  }
  return undefined
}

/** As nested mappings, in the order of the schema. */
export function nested(values: Iterable<readonly [key: string, value: unknown]>): Record<string, unknown> {
  const root = Object.create(null) as Record<string, unknown>
  for (const [key, value] of values) {
    const path = key.split('.')
    let parent = root
    for (const part of path.slice(0, -1)) {
      const child = valueAt(parent, [part])
      parent[part] = typeof child === 'object' && child !== null ? child : Object.create(null)
      parent = parent[part] as Record<string, unknown>
    }
    parent[path.at(-1)!] = value
  }
  return root
}
