import type { Clock } from '../../runtime/clock.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { UseLimit } from './use-limit.ts'

/**
 * What a connection is in use for longer than this waits for more than processors: for its client, a lock, a disk. It
 * does not count where others wait for their turn.
 */
const stuckMs = 20

/** A connection that a client has, as the gate sees it. */
export interface Used {
  /** When a client got it. */
  readonly usedSinceMs: number
}

/** A pool as its gate sees it. */
export interface UseGateHome {
  /** Connections that clients have. */
  used(): readonly Used[]
  /** How many. */
  readonly inUse: number
  readonly waitingCount: number
  /** Clients that waited for their turn may have it now. */
  serve(): void
  readonly clock: Clock
  readonly timers: Timers
}

/** Lets no more connections of a pool be in use at once than are of use. */
export class UseGate {
  readonly #home: UseGateHome
  readonly #limit: UseLimit
  /** Connections that did not count when it was looked last. */
  #stuck = 0
  /** Looks for those while clients wait for their turn. */
  #check: Timer | undefined

  constructor(home: UseGateHome, limit = new UseLimit()) {
    this.#home = home
    this.#limit = limit
  }

  /** How many of `poolSize` connections may be in use at once now, but for those that are for long. */
  useMax(poolSize: number): number {
    return this.#limit.of(poolSize)
  }

  /** Whether a client that wants one of `poolSize` connections has to wait although there is one. */
  isShut(poolSize: number): boolean {
    const limit = this.#limit.of(poolSize)
    if (limit >= poolSize || this.#home.inUse - this.#stuck < limit) return false
    this.#check ??= this.#home.timers.every(stuckMs >> 1, () => this.#lookForStuck())
    return true
  }

  /** A client has given its connection back. */
  returned(nowMs: number): void {
    this.#limit.returned(this.#home.waitingCount > 0, nowMs)
  }

  #lookForStuck(): void {
    this.#stuck = 0
    if (this.#home.waitingCount === 0) {
      this.#check?.cancel()
      this.#check = undefined
      return
    }
    const nowMs = this.#home.clock.nowMs()
    this.#stuck = this.#home.used().filter(({ usedSinceMs }) => nowMs - usedSinceMs > stuckMs).length
    this.#home.serve()
  }
}
