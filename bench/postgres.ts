import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deriveKeys, formatVerifier, makeVerifier, type ScramKeys } from '../src/auth/scram.ts'
import { caughtUp, query, startTestCluster, type TestCluster } from '../test/support/postgres.ts'
import { runProgram } from './command.ts'
import { benchDatabase, benchUser } from './contestants/contestant.ts'
import { BenchError } from './error.ts'
import { SlowServers } from './slow-servers.ts'

const password = 'bench-password'
const salt = Buffer.from('salt of the bench')
const iterations = 4096
const createLimitMs = 30_000
/** Rows of pgbench_accounts for each unit of scale. */
export const accountsPerScale = 100_000

/** What differs from PostgreSQL's defaults, but for the number of connections. */
export const serverSettings = {
  // The tables of pgbench fit into it.
  shared_buffers: '512MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '1h',
  // It would work in one contestant's turn and not in another's.
  autovacuum: 'off',
  // The proxies are compared, not the disks.
  fsync: 'off',
}

/** The PostgreSQL that all contestants lead to. It trusts everybody on the loopback interface. */
export class BenchPostgres {
  readonly port: number
  readonly pid: number
  readonly version: string
  /** A folder for files of the contestants and the load; its owner is the server's account. */
  readonly dir: string
  readonly usersFile: string
  /** What the server, and a proxy that asks by itself, know of the user's password. */
  readonly verifier: string
  /** What proves the user's password without the work of hashing it. */
  readonly keys: ScramKeys
  readonly scale: number
  /** Where reads may go, for workloads about balancing: all are some way off, and the last one is slow. */
  readonly replicaPorts: readonly number[]
  readonly #slow: SlowServers | undefined
  readonly #cluster: TestCluster
  #accounts: Promise<void> | undefined

  private constructor(
    cluster: TestCluster,
    pid: number,
    login: Pick<BenchPostgres, 'usersFile' | 'verifier' | 'keys'>,
    scale: number,
    slow: SlowServers | undefined,
  ) {
    this.port = cluster.primary.port
    this.pid = pid
    this.version = cluster.binaries.version
    this.dir = cluster.dir
    this.usersFile = login.usersFile
    this.verifier = login.verifier
    this.keys = login.keys
    this.scale = scale
    this.#slow = slow
    this.replicaPorts = slow?.ports ?? []
    this.#cluster = cluster
  }

  /** Throws what the server says when it does not start. `scale` is that of pgbench's tables. */
  static async start(connectionsMax: number, scale: number, replicas: number): Promise<BenchPostgres> {
    const cluster = await startTestCluster({
      replicas,
      settings: { ...serverSettings, max_connections: String(connectionsMax) },
    })
    try {
      await cluster.primary.query(`create role ${benchUser} superuser login password '${password}'`)
      await cluster.primary.query(`create database ${benchDatabase}`, createLimitMs)
      const verifier = formatVerifier(await makeVerifier(password, salt, iterations))
      const keys = await deriveKeys(password, salt, iterations)
      const usersFile = join(cluster.dir, 'users.txt')
      await writeFile(usersFile, `"${benchUser}" "${verifier}"\n`, { mode: 0o600 })
      const pid = await cluster.primary.pid()
      if (pid === undefined) throw new BenchError('not_started', 'PostgreSQL ended after its start')
      const ports = cluster.replicas.map(({ port }) => port)
      const slow = ports.length > 0 ? await SlowServers.before(ports) : undefined
      return new BenchPostgres(cluster, pid, { usersFile, verifier, keys }, scale, slow)
    } catch (cause) {
      await cluster.stop()
      throw cause
    }
  }

  /** Runs statements as the bench's user in its database. */
  async query(sql: string): Promise<void> {
    await query(this.port, sql, { user: benchUser, database: benchDatabase })
  }

  /** Makes the tables of pgbench, once. */
  accounts(): Promise<void> {
    this.#accounts ??= runProgram('pgbench', [
      ...['-h', '127.0.0.1', '-p', String(this.port), '-U', benchUser],
      ...['-i', '-q', '-s', String(this.scale), benchDatabase],
    ]).then(() => this.query('checkpoint'))
    return this.#accounts
  }

  /** Waits until the replicas have what was written by now. */
  async replicate(): Promise<void> {
    for (const replica of this.#cluster.replicas) await caughtUp(this.#cluster.primary, replica)
  }

  async stop(): Promise<void> {
    await this.#slow?.stop()
    await this.#cluster.stop()
  }
}
