/** How long answers are counted before they are compared. */
const windowMs = 150
/** Units that a window needs to tell something. */
const unitsMin = 50
/** One more lane is kept when answers come in this part of the time that they took without it. */
const gainMax = 0.93
/** One less is kept when they take no longer than this part. */
const lossMax = 1
const firstLimit = 2
const firstPauseMs = 1000
const pauseMsMax = 30_000

interface Trial {
  by: 1 | -1
  /** Mean time to an answer before it. */
  beforeMs: number
}

/**
 * How many lanes serve a pool best. A lane is one PostgreSQL process: too few leave processors idle, too many make
 * them switch. So while units have to wait behind others, one lane more and one less are tried in turns: one more is
 * kept when answers come clearly sooner, one less when they come no later. After a try that has brought nothing the
 * next one comes later. Pure.
 */
export class LaneLimit {
  /** Lanes that may be used now. */
  value = firstLimit
  #windowStartMs = -1
  #units = 0
  #sumMs = 0
  /** Units that were ahead of those that came, together. */
  #ahead = 0
  #arrived = 0
  #trial: Trial | undefined
  #isSettling = false
  #next: 1 | -1 = 1
  #pauseMs = firstPauseMs
  #nextTryMs = 0

  /** A unit has come, with so many before it in its lane. */
  arrived(ahead: number): void {
    this.#arrived++
    this.#ahead += ahead
  }

  /** Units were answered, `sumMs` after they had come, all together. Compares when a window is over. */
  answered(units: number, sumMs: number, nowMs: number): void {
    this.#units += units
    this.#sumMs += sumMs
    if (this.#windowStartMs < 0) this.#windowStartMs = nowMs
    const ms = nowMs - this.#windowStartMs
    if (ms < windowMs) return
    // Few answers tell nothing, and after a pause there is nothing to compare with.
    if (this.#units < unitsMin || ms > 5 * windowMs) this.#endTrial(false, nowMs)
    else this.#compare(this.#sumMs / this.#units, nowMs)
    this.#windowStartMs = nowMs
    this.#units = 0
    this.#sumMs = 0
    this.#arrived = 0
    this.#ahead = 0
  }

  #compare(meanMs: number, nowMs: number): void {
    if (this.#isSettling) {
      // The change is only just there.
      this.#isSettling = false
      return
    }
    if (this.#trial) {
      const { by, beforeMs } = this.#trial
      this.#endTrial(meanMs <= beforeMs * (by > 0 ? gainMax : lossMax), nowMs)
      return
    }
    const waits = this.#ahead >= this.#arrived
    if (!waits || nowMs < this.#nextTryMs) return
    const by = this.value === 1 ? 1 : this.#next
    this.#trial = { by, beforeMs: meanMs }
    this.#isSettling = true
    this.value += by
  }

  #endTrial(isBetter: boolean, nowMs: number): void {
    if (!this.#trial) return
    const { by } = this.#trial
    this.#trial = undefined
    this.#isSettling = false
    if (isBetter) {
      this.#pauseMs = firstPauseMs
      this.#next = by
      return
    }
    this.value -= by
    this.#next = by > 0 ? -1 : 1
    this.#nextTryMs = nowMs + this.#pauseMs
    this.#pauseMs = Math.min(pauseMsMax, this.#pauseMs * 2)
  }
}
