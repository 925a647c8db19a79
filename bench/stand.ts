import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { deriveKeys, formatVerifier, makeVerifier, type ScramKeys } from '../src/auth/scram.ts'
import { giveTo, serverAccount } from '../src/demo/account.ts'
import { baseEnvironment, childrenOf, type Identity } from '../src/runtime/process.ts'
import { freePorts } from '../test/support/ports.ts'
import { startTestCluster, type TestCluster } from '../test/support/postgres.ts'
import { until } from '../test/support/wait.ts'
import { logIn } from './wire.ts'

/** One way to the same PostgreSQL. */
export interface Contestant {
  name: 'PostgreSQL' | 'PgBouncer' | 'pgherd'
  port: number
  /** Its processes; none for PostgreSQL itself. */
  pids: number[]
}

/** A PostgreSQL, with PgBouncer and pgherd in front of it: all with the same pool, log-ins by SCRAM at the proxies. */
export interface Stand {
  postgres: Contestant
  pgbouncer: Contestant
  pgherd: Contestant
  /** What proves the user's password without the work of hashing it. */
  keys: ScramKeys
  stop(): Promise<void>
}

export interface StandOptions {
  /** Data workers of pgherd; PgBouncer is one process always. */
  workers: number
  /** The proxies share the first processor, and all else has the others. */
  pinned?: boolean
  poolSize?: number
  /** More options for the Node.js of pgherd, such as --cpu-prof. */
  nodeOptions?: readonly string[]
}

const user = 'bench'
const password = 'bench-password'
const salt = Buffer.from('salt of the bench')
const iterations = 4096
const clientsMax = 20_000
const main = fileURLToPath(new URL('../src/main.js', import.meta.url))

export async function startStand(options: StandOptions): Promise<Stand> {
  // What is started from here on inherits it.
  if (options.pinned) execFileSync('taskset', ['-cp', `1-${availableParallelism() - 1}`, String(process.pid)])
  const cluster = await startTestCluster({ settings: { max_connections: '200' } })
  const children: ChildProcess[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(endProcess))
    await cluster.stop()
  }
  try {
    await cluster.primary.query(`create role ${user} superuser login password '${password}'`)
    const [bouncerPort, herdPort, readPort, adminPort] = (await freePorts(4)) as [
      number,
      number,
      number,
      number,
    ]
    const secret = formatVerifier(await makeVerifier(password, salt, iterations))
    const keys = await deriveKeys(password, salt, iterations)
    await writeFile(join(cluster.dir, 'users.txt'), `"${user}" "${secret}"\n`, { mode: 0o600 })
    const bouncer = await startPgBouncer(cluster, bouncerPort, options)
    children.push(bouncer)
    const herd = await startPgherd(cluster, { port: herdPort, readPort, adminPort }, options)
    children.push(herd)
    for (const port of [bouncerPort, herdPort]) {
      await until(`logins at port ${port}`, async () => (await logIn(port, keys)).end(), 20_000)
    }
    return {
      postgres: { name: 'PostgreSQL', port: cluster.primary.port, pids: [] },
      pgbouncer: { name: 'PgBouncer', port: bouncerPort, pids: [bouncer.pid!] },
      pgherd: { name: 'pgherd', port: herdPort, pids: [herd.pid!, ...(await childrenOf(herd.pid!))] },
      keys,
      stop,
    }
  } catch (cause) {
    await stop()
    throw cause
  }
}

async function startPgBouncer(
  cluster: TestCluster,
  port: number,
  options: StandOptions,
): Promise<ChildProcess> {
  const file = join(cluster.dir, 'pgbouncer.ini')
  await writeFile(
    file,
    `[databases]
* = host=127.0.0.1 port=${cluster.primary.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(cluster.dir, 'users.txt')}
pool_mode = transaction
default_pool_size = ${options.poolSize ?? 20}
max_client_conn = ${clientsMax}
log_connections = 0
log_disconnections = 0
logfile = /dev/null
`,
  )
  const account = await serverAccount()
  await giveTo(account, cluster.dir)
  return start(['pgbouncer', '-q', file], options.pinned, account.identity)
}

async function startPgherd(
  cluster: TestCluster,
  { port, readPort, adminPort }: { port: number; readPort: number; adminPort: number },
  options: StandOptions,
): Promise<ChildProcess> {
  const file = join(cluster.dir, 'pgherd.json')
  const config = {
    store: { path: ':memory:' },
    log: { level: 'warn' },
    admin: { port: adminPort },
    nodes: [{ name: 'a', host: '127.0.0.1', port: cluster.primary.port }],
    proxy: {
      port,
      read_port: readPort,
      workers: options.workers,
      pool_mode: 'auto',
      default_pool_size: options.poolSize ?? 20,
      max_client_conn: clientsMax,
      auth: {
        method: 'proxy',
        users_file: join(cluster.dir, 'users.txt'),
        rules: [{ type: 'host', database: 'all', user: 'all', address: 'all', method: 'scram-sha-256' }],
      },
    },
  }
  await writeFile(file, JSON.stringify(config))
  const command = [process.execPath, ...(options.nodeOptions ?? []), main, 'up', '--config', file]
  return start(command, options.pinned, undefined)
}

function start(command: string[], pinned: boolean | undefined, identity: Identity | undefined): ChildProcess {
  const [program, ...args] = pinned ? ['taskset', '-c', '0', ...command] : command
  const PATH = `${process.env['PATH']}:/usr/sbin`
  const child = spawn(program!, args, {
    env: { ...baseEnvironment(), PATH },
    stdio: ['ignore', 'ignore', 'inherit'],
    ...identity,
  })
  child.on('error', cause => console.error(`${program} could not be started: ${cause.message}`))
  return child
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
}

/** Resident memory of processes. */
export async function memoryBytes(pids: readonly number[]): Promise<number> {
  let sum = 0
  for (const pid of pids) sum += (await statusOf(pid, 'VmRSS')) * 1024
  return sum
}

/** The most that any of the processes has ever held. */
export async function memoryPeakBytes(pids: readonly number[]): Promise<number> {
  let most = 0
  for (const pid of pids) most = Math.max(most, (await statusOf(pid, 'VmHWM')) * 1024)
  return most
}

async function statusOf(pid: number, field: string): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
}

/** Processor time that processes have used, in milliseconds. */
export async function processorMs(pids: readonly number[]): Promise<number> {
  let ticks = 0
  for (const pid of pids) {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ')
    ticks += Number(fields[11]) + Number(fields[12])
  }
  // A tick is 10 ms wherever Linux runs today.
  return ticks * 10
}
