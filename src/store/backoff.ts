import { jittered, type Random } from '../runtime/random.ts'

/** Growing, jittered delays between attempts: doubles from `firstMs` up to `maxMs`. */
export class Backoff {
  private readonly random: Random
  private readonly firstMs: number
  private readonly maxMs: number
  private attempts = 0

  constructor(random: Random, firstMs: number, maxMs: number) {
    this.random = random
    this.firstMs = firstMs
    this.maxMs = maxMs
  }

  nextMs(): number {
    const delayMs = Math.min(this.maxMs, this.firstMs * 2 ** this.attempts)
    this.attempts = Math.min(this.attempts + 1, 30)
    return jittered(this.random, delayMs)
  }

  reset(): void {
    this.attempts = 0
  }
}
