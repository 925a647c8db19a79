import type { Clock } from '../../src/runtime/clock.ts'
import type { Timer, Timers } from '../../src/runtime/timers.ts'

interface Due {
  atMs: number
  /** Of those that are due at the same time the one that was set first comes first. */
  order: number
  periodMs: number | undefined
  run: () => void
  isCancelled: boolean
}

function isBefore(a: Due, b: Due): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** What is due, as a heap: thousands of processes have thousands of timers. */
class Agenda {
  readonly #heap: Due[] = []

  get first(): Due | undefined {
    return this.#heap[0]
  }

  add(due: Due): void {
    const heap = this.#heap
    let at = heap.push(due) - 1
    for (let parent = (at - 1) >> 1; at > 0 && isBefore(due, heap[parent]!); parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = due
  }

  removeFirst(): void {
    const heap = this.#heap
    const due = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, due)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = due
  }
}

/** A clock and its timers that stand still until the test moves them. */
export class FakeTime implements Clock, Timers {
  private timeMs = 0
  private readonly agenda = new Agenda()
  private added = 0

  nowMs(): number {
    return this.timeMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.timeMs
  }

  after(delayMs: number, run: () => void): Timer {
    return this.add(this.timeMs + Math.max(0, delayMs), undefined, run)
  }

  every(periodMs: number, run: () => void): Timer {
    return this.add(this.timeMs + periodMs, periodMs, run)
  }

  soon(run: () => void): void {
    setImmediate(run)
  }

  /** Moves time on, running what falls due in its order, each with everything it sets off at once. */
  async pass(durationMs: number): Promise<void> {
    const endMs = this.timeMs + durationMs
    await settle()
    for (;;) {
      const next = this.agenda.first
      if (!next || next.atMs > endMs) break
      this.agenda.removeFirst()
      if (next.isCancelled) continue
      this.timeMs = next.atMs
      if (next.periodMs !== undefined) {
        next.atMs += next.periodMs
        this.agenda.add(next)
      }
      next.run()
      await settle()
    }
    this.timeMs = endMs
  }

  private add(atMs: number, periodMs: number | undefined, run: () => void): Timer {
    const due = { atMs, order: ++this.added, periodMs, run, isCancelled: false }
    this.agenda.add(due)
    return {
      cancel: () => {
        due.isCancelled = true
      },
    }
  }
}

/** Lets promises that are settled already run to where they wait for something else. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise(resolve => setImmediate(resolve))
}
