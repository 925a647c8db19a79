import type { SharedCounters } from '../../runtime/shared-counters.ts'

/** Everything that was acknowledged up to some moment. */
export type Mark = Buffer

/**
 * Counts the answers by which clients learn that something may have been written, in all workers of the proxy: a read
 * that comes later has to see it. A count is made before the answer leaves.
 */
export class AcknowledgedWrites {
  readonly #shared: SharedCounters | undefined
  readonly #alone = Buffer.alloc(8)
  #count = 0

  /** `shared`: undefined for a worker without siblings. */
  constructor(shared: SharedCounters | undefined) {
    this.#shared = shared
  }

  note(): void {
    if (this.#shared) this.#shared.count()
    else this.#alone.writeDoubleLE(++this.#count)
  }

  mark(): Mark {
    return Buffer.from(this.#now())
  }

  /** Whether nothing was acknowledged since. */
  isUnchanged(mark: Mark): boolean {
    return this.#now().equals(mark)
  }

  #now(): Buffer {
    return this.#shared ? this.#shared.read() : this.#alone
  }
}
