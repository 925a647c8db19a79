import type { Clock } from '../../runtime/clock.ts'
import type { TopologyNode } from '../../topology/types.ts'

interface Trouble {
  untilMs: number
  pauseMs: number
}

const pauseFirstMs = 1000
const pauseMaxMs = 10_000
/** Between two attempts at a node that has no connection left. */
const fullPauseMs = 500

/**
 * What this worker itself has found wrong with nodes and remembers for a moment, so that not every client pays for
 * finding it again: nodes that could not be reached, and nodes that had no connection left.
 */
export class Troubles {
  readonly #clock: Clock
  readonly #unreachable = new Map<string, Trouble>()
  readonly #full = new Map<string, { untilMs: number; reason: string }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A login at the node worked. */
  well(node: string): void {
    this.#unreachable.delete(node)
    this.#full.delete(node)
  }

  /** False when that is known already. */
  unreachable(node: string): boolean {
    const nowMs = this.#clock.nowMs()
    const known = this.#unreachable.get(node)
    // Several clients find out about one failure: it counts once.
    if (known && nowMs < known.untilMs) return false
    const pauseMs = Math.min(pauseMaxMs, known ? known.pauseMs * 2 : pauseFirstMs)
    this.#unreachable.set(node, { untilMs: nowMs + pauseMs, pauseMs })
    return true
  }

  /** The nodes without those in trouble; all of them when every one is: then trying is better than nothing. */
  leaveOut(nodes: readonly TopologyNode[]): readonly TopologyNode[] {
    if (this.#unreachable.size === 0) return nodes
    const nowMs = this.#clock.nowMs()
    const well = nodes.filter(({ name }) => nowMs >= (this.#unreachable.get(name)?.untilMs ?? 0))
    return well.length > 0 ? well : nodes
  }

  /** Some node had no connection left a moment ago. */
  get someFull(): boolean {
    return this.#full.size > 0
  }

  full(node: string, reason: string): void {
    this.#full.set(node, { untilMs: this.#clock.nowMs() + fullPauseMs, reason })
  }

  /**
   * Why a new connection should not be tried now. One caller in `fullPauseMs` may try; when that works the others
   * may as well.
   */
  isFull(node: string): string | undefined {
    const known = this.#full.get(node)
    if (!known) return undefined
    const nowMs = this.#clock.nowMs()
    if (nowMs < known.untilMs) return known.reason
    known.untilMs = nowMs + fullPauseMs
    return undefined
  }
}
