import { type Consistency, parseConsistency } from '../config/consistency.ts'
import type { Config, ProxyConfig } from '../config/schema.ts'
import type { AuthSettings, ClientTlsSettings, WorkerSettings } from '../proxy/control/ipc.ts'
import type { DatabaseOverrides, PoolLimits, UserOverrides } from '../proxy/pool/limits.ts'

/** What the workers need of a configuration; the limits are those of the whole proxy. */
export function workerSettings(config: Config, logFormat: 'json' | 'text'): WorkerSettings {
  const { proxy, log } = config
  return {
    listen: proxy.listen,
    port: proxy.port,
    readPort: proxy.read_port,
    zone: proxy.zone,
    slowStartMs: proxy.slow_start,
    ejectionMaxPercent: proxy.ejection_max_percent,
    clientLoginTimeoutMs: proxy.client_login_timeout,
    queryWaitTimeoutMs: proxy.query_wait_timeout,
    failoverWaitMs: proxy.failover_wait,
    clientsMax: proxy.max_client_conn,
    shutdownTimeoutMs: proxy.shutdown_timeout,
    pool: poolLimits(proxy),
    databases: mapValues(proxy.databases, databaseOverrides),
    users: mapValues(proxy.users, userOverrides),
    tls: clientTls(proxy.tls),
    serverTls: {
      mode: proxy.server_tls.mode,
      caFile: proxy.server_tls.ca_file,
      certFile: proxy.server_tls.cert_file,
      keyFile: proxy.server_tls.key_file,
      minVersion: proxy.server_tls.min_version,
    },
    auth: auth(proxy.auth),
    proxyProtocolFrom: proxy.proxy_protocol_from,
    console: {
      database: proxy.console.database,
      adminUsers: proxy.console.admin_users,
      statsUsers: proxy.console.stats_users,
    },
    log: { level: log.level, format: logFormat },
  }
}

function poolLimits(proxy: ProxyConfig): PoolLimits {
  return {
    mode: proxy.pool_mode,
    poolSize: proxy.default_pool_size,
    minPoolSize: proxy.min_pool_size,
    reservePoolSize: proxy.reserve_pool_size,
    reservePoolTimeoutMs: proxy.reserve_pool_timeout,
    dbConnectionsMax: proxy.max_db_connections,
    userConnectionsMax: proxy.max_user_connections,
    dbClientsMax: proxy.max_db_client_connections,
    userClientsMax: proxy.max_user_client_connections,
    waitingMax: proxy.query_wait_queue_max,
    preparedMax: proxy.max_prepared_statements,
    lanes: proxy.lanes === 'on',
    hedgePercent: proxy.hedge_percent,
    prepareUnnamed: proxy.prepare_unnamed === 'on',
    deferBegin: proxy.defer_begin === 'on',
    splitsReads: proxy.read_write_split === 'on',
    consistency: consistencyOf(proxy.consistency),
    queryTimeoutMs: proxy.query_timeout,
    transactionTimeoutMs: proxy.transaction_timeout,
    idleTransactionTimeoutMs: proxy.idle_transaction_timeout,
    clientIdleTimeoutMs: proxy.client_idle_timeout,
    serverConnectTimeoutMs: proxy.server_connect_timeout,
    serverIdleTimeoutMs: proxy.server_idle_timeout,
    serverLifetimeMs: proxy.server_lifetime,
  }
}

function databaseOverrides(database: ProxyConfig['databases'][string]): DatabaseOverrides {
  return withoutUndefined({
    dbname: database.dbname,
    mode: database.pool_mode,
    poolSize: database.pool_size,
    minPoolSize: database.min_pool_size,
    reservePoolSize: database.reserve_pool_size,
    dbConnectionsMax: database.max_db_connections,
    dbClientsMax: database.max_db_client_connections,
    lanes: isOn(database.lanes),
    hedgePercent: database.hedge_percent,
    prepareUnnamed: isOn(database.prepare_unnamed),
    deferBegin: isOn(database.defer_begin),
    splitsReads: isOn(database.read_write_split),
    consistency: database.consistency === undefined ? undefined : consistencyOf(database.consistency),
  })
}

function userOverrides(user: ProxyConfig['users'][string]): UserOverrides {
  return withoutUndefined({
    mode: user.pool_mode,
    poolSize: user.pool_size,
    reservePoolSize: user.reserve_pool_size,
    userConnectionsMax: user.max_user_connections,
    userClientsMax: user.max_user_client_connections,
    queryTimeoutMs: user.query_timeout,
    transactionTimeoutMs: user.transaction_timeout,
    idleTransactionTimeoutMs: user.idle_transaction_timeout,
    clientIdleTimeoutMs: user.client_idle_timeout,
    lanes: isOn(user.lanes),
    hedgePercent: user.hedge_percent,
    prepareUnnamed: isOn(user.prepare_unnamed),
    deferBegin: isOn(user.defer_begin),
    splitsReads: isOn(user.read_write_split),
    consistency: user.consistency === undefined ? undefined : consistencyOf(user.consistency),
  })
}

/** What is none was refused when the configuration was read. */
function consistencyOf(text: string): Consistency {
  return parseConsistency(text) ?? { level: 'causal' }
}

function isOn(value: 'on' | 'off' | undefined): boolean | undefined {
  return value && value === 'on'
}

function clientTls(tls: ProxyConfig['tls']): ClientTlsSettings {
  return {
    mode: tls.mode,
    certFile: tls.cert_file,
    keyFile: tls.key_file,
    clientCaFile: tls.client_ca_file,
    minVersion: tls.min_version,
    certificates: tls.certificates.map(({ server_name, cert_file, key_file }) => ({
      serverName: server_name.toLowerCase(),
      certFile: cert_file,
      keyFile: key_file,
    })),
  }
}

function auth(auth: ProxyConfig['auth']): AuthSettings {
  return {
    method: auth.method,
    hbaFile: auth.hba_file,
    rules: auth.rules,
    maps: auth.maps,
    usersFile: auth.users_file,
    query:
      auth.query_user === undefined
        ? undefined
        : {
            text: auth.query,
            user: auth.query_user,
            password: auth.query_password,
            database: auth.query_database,
          },
  }
}

function mapValues<A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]))
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

/** What is laid over something else must not hide it by being undefined. */
function withoutUndefined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as Defined<T>
}
