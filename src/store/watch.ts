import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import { Backoff } from './backoff.ts'
import { StoreError, type Watch, type WatchEvent, type WatchHandler } from './store.ts'

/** What one connection's worth of a watch reports. After `ended` or `compacted` nothing more may come. */
export interface WatchSink {
  /** The store has accepted the watch. */
  started(): void
  /** Whole revisions only, in order; what was delivered before may come again. */
  events(events: WatchEvent[]): void
  compacted(compactRevision: number): void
  /** Broken off; the watch opens again. */
  ended(cause: Error): void
}

/** Begins to watch from `fromRevision`; returns what breaks it off. */
export type OpenWatch = (fromRevision: number, sink: WatchSink) => Promise<() => void>

export interface ResumingWatchOptions {
  fromRevision: number
  handler: WatchHandler
  open: OpenWatch
  timers: Timers
  random: Random
  log: Logger
  onClose(): void
}

const retryFirstMs = 50
const retryMaxMs = 250

/**
 * A watch over connections that come and go: after each break it goes on from the last revision it has
 * delivered, and throws away what it has delivered before.
 */
export class ResumingWatch implements Watch {
  private readonly options: ResumingWatchOptions
  private readonly backoff: Backoff
  private readonly closed = new AbortController()
  /** The next revision that was not delivered. */
  private next: number
  private attempt: WatchAttempt | undefined
  private waiting: AbortController | undefined

  constructor(options: ResumingWatchOptions) {
    this.options = options
    this.next = options.fromRevision
    this.backoff = new Backoff(options.random, retryFirstMs, retryMaxMs)
    void this.run()
  }

  close(): void {
    if (this.closed.signal.aborted) return
    this.closed.abort()
    this.waiting?.abort()
    this.attempt?.end(new StoreError('closed', 'the watch was closed'))
    this.options.onClose()
  }

  /** Breaks the present connection off and goes on over a new one. */
  reconnect(reason: string): void {
    this.attempt?.end(new StoreError('unavailable', reason))
  }

  /** Does not wait any longer before the next connection: the store has answered somebody else. */
  retryNow(): void {
    this.waiting?.abort()
  }

  /** Over how long, in ms, the processes of a fleet spread coming back. */
  get spreadMs(): number {
    return this.options.handler.spreadMs?.() ?? 0
  }

  private async run(): Promise<void> {
    const { timers, random, log } = this.options
    while (!this.closed.signal.aborted) {
      const attempt = new WatchAttempt(this.options.open, this.next, {
        started: () => this.backoff.reset(),
        events: events => this.deliver(attempt, events),
        compacted: compactRevision => {
          this.close()
          this.call(() => this.options.handler.onCompacted(compactRevision))
        },
      })
      this.attempt = attempt
      const cause = await attempt.over
      if (this.closed.signal.aborted) return
      log.debug({ event: 'store.watch', err: cause, next: this.next }, 'a watch was broken off and goes on')
      this.waiting = new AbortController()
      await pause(timers, this.backoff.nextMs(), this.waiting.signal)
      this.waiting = undefined
      // Also for one that need not wait: it is not the only one to hear that the store is back.
      await pause(timers, random.next() * this.spreadMs, this.closed.signal)
    }
  }

  private deliver(attempt: WatchAttempt, events: WatchEvent[]): void {
    for (let start = 0, end = 0; start < events.length; start = end) {
      const revision = events[start]?.entry.modRevision ?? 0
      while (end < events.length && events[end]?.entry.modRevision === revision) end++
      if (attempt.isOver) return
      if (revision < this.next) continue
      this.next = revision + 1
      this.call(() => this.options.handler.onEvents(events.slice(start, end), revision))
    }
  }

  /** A handler that throws must not end the watch: it would miss what follows. */
  private call(handler: () => void): void {
    try {
      handler()
    } catch (cause) {
      this.options.log.error({ event: 'store.handler', err: cause }, 'a watch handler failed')
    }
  }
}

/** One connection of a watch. Whatever its stream reports after the end is not heard. */
class WatchAttempt {
  /** Resolves to the reason when this connection is over. */
  readonly over: Promise<Error>
  isOver = false
  private finish: (cause: Error) => void = () => undefined
  private stop: (() => void) | undefined

  constructor(open: OpenWatch, fromRevision: number, sink: Omit<WatchSink, 'ended'>) {
    this.over = new Promise(resolve => {
      this.finish = resolve
    })
    const guarded: WatchSink = {
      started: () => this.isOver || sink.started(),
      events: events => this.isOver || sink.events(events),
      compacted: compactRevision => this.isOver || sink.compacted(compactRevision),
      ended: cause => this.end(cause),
    }
    open(fromRevision, guarded).then(
      stop => {
        this.stop = stop
        if (this.isOver) stop()
      },
      (cause: unknown) => this.end(cause instanceof Error ? cause : new Error(String(cause))),
    )
  }

  end(cause: Error): void {
    if (this.isOver) return
    this.isOver = true
    this.stop?.()
    this.finish(cause)
  }
}
