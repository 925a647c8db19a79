import type { Clock } from '../../src/runtime/clock.ts'
import type { Timer, Timers } from '../../src/runtime/timers.ts'

interface Due {
  atMs: number
  periodMs: number | undefined
  run: () => void
}

/** A clock and its timers that stand still until the test moves them. */
export class FakeTime implements Clock, Timers {
  private timeMs = 0
  private readonly due = new Set<Due>()

  nowMs(): number {
    return this.timeMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.timeMs
  }

  after(delayMs: number, run: () => void): Timer {
    return this.add({ atMs: this.timeMs + Math.max(0, delayMs), periodMs: undefined, run })
  }

  every(periodMs: number, run: () => void): Timer {
    return this.add({ atMs: this.timeMs + periodMs, periodMs, run })
  }

  soon(run: () => void): void {
    setImmediate(run)
  }

  /** Moves time on, running what falls due in its order, each with everything it sets off at once. */
  async pass(durationMs: number): Promise<void> {
    const endMs = this.timeMs + durationMs
    await settle()
    for (;;) {
      const next = this.next()
      if (!next || next.atMs > endMs) break
      this.timeMs = next.atMs
      if (next.periodMs === undefined) this.due.delete(next)
      else next.atMs += next.periodMs
      next.run()
      await settle()
    }
    this.timeMs = endMs
  }

  /** Of those that are due at the same time the one that was set first. */
  private next(): Due | undefined {
    let next: Due | undefined
    for (const each of this.due) if (!next || each.atMs < next.atMs) next = each
    return next
  }

  private add(due: Due): Timer {
    this.due.add(due)
    return { cancel: () => this.due.delete(due) }
  }
}

/** Lets promises that are settled already run to where they wait for something else. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise(resolve => setImmediate(resolve))
}
