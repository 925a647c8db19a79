import type { WorkerSettings } from '../../src/proxy/control/ipc.ts'
import type { PoolLimits } from '../../src/proxy/pool/limits.ts'

/** Limits of a pool for tests: no timeouts and no limits but a size of 5. */
export function testLimits(overrides: Partial<PoolLimits> = {}): PoolLimits {
  return {
    mode: 'session',
    poolSize: 5,
    minPoolSize: 0,
    reservePoolSize: 0,
    reservePoolTimeoutMs: 0,
    dbConnectionsMax: 0,
    userConnectionsMax: 0,
    dbClientsMax: 0,
    userClientsMax: 0,
    waitingMax: 1000,
    preparedMax: 200,
    lanes: false,
    hedgePercent: 0,
    prepareUnnamed: false,
    deferBegin: false,
    splitsReads: false,
    consistency: { level: 'causal' },
    queryTimeoutMs: 0,
    transactionTimeoutMs: 0,
    idleTransactionTimeoutMs: 0,
    clientIdleTimeoutMs: 0,
    serverConnectTimeoutMs: 1000,
    serverIdleTimeoutMs: 1000,
    serverLifetimeMs: 1000,
    ...overrides,
  }
}

/** Settings of a worker for tests: passed-through logins, no TLS, silent. */
export function testSettings(overrides: Partial<WorkerSettings> = {}): WorkerSettings {
  return {
    listen: '127.0.0.1',
    port: 0,
    readPort: 0,
    zone: '',
    slowStartMs: 0,
    ejectionMaxPercent: 50,
    clientLoginTimeoutMs: 1000,
    queryWaitTimeoutMs: 1000,
    failoverWaitMs: 1000,
    clientsMax: 100,
    shutdownTimeoutMs: 1000,
    pool: testLimits(),
    databases: {},
    users: {},
    tls: {
      mode: 'disable',
      certFile: undefined,
      keyFile: undefined,
      clientCaFile: undefined,
      minVersion: 'TLSv1.2',
      certificates: [],
    },
    serverTls: {
      mode: 'disable',
      caFile: undefined,
      certFile: undefined,
      keyFile: undefined,
      minVersion: 'TLSv1.2',
    },
    auth: {
      method: 'passthrough',
      hbaFile: undefined,
      rules: [],
      maps: [],
      usersFile: undefined,
      query: undefined,
    },
    proxyProtocolFrom: [],
    console: { database: 'pgherd', adminUsers: [], statsUsers: [] },
    log: { level: 'silent', format: 'text' },
    ...overrides,
  }
}
