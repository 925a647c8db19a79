import { copyFile, lchown, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { type Account, giveTo } from './account.ts'
import { DemoError } from './error.ts'

export interface CloneOptions {
  /** Data folder of the running server to copy, and its port on 127.0.0.1. */
  source: string
  port: number
  /** Must not exist. */
  target: string
  account: Account
}

/** Folders of which a copy needs the folder itself only: its server fills them anew. */
const emptied = new Set([
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
])
const leftOut =
  /^(postmaster\.(pid|opts)|backup_label(\.old)?|tablespace_map(\.old)?|backup_manifest|(standby|recovery)\.signal|postgresql\.auto\.conf\.tmp|current_logfiles(\.tmp)?|pg_internal\.init.*|pgsql_tmp.*|\.s\.PGSQL\..*)$/

/**
 * Makes a base backup of a running server by copying its folder, as described in "Making a Base Backup Using the
 * Low Level API" of the PostgreSQL manual; pg_basebackup is not part of every installation. The copy has no WAL:
 * it must start as a replica and stream what it needs.
 * Throws `DemoError` `clone_failed`; the target may then be left half made.
 */
export async function cloneFolder(options: CloneOptions): Promise<void> {
  const client = new Client({
    host: '127.0.0.1',
    port: options.port,
    user: 'postgres',
    database: 'postgres',
    ssl: false,
  })
  // A connection that breaks also fails the query under way, which is where it is reported.
  client.on('error', () => {})
  try {
    await client.connect()
    // The backup ends with the session that began it, so all of it is one connection.
    const { rows } = await client.query<{ modern: boolean }>(
      `select current_setting('server_version_num')::int >= 150000 as modern`,
    )
    const modern = rows[0]?.modern === true
    await client.query(
      modern ? `select pg_backup_start('pgherd', true)` : `select pg_start_backup('pgherd', true, false)`,
    )
    await copyFolder(options.source, options.target, options.account)
    const stopped = await client.query<{ labelfile: string; spcmapfile: string }>(
      modern ? 'select * from pg_backup_stop(false)' : 'select * from pg_stop_backup(false, false)',
    )
    const { labelfile, spcmapfile } = stopped.rows[0] ?? { labelfile: '', spcmapfile: '' }
    if (spcmapfile) {
      throw new Error('it has tablespaces, which two servers of one machine cannot share: drop them')
    }
    const label = join(options.target, 'backup_label')
    await writeFile(label, labelfile, { mode: 0o600 })
    await giveTo(options.account, label)
  } catch (cause) {
    throw new DemoError(
      'clone_failed',
      `cannot copy the server on port ${options.port} to ${options.target}: ${(cause as Error).message}`,
      { cause },
    )
  } finally {
    await client.end().catch(() => {})
  }
}

/** Copies what a base backup needs. Files may vanish meanwhile: replaying the WAL removes them in the copy too. */
async function copyFolder(source: string, target: string, account: Account): Promise<void> {
  await makeFolder(target, account)
  await copyEntries(source, target, account, true)
}

async function copyEntries(source: string, target: string, account: Account, top: boolean): Promise<void> {
  const entries = await readdir(source, { withFileTypes: true }).catch(unlessVanished)
  for (const entry of entries ?? []) {
    if (leftOut.test(entry.name)) continue
    const from = join(source, entry.name)
    const to = join(target, entry.name)
    if (entry.isDirectory()) {
      await makeFolder(to, account)
      if (!top || !emptied.has(entry.name)) await copyEntries(from, to, account, false)
    } else if (entry.isFile()) {
      const copied = await copyFile(from, to).then(() => true, unlessVanished)
      if (copied && account.identity) await lchown(to, account.identity.uid, account.identity.gid)
    }
  }
}

async function makeFolder(path: string, account: Account): Promise<void> {
  await mkdir(path, { mode: 0o700 })
  if (account.identity) await lchown(path, account.identity.uid, account.identity.gid)
}

function unlessVanished(cause: NodeJS.ErrnoException): undefined {
  if (cause.code !== 'ENOENT') throw cause
}
