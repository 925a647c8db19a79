import { durationMsMax, formatDuration } from '../config/units.ts'
import type { IniEntry } from './pgbouncer-ini.ts'

/**
 * `changed`: carried over, but it means something else now. `unneeded`: pgherd does what it is for by itself.
 * `dropped`: not carried over. `unknown`: no setting of PgBouncer. `needed`: a setting of pgherd that PgBouncer
 * has nothing for.
 */
export type Outcome = 'needed' | 'changed' | 'unneeded' | 'dropped' | 'unknown'

/** A setting that was not carried over as it is. */
export interface ImportNote {
  outcome: Outcome
  /** `listen_addr`; those of other sections as `[databases] app: connect_query`. */
  name: string
  /** As in the file; secrets are redacted. */
  value: string
  /** A sentence. */
  why: string
  /** A sentence; '' where there is nothing to do. */
  todo: string
  file: string
  line: number
}

/** What a setting's author says about its fate. */
export type Reason = Pick<ImportNote, 'why'> & Partial<Pick<ImportNote, 'todo'>>

/** Where a value comes from: an entry, or one parameter of its connection string. */
export interface Source {
  entry: IniEntry
  /** Name of the parameter; undefined for the whole entry. */
  parameter?: string
  /** How a note calls it, where that is not the name of a setting. */
  name?: string
  value: string
}

export interface Bounds {
  min?: number
  max?: number
  zero?: Zero
}

/** For a value of 0 where pgherd's 0 is not the same: what takes its place, and why. */
export type Zero = { value: number } & Reason

/** The configuration that is being made, and what there is to say about it. */
export class Draft {
  /** Keys as in the file of pgherd, nested. */
  readonly config: Record<string, unknown> = {}
  readonly notes: ImportNote[] = []
  /** How many values were carried over as they are. */
  carried = 0

  /** Sets a key given as the way there, such as `['proxy', 'port']`. */
  set(path: readonly string[], value: unknown): void {
    let parent = this.config
    for (const part of path.slice(0, -1)) {
      // Names of databases come from the file: one may be `constructor`.
      if (!Object.hasOwn(parent, part)) define(parent, part, {})
      parent = parent[part] as Record<string, unknown>
    }
    define(parent, path.at(-1)!, value)
  }

  /** Sets a key to what stands in PgBouncer's file. */
  carry(path: readonly string[], value: unknown): void {
    this.set(path, value)
    this.carried++
  }

  note(outcome: Outcome, source: Source, reason: Reason): void {
    const { entry, parameter, value } = source
    const own = parameter === undefined ? entry.key : `${entry.key}: ${parameter}`
    const name = source.name ?? (entry.section === 'pgbouncer' ? own : `[${entry.section}] ${own}`)
    const { file, line } = entry
    this.notes.push({ outcome, name, value, why: reason.why, todo: reason.todo ?? '', file, line })
  }

  /** A whole number. What pgherd does not allow becomes the nearest that it does, and is told. */
  carryCount(path: readonly string[], source: Source, bounds: Bounds): void {
    const given = /^-?\d{1,15}$/.test(source.value) ? Number(source.value) : undefined
    this.#carryNumber(path, source, given, { max: 1_000_000, ...bounds }, value => value)
  }

  /** PgBouncer's seconds, with or without a fraction. */
  carrySeconds(path: readonly string[], source: Source, bounds: Bounds): void {
    const given = /^\d{1,12}(\.\d*)?$/.test(source.value)
      ? Math.round(Number(source.value) * 1000)
      : undefined
    const written = (ms: number): string | number => (ms === 0 ? 0 : formatDuration(ms))
    this.#carryNumber(path, source, given, { max: durationMsMax, ...bounds }, written)
  }

  #carryNumber(
    path: readonly string[],
    source: Source,
    given: number | undefined,
    { min = 0, max = given ?? 0, zero }: Bounds,
    written: (value: number) => string | number,
  ): void {
    if (given === undefined) return this.note('dropped', source, { why: 'The value is not a number.' })
    if (given === 0 && zero) {
      this.set(path, written(zero.value))
      return this.note('changed', source, zero)
    }
    const value = Math.min(Math.max(given, min), max)
    if (value === given) return this.carry(path, written(value))
    this.set(path, written(value))
    this.note('changed', source, { why: `It is ${written(value)} now, the nearest that pgherd allows.` })
  }
}

function define(target: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
}
