/** No answer counts as late before this, for on a busy machine anything may take a few milliseconds. */
export const lateMsMin = 5
/** Answers of a kind that must be known before one of them can be late. */
const samplesMin = 50
/** When so many are counted, all count half from then on: what was long ago is forgotten. */
const samplesMax = 1024
/** One in so many may take longer before one is late. */
const usual = 100
/** Four steps to a doubling, from a quarter of a millisecond to 16 seconds, in sixteenths of a millisecond. */
const unitsAMs = 16
const firstUnits = 4
const firstBits = 2
const steps = 64
const unitsMax = 2 ** (firstBits + steps / 4) - 1

/**
 * How long the slowest answers of one kind of request take: after how long one that has not come is late. Counts in 64
 * steps, which is as fine as a quarter; `observe` is called for every request and allocates nothing.
 */
export class LatencyTail {
  #counts: Uint16Array | undefined
  #samples = 0

  observe(ms: number): void {
    this.#counts ??= new Uint16Array(steps)
    const at = stepOf(ms)
    this.#counts[at] = this.#counts[at]! + 1
    if (++this.#samples === samplesMax) this.#forgetHalf(this.#counts)
  }

  #forgetHalf(counts: Uint16Array): void {
    this.#samples = 0
    for (let at = 0; at < steps; at++) {
      counts[at] = counts[at]! >> 1
      this.#samples += counts[at]!
    }
  }

  /** What takes longer than that takes longer than 99 of 100; undefined while too few were seen to tell. */
  get lateAfterMs(): number | undefined {
    const counts = this.#counts
    if (!counts || this.#samples < samplesMin) return undefined
    let rest = Math.floor(this.#samples / usual)
    let at = steps - 1
    while ((rest -= counts[at]!) >= 0) at--
    return Math.max(lateMsMin, boundOf(at))
  }
}

/** What lies on the bound of a step belongs to it. */
function stepOf(ms: number): number {
  const units = Math.min(unitsMax, Math.ceil(ms * unitsAMs) - 1)
  if (units < firstUnits) return 0
  const bits = 31 - Math.clz32(units)
  // The two bits behind the highest one tell the quarters of a doubling.
  return (bits - firstBits) * 4 + ((units >> (bits - 2)) & 3)
}

/** The longest of a step, ms. */
function boundOf(step: number): number {
  return ((firstUnits + (step & 3) + 1) * 2 ** (step >> 2)) / unitsAMs
}

/** What may be asked twice at once, however few were asked before. */
export const hedgeBurst = 10

/**
 * How many reads may be asked a second time: a part of all, in percent, and a few more. Reads of which different parts
 * may be asked twice have one budget together.
 */
export class HedgeBudget {
  #left = hedgeBurst

  /** A read has come, of whose kind `percent` may be asked twice. */
  earn(percent: number): void {
    this.#left = Math.min(hedgeBurst, this.#left + percent / 100)
  }

  /** Whether one may be asked twice now. */
  take(): boolean {
    if (this.#left < 1) return false
    this.#left--
    return true
  }

  /** It was not asked twice after all. */
  giveBack(): void {
    this.#left = Math.min(hedgeBurst, this.#left + 1)
  }
}
