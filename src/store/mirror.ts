import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import { Backoff } from './backoff.ts'
import { type Entry, type Store, StoreError, type Watch, type WatchEvent } from './store.ts'

export interface MirrorOptions {
  /**
   * Called with everything under the prefix as of `revision`, first when it is known and then after every change.
   * `changedKeys` names what differs from the call before; undefined means that anything may. The map goes on to
   * change: a copy for each of a thousand changes a second would cost more than all else. Revisions only grow.
   */
  onChange(entries: ReadonlyMap<string, Entry>, revision: number, changedKeys: string[] | undefined): void
  /** How long to wait, by chance, before coming back to a store after a break. 0 unless said. */
  spreadMs?: (() => number) | undefined
  timers: Timers
  random: Random
  log: Logger
}

export interface Mirror {
  /** Resolves after the first call of `onChange`, or when the mirror is closed before that. Never rejects. */
  readonly ready: Promise<void>
  close(): void
}

const retryFirstMs = 100
const retryMaxMs = 1_000

/**
 * Follows the current contents under `prefix`: lists, then watches, and lists again whenever the store no longer
 * has the history in between. Never gives up and never goes back: while the store is away the last view stands.
 */
export function mirror(store: Store, prefix: string, options: MirrorOptions): Mirror {
  return new StoreMirror(store, prefix, options)
}

class StoreMirror implements Mirror {
  readonly ready: Promise<void>
  private readonly store: Store
  private readonly prefix: string
  private readonly options: MirrorOptions
  private readonly backoff: Backoff
  private readonly closed = new AbortController()
  private becomeReady: () => void = () => undefined
  private entries = new Map<string, Entry>()
  private revision = 0
  private watch: Watch | undefined

  constructor(store: Store, prefix: string, options: MirrorOptions) {
    this.store = store
    this.prefix = prefix
    this.options = options
    this.backoff = new Backoff(options.random, retryFirstMs, retryMaxMs)
    this.ready = new Promise(resolve => {
      this.becomeReady = resolve
    })
    void this.follow()
  }

  close(): void {
    this.closed.abort()
    this.watch?.close()
    this.becomeReady()
  }

  /** Lists until that succeeds, then leaves the rest to the watch. */
  private async follow(): Promise<void> {
    const { log, timers } = this.options
    while (!this.closed.signal.aborted) {
      try {
        const { entries, revision } = await this.store.list(this.prefix)
        if (this.closed.signal.aborted) return
        if (revision < this.revision) throw this.wentBack(revision)
        this.backoff.reset()
        this.emit(new Map(entries.map(entry => [entry.key, entry])), revision, undefined)
        this.startWatch(revision + 1)
        return
      } catch (cause) {
        if (cause instanceof StoreError && cause.code === 'closed') return this.close()
        log.warn({ event: 'store.mirror', err: cause, prefix: this.prefix }, 'the store could not be read')
        await pause(timers, this.backoff.nextMs() + this.spreadMs(), this.closed.signal)
      }
    }
  }

  private startWatch(fromRevision: number): void {
    // A handler that was told of the listing may have closed the mirror.
    if (this.closed.signal.aborted) return
    this.watch = this.store.watch(this.prefix, fromRevision, {
      onEvents: (events, revision) => this.applyEvents(events, revision),
      onCompacted: compactRevision => {
        const { log } = this.options
        log.info(
          { event: 'store.compacted', prefix: this.prefix, compactRevision },
          'the store no longer has the changes since the last view: listing again',
        )
        void this.listAgain()
      },
      spreadMs: this.options.spreadMs,
    })
  }

  /** A listing is the largest thing that a store is asked for, and many may have missed the same changes. */
  private async listAgain(): Promise<void> {
    await pause(this.options.timers, this.spreadMs(), this.closed.signal)
    await this.follow()
  }

  private spreadMs(): number {
    const { random, spreadMs } = this.options
    return spreadMs ? random.next() * spreadMs() : 0
  }

  private applyEvents(events: WatchEvent[], revision: number): void {
    if (this.closed.signal.aborted || revision <= this.revision) return
    for (const { kind, entry } of events) {
      if (kind === 'put') this.entries.set(entry.key, entry)
      else this.entries.delete(entry.key)
    }
    this.emit(
      this.entries,
      revision,
      events.map(({ entry }) => entry.key),
    )
  }

  private emit(entries: Map<string, Entry>, revision: number, changedKeys: string[] | undefined): void {
    this.entries = entries
    this.revision = revision
    try {
      this.options.onChange(entries, revision, changedKeys)
    } catch (cause) {
      this.options.log.error({ event: 'store.handler', err: cause }, 'a mirror handler failed')
    }
    this.becomeReady()
  }

  private wentBack(revision: number): StoreError {
    return new StoreError(
      'unavailable',
      `the store answers with revision ${revision} after ${this.revision} was seen: the last view stands; if the ` +
        'store was rebuilt or restored, restart this process',
    )
  }
}
