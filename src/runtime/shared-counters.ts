import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Counters that several processes of this machine have in common: a file without a name that a process hands to its
 * children. What one has written the others read at once, for both go to the same page of the kernel's memory.
 */

/** Counters in a file; more processes than that do not live at a time. */
const slots = 256
const slotBytes = 4
const bytes = slots * slotBytes

/** Makes a file for `SharedCounters`, and gives back its descriptor. Nothing is left of it when all have closed it. */
export function openCounterFile(unique: string): number {
  for (const folder of ['/dev/shm', tmpdir()]) {
    const path = join(folder, `pgherd-${process.pid}-${unique}`)
    try {
      const fd = openSync(path, 'wx+', 0o600)
      unlinkSync(path)
      writeSync(fd, Buffer.alloc(bytes))
      return fd
    } catch (cause) {
      if (folder !== '/dev/shm') throw cause
    }
  }
  throw new Error('no folder for temporary files')
}

export function closeCounterFile(fd: number): void {
  closeSync(fd)
}

/** One process's view: it counts in its own slot, and reads those of all. */
export class SharedCounters {
  readonly #fd: number
  readonly #position: number
  readonly #own = Buffer.alloc(slotBytes)
  readonly #all = Buffer.alloc(bytes)

  /** `slot`: any number; no two processes that live at the same time have the same one modulo 256. */
  constructor(fd: number, slot: number) {
    this.#fd = fd
    this.#position = (slot % slots) * slotBytes
    readSync(fd, this.#own, 0, slotBytes, this.#position)
  }

  /** Counts one more. When this returns, `read` tells it to everybody. */
  count(): void {
    this.#own.writeUInt32LE((this.#own.readUInt32LE(0) + 1) >>> 0, 0)
    writeSync(this.#fd, this.#own, 0, slotBytes, this.#position)
  }

  /** What all have counted: the same buffer every time. */
  read(): Buffer {
    readSync(this.#fd, this.#all, 0, bytes, 0)
    return this.#all
  }
}
