import { type FileHandle, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Logger } from '../runtime/log.ts'
import { type Change, type Snapshot, StoreState } from './state.ts'
import { type Entry, StoreError } from './store.ts'

/** Where the embedded store's changes go before they are acknowledged. */
export interface Journal {
  /** Resolves when all of `changes` will survive a crash. Rejects with nothing of them kept. */
  append(changes: Change[]): Promise<void>
  /** Whether `compact` is worth its while. */
  readonly grown: boolean
  /** Replaces everything by `snapshot`. A failure is logged and leaves the journal as it was. */
  compact(snapshot: Snapshot): Promise<void>
  close(): Promise<void>
}

/** The journal of a store that lives in memory only. */
export const noJournal: Journal = {
  append: () => Promise.resolve(),
  grown: false,
  compact: () => Promise.resolve(),
  close: () => Promise.resolve(),
}

export interface RecoveredJournal {
  journal: Journal
  snapshot: Snapshot
  changes: Change[]
}

const fileName = 'store.log'
/** Growth after which the file is compacted, at the least. */
const growthBytesMin = 4 * 1024 * 1024

/**
 * Opens or begins the journal in `folder`: one text file, whose first line is a snapshot and every further line
 * one change, `<crc32> <synced> <json>`. `synced` is the length of the file that was known to be on disk when the
 * line was written, which tells a torn tail (nobody was told of it: cut off) from damage to what was acknowledged
 * (an error).
 * @throws StoreError `corrupt`
 */
export async function openJournal(folder: string, log: Logger): Promise<RecoveredJournal> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, fileName)
  const data = await contentOf(path)
  if (data === undefined) {
    const snapshot = new StoreState().snapshot()
    const file = await replace(folder, snapshot)
    return { journal: new FileJournal(folder, log, file.handle, file.size, file.size), snapshot, changes: [] }
  }
  const { snapshot, changes, snapshotEnd, end } = parse(path, data)
  const handle = await open(path, 'r+')
  try {
    if (end < data.length) {
      log.warn(
        { event: 'store.torn', file: path, bytes: data.length - end },
        'cut off the end of the store file: it was being written when the last process ended, and was never acknowledged',
      )
      await handle.truncate(end)
      await handle.datasync()
    }
  } catch (cause) {
    await handle.close()
    throw cause
  }
  return { journal: new FileJournal(folder, log, handle, end, snapshotEnd), snapshot, changes }
}

class FileJournal implements Journal {
  private readonly folder: string
  private readonly log: Logger
  private handle: FileHandle
  /** All of the file up to here is on disk. */
  private size: number
  /** How large the file was, or would have been, when it held a snapshot only. */
  private sizeCompacted: number
  private broken: StoreError | undefined

  constructor(folder: string, log: Logger, handle: FileHandle, size: number, sizeCompacted: number) {
    this.folder = folder
    this.log = log
    this.handle = handle
    this.size = size
    this.sizeCompacted = sizeCompacted
  }

  async append(changes: Change[]): Promise<void> {
    if (this.broken) throw this.broken
    const data = Buffer.concat(changes.map(change => line(change, this.size)))
    try {
      await writeAt(this.handle, data, this.size)
      await this.handle.datasync()
    } catch (cause) {
      throw await this.takeBack(cause)
    }
    this.size += data.length
  }

  get grown(): boolean {
    return this.size - this.sizeCompacted > Math.max(growthBytesMin, this.sizeCompacted)
  }

  async compact(snapshot: Snapshot): Promise<void> {
    try {
      const { handle, size } = await replace(this.folder, snapshot)
      await this.handle.close()
      this.handle = handle
      this.size = size
      this.sizeCompacted = size
    } catch (cause) {
      this.log.warn(
        { event: 'store.compact', err: cause, folder: this.folder },
        'the store file could not be compacted and goes on growing: make room on the disk',
      )
      // Tries again after as much growth once more.
      this.sizeCompacted = this.size
    }
  }

  close(): Promise<void> {
    return this.handle.close()
  }

  /** After a failed write the file must end where it did; if that cannot be had, nothing more is written to it. */
  private async takeBack(cause: unknown): Promise<StoreError> {
    const path = join(this.folder, fileName)
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)
    try {
      await this.handle.truncate(this.size)
      await this.handle.datasync()
      if (full) {
        return new StoreError('full', `no room left for ${path}: make room on the disk, then try again`, {
          cause,
        })
      }
    } catch (failure) {
      this.log.error({ event: 'store.broken', err: failure, file: path }, 'the store file cannot be repaired')
    }
    this.broken = new StoreError(
      'unavailable',
      `${path} could not be written (${code}), whether the last writes are kept is unknown: check the disk, ` +
        'then restart this process',
      { cause },
    )
    return this.broken
  }
}

/** Writes a new file beside the old one and lets it take its place, so that a crash leaves one or the other. */
async function replace(folder: string, snapshot: Snapshot): Promise<{ handle: FileHandle; size: number }> {
  const temporary = join(folder, `${fileName}.new`)
  const data = line(snapshot, 0)
  const handle = await open(temporary, 'w+', 0o600)
  try {
    await writeAt(handle, data, 0)
    await handle.sync()
    await rename(temporary, join(folder, fileName))
    await syncFolder(folder)
  } catch (cause) {
    await handle.close()
    await rm(temporary, { force: true })
    throw cause
  }
  return { handle, size: data.length }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function writeAt(handle: FileHandle, data: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < data.length) {
    const { bytesWritten } = await handle.write(data, written, data.length - written, position + written)
    written += bytesWritten
  }
}

async function contentOf(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw cause
  }
}

function line(content: Snapshot | Change, synced: number): Buffer {
  const checked = `${synced} ${JSON.stringify(content)}`
  return Buffer.from(`${crc32(checked).toString(16).padStart(8, '0')} ${checked}\n`)
}

interface Parsed {
  snapshot: Snapshot
  changes: Change[]
  snapshotEnd: number
  /** Length of the part that is whole. */
  end: number
}

function parse(path: string, data: Buffer): Parsed {
  const changes: Change[] = []
  let snapshot: Snapshot | undefined
  let snapshotEnd = 0
  let revision = 0
  /** Where the first line that cannot be read begins. */
  let damage: number | undefined
  for (let start = 0, next = 0; start < data.length; start = next) {
    const newline = data.indexOf(0x0a, start)
    next = newline < 0 ? data.length : newline + 1
    const record = newline < 0 ? undefined : readLine(data.subarray(start, newline))
    if (!record) damage ??= start
    // The snapshot was on disk before the file got its name: damage to it is never a torn tail.
    if (damage === 0 || (damage !== undefined && record && record.synced > damage)) {
      throw corrupt(path, damage)
    }
    if (!record || damage !== undefined) continue
    if (!snapshot) {
      snapshot = asSnapshot(path, record.content)
      snapshotEnd = next
    } else changes.push(asChange(path, start, record.content, revision))
    revision = record.content.revision
  }
  if (!snapshot) throw corrupt(path, 0)
  return { snapshot, changes, snapshotEnd, end: damage ?? data.length }
}

function readLine(bytes: Buffer): { synced: number; content: Snapshot | Change } | undefined {
  if (bytes.length < 12 || bytes[8] !== 0x20) return undefined
  const checked = bytes.subarray(9)
  if (crc32(checked) !== Number.parseInt(bytes.toString('latin1', 0, 8), 16)) return undefined
  const space = checked.indexOf(0x20)
  const content = JSON.parse(checked.toString('utf8', space + 1)) as Snapshot | Change
  return { synced: Number(checked.toString('latin1', 0, space)), content }
}

function asSnapshot(path: string, content: Snapshot | Change): Snapshot {
  if (!('format' in content)) throw corrupt(path, 0)
  if (content.format !== 1) {
    throw new StoreError(
      'corrupt',
      `${path} has format ${content.format}, which a newer pgherd wrote: start that version`,
    )
  }
  return { ...content, entries: content.entries.map(whole) }
}

function asChange(path: string, at: number, content: Snapshot | Change, revision: number): Change {
  if ('format' in content) throw corrupt(path, at)
  if (content.revision !== revision + (content.events.length > 0 ? 1 : 0)) throw corrupt(path, at)
  return { ...content, events: content.events.map(({ kind, entry }) => ({ kind, entry: whole(entry) })) }
}

/** JSON leaves out what is undefined. */
function whole(entry: Entry): Entry {
  return { ...entry, leaseId: entry.leaseId }
}

function corrupt(path: string, at: number): StoreError {
  return new StoreError(
    'corrupt',
    `${path} is damaged at byte ${at}, within what was acknowledged: restore the file from a backup, or move it ` +
      'away to begin with an empty store (nodes and settings must then be declared again)',
  )
}
