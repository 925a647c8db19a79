import { hostname } from 'node:os'
import { type ConfigDocument, readDocument } from './document.ts'
import { isWorldReadable, type ReadFile, readFailure, readFileFromDisk, resolveBeside } from './files.ts'
import { type Finding, findingsOf } from './issues.ts'
import { dotted, type Field, fields, type KeyPath, pathsOf, sections, twinOf, valueAt } from './keys.ts'
import {
  applyLayers,
  type Environment,
  type Overrides,
  type Setter,
  setterOf,
  unknownVariables,
} from './layers.ts'
import { nodeNameOf, toName } from './names.ts'
import { type Problem, sortProblems } from './problem.ts'
import { type CheckedConfig, type Config, configSchema, type SectionName } from './schema.ts'

export interface LoadInput {
  /** The text of the file; '' for no file. */
  text: string
  /** Its name for messages, and for paths relative to it; undefined for no file. */
  file: string | undefined
  /** Its permission bits, where they are known. */
  mode?: number | undefined
  env: Environment
  /** From the command line; they go before the environment, and that before the file. */
  overrides?: Overrides | undefined
  /** Sections whose `*_file` files are read; all when not given. A command needs no others' secrets. */
  sections?: readonly SectionName[] | undefined
  readFile: ReadFile
  /** Name of this machine. */
  hostName: string
}

/** Where a value came from. */
export type Origin =
  | { kind: 'default' }
  | { kind: 'file'; file: string; line: number }
  /** Settings of the whole fleet. */
  | { kind: 'fleet' }
  | Setter

/** By key; `nodes` is one value, and `store.tls` counts by itself. What is not here is a default. */
export type Origins = ReadonlyMap<string, Origin>

export type LoadResult =
  | { ok: true; config: Config; origins: Origins; warnings: Problem[] }
  | { ok: false; problems: Problem[]; warnings: Problem[] }

/**
 * Makes a configuration of a file's text, the environment and the command line, or says everything that is
 * wrong with them. Nothing but `readFile` touches the world.
 */
export function loadConfig(input: LoadInput): LoadResult {
  return new Loading(input).run()
}

export interface LoadOptions {
  env: Environment
  overrides?: Overrides | undefined
  sections?: readonly SectionName[] | undefined
  readFile?: ReadFile | undefined
}

/** Loads a file, or with undefined only the environment and the command line. */
export function loadConfigFile(file: string | undefined, options: LoadOptions): LoadResult {
  const readFile = options.readFile ?? readFileFromDisk
  const common = { ...options, file, readFile, hostName: hostname() }
  if (file === undefined) return loadConfig({ ...common, text: '' })
  try {
    const { text, mode } = readFile(file)
    return loadConfig({ ...common, text, mode })
  } catch (error) {
    const problem = { file, line: 0, column: 0, path: '', message: `the file ${readFailure(error)}` }
    return { ok: false, problems: [problem], warnings: [] }
  }
}

class Loading {
  readonly #input: LoadInput
  readonly #document: ConfigDocument
  readonly #value: Record<string, unknown>
  readonly #setters: ReadonlyMap<string, Setter>
  readonly #problems: Problem[]
  readonly #warnings: Problem[]
  /** Texts of secret files by the key that they are the value of. */
  readonly #secrets = new Map<string, string>()

  constructor(input: LoadInput) {
    this.#input = input
    this.#document = readDocument(input.text, input.file ?? 'configuration')
    this.#problems = [...this.#document.problems]
    dropEmptySections(this.#document.value)
    const layered = applyLayers(this.#document.value, input.env, input.overrides ?? {})
    this.#value = layered.value
    this.#setters = layered.setters
    this.#warnings = unknownVariables(input.env)
  }

  run(): LoadResult {
    if (this.#document.broken) return this.#failure()
    for (const field of fields) {
      if (field.meta.file === undefined) continue
      for (const path of pathsOf(field, this.#value)) this.#readNamedFile(field, path)
    }
    this.#warnOfOpenSecrets()
    const checked = configSchema.safeParse(this.#value)
    if (!checked.success) {
      for (const finding of findingsOf(checked.error.issues, this.#value)) {
        this.#problems.push(this.#locate(finding))
      }
    }
    if (!checked.success || this.#problems.length > 0) return this.#failure()
    return {
      ok: true,
      config: this.#complete(checked.data),
      origins: this.#origins(),
      warnings: this.#warnings,
    }
  }

  #failure(): LoadResult {
    return { ok: false, problems: sortProblems(this.#problems), warnings: this.#warnings }
  }

  #complete(checked: CheckedConfig): Config {
    const { tls } = checked.proxy
    for (const [key, text] of this.#secrets) {
      const path = key.split('.')
      const parent = valueAt(checked, path.slice(0, -1)) as Record<string, unknown>
      parent[path.at(-1)!] = text
    }
    return {
      ...checked,
      nodes: checked.nodes.map(node => ({ ...node, name: node.name ?? nodeNameOf(node) })),
      proxy: {
        ...checked.proxy,
        id: checked.proxy.id ?? toName(`${this.#input.hostName}-${checked.proxy.port}`),
        tls: { ...tls, mode: tls.mode ?? (tls.cert_file === undefined ? 'disable' : 'allow') },
      },
    }
  }

  #readNamedFile(field: Field, path: KeyPath): void {
    const given = valueAt(this.#value, path)
    if (typeof given !== 'string' || given === '') return
    const name = this.#resolve(path, given)
    const { sections } = this.#input
    if (sections && !sections.includes(path[0] as SectionName)) return
    const complain = (message: string): void => {
      this.#problems.push(this.#locate({ path, at: 'value', message: `names \`${name}\`, which ${message}` }))
    }
    try {
      const { text, mode } = this.#input.readFile(name)
      if (field.meta.file !== 'public' && isWorldReadable(mode)) {
        const message = `names \`${name}\`, which every user of this machine can read`
        this.#warnings.push(this.#locate({ path, at: 'value', message, hint: `chmod o= ${name}` }))
      }
      if (field.meta.file !== 'secret') return
      const secret = text.replace(/\r?\n$/, '')
      if (secret === '') complain('is empty')
      else if (secret.length > 4096) complain('is longer than the 4096 characters a secret may have')
      else this.#secrets.set(twinOf(field)?.pattern ?? '', secret)
    } catch (error) {
      complain(readFailure(error))
    }
  }

  /** A file named in the file is meant from its folder; others from where the program runs. */
  #resolve(path: KeyPath, given: string): string {
    const { file } = this.#input
    if (file === undefined || setterOf(this.#setters, path)) return given
    const resolved = resolveBeside(file, given)
    const parent = valueAt(this.#value, path.slice(0, -1)) as Record<string | number, unknown>
    parent[path.at(-1)!] = resolved
    return resolved
  }

  #warnOfOpenSecrets(): void {
    const { file, mode } = this.#input
    if (file === undefined || mode === undefined || !isWorldReadable(mode)) return
    const open = fields.filter(
      ({ pattern, meta }) => meta.secret && this.#document.keyPosition(pattern.split('.')) !== undefined,
    )
    for (const { pattern } of open) {
      const message = 'is a secret in a file that every user of this machine can read'
      const finding: Finding = { path: pattern.split('.'), at: 'key', message, hint: `chmod o= ${file}` }
      this.#warnings.push(this.#locate(finding))
    }
  }

  #locate(finding: Finding): Problem {
    const { path, at, hint } = finding
    const setter = setterOf(this.#setters, path)
    const key = dotted(path)
    const subject = setter && setter.name !== key ? setter.name : key
    const message = `\`${subject}\` ${finding.message}`
    const problem = { path: key, message, ...(hint !== undefined && { hint }) }
    if (setter) {
      const file = setter.kind === 'flag' ? 'command line' : 'environment'
      return { file, line: 0, column: 0, ...problem }
    }
    const { file } = this.#input
    if (file === undefined) return { file: 'configuration', line: 0, column: 0, ...problem }
    return { file, ...this.#placeOf(finding.place ?? path, at), ...problem }
  }

  /** Of what the finding is about, or of the nearest thing around it that the file has. */
  #placeOf(path: KeyPath, at: Finding['at']): { line: number; column: number } {
    const own = at === 'key' ? this.#document.keyPosition(path) : this.#document.valuePosition(path)
    if (own) return own
    for (let length = path.length - 1; length > 0; length--) {
      const around = this.#document.keyPosition(path.slice(0, length))
      if (around) return around
    }
    return { line: 1, column: 1 }
  }

  #origins(): Origins {
    const origins = new Map<string, Origin>()
    const file = this.#input.file ?? 'configuration'
    for (const key of ['nodes', 'store.tls', ...fields.map(({ pattern }) => pattern)]) {
      const path = key.split('.')
      const place = this.#document.keyPosition(path)
      const setter = this.#setters.get(key)
      if (setter) origins.set(key, setter)
      else if (place && valueAt(this.#value, path) !== undefined) {
        origins.set(key, { kind: 'file', file, line: place.line })
      }
    }
    return origins
  }
}

/** A section whose keys are all commented out is an empty section. */
function dropEmptySections(value: Record<string, unknown>): void {
  for (const { pattern, defaulted } of sections) {
    const path = pattern.split('.')
    const parent = valueAt(value, path.slice(0, -1)) as Record<string, unknown> | undefined
    const name = path.at(-1)!
    if (defaulted && parent?.[name] === null) delete parent[name]
  }
  if (value['nodes'] === null) delete value['nodes']
}
