import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, type QueryResultRow } from 'pg'
import { type Account, giveTo, serverAccount } from '../../src/demo/account.ts'
import { findBinaries, type PostgresBinaries } from '../../src/demo/binaries.ts'
import { PostgresServer } from '../../src/demo/postgres.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { childrenOf, signalProcess } from '../../src/runtime/process.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { freePorts } from './ports.ts'
import { until } from './wait.ts'

export interface TestClusterOptions {
  /** How many replicas beside the primary; 0 by default. */
  replicas?: number
  /** More settings for every server's postgresql.conf. */
  settings?: Record<string, string>
}

/** A primary (`a`) and its replicas (`b`, `c`, ...), without a supervisor: what a test stops stays stopped. */
export interface TestCluster {
  dir: string
  binaries: PostgresBinaries
  primary: PostgresServer
  replicas: PostgresServer[]
  /** Stops everything and removes the folder. */
  stop(): Promise<void>
}

/** A folder of its own below the system's temporary folder that the servers' account may use. */
export async function temporaryFolder(account: Account): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'pgherd-test-'))
  await giveTo(account, dir)
  return dir
}

/** The PostgreSQL that tests run on: as `pgherd demo` finds it. */
async function testBinaries(account: Account, dir: string): Promise<PostgresBinaries> {
  const { PATH = '', PGHERD_POSTGRES_BIN } = process.env
  return findBinaries({ account, path: PATH, folder: PGHERD_POSTGRES_BIN, copyTo: dir })
}

/** Starts servers on free ports in a temporary folder. Call `stop()` in the test's `after`. */
export async function startTestCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const account = await serverAccount()
  const dir = await temporaryFolder(account)
  const servers: PostgresServer[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map(server => server.stop('immediate').then(() => server.remove())))
    await rm(dir, { recursive: true, force: true })
  }
  try {
    const binaries = await testBinaries(account, dir)
    const ports = await freePorts(1 + (options.replicas ?? 0))
    for (const [i, port] of ports.entries()) {
      const name = String.fromCharCode(97 + i)
      const folder = join(dir, name)
      const { settings } = options
      servers.push(
        new PostgresServer({
          name,
          folder,
          port,
          binaries,
          account,
          settings: { fsync: 'off', ...settings },
          clock: systemClock,
          timers: systemTimers,
          log: silentLogger,
        }),
      )
    }
    const [primary, ...replicas] = servers
    if (!primary) throw new Error('a cluster needs at least one server')
    await primary.initialize()
    await primary.start()
    await Promise.all(
      replicas.map(async replica => {
        await replica.cloneFrom(primary)
        await replica.start()
      }),
    )
    return { dir, binaries, primary, replicas, stop }
  } catch (cause) {
    await stop()
    throw cause
  }
}

export interface QueryOptions {
  options?: string
  application_name?: string
  user?: string
  database?: string
  password?: string
  host?: string
}

/** Runs one statement on a connection of its own and gives back its rows. */
export async function query<R extends QueryResultRow = Record<string, unknown>>(
  port: number,
  sql: string,
  options: QueryOptions = {},
): Promise<R[]> {
  const client = await connect(port, options)
  try {
    return (await client.query<R>(sql)).rows
  } finally {
    await client.end()
  }
}

/** An open connection; the caller ends it. Errors while it is idle are left to the next query. */
export async function connect(port: number, options: QueryOptions = {}): Promise<Client> {
  const client = new Client({
    host: '127.0.0.1',
    user: 'postgres',
    database: 'postgres',
    ssl: false,
    connectionTimeoutMillis: 10_000,
    ...options,
    port,
  })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Kills a server and all of its processes at once, as a crash of the machine would. */
export async function killServer(server: PostgresServer): Promise<void> {
  await signalServer(server, 'SIGKILL')
  await until(`${server.name} is gone`, async () => (await server.pid()) === undefined)
}

/** Freezes a server: its sockets stay open and nothing answers. */
export function freezeServer(server: PostgresServer): Promise<void> {
  return signalServer(server, 'SIGSTOP')
}

export function thawServer(server: PostgresServer): Promise<void> {
  return signalServer(server, 'SIGCONT')
}

/** Waits until a replica has replayed everything its primary has written by now. */
export async function caughtUp(primary: PostgresServer, replica: PostgresServer): Promise<void> {
  const [written] = await primary.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn')
  const sql = `select pg_last_wal_replay_lsn() >= '${written?.lsn}'::pg_lsn as done`
  await until(
    `${replica.name} has caught up`,
    async () => (await replica.query<{ done: boolean }>(sql))[0]?.done,
  )
}

async function signalServer(server: PostgresServer, signal: NodeJS.Signals): Promise<void> {
  const pid = await server.pid()
  if (pid === undefined) throw new Error(`${server.name} is not running`)
  for (const process of [pid, ...(await childrenOf(pid))]) signalProcess(process, signal)
}
