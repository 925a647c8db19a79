import type { Logger } from '../runtime/log.ts'
import type { Watch, WatchEvent, WatchHandler } from './store.ts'

interface Step {
  revision: number
  events: WatchEvent[]
  size: number
}

interface Cursor {
  prefix: string
  /** The next revision this watch has not seen. */
  next: number
  handler: WatchHandler
}

/** Characters of keys and values the history may hold, whatever the number of revisions. */
const sizeMax = 64 * 1024 * 1024

/**
 * The newest changes of the embedded store, kept for watches that start in the past, and the watches themselves.
 * Handlers run on a microtask of their own, never inside the call that made the change.
 */
export class History {
  private readonly steps: Step[] = []
  private readonly cursors = new Set<Cursor>()
  private readonly stepsMax: number
  private readonly log: Logger
  /** The oldest revision a watch may start from. */
  private oldest: number
  private newest: number
  private size = 0
  private delivering = false

  /** `revision` is that of the contents at the start: what came before is not known. */
  constructor(revision: number, stepsMax: number, log: Logger) {
    // Nothing happened before an empty store's first revision, so its history is whole.
    this.oldest = revision === 1 ? 1 : revision + 1
    this.newest = revision
    this.stepsMax = stepsMax
    this.log = log
  }

  /** Adds the change of the next revision. */
  append(revision: number, events: WatchEvent[]): void {
    let size = 0
    for (const { entry } of events) size += entry.key.length + entry.value.length
    this.steps.push({ revision, events, size })
    this.size += size
    this.newest = revision
    this.trim()
    this.wake()
  }

  watch(prefix: string, fromRevision: number, handler: WatchHandler): Watch {
    const cursor: Cursor = { prefix, next: fromRevision, handler }
    this.cursors.add(cursor)
    this.wake()
    return { close: () => this.cursors.delete(cursor) }
  }

  close(): void {
    this.cursors.clear()
  }

  private trim(): void {
    // Shifting an array costs its length: let it grow a quarter over its bound, then cut once.
    if (this.steps.length < this.stepsMax * 1.25 && this.size < sizeMax) return
    let cut = Math.max(0, this.steps.length - this.stepsMax)
    let left = this.size
    for (const [index, step] of this.steps.entries()) {
      if (index >= cut && left < sizeMax) break
      left -= step.size
      cut = Math.max(cut, index + 1)
    }
    this.steps.splice(0, cut)
    this.size = left
    this.oldest = this.steps[0]?.revision ?? this.newest + 1
  }

  private wake(): void {
    if (this.delivering) return
    this.delivering = true
    queueMicrotask(() => {
      this.delivering = false
      for (const cursor of this.cursors) this.deliver(cursor)
    })
  }

  private deliver(cursor: Cursor): void {
    while (this.cursors.has(cursor) && cursor.next <= this.newest) {
      if (cursor.next < this.oldest) {
        this.cursors.delete(cursor)
        this.call(() => cursor.handler.onCompacted(this.oldest))
        return
      }
      const first = this.steps[0]
      // Revision 1 of an empty store is no change.
      const step = first && this.steps[cursor.next - first.revision]
      cursor.next++
      const events = step?.events.filter(({ entry }) => entry.key.startsWith(cursor.prefix))
      if (step && events && events.length > 0) {
        this.call(() => cursor.handler.onEvents(events, step.revision))
      }
    }
  }

  /** A handler that throws must not cost the other watches their events. */
  private call(handler: () => void): void {
    try {
      handler()
    } catch (cause) {
      this.log.error({ event: 'store.handler', err: cause }, 'a watch handler failed')
    }
  }
}
