/** How long throughput is counted before it is compared. */
const windowMs = 100
/** One more lane is kept when it brings this much more. */
const gainMin = 1.08
const firstLimit = 2
const firstPauseMs = 1000
const pauseMsMax = 30_000

/**
 * How many lanes serve a pool best. A lane is one PostgreSQL process: too few leave processors idle, too many make
 * them switch. So one more is tried while units have to wait behind others, and kept when it brings more units a
 * second; if not, the next try comes later each time. Pure.
 */
export class LaneLimit {
  /** Lanes that there may be now. */
  value = firstLimit
  #windowStartMs = -1
  #units = 0
  /** Units that were ahead of those that came, together. */
  #ahead = 0
  #arrived = 0
  /** Units a second with one lane less; undefined while none is tried. */
  #before: number | undefined
  #isSettling = false
  #pauseMs = firstPauseMs
  #nextTryMs = 0

  /** A unit has come, with so many before it in its lane. */
  arrived(ahead: number): void {
    this.#arrived++
    this.#ahead += ahead
  }

  /** Units were answered. Compares when a window is over. */
  answered(units: number, nowMs: number): void {
    this.#units += units
    if (this.#windowStartMs < 0) this.#windowStartMs = nowMs
    const ms = nowMs - this.#windowStartMs
    if (ms < windowMs) return
    // After a pause there is nothing to compare with.
    if (ms > 5 * windowMs) this.#before = undefined
    else this.#compare((this.#units * 1000) / ms, nowMs)
    this.#windowStartMs = nowMs
    this.#units = 0
    this.#arrived = 0
    this.#ahead = 0
  }

  #compare(throughput: number, nowMs: number): void {
    if (this.#isSettling) {
      // The lane is only just there.
      this.#isSettling = false
      return
    }
    if (this.#before !== undefined) {
      const isBetter = throughput >= this.#before * gainMin
      this.#before = undefined
      if (isBetter) this.#pauseMs = firstPauseMs
      else {
        this.value--
        this.#nextTryMs = nowMs + this.#pauseMs
        this.#pauseMs = Math.min(pauseMsMax, this.#pauseMs * 2)
        return
      }
    }
    const waits = this.#ahead >= this.#arrived
    if (!waits || nowMs < this.#nextTryMs) return
    this.#before = throughput
    this.#isSettling = true
    this.value++
  }
}
