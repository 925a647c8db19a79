import { access, readdir, readFile, readlink, realpath, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive } from '../runtime/process.ts'
import { type Account, giveTo } from './account.ts'
import type { PostgresBinaries } from './binaries.ts'
import { DemoError } from './error.ts'

/** The longest path of a unix socket that every platform takes, in bytes (macOS: 104 with the closing zero). */
const socketPathBytesMax = 103

/** Settings of a local server, beyond those every one gets. */
export interface ServerSettings {
  port: number
  /** Port on 127.0.0.1 of the server to stream from; undefined for a primary. */
  followsPort: number | undefined
  /** What a replica calls itself in `pg_stat_replication`. */
  applicationName: string
  /** More settings for postgresql.conf. */
  extra?: Record<string, string> | undefined
}

/** Major version of the data folder; undefined when it is none, NaN when the file that says it is damaged. */
export async function folderMajor(folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, 'PG_VERSION'), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : Number.parseInt(/^\d+(\.\d+)?$/.exec(text.trim())?.[0] ?? '', 10)
}

/** Whether a folder is absent or has nothing in it. */
export async function isEmptyFolder(folder: string): Promise<boolean> {
  const entries = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return []
    throw cause
  })
  return entries.length === 0
}

/**
 * Throws `DemoError` when the data folder is not of the version of these programs. `others` are programs to name
 * where they fit better.
 */
export async function checkVersion(
  folder: string,
  binaries: PostgresBinaries,
  others?: PostgresBinaries,
): Promise<void> {
  const major = await folderMajor(folder)
  if (major === binaries.major) return
  if (major === undefined) {
    throw new DemoError(
      'folder_unusable',
      `${folder} is not a PostgreSQL data folder and not empty: name another folder, or empty this one`,
    )
  }
  if (Number.isNaN(major)) {
    throw new DemoError(
      'folder_unusable',
      `${folder} is no PostgreSQL data folder, or is damaged: its PG_VERSION says no version; name another folder`,
    )
  }
  const remedy =
    others?.major === major
      ? `run with PGHERD_POSTGRES_BIN=${others.folder}, where PostgreSQL ${others.version} is`
      : `set PGHERD_POSTGRES_BIN to the programs of PostgreSQL ${major}`
  throw new DemoError(
    'version_mismatch',
    `the data in ${folder} was made by PostgreSQL ${major}, but the programs in ${binaries.folder} are ` +
      `${binaries.version}: ${remedy}, or name another folder`,
  )
}

/** Whether the folder is a replica's when its server starts. */
export async function isStandby(folder: string): Promise<boolean> {
  return (await readdir(folder)).includes('standby.signal')
}

/** The newest timeline of which the folder has WAL or history; 1 when it has none. */
export async function newestTimeline(folder: string): Promise<number> {
  const names = await readdir(join(folder, 'pg_wal'))
  const timelines = names.filter(name => /^[0-9A-F]{8}([0-9A-F]{16}|\.history)$/.test(name))
  return Math.max(1, ...timelines.map(name => Number.parseInt(name.slice(0, 8), 16)))
}

/**
 * Process id of the server that runs on the folder, or undefined. A left-over postmaster.pid does not count: its
 * process must be alive and, where the system tells, work in this folder.
 */
export async function runningPid(folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, 'postmaster.pid'), 'utf8').catch(() => '')
  const pid = Number.parseInt(text, 10)
  if (!(pid > 1) || !isAlive(pid)) return undefined
  if (process.platform !== 'linux') return pid
  const [works, real] = await Promise.all([readlink(`/proc/${pid}/cwd`), realpath(folder)]).catch(() => [])
  return works !== undefined && works !== real ? undefined : pid
}

/** Throws `DemoError` `folder_in_use` when servers run on any of the folders, and names them all. */
export async function checkNotRunning(folders: string[]): Promise<void> {
  const found: { folder: string; pid: number }[] = []
  for (const folder of folders) {
    const pid = await runningPid(folder)
    if (pid !== undefined) found.push({ folder, pid })
  }
  if (found.length === 0) return
  const who = found.map(({ folder, pid }) => `${folder} (process ${pid})`).join(', ')
  const [subject, them] =
    found.length === 1 ? ['a PostgreSQL server is', 'it'] : [`${found.length} PostgreSQL servers are`, 'them']
  throw new DemoError(
    'folder_in_use',
    `${subject} running already, on ${who}: stop ${them} first with ` +
      `kill -INT ${found.map(({ pid }) => pid).join(' ')}, or name another folder`,
  )
}

/** Whether the last server on the folder, if any, ended without having been stopped in order. */
export function hasCrashed(folder: string): Promise<boolean> {
  return access(join(folder, 'postmaster.pid')).then(
    () => true,
    () => false,
  )
}

/** Where the server puts its unix socket: its own folder, or nowhere when the path would be too long. */
export function socketFolder(folder: string): string | undefined {
  return Buffer.byteLength(join(folder, '.s.PGSQL.65535')) <= socketPathBytesMax ? folder : undefined
}

/** Writes the folder's configuration and its role. Takes effect at the next start or, but for the role, reload. */
export async function writeSettings(
  folder: string,
  settings: ServerSettings,
  account: Account,
): Promise<void> {
  const file = join(folder, 'pgherd.conf')
  await writeFile(file, settingsText(folder, settings), { mode: 0o600 })
  await giveTo(account, file)
  const main = join(folder, 'postgresql.conf')
  const text = await readFile(main, 'utf8')
  const include = `include 'pgherd.conf'\n`
  if (!text.endsWith(include)) await writeFile(main, `${text}\n${include}`)
  const signal = join(folder, 'standby.signal')
  if (settings.followsPort === undefined) return rm(signal, { force: true })
  await writeFile(signal, '', { mode: 0o600 })
  await giveTo(account, signal)
}

/**
 * What every local server has in common: on loopback only, ready to be a primary or to serve reads as a replica,
 * with enough WAL kept for a replica that was away for a while, and quick to reconnect.
 */
function settingsText(folder: string, settings: ServerSettings): string {
  const values: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    port: String(settings.port),
    unix_socket_directories: socketFolder(folder) ?? '',
    max_connections: '200',
    shared_buffers: '64MB',
    wal_level: 'replica',
    hot_standby: 'on',
    max_wal_senders: '10',
    wal_keep_size: '512MB',
    wal_retrieve_retry_interval: '500ms',
    wal_receiver_status_interval: '1s',
    logging_collector: 'off',
    log_destination: 'stderr',
    log_line_prefix: '',
    lc_messages: 'C',
    primary_conninfo: connectionInfo(settings),
    ...settings.extra,
  }
  const lines = Object.entries(values).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`)
  return `# Written by pgherd at each start.\n${lines.join('\n')}\n`
}

function connectionInfo(settings: ServerSettings): string {
  if (settings.followsPort === undefined) return ''
  return `host=127.0.0.1 port=${settings.followsPort} user=postgres application_name=${settings.applicationName}`
}
