import type { Consistency } from '../../config/consistency.ts'
import type { WorkerSettings } from '../control/ipc.ts'

/**
 * `auto` is `transaction` that keeps the connection of a client which holds what no other connection has.
 * The others are PgBouncer's.
 */
export type PoolMode = 'auto' | 'session' | 'transaction' | 'statement'

/**
 * What counts for the connections of one database and one user. Names and meanings are PgBouncer's where it has
 * them; times in ms, where 0 means no limit. A limit of connections or clients that is 0 is none.
 */
export interface PoolLimits {
  mode: PoolMode
  /** Most connections to one node for one database and user, from this worker. */
  poolSize: number
  /** Connections that a pool in use keeps open. */
  minPoolSize: number
  /** Connections beyond `poolSize` for clients that wait longer than `reservePoolTimeoutMs`. */
  reservePoolSize: number
  /** 0: the reserve is never used. */
  reservePoolTimeoutMs: number
  /** Most connections to one node for one database, all its users together. */
  dbConnectionsMax: number
  /** Most connections to one node for one user, in all databases together. */
  userConnectionsMax: number
  /** Most clients of one database. */
  dbClientsMax: number
  /** Most clients of one user. */
  userClientsMax: number
  /** Most clients that wait for one pool; never 0. */
  waitingMax: number
  /** Most named statements on one server connection. */
  preparedMax: number
  /** Quick reads of several clients may share a server connection. */
  lanes: boolean
  /** Reads that may be sent to a second replica when the first is late, of all reads in lanes on replicas, in percent. */
  hedgePercent: number
  /** Repeated statements without a name are prepared on the server, where nobody can tell. */
  prepareUnnamed: boolean
  /** A transaction is begun on a server with its first statement. */
  deferBegin: boolean
  /** Reads go to replicas on the port for everything. */
  splitsReads: boolean
  /** How old what a replica shows may be. */
  consistency: Consistency
  queryTimeoutMs: number
  transactionTimeoutMs: number
  idleTransactionTimeoutMs: number
  clientIdleTimeoutMs: number
  serverConnectTimeoutMs: number
  serverIdleTimeoutMs: number
  serverLifetimeMs: number
}

/** What the configuration says of one database; what it does not say is not there. */
export interface DatabaseOverrides
  extends Partial<
    Pick<
      PoolLimits,
      | 'mode'
      | 'poolSize'
      | 'minPoolSize'
      | 'reservePoolSize'
      | 'dbConnectionsMax'
      | 'dbClientsMax'
      | 'lanes'
      | 'hedgePercent'
      | 'prepareUnnamed'
      | 'deferBegin'
      | 'splitsReads'
      | 'consistency'
    >
  > {
  /** Its name on the servers, where that is another. */
  dbname?: string
}

/** What the configuration says of one user; what it does not say is not there. */
export type UserOverrides = Partial<
  Pick<
    PoolLimits,
    | 'mode'
    | 'poolSize'
    | 'reservePoolSize'
    | 'userConnectionsMax'
    | 'userClientsMax'
    | 'queryTimeoutMs'
    | 'transactionTimeoutMs'
    | 'idleTransactionTimeoutMs'
    | 'clientIdleTimeoutMs'
    | 'lanes'
    | 'hedgePercent'
    | 'prepareUnnamed'
    | 'deferBegin'
    | 'splitsReads'
    | 'consistency'
  >
>

type LimitSettings = Pick<WorkerSettings, 'pool' | 'databases' | 'users'>

/**
 * The limits of one database, by the name that clients ask for, and one user: what is said of the user goes before
 * what is said of the database, and that before the defaults, as in PgBouncer.
 */
export function limitsFor(settings: LimitSettings, database: string, user: string): PoolLimits {
  const { dbname: _, ...ofDatabase } = databaseOverrides(settings, database)
  const ofUser = Object.hasOwn(settings.users, user) ? settings.users[user] : undefined
  return { ...settings.pool, ...ofDatabase, ...ofUser }
}

/** The name on the servers of the database that clients know by the given one. */
export function serverDatabase(settings: Pick<WorkerSettings, 'databases'>, database: string): string {
  return databaseOverrides(settings, database).dbname ?? database
}

// Names come from clients, who may ask for a database `constructor`.
function databaseOverrides(
  { databases }: Pick<WorkerSettings, 'databases'>,
  name: string,
): DatabaseOverrides {
  return (Object.hasOwn(databases, name) ? databases[name] : undefined) ?? {}
}

/** Put together once for each database and user, until the settings change. */
export class LimitsCache {
  readonly #settings: LimitSettings
  readonly #known = new Map<string, PoolLimits>()

  constructor(settings: LimitSettings) {
    this.#settings = settings
  }

  of(database: string, user: string): PoolLimits {
    return this.at(`${database}\0${user}`, database, user)
  }

  /** The same for who has the key already: database and user with a zero between them. */
  at(key: string, database: string, user: string): PoolLimits {
    let limits = this.#known.get(key)
    if (!limits) {
      // Names come from clients, who may make up any number of them.
      if (this.#known.size >= knownMax) this.#known.clear()
      limits = limitsFor(this.#settings, database, user)
      this.#known.set(key, limits)
    }
    return limits
  }

  /** The settings have changed. */
  clear(): void {
    this.#known.clear()
  }
}

const knownMax = 10_000

/** Limits that are divided among the workers; those of the times and of one connection are not. */
const counts = [
  'poolSize',
  'minPoolSize',
  'reservePoolSize',
  'dbConnectionsMax',
  'userConnectionsMax',
  'dbClientsMax',
  'userClientsMax',
  'waitingMax',
] as const

/**
 * What the worker `index` of `workers` gets of the whole proxy's settings. 0 stays 0, and a share is never 0: only where
 * there are more workers than a limit allows connections, the shares are more than the whole together.
 */
export function shareOf(settings: WorkerSettings, workers: number, index: number): WorkerSettings {
  const share = (limit: number): number => {
    if (limit === 0) return 0
    return Math.max(1, Math.floor(limit / workers) + (index < limit % workers ? 1 : 0))
  }
  const shared = <T extends Partial<PoolLimits>>(limits: T): T => {
    const copy = { ...limits }
    for (const key of counts) {
      const limit = limits[key]
      if (limit !== undefined) copy[key] = share(limit)
    }
    return copy
  }
  const mapped = <T extends Partial<PoolLimits>>(all: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(all).map(([name, limits]) => [name, shared(limits)]))
  return {
    ...settings,
    clientsMax: share(settings.clientsMax),
    pool: shared(settings.pool),
    databases: mapped(settings.databases),
    users: mapped(settings.users),
  }
}
