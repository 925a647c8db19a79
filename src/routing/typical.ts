/** Nothing counts as more than this many times slower or quicker than usual. */
export const timesMax = 20
/** Added to both sides of a comparison: the differences among quick answers are mostly noise. */
const noiseMs = 0.2
/** How many of the last answers make up what is usual. */
const memory = 64

/**
 * How long requests of one kind usually take, whichever node answers them. Nodes are compared by how much longer than
 * usual each takes, not by milliseconds: one that happens to have the clients with the large reports is not slow.
 */
export class Typical {
  #ms = 0
  #count = 0

  /** How many times as long as usual it was; what is usual follows. */
  relate(ms: number): number {
    if (this.#count === 0) this.#ms = ms
    const usual = this.#ms + noiseMs
    const times = Math.min(timesMax, Math.max(1 / timesMax, (ms + noiseMs) / usual))
    if (this.#count < memory) this.#count++
    this.#ms += (times * usual - noiseMs - this.#ms) / this.#count
    if (this.#ms < 0) this.#ms = 0
    return times
  }
}
