import { z } from 'zod'
import { consistencyForms, parseConsistency } from './consistency.ts'
import { isAddressRange, isHost, namePattern, parseAddress } from './names.ts'
import { durationMsMax, formatDuration, formatSize, parseDuration, parseSize } from './units.ts'

/** `live`: a reload applies it. `restart`: it counts from the next start on. */
export type Reload = 'live' | 'restart'

export type FieldKind =
  | 'duration'
  | 'size'
  | 'integer'
  | 'port'
  | 'choice'
  | 'text'
  | 'name'
  | 'host'
  | 'path'
  | 'list'
  | 'map'

/** What the program knows about one key of the configuration besides its type. */
export interface FieldMeta {
  /** One or two sentences, in Markdown without tables. */
  description: string
  kind: FieldKind
  /** What a value must be, to follow "must be": `a port from 1 to 65535`. */
  expected: string
  /** For a list or a mapping: what each element must be. */
  element?: string
  reload: Reload
  /** Never printed. */
  secret?: true
  /** Environment variable that sets it. */
  env?: string
  /**
   * The value names a file that is read when the configuration is loaded. `secret`: its text becomes the value
   * of the key without `_file`. `private`: nobody else should be able to read it. `public`: it must be readable.
   */
  file?: 'secret' | 'private' | 'public'
  /** A default that depends on the machine, in words. */
  defaultText?: string
}

/** What every field's author says; the helpers below add the rest. */
type Said = Pick<FieldMeta, 'description' | 'reload' | 'env' | 'defaultText'>

/** Metadata of every leaf of the schema. */
export const fieldRegistry = z.registry<FieldMeta>()
/** Descriptions of sections: objects, and lists of objects. */
export const sectionRegistry = z.registry<{ description: string }>()

/** A strict object that may be left out when every key in it has a default. */
export function section<S extends z.core.$ZodLooseShape>(
  description: string,
  shape: S,
  rule: (value: z.output<z.ZodObject<S, z.core.$strict>>, context: z.RefinementCtx) => void = () => {},
) {
  const object = z.strictObject(shape).superRefine(rule)
  return object.prefault({} as z.input<typeof object>).register(sectionRegistry, { description })
}

interface Range {
  min?: number
  max?: number
}

/** Milliseconds after loading. `range` is in ms; without a minimum 0 is allowed. */
export function duration(byDefault: string, said: Said, range: Range = {}) {
  const { min = 0, max = durationMsMax } = range
  const expected = `a duration from ${formatDuration(min)} to ${formatDuration(max)}, such as \`${byDefault}\``
  return quantity(parseDuration, min, max)
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'duration', expected })
}

/** Bytes after loading. */
export function size(byDefault: string, said: Said, range: Range = {}) {
  const { min = 0, max = 1024 ** 5 } = range
  const expected = `a size from ${formatSize(min)} to ${formatSize(max)}, such as \`${byDefault}\``
  return quantity(parseSize, min, max)
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'size', expected })
}

function quantity(parse: (text: string) => number | undefined, min: number, max: number) {
  // A number without a unit could mean anything; only 0 means the same in every unit.
  return z.union([z.string(), z.literal(0)]).transform((input, context) => {
    const value = input === 0 ? 0 : parse(input)
    if (value !== undefined && value >= min && value <= max) return value
    context.issues.push({ code: 'invalid_value', values: [], input })
    return z.NEVER
  })
}

export function integer(byDefault: number, min: number, max: number, said: Said) {
  return z
    .int()
    .min(min)
    .max(max)
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'integer', expected: `a whole number from ${min} to ${max}` })
}

/** A port to connect to, or to listen on. */
export function port(byDefault: number, said: Said) {
  return portFrom(1, byDefault, said)
}

/** A port to listen on that 0 turns off. */
export function optionalPort(byDefault: number, said: Said) {
  return portFrom(0, byDefault, said)
}

/** A port to tell others; what it is when not set depends on another key. */
export function advertisedPort(said: Said) {
  return z
    .int()
    .min(1)
    .max(65535)
    .optional()
    .register(fieldRegistry, { ...said, kind: 'port', expected: 'a port from 1 to 65535' })
}

function portFrom(min: number, byDefault: number, said: Said) {
  const expected = min === 0 ? 'a port from 1 to 65535, or 0 for none' : 'a port from 1 to 65535'
  return z
    .int()
    .min(min)
    .max(65535)
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'port', expected })
}

/** A whole number that need not be given. */
export function optionalInteger(min: number, max: number, said: Said) {
  return z
    .int()
    .min(min)
    .max(max)
    .optional()
    .register(fieldRegistry, { ...said, kind: 'integer', expected: `a whole number from ${min} to ${max}` })
}

/** Milliseconds after loading, where it is given; 0 is allowed. */
export function optionalDuration(said: Said) {
  const expected = `a duration from 0 to ${formatDuration(durationMsMax)}, such as \`30s\``
  return quantity(parseDuration, 0, durationMsMax)
    .optional()
    .register(fieldRegistry, { ...said, kind: 'duration', expected })
}

export function choice<const V extends readonly [string, ...string[]]>(
  values: V,
  byDefault: V[number],
  said: Said,
) {
  return z
    .enum(values)
    .prefault(byDefault as never)
    .register(fieldRegistry, { ...said, kind: 'choice', expected: oneOf(values) })
}

export function optionalChoice<const V extends readonly [string, ...string[]]>(values: V, said: Said) {
  return z
    .enum(values)
    .optional()
    .register(fieldRegistry, { ...said, kind: 'choice', expected: oneOf(values) })
}

function oneOf(values: readonly string[]): string {
  return values.length === 1 ? `\`${values[0]}\`` : `one of ${values.map(v => `\`${v}\``).join(', ')}`
}

/** Text that may be empty, such as a zone. */
export function label(said: Said) {
  return z
    .string()
    .max(255)
    .prefault('')
    .register(fieldRegistry, { ...said, kind: 'text', expected: 'a text' })
}

export function text(byDefault: string, said: Said) {
  return nonEmpty()
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'text', expected: 'a text' })
}

/** How old what a read sees may be. */
export function consistency(byDefault: string, said: Said) {
  return consistencyText()
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, ...consistencyKind })
}

export function optionalConsistency(said: Said) {
  return consistencyText()
    .optional()
    .register(fieldRegistry, { ...said, ...consistencyKind })
}

const consistencyKind = { kind: 'text', expected: consistencyForms } as const

function consistencyText() {
  return z.string().refine(text => parseConsistency(text) !== undefined)
}

export function optionalText(said: Said) {
  return nonEmpty()
    .optional()
    .register(fieldRegistry, { ...said, kind: 'text', expected: 'a text' })
}

export function secret(said: Said) {
  return nonEmpty()
    .optional()
    .register(fieldRegistry, { ...said, kind: 'text', expected: 'a text', secret: true })
}

export function path(byDefault: string, said: Said) {
  return nonEmpty()
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'path', expected: 'a path' })
}

export function requiredText(said: Said) {
  return nonEmpty().register(fieldRegistry, { ...said, kind: 'text', expected: 'a text' })
}

/** One text, or a list of up to 1000. */
export function textOrTexts(said: Said) {
  return z.union([nonEmpty(), z.array(nonEmpty()).min(1).max(1000)]).register(fieldRegistry, {
    ...said,
    kind: 'list',
    expected: 'a text, or a list of up to 1000 texts',
    element: 'a text',
  })
}

/** Names of users, at most 1000. */
export function users(said: Said) {
  return z
    .array(nonEmpty())
    .max(1000)
    .prefault([])
    .register(fieldRegistry, {
      ...said,
      kind: 'list',
      expected: 'a list of up to 1000 users',
      element: 'a text',
    })
}

/** Ranges of IP addresses, at most 1000. */
export function addressRanges(said: Said) {
  return z
    .array(z.string().refine(isAddressRange))
    .max(1000)
    .prefault([])
    .register(fieldRegistry, {
      ...said,
      kind: 'list',
      expected: 'a list of up to 1000 address ranges',
      element: 'an address range, such as `10.0.0.0/8` or `2001:db8::/32`',
    })
}

/** The path of a file that must be readable when the configuration is loaded. */
export function file(holds: NonNullable<FieldMeta['file']>, said: Said) {
  return nonEmpty()
    .optional()
    .register(fieldRegistry, { ...said, kind: 'path', expected: 'the path of a file', file: holds })
}

const nameExpected =
  'a name of up to 63 letters, digits, `.`, `_` and `-` that begins with a letter or a digit'

export function name(byDefault: string, said: Said) {
  return z
    .string()
    .regex(namePattern)
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'name', expected: nameExpected })
}

export function optionalName(said: Said) {
  return z
    .string()
    .regex(namePattern)
    .optional()
    .register(fieldRegistry, { ...said, kind: 'name', expected: nameExpected })
}

const hostExpected = 'a host name or an IP address, without a port'
const hostText = () => z.string().refine(isHost)

export function host(byDefault: string, said: Said) {
  return hostText()
    .prefault(byDefault)
    .register(fieldRegistry, { ...said, kind: 'host', expected: hostExpected })
}

export function requiredHost(said: Said) {
  return hostText().register(fieldRegistry, { ...said, kind: 'host', expected: hostExpected })
}

export function optionalHost(said: Said) {
  return hostText()
    .optional()
    .register(fieldRegistry, { ...said, kind: 'host', expected: hostExpected })
}

/** A host to connect to, or the folder of a Unix socket. */
export function hostOrSocket(byDefault: string, said: Said) {
  return z
    .string()
    .refine(value => value.startsWith('/') || isHost(value))
    .prefault(byDefault)
    .register(fieldRegistry, {
      ...said,
      kind: 'host',
      expected: 'a host name, an IP address or the absolute folder of a Unix socket',
    })
}

/** `host:port` or `http(s)://host:port`, at most 32. */
export function endpoints(said: Said) {
  return z
    .array(z.string().refine(isEndpoint))
    .max(32)
    .prefault([])
    .register(fieldRegistry, {
      ...said,
      kind: 'list',
      expected: 'a list of up to 32 endpoints',
      element: 'an endpoint: `host:port`, `http://host:port` or `https://host:port`',
    })
}

function isEndpoint(value: string): boolean {
  const address = value.replace(/^https?:\/\//, '')
  return /:\d+$/.test(address) && parseAddress(address) !== undefined
}

/** Free labels of a node. */
export function tags(said: Said) {
  return z
    .record(z.string(), z.string())
    .refine(value => Object.keys(value).length <= 64)
    .prefault({})
    .register(fieldRegistry, {
      ...said,
      kind: 'map',
      expected: 'a mapping of up to 64 names to texts',
      element: 'a text',
    })
}

/** Sections by a name that the file's author chooses. `what` names them in the plural. */
export function sectionsByName<S extends z.ZodObject>(element: S, what: string, max: number, said: Said) {
  return z
    .record(z.string(), element)
    .refine(value => Object.keys(value).length <= max)
    .prefault({})
    .register(fieldRegistry, {
      ...said,
      kind: 'map',
      expected: `a mapping of up to ${max} ${what}`,
      element: 'a mapping of keys to values',
    })
}

/** A list of sections, such as rules. `what` names them in the plural. */
export function sectionList<S extends z.ZodObject>(element: S, what: string, max: number, said: Said) {
  return z
    .array(element)
    .max(max)
    .prefault([])
    .register(fieldRegistry, {
      ...said,
      kind: 'list',
      expected: `a list of up to ${max} ${what}`,
      element: 'a mapping of keys to values',
    })
}

/** One of the sections that the two above hold. */
export function element<S extends z.core.$ZodLooseShape>(description: string, shape: S) {
  return z.strictObject(shape).register(sectionRegistry, { description })
}

/** The path of a file that must be given and be readable when the configuration is loaded. */
export function requiredFile(holds: NonNullable<FieldMeta['file']>, said: Said) {
  return nonEmpty().register(fieldRegistry, {
    ...said,
    kind: 'path',
    expected: 'the path of a file',
    file: holds,
  })
}

/** `auto`, or a whole number. */
export function autoOrInteger(min: number, max: number, said: Said) {
  return z
    .union([z.literal('auto'), z.int().min(min).max(max)])
    .prefault('auto')
    .register(fieldRegistry, {
      ...said,
      kind: 'integer',
      expected: `\`auto\` or a whole number from ${min} to ${max}`,
    })
}

function nonEmpty() {
  return z.string().min(1).max(4096)
}
