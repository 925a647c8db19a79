import { link, open, readFile, rename, rm, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { StoreError } from './store.ts'

/** Keeps a folder to one process. */
export interface FolderLock {
  release(): Promise<void>
}

/**
 * Takes the lock file of `folder`. A lock whose process is gone is taken over: where the system tells it (Linux),
 * the process's start time is compared too, so that a reused process id does not count as the owner.
 * @throws StoreError `locked`, naming the process that has it
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, 'lock')
  const own = await identityOf(process.pid)
  const candidate = join(folder, `lock.${process.pid}`)
  await writeWhole(candidate, `${own}\n`)
  try {
    for (let attempt = 0; attempt < 5; attempt++) {
      // A hard link appears whole or not at all, and fails when the name is taken.
      if (await linked(candidate, path)) return { release: () => rm(path, { force: true }) }
      const owner = await ownerOf(path)
      if (owner !== undefined && (await isAlive(owner))) throw lockedBy(folder, owner)
      await discard(path, owner, `${candidate}.stale`)
    }
  } finally {
    await rm(candidate, { force: true })
  }
  throw new StoreError('locked', `the lock of ${folder} keeps changing hands: start one process at a time`)
}

function lockedBy(folder: string, owner: string): StoreError {
  const pid = pidOf(owner)
  return new StoreError(
    'locked',
    `the store in ${folder} is open in process ${pid}: stop that process, or use another folder`,
  )
}

async function writeWhole(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (cause) {
    if (errorCode(cause) === 'EEXIST') return false
    throw cause
  }
}

async function ownerOf(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined
    throw cause
  }
}

/** Moves a dead owner's lock away; puts it back when it turns out to be somebody's fresh one. */
async function discard(path: string, owner: string | undefined, aside: string): Promise<void> {
  try {
    await rename(path, aside)
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return
    throw cause
  }
  if ((await ownerOf(aside)) !== owner) await linked(aside, path)
  await unlink(aside)
}

async function isAlive(owner: string): Promise<boolean> {
  const pid = pidOf(owner)
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (cause) {
    // EPERM: there is such a process, of another user.
    if (errorCode(cause) !== 'EPERM') return false
  }
  const actual = await identityOf(pid)
  return !(owner.includes(' ') && actual.includes(' ')) || actual === owner
}

function pidOf(owner: string): number {
  return Number(owner.split(' ')[0])
}

/** The process id, and on Linux the ticks since boot at which the process began (field 22 of proc(5) stat). */
async function identityOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // The second field is a name in parentheses that may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return `${pid} ${fields[19]}`
  } catch {
    return `${pid}`
  }
}

function errorCode(cause: unknown): unknown {
  return cause instanceof Error && 'code' in cause ? cause.code : undefined
}
