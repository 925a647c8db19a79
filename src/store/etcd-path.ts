import { setMaxListeners } from 'node:events'
import type { Clock } from '../runtime/clock.ts'
import { jittered, type Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import { EtcdKnocker, type Resolve } from './etcd-knock.ts'

export interface PathOptions {
  clock: Clock
  timers: Timers
  random: Random
  /** Over how long, in ms, the processes of a fleet spread what all of them ask for because of one event. */
  spreadMs: () => number
  /** Whether a new connection to `host:port` is answered in time; asks the system unless given. */
  knock?: (target: string, limitMs: number) => Promise<boolean>
  /** Asks the system unless given. */
  resolve?: Resolve
}

/** How often a knock is tried, whether or not the ones before were answered. */
const knockEveryMs = 300
/** How long a knock may take: less than the second after which the system begins a connection again by itself. */
const knockLimitMs = 900
/** A knock that ends without an answer so long before its limit has failed: the system knows no way. */
const knockMarginMs = 100
/** So many lost knocks in a row, and one that gets through: one may be lost on any network. */
const lostMin = 2
/** A knock is lost when it was waited for so many times as long as the one behind it that got through has taken. */
const lostFactor = 2
/** Of knocks without an answer that many are remembered. */
const silentMax = 16
/** A member whose network was found to be there is not knocked at again for so long, and longer in a large fleet. */
const calmMs = 1_000

/** A knock that was not answered. */
interface SilentKnock {
  sinceMs: number
  /** How long it was waited for; undefined while it is. */
  waitedMs: number | undefined
}

/**
 * The network between here and a member: whether it is back after it was away. The system repeats what was lost on it
 * ever more rarely: after as long again as the network was away, and no sooner than after a second where a connection
 * was begun. A new connection goes through at once, so that who waits had better begin again over a new one. When to do
 * that is found out by knocking, by connections that are closed as soon as they stand: the network is back when a knock
 * gets through and two before it were lost. How far the member is away is told by that knock: on a network that is slow
 * but there, none overtakes one that has waited twice as long. A member that is slow or hangs gets every knock, because
 * its system answers for it: that one is left alone, for new connections are dear to it.
 */
export class EtcdPath {
  readonly #target: string
  readonly #options: PathOptions
  readonly #knocker: EtcdKnocker
  /** Since something has come over it, oldest first. */
  #silent: SilentKnock[] = []
  #isChecking = false
  #calmUntilMs = 0

  /** `target`: `host:port` */
  constructor(target: string, options: PathOptions) {
    this.#target = target
    this.#options = options
    this.#knocker = new EtcdKnocker(target, options.timers, options.resolve)
  }

  /** Several knocks are without an answer. */
  get isLost(): boolean {
    return this.#silent.filter(knock => this.#waitedMs(knock) >= knockEveryMs).length >= lostMin
  }

  /** Something has come over it. */
  heard(): void {
    this.#silent = []
  }

  /** Resolves to true when the network is back, false when it was there all the time or `signal` has ended the search. */
  async isBack(signal: AbortSignal): Promise<boolean> {
    const { clock, knock } = this.#options
    if (this.#isChecking || clock.nowMs() < this.#calmUntilMs) return false
    this.#isChecking = true
    try {
      if (!knock) await this.#knocker.prepare(signal)
      if (!knock && !this.#knocker.isPrepared) return false
      return await this.#search(signal)
    } finally {
      this.#isChecking = false
    }
  }

  async #search(signal: AbortSignal): Promise<boolean> {
    const { clock, random, spreadMs, timers } = this.#options
    const done = new AbortController()
    // Each knock that is on its way has one.
    setMaxListeners(0, done.signal)
    const end = (): void => done.abort()
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
    let isBack: boolean | undefined
    while (!done.signal.aborted) {
      const endMs = clock.nowMs() + jittered(random, knockEveryMs) + random.next() * 2 * spreadMs()
      void this.#knock(done.signal).then(answer => {
        if (done.signal.aborted || answer === undefined) return
        isBack = answer
        end()
      })
      await pause(timers, Math.max(0, endMs - clock.nowMs()), done.signal)
    }
    end()
    signal.removeEventListener('abort', end)
    if (signal.aborted) this.#giveUp()
    else this.#silent = []
    if (isBack === false) this.#calmUntilMs = clock.nowMs() + calmMs + random.next() * 2 * spreadMs()
    return isBack === true && !signal.aborted
  }

  /** Resolves to whether the network was away and is back, undefined where the knock does not tell. */
  async #knock(signal: AbortSignal): Promise<boolean | undefined> {
    const { clock, knock } = this.#options
    const own: SilentKnock = { sinceMs: clock.nowMs(), waitedMs: undefined }
    this.#silent.push(own)
    if (this.#silent.length > silentMax) this.#silent.shift()
    const isThrough = await (knock
      ? knock(this.#target, knockLimitMs)
      : this.#knocker.knock(knockLimitMs, signal))
    if (signal.aborted) return undefined
    const tookMs = clock.nowMs() - own.sinceMs
    if (!isThrough) {
      own.waitedMs = tookMs < knockLimitMs - knockMarginMs ? Number.POSITIVE_INFINITY : tookMs
      return undefined
    }
    // What was begun later has had no time yet.
    const before = this.#silent.slice(0, Math.max(0, this.#silent.indexOf(own)))
    this.#silent = this.#silent.filter(other => other !== own)
    const lost = before.filter(other => this.#waitedMs(other) >= lostFactor * tookMs).length
    if (lost >= lostMin) return true
    // Where others have not waited long enough to be called lost, the next knock may tell.
    return lost === before.length ? false : undefined
  }

  /** What was lost meanwhile is still to be connected to anew when it is turned to again. */
  #giveUp(): void {
    if (!this.isLost) this.#silent = []
    for (const knock of this.#silent) knock.waitedMs ??= this.#waitedMs(knock)
  }

  #waitedMs({ sinceMs, waitedMs }: SilentKnock): number {
    return waitedMs ?? this.#options.clock.nowMs() - sinceMs
  }
}
