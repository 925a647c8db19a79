/** What a server reports about itself and a session (ParameterStatus), by name. One character a byte. */
export type Reported = ReadonlyMap<string, string>

const knownMax = 1000

/** Makes equal reports one and the same object, so that the usual comparison costs nothing. */
export class ReportedValues {
  readonly #known = new Map<string, Reported>()

  of(values: Reported): Reported {
    const key = JSON.stringify([...values].sort(([a], [b]) => (a < b ? -1 : 1)))
    const known = this.#known.get(key)
    if (known) return known
    // What is forgotten is only compared the long way.
    if (this.#known.size >= knownMax) this.#known.clear()
    this.#known.set(key, values)
    return values
  }

  with(values: Reported, name: string, value: string): Reported {
    return values.get(name) === value ? values : this.of(new Map([...values, [name, value]]))
  }
}

/** The entries of `now` that `told` does not have. */
export function untold(told: Reported, now: Reported): [string, string][] {
  if (told === now) return []
  return [...now].filter(([name, value]) => told.get(name) !== value)
}

/** They decide what the constants in a statement mean when it is parsed, and stay so in what is prepared. */
const dialect = ['client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone', 'standard_conforming_strings']
const dialects = new WeakMap<Reported, string>()

/** Equal where equal texts of statements mean the same; `settings`: `PooledSession.context`. */
export function contextOf(reported: Reported, settings: string): string {
  const dialect = dialectOf(reported)
  return settings === '' ? dialect : `${dialect}\0${settings}`
}

/** Equal where equal texts of statements are parsed to the same, but for search_path and role. */
export function dialectOf(reported: Reported): string {
  let known = dialects.get(reported)
  if (known === undefined) {
    known = dialect.map(name => reported.get(name)).join('\0')
    dialects.set(reported, known)
  }
  return known
}
