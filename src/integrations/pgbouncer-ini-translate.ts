import { isHost } from '../config/names.ts'
import { type IniEntry, type Parameter, readConnectionString } from './pgbouncer-ini.ts'
import { carryAuth, carryClientTls, carryServerTls, type Settings } from './pgbouncer-ini-auth.ts'
import { type Bounds, Draft, type ImportNote, type Reason, type Source } from './pgbouncer-ini-draft.ts'
import { carryPoolMode, noPoolLimit, pgbouncerSettings } from './pgbouncer-ini-settings.ts'

export interface Imported {
  /** What a configuration file of pgherd holds, as plain values. */
  config: Record<string, unknown>
  /** What was not carried over as it is, in the order of the files. */
  notes: ImportNote[]
  /** How many values were. */
  carried: number
}

/** Makes a configuration of pgherd from the entries of PgBouncer's. */
export function translatePgBouncer(entries: readonly IniEntry[]): Imported {
  return new Translation(entries).run()
}

/** Defaults of PgBouncer that are not pgherd's. */
const pgbouncerDefaults: readonly [key: string, value: unknown][] = [
  ['pool_mode', 'session'],
  ['default_pool_size', 20],
  ['max_client_conn', 100],
]

interface Database {
  entry: IniEntry
  name: string
  parameters: Parameter[]
}

interface Address {
  host: string
  port: number
}

class Translation {
  readonly #entries: readonly IniEntry[]
  readonly #draft = new Draft()
  readonly #databases: Database[]
  readonly #settings: Settings

  constructor(entries: readonly IniEntry[]) {
    this.#entries = entries
    this.#settings = lastOf(entries, 'pgbouncer')
    this.#databases = [...lastOf(entries, 'databases').values()].flatMap(entry => {
      const parameters = this.#parametersOf(entry)
      return parameters ? [{ entry, name: entry.key, parameters }] : []
    })
  }

  run(): Imported {
    const draft = this.#draft
    for (const [key, value] of pgbouncerDefaults) draft.set(['proxy', key], value)
    for (const [key, entry] of this.#settings) this.#setting(key, entry)
    if (!this.#settings.has('listen_addr')) this.#noteMissingAddress()
    const fallback = this.#databases.find(({ name }) => name === '*')
    const known = fallback ? undefined : this.#databases.map(({ name }) => name)
    const isKeptOut = carryAuth(this.#settings, draft, known, name => this.#serverName(name))
    if (known && !isKeptOut) this.#noteNoFallback()
    carryClientTls(this.#settings, draft)
    carryServerTls(this.#settings, draft)
    this.#nodes()
    this.#noteNeeds()
    // First the fallback, whose values become the defaults that the others differ from.
    if (fallback) this.#fallback(fallback)
    for (const database of this.#databases) if (database !== fallback) this.#database(database)
    for (const entry of lastOf(this.#entries, 'users').values()) this.#user(entry)
    this.#otherSections()
    return { config: draft.config, notes: inOrder(draft.notes, this.#entries), carried: draft.carried }
  }

  #setting(key: string, entry: IniEntry): void {
    const carry = pgbouncerSettings.get(key)
    const source = { entry, value: entry.value }
    if (carry) return carry(source, this.#draft)
    this.#draft.note('unknown', source, {
      why: 'PgBouncer 1.25 knows no such setting.',
      todo: 'See whether it is misspelt, or from a newer version.',
    })
  }

  #noteMissingAddress(): void {
    const entry = this.#entries.find(({ section }) => section === 'pgbouncer')
    if (!entry) return
    const missing = { ...entry, key: 'listen_addr', value: '', line: 0 }
    pgbouncerSettings.get('listen_addr')?.({ entry: missing, value: '' }, this.#draft)
  }

  #parametersOf(entry: IniEntry): Parameter[] | undefined {
    const parameters = readConnectionString(entry.value)
    if (!parameters) {
      // The text may hold a password.
      const reason = { why: 'The text behind the name is not understood.', todo: 'Write `name=value` pairs.' }
      this.#draft.note('dropped', { entry, value: '[redacted]' }, reason)
    }
    return parameters
  }

  /** What a database is called on the servers. */
  #serverName(name: string): string {
    const database = this.#databases.find(each => each.name === name)
    return database?.parameters.findLast(each => each.name === 'dbname')?.value ?? name
  }

  #nodes(): void {
    const draft = this.#draft
    const targets = this.#databases.map(database => ({ database, addresses: this.#addressesOf(database) }))
    const nodes = new Map<string, Address>()
    for (const { addresses } of targets) {
      for (const address of addresses) nodes.set(addressText(address), address)
    }
    draft.set(
      ['nodes'],
      [...nodes.values()].map(({ host, port }) => (port === 5432 ? { host } : { host, port })),
    )
    const listenPort = Number(this.#settings.get('listen_port')?.value ?? 6432)
    draft.set(['proxy', 'read_port'], nodes.size > 1 && listenPort !== 6433 ? 6433 : 0)
    const places = new Map<string, (typeof targets)[number]>()
    for (const target of targets) {
      const place = target.addresses.map(addressText).sort().join()
      if (!places.has(place)) places.set(place, target)
    }
    if (places.size > 1) this.#noteSeveralPlaces([...places.values()])
  }

  #noteSeveralPlaces(targets: { database: Database; addresses: Address[] }[]): void {
    const value = targets
      .slice(0, 5)
      .map(({ database, addresses }) => `${database.name} on ${addresses.map(addressText).join(' and ')}`)
    if (targets.length > value.length) value.push('...')
    const { entry } = targets[0]!.database
    this.#draft.note(
      'changed',
      { entry, name: '[databases]', value: value.join(', ') },
      {
        why:
          'PgBouncer sends each database to servers of its own. To pgherd all nodes are one cluster: it finds ' +
          'the primary among them, and brings every database there.',
        todo:
          'When they are a primary and its replicas, let clients that only read use `proxy.read_port`. When ' +
          'they are several clusters, give each a pgherd of its own, with its nodes alone.',
      },
    )
  }

  #addressesOf({ entry, parameters }: Database): Address[] {
    const draft = this.#draft
    const last = (name: string): string | undefined => parameters.findLast(each => each.name === name)?.value
    const hosts = last('host')
    const port = Number(last('port') ?? 5432)
    const source: Source = { entry, parameter: 'host', value: hosts ?? '' }
    if (!Number.isInteger(port) || port < 1 || port > 65_535) {
      draft.note(
        'dropped',
        { entry, parameter: 'port', value: String(last('port')) },
        {
          why: 'The value is no port.',
        },
      )
      return []
    }
    if (hosts === undefined || /^[/@]/.test(hosts)) {
      draft.note('changed', source, {
        why: `pgherd reaches servers over TCP: in place of a Unix socket it is 127.0.0.1:${port} now.`,
        todo: 'See that the server listens there, and that pg_hba.conf lets users in from there.',
      })
      return [{ host: '127.0.0.1', port }]
    }
    const names = hosts.split(',').map(host => host.trim())
    const wrong = names.filter(host => !isHost(host))
    if (wrong.length > 0) draft.note('dropped', source, { why: `${wrong.join(', ')}: no name of a host.` })
    else draft.carried++
    if (names.length > 1) {
      draft.note('changed', source, {
        why: 'PgBouncer takes turns among them; pgherd brings sessions to the one that is primary, and those of `proxy.read_port` to the replicas.',
      })
    }
    return names.filter(isHost).map(host => ({ host, port }))
  }

  /** What `*` says becomes the default. A listed database that says nothing keeps what counted before. */
  #fallback({ entry, parameters }: Database): void {
    for (const { name, value } of parameters) {
      const own = databaseKeys.get(name)
      if (own) this.#keepUsual(own)
      this.#databaseParameter({ entry, parameter: name, value }, ['proxy', own?.byDefault ?? name])
    }
  }

  #keepUsual({ key, byDefault }: DatabaseKey): void {
    const { proxy } = this.#draft.config as { proxy: Record<string, unknown> }
    const usual = proxy[byDefault] ?? 0
    for (const { name, parameters } of this.#databases) {
      const isSaid = parameters.some(parameter => databaseKeys.get(parameter.name)?.key === key)
      if (!isSaid) this.#draft.set(['proxy', 'databases', name, key], usual)
    }
  }

  /** What pgherd needs and PgBouncer does not have. */
  #noteNeeds(): void {
    const [first] = this.#entries
    if (!first) return
    const entry = { ...first, line: 0 }
    const note = (name: string, value: string, reason: Reason): void =>
      this.#draft.note('needed', { entry, name, value }, reason)
    note('probe.user', 'postgres', {
      why: 'pgherd asks each server whether it is the primary or a replica, as this user and without a password.',
      todo: 'Set `probe.user` and `probe.password_file` to a role that may log in; `pg_monitor` is enough.',
    })
    if (this.#databases.length > 0) return
    note('nodes', '', { why: 'No database names a server.', todo: 'List the servers under `nodes`.' })
  }

  #noteNoFallback(): void {
    const entry = this.#entries.find(({ section }) => section === 'databases')
    if (!entry) return
    const value = this.#databases.map(({ name }) => name).join(', ')
    const source: Source = { entry, name: '[databases]', value }
    this.#draft.note('changed', source, {
      why: 'PgBouncer knows these databases only; pgherd brings a client to any that the servers have.',
      todo: 'Name the databases in `proxy.auth.rules` to keep the others out.',
    })
  }

  #database({ entry, name, parameters }: Database): void {
    for (const { name: parameter, value } of parameters) {
      if (parameter === 'dbname' && value === name) continue
      const key = databaseKeys.get(parameter)?.key ?? parameter
      this.#databaseParameter({ entry, parameter, value }, ['proxy', 'databases', name, key])
    }
  }

  #databaseParameter(source: Source, path: readonly string[]): void {
    const parameter = source.parameter!
    if (parameter === 'host' || parameter === 'port') return
    const draft = this.#draft
    const isFallback = source.entry.key === '*'
    if (parameter === 'dbname' && !isFallback) return draft.carry(path, source.value)
    if (parameter === 'pool_mode') return carryPoolMode(path, source, draft)
    const count = databaseKeys.get(parameter)
    // -1 says that nothing is said.
    if (count && source.value === '-1') return
    if (count) return draft.carryCount(path, source, count.bounds)
    const reason = droppedParameters.get(parameter)
    if (!reason) return draft.note('unknown', source, { why: 'PgBouncer 1.25 knows no such parameter.' })
    const shown = parameter === 'password' ? '[redacted]' : source.value
    if (this.#settings.get(parameter)?.value === source.value) return void draft.carried++
    draft.note('dropped', { ...source, value: shown }, reason)
  }

  #user(entry: IniEntry): void {
    const draft = this.#draft
    for (const { name, value } of this.#parametersOf(entry) ?? []) {
      const source: Source = { entry, parameter: name, value }
      const path = ['proxy', 'users', entry.key, name]
      const isTime = userTimes.has(name)
      const count = userCounts.get(name)
      // For a user PgBouncer takes a time of 0, and a number of -1, for nothing said.
      if ((isTime && Number(value) === 0) || (count && value === '-1')) continue
      if (name === 'pool_mode') carryPoolMode(path, source, draft)
      else if (isTime) draft.carrySeconds(path, source, {})
      else if (count) draft.carryCount(path, source, count)
      else if (name === 'query_wait_timeout') draft.note('dropped', source, waitForAll)
      else draft.note('unknown', source, { why: 'PgBouncer 1.25 knows no such parameter.' })
    }
  }

  #otherSections(): void {
    for (const entry of this.#entries) {
      const source = { entry, value: entry.value }
      if (entry.section === 'peers') {
        this.#draft.note('dropped', source, {
          why: 'pgherd’s proxies know each other by the store that they share.',
          todo: 'Set `store.kind: etcd` with the same endpoints for all of them.',
        })
      } else if (!['databases', 'users', 'pgbouncer'].includes(entry.section)) {
        const reason = { why: 'PgBouncer knows no such section.' }
        this.#draft.note('unknown', { entry, value: '[redacted]' }, reason)
      }
    }
  }
}

const waitForAll: Reason = { why: 'One `proxy.query_wait_timeout` counts for all.' }

interface DatabaseKey {
  /** Its key in `proxy.databases`. */
  key: string
  /** The key in `proxy` of what counts where a database says nothing. */
  byDefault: string
  /** What pgherd allows, for a number. */
  bounds: Bounds
}

const databaseKeys: ReadonlyMap<string, DatabaseKey> = new Map([
  ['pool_mode', { key: 'pool_mode', byDefault: 'pool_mode', bounds: {} }],
  ['pool_size', { key: 'pool_size', byDefault: 'default_pool_size', bounds: noPoolLimit }],
  ['min_pool_size', sameKey('min_pool_size', { max: 100_000 })],
  ['reserve_pool', sameKey('reserve_pool_size', { max: 100_000 })],
  ['reserve_pool_size', sameKey('reserve_pool_size', { max: 100_000 })],
  ['max_db_connections', sameKey('max_db_connections')],
  ['max_db_client_connections', sameKey('max_db_client_connections')],
])

function sameKey(key: string, bounds: Bounds = {}): DatabaseKey {
  return { key, byDefault: key, bounds }
}

const userTimes: ReadonlySet<string> = new Set([
  'query_timeout',
  'transaction_timeout',
  'idle_transaction_timeout',
  'client_idle_timeout',
])

const userCounts: ReadonlyMap<string, Bounds> = new Map([
  ['pool_size', noPoolLimit],
  ['reserve_pool_size', { max: 100_000 }],
  ['max_user_connections', {}],
  ['max_user_client_connections', {}],
])

const asThemselves: Reason = {
  why: 'With pgherd clients work on the servers as the user that they log in as.',
  todo: 'Let clients log in as that user, or give their users the same rights on the servers.',
}
const oneAuth: Reason = { why: 'Logins are checked in one way for all databases.', todo: 'See `proxy.auth`.' }
const sessionDefault = (name: string): Reason => ({
  why: 'pgherd sets nothing by itself on a server connection.',
  todo: `Run \`ALTER DATABASE ... SET ${name} = ...\` on the primary, or let the client set it.`,
})

/** Parameters of a database that pgherd has nothing for. */
const droppedParameters: ReadonlyMap<string, Reason> = new Map([
  ['dbname', { why: 'pgherd brings each database to the one of the same name.' }],
  ['user', asThemselves],
  ['password', asThemselves],
  ['auth_user', oneAuth],
  ['auth_query', oneAuth],
  ['auth_dbname', oneAuth],
  ['client_encoding', sessionDefault('client_encoding')],
  ['datestyle', sessionDefault('datestyle')],
  ['timezone', sessionDefault('timezone')],
  ['application_name', sessionDefault('application_name')],
  [
    'connect_query',
    {
      why: 'pgherd runs nothing by itself on a server connection.',
      todo: 'Use `ALTER DATABASE ... SET` or `ALTER ROLE ... SET` on the primary for settings.',
    },
  ],
  ['query_wait_timeout', waitForAll],
  ['server_lifetime', { why: 'One `proxy.server_lifetime` counts for all.' }],
  ['load_balance_hosts', { why: 'pgherd chooses by role and load.' }],
])

/** The entries of a section by their keys; of two with one key the last counts. */
function lastOf(entries: readonly IniEntry[], section: string): Map<string, IniEntry> {
  return new Map(entries.filter(each => each.section === section).map(each => [each.key, each]))
}

function addressText({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** In the order of the entries, however many files they come from. */
function inOrder(notes: readonly ImportNote[], entries: readonly IniEntry[]): ImportNote[] {
  const places = new Map(entries.map(({ file, line }, index) => [`${file}:${line}`, index]))
  const place = ({ file, line }: ImportNote): number => places.get(`${file}:${line}`) ?? -1
  return [...notes].sort((a, b) => place(a) - place(b))
}
