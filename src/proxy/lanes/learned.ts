/** Who waits behind a statement that takes longer than this is served elsewhere. */
export const stallMs = 30
/** Above this a statement is too slow for others to wait behind it. */
const slowMs = 5
/** Above this an answer is too large for others to wait behind it. */
const largeBytes = 64 * 1024
/** One that takes longer than this is no victim of a busy machine, but slow by itself. */
const longMs = 100
/** What one execution in a lane counts at most: a process that had to wait for a processor once is not slow. */
const countedMsMax = 10
/** How long a statement runs by itself that holds others up just now. */
const shortBanMs = 200
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

  /**
   * It ran on a connection of its own. Where many do at once each takes longer than it needs: the quickest counts,
   * and is forgotten slowly.
   */
  ranAlone(ms: number, bytes: number): void {
    this.#ms = this.isNew ? ms : Math.min(ms, this.#ms * 1.25 + 0.01)
    this.#bytes = this.isNew ? bytes : bytes > this.#bytes ? bytes : this.#bytes + (bytes - this.#bytes) / 8
    this.isNew = false
  }

  /** It ran in a lane; `ms` from when the one before it had its answer. `stalled`: others were taken from behind it. */
  ranShared(ms: number, bytes: number, stalled: boolean, nowMs: number): void {
    this.#ms += (Math.min(ms, countedMsMax) - this.#ms) / 8
    this.#bytes += (bytes - this.#bytes) / 8
    if (stalled && ms > longMs) {
      this.#quick = 0
      this.#bannedUntilMs = nowMs + Math.min(banMsMax, firstBanMs * 2 ** this.#stalls)
      this.#stalls++
    } else if (this.#stalls > 0 && ++this.#quick > quickToForgive) {
      this.#stalls--
      this.#quick = 0
    }
  }

  /** Others have waited behind it for too long, and it still runs. */
  stalls(nowMs: number): void {
    this.#bannedUntilMs = Math.max(this.#bannedUntilMs, nowMs + shortBanMs)
  }
}

const quickToForgive = 1000
