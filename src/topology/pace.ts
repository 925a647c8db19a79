import type { Timer, Timers } from '../runtime/timers.ts'

/** A burst of changes makes one snapshot: what decides something waits this long after the first of them at most. */
const urgentMs = 5
/** However many of those there are, snapshots come no closer than this. */
const leastMs = 20
/** Figures and the reports of proxies wait this long for others to go along with. */
const figuresMs = 100

/**
 * When to make the next snapshot: at once for what decides something, together with others for what does not, and
 * never faster than somebody can follow. At most fifty a second, ten when there are only figures.
 */
export class Pace {
  readonly #timers: Timers
  readonly #run: () => void
  #pending: { timer: Timer; isUrgent: boolean } | undefined
  /** Since the last run too little time has gone by for another one. */
  #rest: Timer | undefined
  /** Something urgent came during the rest. */
  #isAwaited = false

  constructor(timers: Timers, run: () => void) {
    this.#timers = timers
    this.#run = run
  }

  request(isUrgent: boolean): void {
    if (this.#pending?.isUrgent || (this.#pending && !isUrgent)) return
    if (isUrgent && this.#rest) {
      this.#isAwaited = true
      return
    }
    this.#pending?.timer.cancel()
    const timer = this.#timers.after(isUrgent ? urgentMs : figuresMs, () => this.now())
    this.#pending = { timer, isUrgent }
  }

  /** Runs at once, and with it what was requested. */
  now(): void {
    this.cancel()
    this.#rest = this.#timers.after(leastMs, () => this.#onRested())
    this.#run()
  }

  cancel(): void {
    this.#pending?.timer.cancel()
    this.#pending = undefined
    this.#rest?.cancel()
    this.#rest = undefined
    this.#isAwaited = false
  }

  #onRested(): void {
    this.#rest = undefined
    if (this.#isAwaited) this.now()
  }
}
