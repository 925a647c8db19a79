import { LatencyTail } from '../../routing/hedge.ts'
import { Typical } from '../../routing/typical.ts'

/** Who waits behind a statement that takes longer than this is served elsewhere. */
export const stallMs = 100
/** Above this a statement is too slow for others to wait behind it. */
const slowMs = 10
/** Above this an answer is too large for others to wait behind it. */
const largeBytes = 64 * 1024
/** One that takes longer than this, and holds others up, is no victim of a busy machine but slow by itself. */
const longMs = 500
/** How long one runs by itself that has held others up for long, the first time; each further time is twice as long. */
const firstBanMs = 1000
const banMsMax = 60_000

/**
 * What executions of a class of statements have cost in one database, in this worker: whether others can wait
 * behind the next. Pure.
 */
export class Learned {
  /** Nobody has run it yet. */
  isNew = true
  /** A standby has refused it: it only looked like a read. */
  needsPrimary = false
  /** How long they take altogether, waiting included. */
  readonly typical = new Typical()
  /** How long the slowest of those in lanes take, waiting included. */
  readonly tail = new LatencyTail()
  #ms = 0
  #bytes = 0
  #bannedUntilMs = 0
  #stalls = 0
  /** In a row. */
  #quick = 0

  /** Why the next one should run by itself. */
  refusal(nowMs: number): 'new' | 'slow' | 'large' | undefined {
    if (this.isNew) return 'new'
    if (this.#bytes > largeBytes) return 'large'
    if (this.#ms > slowMs || nowMs < this.#bannedUntilMs) return 'slow'
    return undefined
  }

  /** It ran on a connection of its own. */
  ranAlone(ms: number, bytes: number): void {
    this.#ms = this.isNew ? ms : this.#recent(ms)
    this.#bytes = this.isNew ? bytes : bytes > this.#bytes ? bytes : this.#bytes + (bytes - this.#bytes) / 8
    this.isNew = false
  }

  /**
   * It ran in a lane; `ms` from when the one before it had its answer, undefined when that says nothing. `stalled`:
   * others were taken from behind it.
   */
  ranShared(ms: number | undefined, bytes: number, stalled: boolean, nowMs: number): void {
    if (ms !== undefined) this.#ms = this.#recent(ms)
    this.#bytes += (bytes - this.#bytes) / 8
    if (stalled && ms !== undefined && ms > longMs) {
      this.#quick = 0
      this.#bannedUntilMs = nowMs + Math.min(banMsMax, firstBanMs * 2 ** this.#stalls)
      this.#stalls++
    } else if (this.#stalls > 0 && ++this.#quick > quickToForgive) {
      this.#stalls--
      this.#quick = 0
    }
  }

  /** Its answer was more than its client could take: so may be the next. */
  wasLarge(): void {
    this.#bytes = 2 * largeBytes
  }

  /**
   * On a busy machine everything takes longer now and then, and the slower it gets the more it helps to share: the
   * quickest execution counts, and is forgotten slowly.
   */
  #recent(ms: number): number {
    return Math.min(ms, this.#ms * 1.02 + 0.01)
  }
}

const quickToForgive = 1000
