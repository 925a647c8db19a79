import { type Field, fields, type KeyPath, twinOf, valueAt } from './keys.ts'
import type { Problem } from './problem.ts'
import { commandVariables } from './schema.ts'
import { didYouMean, nearest } from './suggest.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Values from the command line: by key, with the flag that a message must name. Undefined values are skipped. */
export type Overrides = Readonly<Record<string, { value: unknown; flag: string }>>

/** Who set a value, other than the file. */
export type Setter = { kind: 'environment'; name: string } | { kind: 'flag'; name: string }

/** The file's values with the environment and then the command line laid over them. */
export interface Layered {
  value: Record<string, unknown>
  /** By key; what is not here comes from the file or is a default. */
  setters: Map<string, Setter>
}

/** Lays one layer after the other over `value`, which is changed. */
export function applyLayers(value: Record<string, unknown>, env: Environment, overrides: Overrides): Layered {
  const layered: Layered = { value, setters: new Map() }
  const variables: [key: string, text: string, setter: Setter][] = []
  for (const { pattern, meta } of fields) {
    // An empty variable counts as not set: that is how compose files and unit files pass on what is absent.
    const text = meta.env === undefined ? undefined : env[meta.env]
    if (text) variables.push([pattern, text, { kind: 'environment', name: meta.env! }])
  }
  applyLayer(layered, variables)
  const flags: [string, unknown, Setter][] = []
  for (const [key, { value, flag }] of Object.entries(overrides)) {
    if (value !== undefined) flags.push([key, value, { kind: 'flag', name: flag }])
  }
  applyLayer(layered, flags)
  return layered
}

function applyLayer(layered: Layered, entries: readonly [string, unknown, Setter][]): void {
  // A password of this layer replaces a password file of the layers below, and the other way round.
  for (const [key] of entries) {
    const field = fields.find(({ pattern }) => pattern === key)
    const twin = field && twinOf(field)
    if (twin) remove(layered, twin.pattern)
  }
  for (const [key, value, setter] of entries) {
    const field = fields.find(({ pattern }) => pattern === key)
    const given = field && typeof value === 'string' ? fromText(field, value) : value
    if (place(layered.value, key.split('.'), given)) layered.setters.set(key, setter)
  }
}

/** Text of a variable or a flag as the value that would stand in the file. What does not fit stays text. */
export function fromText(field: Field, text: string): unknown {
  const { kind } = field.meta
  if (kind === 'integer' || kind === 'port') return /^-?\d{1,15}$/.test(text) ? Number(text) : text
  if (kind === 'list') return text.split(',').map(part => part.trim())
  return text
}

/** False where something that is not a mapping stands in the way; checking will report that. */
function place(root: Record<string, unknown>, path: readonly string[], value: unknown): boolean {
  let parent = root
  for (const part of path.slice(0, -1)) {
    parent[part] ??= {}
    const child = parent[part]
    if (typeof child !== 'object' || child === null) return false
    parent = child as Record<string, unknown>
  }
  parent[path.at(-1)!] = value
  return true
}

function remove(layered: Layered, key: string): void {
  const path = key.split('.')
  const parent = valueAt(layered.value, path.slice(0, -1))
  if (typeof parent === 'object' && parent !== null) delete (parent as Record<string, unknown>)[path.at(-1)!]
  layered.setters.delete(key)
}

/** Who set the value at `path`, or what it is in. */
export function setterOf(setters: ReadonlyMap<string, Setter>, path: KeyPath): Setter | undefined {
  for (let length = path.length; length > 0; length--) {
    const setter = setters.get(path.slice(0, length).join('.'))
    if (setter) return setter
  }
  return undefined
}

/** A `PGHERD_` variable that nothing reads is most likely misspelt. */
export function unknownVariables(env: Environment): Problem[] {
  const knownNames = new Set(Object.keys(commandVariables))
  for (const { meta } of fields) if (meta.env !== undefined) knownNames.add(meta.env)
  const unknown = Object.keys(env).filter(name => name.startsWith('PGHERD_') && !knownNames.has(name))
  return unknown.sort().map(name => {
    const message = `\`${name}\` is not a variable that pgherd knows`
    const problem: Problem = { file: 'environment', line: 0, column: 0, path: '', message }
    const hint = didYouMean(nearest(name, knownNames))
    if (hint !== undefined) problem.hint = hint
    return problem
  })
}
