/** How the proxy is run for a suite, and what may be different there. */
export interface CompatMode {
  name: string
  /** Configuration of the proxy beside `testConfig`'s; undefined connects to PostgreSQL itself, for comparison. */
  settings: Record<string, unknown> | undefined
  /** Checks that are allowed to fail in this mode, each with the reason. */
  differences: Readonly<Record<string, string>>
}

/** What every run covers, in order. */
const standardModes = ['session', 'auto']

const modes: readonly CompatMode[] = [
  { name: 'direct', settings: undefined, differences: {} },
  {
    name: 'session',
    settings: { 'proxy.pool_mode': 'session', 'proxy.default_pool_size': 100 },
    differences: {},
  },
  {
    // A small pool, so that clients do share connections.
    name: 'auto',
    settings: { 'proxy.pool_mode': 'auto', 'proxy.default_pool_size': 20 },
    differences: {},
  },
]

/** The modes of this run: the standard ones, or those named in PGHERD_COMPAT_MODES (`direct,session,auto`). */
export function compatModes(): CompatMode[] {
  const named = process.env['PGHERD_COMPAT_MODES']
  const names = named === undefined || named === '' ? standardModes : named.split(',')
  return namedModes(names)
}

export function namedModes(names: string[]): CompatMode[] {
  return names.map(name => {
    const mode = modes.find(mode => mode.name === name)
    if (!mode) throw new Error(`no mode ${name}: use ${modes.map(({ name }) => name).join(', ')}`)
    return mode
  })
}
