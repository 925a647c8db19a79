import { z } from 'zod'
import { type FieldMeta, fieldRegistry, sectionRegistry } from './fields.ts'
import { configSchema } from './schema.ts'

/** Where a value stands: `['nodes', 0, 'host']`, written `nodes[0].host`. */
export type KeyPath = readonly (string | number)[]

/** A key that holds a value. */
export interface Field {
  /** `proxy.port`; `nodes[].host` for every element of a list, `proxy.users.*.pool_mode` for every name. */
  pattern: string
  /** The last part of the pattern. */
  name: string
  /** Pattern of the section it stands in; '' at the top. */
  section: string
  meta: FieldMeta
  /** As it would be written in the file; undefined when there is none. */
  byDefault: unknown
  required: boolean
}

/** A key that holds keys. */
export interface Section {
  pattern: string
  description: string
  /** Whether leaving it out means the defaults of its keys, in place of doing without it. */
  defaulted: boolean
  keys: string[]
}

interface Known {
  fields: Field[]
  sections: Section[]
}

const known: Known = { fields: [], sections: [] }
collect(configSchema, '', known)

/** Every key that holds a value, in the order of the schema. */
export const fields: readonly Field[] = known.fields
/** Every key that holds keys; the first is the whole configuration, with the pattern ''. */
export const sections: readonly Section[] = known.sections

const fieldsByPattern = new Map(fields.map(field => [field.pattern, field]))
const sectionsByPattern = new Map(sections.map(section => [section.pattern, section]))

/** Whether the pattern is that of something in a list or under a name that the file's author chose. */
export function isInElement(pattern: string): boolean {
  return /\[\]|\*/.test(pattern)
}

/** Where a value has the key of this field: one path, or one for each element that the value has. */
export function pathsOf(field: Field, root: unknown): KeyPath[] {
  let paths: KeyPath[] = [[]]
  for (const part of field.pattern.replaceAll('[]', '.[]').split('.')) {
    paths = paths.flatMap(path => childrenOf(valueAt(root, path), part).map(child => [...path, child]))
  }
  return paths
}

function childrenOf(value: unknown, part: string): (string | number)[] {
  if (part === '[]') return Array.isArray(value) ? [...value.keys()] : []
  if (part !== '*') return [part]
  return typeof value === 'object' && value !== null ? Object.keys(value) : []
}

/** The field that the path leads to or into. */
export function fieldAt(path: KeyPath): Field | undefined {
  for (let length = path.length; length > 0; length--) {
    const field = fieldsByPattern.get(patternOf(path.slice(0, length)))
    if (field) return field
  }
  return undefined
}

export function sectionAt(path: KeyPath): Section | undefined {
  return sectionsByPattern.get(patternOf(path))
}

/** The field whose file `field` names, or the one that names a file for it: `password` and `password_file`. */
export function twinOf(field: Field): Field | undefined {
  if (field.meta.file === 'secret') return fieldsByPattern.get(field.pattern.replace(/_file$/, ''))
  return field.meta.secret ? fieldsByPattern.get(`${field.pattern}_file`) : undefined
}

export function dotted(path: KeyPath): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else text += text === '' ? part : `.${part}`
  }
  return text
}

/** The value at `path`, or undefined where there is none. */
export function valueAt(root: unknown, path: KeyPath): unknown {
  let value = root
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<string | number, unknown>)[part]
  }
  return value
}

function patternOf(path: KeyPath): string {
  let pattern = ''
  for (const part of path) {
    if (typeof part === 'number') pattern += '[]'
    else if (sectionsByPattern.has(`${pattern}.*`)) pattern += '.*'
    else pattern += pattern === '' ? part : `.${part}`
  }
  return pattern
}

function collect(schema: z.core.$ZodType, pattern: string, into: Known): void {
  const { inner, byDefault, optional } = unwrap(schema)
  const meta = fieldRegistry.get(schema)
  if (meta) {
    const cut = pattern.lastIndexOf('.')
    into.fields.push({
      pattern,
      name: pattern.slice(cut + 1),
      section: pattern.slice(0, Math.max(cut, 0)),
      meta,
      byDefault,
      required: byDefault === undefined && !optional,
    })
  }
  if (inner instanceof z.ZodArray) {
    collect(inner.element, `${pattern}[]`, into)
    const element = into.sections.find(section => section.pattern === `${pattern}[]`)
    if (element) element.description ||= sectionRegistry.get(schema)?.description ?? ''
  } else if (inner instanceof z.ZodRecord) {
    collect(inner.valueType, `${pattern}.*`, into)
  } else if (inner instanceof z.ZodObject) {
    into.sections.push({
      pattern,
      description: sectionRegistry.get(schema)?.description ?? '',
      defaulted: byDefault !== undefined,
      keys: Object.keys(inner.shape),
    })
    for (const [key, child] of Object.entries(inner.shape)) {
      collect(child as z.core.$ZodType, pattern === '' ? key : `${pattern}.${key}`, into)
    }
  }
}

function unwrap(schema: z.core.$ZodType): { inner: z.core.$ZodType; byDefault: unknown; optional: boolean } {
  if (schema instanceof z.ZodPrefault) {
    return { inner: schema.def.innerType, byDefault: schema.def.defaultValue, optional: false }
  }
  if (schema instanceof z.ZodOptional) {
    return { inner: schema.def.innerType, byDefault: undefined, optional: true }
  }
  return { inner: schema, byDefault: undefined, optional: false }
}
