import { readDocument } from './document.ts'
import {
  type FleetValues,
  fleetFields,
  fleetKeyOf,
  readFleet,
  strangerFinding,
  writtenFleet,
} from './fleet.ts'
import type { Finding } from './issues.ts'
import { dotted, type Field, fieldAt, type KeyPath, sectionAt, valueAt } from './keys.ts'
import { fromText } from './layers.ts'
import { loadConfig, type Origin, type Origins } from './load.ts'
import { type Problem, sortProblems } from './problem.ts'
import type { Config } from './schema.ts'
import { didYouMean, nearest } from './suggest.ts'

/** One setting of a fleet, or one entry of a mapping such as `proxy.databases.app.pool_size`, as it was asked for. */
export interface FleetChange {
  key: string
  /** As on a command line; undefined takes the setting out. */
  text: string | undefined
}

/** The values of a fleet after a change, or what is wrong with it. */
export type FleetResult = { values: Record<string, unknown>; problems?: undefined } | { problems: Problem[] }

/**
 * Makes changes to the values of a fleet. What was wrong with values that are not touched stays as it is: another
 * version may have written them.
 */
export function changeFleet(before: FleetValues, changes: readonly FleetChange[]): FleetResult {
  const values: Record<string, unknown> = { ...before }
  const findings: Finding[] = []
  const touched = new Set<string>()
  for (const { key, text } of changes) {
    const path = fleetPath(key)
    const setting = path && fleetKeyOf(path)
    // What another version has set can be taken out by name.
    if (!setting && text === undefined && Object.hasOwn(values, key)) delete values[key]
    if (!path || !setting) {
      if (text !== undefined) findings.push(strangerFinding(key)!)
      else if (!Object.hasOwn(before, key)) findings.push({ ...strangerFinding(key)!, ...hintToUnset(key) })
      continue
    }
    const misspelt =
      text === undefined && !isFleetValue(before, key) ? entryFinding(setting, path) : undefined
    if (misspelt) {
      findings.push(misspelt)
      continue
    }
    touched.add(setting)
    const finding = place(values, setting, path, text)
    if (finding) findings.push(finding)
  }
  const wanted = Object.fromEntries(Object.entries(values).filter(([key]) => touched.has(key)))
  const reading = readFleet(wanted)
  findings.push(...reading.findings)
  if (findings.length > 0) return { problems: findings.map(problemOf) }
  return { values: { ...values, ...writtenFleet(reading) } }
}

/** The setting of the fleet, or the key within an entry of a mapping, that is meant by `key`. */
export function fleetField(key: string): Field | undefined {
  const path = fleetPath(key)
  return path && fieldAt(path)
}

/** Whether the values of a fleet have this setting, or this entry of a mapping. */
export function isFleetValue(values: FleetValues, key: string): boolean {
  const path = fleetPath(key)
  const setting = path && fleetKeyOf(path)
  if (!setting) return Object.hasOwn(values, key)
  return valueAt(values[setting], path.slice(setting.split('.').length)) !== undefined
}

/** What a configuration says itself of a setting of the fleet, or of an entry of a mapping; undefined for nothing. */
export function ownOrigin(config: Config, origins: Origins, key: string): Origin | undefined {
  const path = fleetPath(key)
  const setting = path && fleetKeyOf(path)
  return setting && valueAt(config, path) !== undefined ? origins.get(setting) : undefined
}

/** What is wrong with the way to an entry of a mapping when its last part is not, but may be meant to be, a key there. */
function entryFinding(setting: string, path: KeyPath): Finding | undefined {
  const depth = setting.split('.').length
  const name = String(path[depth] ?? '')
  const cut = name.lastIndexOf('.')
  if (path.length !== depth + 1 || cut <= 0) return undefined
  const known = sectionAt([...path.slice(0, depth), 'name'])?.keys ?? []
  const near = nearest(name.slice(cut + 1), known).map(each => `${setting}.${name.slice(0, cut)}.${each}`)
  if (near.length === 0) return undefined
  return { path, at: 'key', message: 'is not a known key', hint: didYouMean(near) }
}

/** A setting that is known, but is none of the fleet. */
function hintToUnset(key: string): { hint?: string } {
  return fieldAt(key.split('.'))?.pattern === key
    ? { hint: 'it is only set in the configuration of each proxy' }
    : {}
}

/** Reads the values of a fleet from a text in the form of a configuration file. `file` names it in problems. */
export function readFleetText(text: string, file: string): FleetResult {
  const readFile = (): never => {
    throw new Error('settings of a fleet name no files')
  }
  const loaded = loadConfig({ text, file, env: {}, sections: [], hostName: 'fleet', readFile })
  const document = readDocument(text, file)
  const strangers = keysIn(document.value).flatMap(key => {
    const finding = strangerFinding(key)
    if (!finding) return []
    const place = document.keyPosition(key.split('.')) ?? { line: 1, column: 1 }
    return [{ ...problemOf(finding), file, ...place }]
  })
  const problems = [...(loaded.ok ? [] : loaded.problems), ...strangers]
  if (problems.length > 0 || !loaded.ok) return { problems: sortProblems(withoutDoubles(problems)) }
  const keys = fleetFields.map(({ pattern }) => pattern).filter(key => loaded.origins.has(key))
  return { values: writtenFleet({ config: loaded.config, keys, findings: [] }) }
}

/** The keys that a text sets, down to those that are values; what is in a section of another kind counts by it. */
function keysIn(value: Record<string, unknown>, prefix = ''): string[] {
  return Object.entries(value).flatMap(([name, child]) => {
    const key = prefix === '' ? name : `${prefix}.${name}`
    const isSection = sectionAt(key.split('.')) !== undefined
    if (!isSection || typeof child !== 'object' || child === null || Array.isArray(child)) {
      return isSection && child === null ? [] : [key]
    }
    return keysIn(child as Record<string, unknown>, key)
  })
}

function withoutDoubles(problems: readonly Problem[]): Problem[] {
  const places = new Set<string>()
  return problems.filter(({ line, column, path }) => {
    const place = `${line}:${column} ${path}`
    return places.size < places.add(place).size
  })
}

/**
 * The way to a setting, or into a mapping: `proxy.databases.app.pool_size`, where the name `app` may have dots of its
 * own. Undefined when there is no such setting.
 */
function fleetPath(key: string): KeyPath | undefined {
  for (const { pattern, meta } of fleetFields) {
    if (key === pattern) return pattern.split('.')
    if (meta.kind !== 'map' || !key.startsWith(`${pattern}.`)) continue
    const rest = key.slice(pattern.length + 1)
    const cut = rest.lastIndexOf('.')
    const last = rest.slice(cut + 1)
    const known = sectionAt([...pattern.split('.'), 'name'])?.keys ?? []
    const parts = cut > 0 && known.includes(last) ? [rest.slice(0, cut), last] : [rest]
    return [...pattern.split('.'), ...parts]
  }
  return undefined
}

/** Sets or takes out one value. What is wrong with its text, where that cannot be read at all. */
function place(
  values: Record<string, unknown>,
  setting: string,
  path: KeyPath,
  text: string | undefined,
): Finding | undefined {
  const value = text === undefined ? undefined : valueOf(fieldAt(path), text)
  if (text !== undefined && value === undefined) {
    return {
      path,
      at: 'value',
      message: 'cannot be read',
      hint: 'write it as in a file: `{a: {pool_size: 5}}`',
    }
  }
  const inside = path.slice(setting.split('.').length).map(String)
  const next = replaced(values[setting], inside, value)
  if (next === undefined) delete values[setting]
  else values[setting] = next
  return undefined
}

/** A copy of `value` with what stands at `path` replaced; mappings that become empty go as well. */
function replaced(value: unknown, path: readonly string[], replacement: unknown): unknown {
  const [name, ...rest] = path
  if (name === undefined) return replacement
  const mapping = new Map(Object.entries(typeof value === 'object' && value !== null ? value : {}))
  const child = replaced(mapping.get(name), rest, replacement)
  if (child === undefined) mapping.delete(name)
  else mapping.set(name, child)
  return mapping.size === 0 ? undefined : Object.fromEntries(mapping)
}

/** The text as what would stand in a file; undefined when it is no YAML. */
function valueOf(field: Field | undefined, text: string): unknown {
  const isMapping = field?.meta.kind === 'map'
  if (!field || isMapping || (field.meta.kind === 'list' && text.startsWith('['))) {
    const document = readDocument(`value: ${text}`, 'command line')
    return document.problems.length > 0 ? undefined : (document.value['value'] ?? undefined)
  }
  return fromText(field, text)
}

function problemOf({ path, message, hint }: Finding): Problem {
  const key = dotted(path)
  return {
    file: 'command line',
    line: 0,
    column: 0,
    path: key,
    message: `\`${key}\` ${message}`,
    ...(hint !== undefined && { hint }),
  }
}
