import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import { jittered, type Random } from '../runtime/random.ts'
import { pause, type Timer, type Timers } from '../runtime/timers.ts'
import { Backoff } from './backoff.ts'
import { type Lease, StoreError } from './store.ts'

/** How a backend talks about one lease. Both reject with StoreError. */
export interface LeaseCalls {
  /**
   * Renews the lease and resolves to the time it has from the moment of asking, 0 when it is gone. Tries every
   * endpoint it has within `limitMs`.
   */
  renew(limitMs: number): Promise<number>
  revoke(): Promise<void>
}

export interface KeptLeaseOptions {
  id: string
  ttlMs: number
  /** Monotonic time just before the lease was asked for: it cannot end earlier than `ttlMs` after that. */
  askedMs: number
  calls: LeaseCalls
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

/**
 * A lease in a store elsewhere, renewed three times per lifetime. Its end is also counted on this machine's
 * monotonic clock, from the moment the last answered renewal was sent: it is given up in time even when no
 * answer comes at all.
 */
export class KeptLease implements Lease {
  readonly id: string
  readonly ttlMs: number
  readonly lost: Promise<void>
  private readonly options: KeptLeaseOptions
  private readonly stopped = new AbortController()
  private becomeLost: () => void = () => undefined
  private endMs: number
  private endTimer: Timer | undefined

  constructor(options: KeptLeaseOptions) {
    this.options = options
    this.id = options.id
    this.ttlMs = options.ttlMs
    this.endMs = options.askedMs + options.ttlMs
    this.lost = new Promise(resolve => {
      this.becomeLost = resolve
    })
    this.armEnd()
    void this.keepAlive()
  }

  async revoke(): Promise<void> {
    this.stop()
    try {
      await this.options.calls.revoke()
    } catch (cause) {
      this.options.log.warn(
        { event: 'store.lease', err: cause, lease: this.id },
        'a lease could not be revoked: its keys end with its time',
      )
    }
  }

  /** Ends the renewals, so that the lease runs out by itself. */
  stop(): void {
    this.stopped.abort()
    this.endTimer?.cancel()
  }

  private async keepAlive(): Promise<void> {
    const { clock, timers, random, log } = this.options
    const { signal } = this.stopped
    const backoff = new Backoff(random, this.ttlMs / 20, this.ttlMs / 10)
    let hasFailed = false
    while (!signal.aborted) {
      const renewMs = this.endMs - (this.ttlMs * 2) / 3
      const dueInMs = Math.max(renewMs - clock.nowMs(), this.ttlMs / 20)
      await pause(timers, hasFailed ? backoff.nextMs() : jittered(random, dueInMs, 0.1), signal)
      if (signal.aborted) return
      const askedMs = clock.nowMs()
      try {
        const leftMs = await this.options.calls.renew(this.endMs - askedMs)
        if (signal.aborted) return
        if (leftMs <= 0) return this.lose('the store says that it has ended')
        if (clock.nowMs() >= this.endMs) return this.lose('its renewal came too late')
        this.endMs = askedMs + leftMs
        this.armEnd()
        backoff.reset()
        hasFailed = false
      } catch (cause) {
        if (cause instanceof StoreError && cause.code === 'closed') return
        hasFailed = true
        log.warn({ event: 'store.lease', err: cause, lease: this.id }, 'a lease could not be renewed yet')
      }
    }
  }

  private armEnd(): void {
    const { clock, timers } = this.options
    this.endTimer?.cancel()
    this.endTimer = timers.after(this.endMs - clock.nowMs(), () =>
      this.lose('no renewal was answered before its end'),
    )
  }

  private lose(reason: string): void {
    if (this.stopped.signal.aborted) return
    this.stop()
    this.options.log.warn({ event: 'store.lease_lost', lease: this.id }, `a lease was lost: ${reason}`)
    this.becomeLost()
  }
}
