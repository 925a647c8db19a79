import type { Clock } from '../runtime/clock.ts'
import type { Connection } from './store.ts'

/** The `connection` of a store and those who want to hear of its changes. */
export class ConnectionTracker {
  private readonly clock: Clock
  private readonly listeners = new Set<(connection: Connection) => void>()
  private state: Connection
  private fault: string | undefined

  constructor(clock: Clock, up: boolean, reason?: string) {
    this.clock = clock
    this.state = { up, sinceMs: clock.nowMs(), reason }
  }

  get current(): Connection {
    return this.state
  }

  becomeUp(): void {
    if (this.fault === undefined && !this.state.up)
      this.change({ up: true, sinceMs: this.clock.nowMs(), reason: undefined })
  }

  get hasFault(): boolean {
    return this.fault !== undefined
  }

  /** The store answers, but cannot be counted on: it is down until the fault is gone. */
  setFault(reason: string | undefined): void {
    this.fault = reason
    if (reason === undefined) this.becomeUp()
    else this.becomeDown(reason)
  }

  /** A later reason replaces an earlier one silently: only a change of `up` is told. */
  becomeDown(reason: string): void {
    if (this.state.up) this.change({ up: false, sinceMs: this.clock.nowMs(), reason })
    else this.state = { ...this.state, reason }
  }

  subscribe(listener: (connection: Connection) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  private change(state: Connection): void {
    this.state = state
    // On a turn of its own: a listener that throws must not break off what the store is doing.
    for (const listener of this.listeners) queueMicrotask(() => listener(state))
  }
}
