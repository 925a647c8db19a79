import type { Clock } from '../runtime/clock.ts'
import { jittered, type Random } from '../runtime/random.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import type { Connection } from './store.ts'

export interface ProbeOptions {
  connection: () => Connection
  /** Ms since the store has answered anything. */
  silentMs: () => number
  isWatching: () => boolean
  /** Over how long, in ms, the processes of a fleet spread what all of them ask for because of one event. */
  spreadMs: () => number
  /** Asks the store how it is, and acts by what it says. Never rejects. */
  ask: () => Promise<void>
  clock: Clock
  timers: Timers
  random: Random
}

const tickMs = 200
/** A store that was silent this long while something is watched is asked for a sign of life. */
const silenceMs = 500
/** How often a store that answers is asked whether it has raised an alarm: then it answers, and takes no writes. */
const alarmPeriodMs = 5_000
/** A store that is away is asked with the next tick after so long, and later in a large fleet. */
const awayMs = 300

/**
 * When to ask the store how it is, beside all that is asked of it anyway. With nothing but a quiet watch a hung member
 * would go unnoticed, and so would a store that takes no writes; and who has nothing to ask would not hear that it is
 * back.
 */
export class Probe {
  readonly #options: ProbeOptions
  readonly #timer: Timer
  #isAsking = false
  #askedMs: number
  #dueMs = 0

  constructor(options: ProbeOptions) {
    this.#options = options
    this.#askedMs = options.clock.nowMs()
    this.#timer = options.timers.every(jittered(options.random, tickMs), () => void this.#tick())
  }

  close(): void {
    this.#timer.cancel()
  }

  async #tick(): Promise<void> {
    if (this.#isAsking || !this.#isDue()) return
    const { ask, clock, random, spreadMs } = this.#options
    this.#isAsking = true
    this.#askedMs = clock.nowMs()
    this.#dueMs = this.#askedMs + awayMs + random.next() * 2 * spreadMs()
    await ask()
    this.#isAsking = false
  }

  #isDue(): boolean {
    const { clock, connection, isWatching, silentMs } = this.#options
    const nowMs = clock.nowMs()
    if (!connection().up) return nowMs >= this.#dueMs
    return isWatching() && (silentMs() >= silenceMs || nowMs - this.#askedMs > alarmPeriodMs)
  }
}
