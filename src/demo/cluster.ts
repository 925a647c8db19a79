import { mkdir, mkdtemp, readFile, rm, rmdir, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Timers } from '../runtime/timers.ts'
import { type FolderLock, lockFolder } from '../store/lock.ts'
import { StoreError } from '../store/store.ts'
import { type Account, canEnter, giveTo, serverAccount } from './account.ts'
import { findBinaries, findPackaged, type PostgresBinaries } from './binaries.ts'
import { DemoError } from './error.ts'
import {
  checkNotRunning,
  checkVersion,
  folderMajor,
  isEmptyFolder,
  isStandby,
  newestTimeline,
} from './folder.ts'
import { checkPortFree, findPorts } from './ports.ts'
import { PostgresServer } from './postgres.ts'
import { type NodeState, Supervisor } from './supervisor.ts'

export interface ClusterOptions {
  /** Where the servers' folders are kept for next time; a temporary folder that goes away when undefined. */
  dir?: string | undefined
  /** Names of the servers; the first is the primary of a new cluster. */
  nodes: string[]
  /** One port on 127.0.0.1 for each server; free ones from 15432 on by default. */
  ports?: number[]
  /** Where PostgreSQL's programs are looked for; see `findBinaries`. */
  programs: { path: string; folder?: string | undefined; packageOnly?: boolean }
  /** Gives up a start that is under way. */
  signal?: AbortSignal
  /** Called when everything was checked: from here on servers are made and started. */
  onStart?: () => void
  /** More settings for every server's postgresql.conf. */
  settings?: Record<string, string>
  clock: Clock
  timers: Timers
  log: Logger
}

export interface Cluster {
  dir: string
  /** Who the servers run as. */
  account: Account
  binaries: PostgresBinaries
  /** Each server as of now, in the order of `nodes`. */
  nodes(): NodeState[]
  /** Stops every server and removes the folder if it is temporary. Nothing is left behind. */
  stop(): Promise<void>
}

/**
 * Starts real PostgreSQL servers on this machine, a primary and its streaming replicas, and looks after them: see
 * `decide`. Resolves when all accept connections. Throws `DemoError`, with nothing left running and, but for a
 * folder that was named, nothing left on disk.
 */
export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const account = await serverAccount()
  const kept = options.dir !== undefined
  const { dir, made } =
    options.dir === undefined ? await temporaryFolder(account) : await keptFolder(options.dir, account)
  const servers: PostgresServer[] = []
  let lock: FolderLock | undefined
  let binaries: PostgresBinaries | undefined
  let supervisor: Supervisor | undefined
  const close = () => Promise.all(servers.map(server => server.close(kept ? 'fast' : 'immediate')))
  const stop = async (): Promise<void> => {
    // Together: a restart under way ends only because its server is closed.
    await Promise.all([supervisor?.stop(), close()])
    await lock?.release()
    if (kept) return
    await Promise.all(servers.map(server => server.remove()))
    await rm(dir, { recursive: true, force: true })
  }
  const onAbort = (): void => void close()
  options.signal?.addEventListener('abort', onAbort)
  try {
    await checkFolder(dir, account)
    if (kept) lock = await lockForDemo(dir)
    binaries = await findBinaries({ account, copyTo: dir, ...options.programs })
    const checked = await makeServers(options, dir, account, binaries)
    await checkServers(checked, binaries, () => findPackaged(account, dir))
    options.onStart?.()
    // Only from here on are they ours to stop.
    servers.push(...checked)
    if (options.signal?.aborted) await close()
    const leader = await startServers(servers, options.log)
    supervisor = new Supervisor({ servers, leader: leader.name, ...options })
    const { nodes } = supervisor
    return { dir, account, binaries, nodes, stop }
  } catch (cause) {
    await stop()
    const isUnused = servers.length === 0
    if (isUnused && binaries?.newCopy) await rm(binaries.newCopy, { recursive: true, force: true })
    if (made !== undefined) await removeEmpty(dir, made)
    throw cause
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
  }
}

interface Folder {
  dir: string
  /** The topmost folder that had to be made, if any. */
  made: string | undefined
}

async function temporaryFolder(account: Account): Promise<Folder> {
  const dir = await mkdtemp(join(tmpdir(), 'pgherd-'))
  await giveTo(account, dir)
  return { dir, made: undefined }
}

async function keptFolder(path: string, account: Account): Promise<Folder> {
  const dir = resolve(path)
  const made = await mkdir(dir, { recursive: true }).catch((cause: Error) => {
    throw new DemoError('folder_unusable', `cannot make the folder ${dir}: ${cause.message}`, { cause })
  })
  if (made !== undefined) await giveTo(account, made)
  return { dir, made }
}

/** Removes the folder and those above it, up to `top`, as long as there is nothing in them. */
async function removeEmpty(folder: string, top: string): Promise<void> {
  const isRemoved = await rmdir(folder).then(
    () => true,
    () => false,
  )
  if (isRemoved && folder !== top) await removeEmpty(dirname(folder), top)
}

/** Keeps the folder to this process. */
async function lockForDemo(dir: string): Promise<FolderLock> {
  try {
    return await lockFolder(dir)
  } catch (cause) {
    if (cause instanceof StoreError && cause.code === 'locked') {
      const pid = Number.parseInt(await readFile(join(dir, 'lock'), 'utf8').catch(() => ''), 10)
      const message = `a pgherd demo (process ${pid}) is running on ${dir}: end that one first, or name another folder`
      throw new DemoError('folder_in_use', message, { cause })
    }
    const message = `cannot write to the folder ${dir}: ${(cause as Error).message}`
    throw new DemoError('folder_unusable', message, { cause })
  }
}

async function checkFolder(dir: string, account: Account): Promise<void> {
  if (!(await stat(dir)).isDirectory())
    throw new DemoError('folder_unusable', `${dir} is not a folder: name another`)
  if (await canEnter(account, dir)) return
  throw new DemoError(
    'folder_unusable',
    `the servers run as ${account.name}, who may not enter ${dir}: name a folder that is open to all, such as one in /var/tmp`,
  )
}

async function makeServers(
  options: ClusterOptions,
  dir: string,
  account: Account,
  binaries: PostgresBinaries,
): Promise<PostgresServer[]> {
  const { clock, timers, log, settings } = options
  const ports = options.ports ?? (await findPorts(options.nodes.length))
  return options.nodes.map((name, i) => {
    const port = ports[i]
    if (port === undefined) throw new Error(`no port for node ${name}`)
    return new PostgresServer({
      name,
      folder: join(dir, name),
      port,
      binaries,
      account,
      settings,
      clock,
      timers,
      log,
    })
  })
}

/** Everything that can be found wrong before anything is made or started. */
async function checkServers(
  servers: PostgresServer[],
  binaries: PostgresBinaries,
  findOthers: () => Promise<PostgresBinaries | undefined>,
): Promise<void> {
  await checkNotRunning(servers.map(({ folder }) => folder))
  for (const { folder } of servers) {
    if (await isEmptyFolder(folder)) continue
    const isOfOthers = (await folderMajor(folder)) !== binaries.major
    await checkVersion(folder, binaries, isOfOthers ? await findOthers() : undefined)
  }
  for (const { name, port } of servers) await checkPortFree(port, `PostgreSQL server ${name}`)
}

/** Starts the primary, new or as found, then all others at once as its replicas. Returns the primary. */
async function startServers(servers: PostgresServer[], log: Logger): Promise<PostgresServer> {
  const primary = (await foundPrimary(servers)) ?? (await newPrimary(servers))
  await primary.start(undefined)
  const replicas = servers.filter(server => server !== primary)
  // All are waited for also when one fails, so that none is still starting when the failure is cleaned up.
  const results = await Promise.allSettled(replicas.map(replica => startReplica(replica, primary, log)))
  for (const result of results) if (result.status === 'rejected') throw result.reason
  return primary
}

/** Of the folders that are there, the primary's; of two, the one with the newer timeline. */
async function foundPrimary(servers: PostgresServer[]): Promise<PostgresServer | undefined> {
  let found: { server: PostgresServer; timeline: number } | undefined
  for (const server of servers) {
    if ((await folderMajor(server.folder)) === undefined || (await isStandby(server.folder))) continue
    const timeline = await newestTimeline(server.folder)
    if (!found || timeline > found.timeline) found = { server, timeline }
  }
  return found?.server
}

async function newPrimary(servers: PostgresServer[]): Promise<PostgresServer> {
  for (const server of servers) {
    if ((await folderMajor(server.folder)) === undefined) continue
    throw new DemoError(
      'folder_unusable',
      `${server.folder} is a replica's, and no folder of a primary stands beside it: name another folder, or empty this one`,
    )
  }
  const [first] = servers
  if (!first) throw new Error('a cluster needs at least one node')
  await first.initialize()
  return first
}

async function startReplica(replica: PostgresServer, primary: PostgresServer, log: Logger): Promise<void> {
  const standby = (await folderMajor(replica.folder)) !== undefined && (await isStandby(replica.folder))
  if (!standby) await replica.cloneFrom(primary)
  try {
    await replica.start(primary.port)
  } catch (cause) {
    const { name, brokenStream } = replica
    if (brokenStream === undefined) throw cause
    const sentence = `${name} cannot follow ${primary.name} from where it is, making it anew: ${brokenStream}`
    log.info({ event: 'demo.rebuild', node: name }, sentence)
    await replica.cloneFrom(primary)
    await replica.start(primary.port)
  }
}
