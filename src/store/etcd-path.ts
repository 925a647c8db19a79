import { connect } from 'node:net'
import type { Clock } from '../runtime/clock.ts'
import { jittered, type Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'

export interface PathOptions {
  clock: Clock
  timers: Timers
  random: Random
  /** Over how long, in ms, the processes of a fleet spread what all of them ask for because of one event. */
  spreadMs: () => number
  /** Whether a new connection to `host:port` is answered in time; asks the system unless given. */
  knock?: (target: string, limitMs: number) => Promise<boolean>
}

/** How long a knock may take, and how often one is tried. */
const knockMs = 300
/** A member whose network was found to be there is not knocked at again for so long, and longer in a large fleet. */
const calmMs = 1_000

/**
 * The network between here and a member: whether it is back after it was away. The system repeats what was lost on it
 * ever more rarely: after as long again as the network was away, and no sooner than after a second where a connection
 * was begun. A new connection goes through at once, so that who waits had better begin again over a new one. When to do
 * that is found out by knocking, by a connection that is closed as soon as it stands: the network is back when a knock
 * gets through after one that did not. A member that is slow or hangs gets every knock, because its system answers
 * for it: that one is left alone, for new connections are dear to it.
 */
export class EtcdPath {
  readonly #target: string
  readonly #options: PathOptions
  #isLost = false
  #isChecking = false
  #calmUntilMs = 0

  /** `target`: `host:port` */
  constructor(target: string, options: PathOptions) {
    this.#target = target
    this.#options = options
  }

  /** The last knock did not get through. */
  get isLost(): boolean {
    return this.#isLost
  }

  /** Something has come over it. */
  heard(): void {
    this.#isLost = false
  }

  /** Resolves to true when the network is back, false when it was there all the time or `signal` has ended the search. */
  async isBack(signal: AbortSignal): Promise<boolean> {
    const { clock, random, spreadMs, timers, knock = knockAt(timers) } = this.#options
    if (this.#isChecking || clock.nowMs() < this.#calmUntilMs) return false
    this.#isChecking = true
    try {
      while (!signal.aborted) {
        const endMs = clock.nowMs() + jittered(random, knockMs) + random.next() * 2 * spreadMs()
        const isThrough = await knock(this.#target, knockMs)
        if (isThrough) return !signal.aborted && this.#found()
        // What has come over the path meanwhile knows better.
        if (!signal.aborted) this.#isLost = true
        await pause(timers, Math.max(0, endMs - clock.nowMs()), signal)
      }
      return false
    } finally {
      this.#isChecking = false
    }
  }

  #found(): boolean {
    const wasLost = this.#isLost
    this.#isLost = false
    const { clock, random, spreadMs } = this.#options
    if (!wasLost) this.#calmUntilMs = clock.nowMs() + calmMs + random.next() * 2 * spreadMs()
    return wasLost
  }
}

/** A refusal is an answer. */
function knockAt(timers: Timers): NonNullable<PathOptions['knock']> {
  return (target, limitMs) => {
    const [, host = '', port] = /^\[?(.*?)\]?:(\d+)$/.exec(target) ?? []
    return new Promise(resolve => {
      const socket = connect({ host, port: Number(port) })
      const end = (isAnswered: boolean): void => {
        timer.cancel()
        socket.destroy()
        resolve(isAnswered)
      }
      const timer = timers.after(limitMs, () => end(false))
      socket.on('connect', () => end(true))
      socket.on('error', (cause: NodeJS.ErrnoException) => end(cause.code === 'ECONNREFUSED'))
    })
  }
}
