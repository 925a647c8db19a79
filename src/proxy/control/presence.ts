import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import { jittered, type Random } from '../../runtime/random.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { Backoff } from '../../store/backoff.ts'
import { type Lease, type Store, StoreError } from '../../store/store.ts'
import { decodeProxyStatus, encode } from '../../topology/codec.ts'
import { keysOf } from '../../topology/keys.ts'
import type { ProxyStatus } from '../../topology/types.ts'

export interface PresenceOptions {
  store: Store
  cluster: string
  /** The row as it should stand now. */
  status: () => ProxyStatus
  leaseTtlMs: number
  /** Over how long, in ms, all proxies of the cluster spread what they do because of the same event. */
  spreadMs: () => number
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

const retryFirstMs = 1000
const retryMaxMs = 5000
/** Figures that change all the time are written this often at most. */
const refreshMs = 2000
/** In a large fleet less often: every row is told to every proxy. */
const refreshSpreads = 4
/** Two proxies of one id write the row in turns, at every refresh: one that was not seen for so long has ended. */
const twinEndsMs = 10_000

/**
 * Keeps this proxy's row in the store under a lease: that it lives, and which intent it has applied. Written at
 * once when asked to, and otherwise when its figures changed. The store being away costs nothing but the row.
 */
export class Presence {
  readonly #options: PresenceOptions
  readonly #key: string
  readonly #backoff: Backoff
  #refresh: Timer
  #soon: Timer | undefined
  readonly #unsubscribe: () => void
  #lease: Lease | undefined
  #writing: Promise<void> | undefined
  #again = false
  #retry: Timer | undefined
  #written = ''
  #stopped = false
  #inTrouble = false
  #hasWritten = false
  /** The last row of another address that was seen under this id, by its address and when it was written. */
  #other: string | undefined
  #twin: { address: string; seenMs: number } | undefined

  constructor(options: PresenceOptions) {
    this.#options = options
    this.#key = keysOf(options.cluster).proxyStatus(options.status().id)
    this.#backoff = new Backoff(options.random, retryFirstMs, retryMaxMs)
    this.#refresh = this.#refreshLater()
    this.#unsubscribe = options.store.onConnection(({ up }) => {
      if (up) this.publishSoon()
    })
    this.publish()
  }

  /** The address of another proxy of the same id that lives, as far as can be seen. */
  get twin(): string | undefined {
    const { clock, spreadMs } = this.#options
    if (!this.#twin) return undefined
    const endMs = this.#twin.seenMs + twinEndsMs + 2 * refreshSpreads * spreadMs()
    return clock.nowMs() < endMs ? this.#twin.address : undefined
  }

  /**
   * Takes note of the row under this proxy's id as it stands in the store. One that stood before this proxy wrote its
   * own may be left from a predecessor that has crashed: whoever lives writes another.
   */
  saw(row: ProxyStatus | undefined): void {
    const { clock, log, status } = this.#options
    const { address, id } = status()
    if (!row || row.address === address) return
    const other = `${row.address} ${row.at}`
    if (other === this.#other) return
    const mayBeLeft = this.#other === undefined && !this.#hasWritten
    this.#other = other
    // With the next refresh: it shows the other one that this one lives.
    this.#written = ''
    if (mayBeLeft) return
    if (this.twin !== row.address) {
      log.error(
        { event: 'proxy.twin', other: row.address },
        `another proxy, at ${row.address}, is named ${id} too: give each its own name (proxy.id, --id)`,
      )
    }
    this.#twin = { address: row.address, seenMs: clock.nowMs() }
  }

  /** The same at a moment by chance, for what makes every proxy of the cluster write its row. */
  publishSoon(): void {
    const { random, spreadMs, timers } = this.#options
    const limitMs = spreadMs()
    if (limitMs === 0) return this.publish()
    this.#soon ??= timers.after(random.next() * limitMs, () => {
      this.#soon = undefined
      this.publish()
    })
  }

  /** Writes the row if it is not as it should be. */
  publish(): void {
    if (this.#stopped) return
    if (this.#writing) {
      this.#again = true
      return
    }
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined
      if (!this.#again) return
      this.#again = false
      this.publish()
    })
  }

  /** Takes the row out at once. */
  async close(): Promise<void> {
    this.#stopped = true
    this.#refresh.cancel()
    this.#soon?.cancel()
    this.#unsubscribe()
    // A lease that is being granted now has to be ended as well.
    await this.#writing
    this.#retry?.cancel()
    await this.#lease?.revoke()
  }

  #refreshLater(): Timer {
    const { random, spreadMs, timers } = this.#options
    const periodMs = Math.max(refreshMs, spreadMs() * refreshSpreads)
    return timers.after(jittered(random, periodMs), () => {
      this.#refresh = this.#refreshLater()
      // In trouble the row is written when its retry is due.
      if (!this.#inTrouble) this.publish()
    })
  }

  async #write(): Promise<void> {
    const { store, status, leaseTtlMs } = this.#options
    const row = status()
    // The time of writing alone is no reason to write.
    const wanted = JSON.stringify({ ...row, at: '' })
    if (wanted === this.#written && this.#lease) return
    try {
      if (!this.#lease && this.#written === '') await this.#lookForTwin()
      if (this.#stopped) return
      const lease = this.#lease ?? (await this.#grant(leaseTtlMs))
      if (this.#stopped) return
      await store.transact({
        compares: [],
        writes: [{ kind: 'put', key: this.#key, value: encode(row), leaseId: lease.id }],
      })
      this.#hasWritten = true
      this.#written = this.#lease === lease ? wanted : ''
      this.#inTrouble = false
      this.#backoff.reset()
    } catch (cause) {
      this.#onFailure(cause)
    }
  }

  #onFailure(cause: unknown): void {
    const { log, random, spreadMs, timers } = this.#options
    if (!this.#inTrouble)
      log.warn({ event: 'proxy.store', err: cause }, 'this proxy cannot report itself now')
    this.#inTrouble = true
    // Whether the row was written is not known. The lease is kept, which keeps itself alive: a new one for each
    // attempt would leave them all behind.
    this.#written = ''
    if (cause instanceof StoreError && cause.code === 'lease_not_found') {
      void this.#lease?.revoke()
      this.#lease = undefined
    }
    this.#retry?.cancel()
    this.#retry = timers.after(this.#backoff.nextMs() + random.next() * spreadMs(), () => this.publish())
  }

  /** Another proxy of the same id would take turns with this one in one row: both must be told apart. */
  async #lookForTwin(): Promise<void> {
    const { entry } = await this.#options.store.get(this.#key)
    this.saw(entry && decodeProxyStatus(entry.value).value)
  }

  async #grant(ttlMs: number): Promise<Lease> {
    const lease = await this.#options.store.grantLease(ttlMs)
    this.#lease = lease
    void lease.lost.then(() => {
      if (this.#lease !== lease) return
      this.#lease = undefined
      this.publishSoon()
    })
    return lease
  }
}
