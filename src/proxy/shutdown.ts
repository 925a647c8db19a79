import type { Clock } from '../runtime/clock.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import type { DisconnectReason, ErrorDetails } from './client/failures.ts'

/** A connection that may be told that it ends. */
interface Endable {
  end(reason: DisconnectReason, message: string, more: ErrorDetails): void
}

/** What has to be known of a client to end it in good order. */
export interface LeavingClient extends Endable {
  /** Ending it now cuts nothing off. */
  readonly wantsNothing: boolean
  /** It is only a matter of moments until another worker can go on with it. */
  readonly mayMove: boolean
  /** Undefined while it is not idle. */
  idleMs(nowMs: number): number | undefined
}

/** The worker that ends. */
export interface ShutdownHost<Client extends LeavingClient> {
  readonly clock: Clock
  readonly timers: Timers
  /** Limit for what still runs. */
  timeoutMs(): number
  /** Connections that have not said yet what they want. */
  arriving(): Iterable<Endable>
  clients(): Iterable<Client>
  /** Whether anybody is still here, or on the way to another worker. */
  isEmpty(): boolean
  /** Gives a client at rest to another worker, when it can go there. */
  handOver(client: Client): boolean
  /** Nobody new is let in. */
  closeDoors(): void
  /** Console sessions end as soon as they can, or `atOnce`. */
  endConsole(atOnce: boolean): void
  /** The last one has gone. */
  onEmpty(): void
}

const lookEveryMs = 20
/** A client of a worker that is replaced is ended when it was idle for this long: nothing of it is on the way. */
const drainIdleMs = 1000

/** The end of a worker: who wants nothing goes at once, the others when they have been answered or time is up. */
export class Shutdown<Client extends LeavingClient> {
  readonly #host: ShutdownHost<Client>
  readonly #timers: Timer[] = []
  #isStopping = false
  /** It ends when the last client has gone. */
  #isLeaving = false

  constructor(host: ShutdownHost<Client>) {
    this.#host = host
  }

  /** The whole proxy ends. */
  get isStopping(): boolean {
    return this.#isStopping
  }

  stop(): void {
    if (this.#isStopping) return
    const host = this.#host
    this.#isStopping = true
    this.#isLeaving = true
    host.closeDoors()
    host.endConsole(false)
    const endAtRest = (): void => {
      for (const arriving of [...host.arriving()]) endForShutdown(arriving)
      for (const client of [...host.clients()]) if (client.wantsNothing) endForShutdown(client)
    }
    endAtRest()
    this.#timers.push(
      host.timers.every(lookEveryMs, endAtRest),
      host.timers.after(host.timeoutMs(), () => {
        host.endConsole(true)
        for (const client of [...host.clients()]) endForShutdown(client)
      }),
    )
    this.#endWhenEmpty()
  }

  /**
   * Another worker takes this one's place: clients that can go there do so, others are ended when they are idle, all
   * that are left when time is up.
   */
  drain(): void {
    if (this.#isLeaving) return
    const host = this.#host
    this.#isLeaving = true
    host.closeDoors()
    const partWithIdle = (): void => {
      const nowMs = host.clock.nowMs()
      for (const client of [...host.clients()]) {
        if (!host.handOver(client) && !client.mayMove && (client.idleMs(nowMs) ?? 0) >= drainIdleMs)
          endForReplacement(client)
      }
    }
    this.#timers.push(
      host.timers.every(lookEveryMs, partWithIdle),
      host.timers.after(host.timeoutMs(), () => {
        for (const client of [...host.clients()]) endForReplacement(client)
        this.stop()
      }),
    )
    partWithIdle()
    this.#endWhenEmpty()
  }

  /** Somebody has gone. */
  onGone(): void {
    if (this.#isLeaving) this.#endWhenEmpty()
  }

  #endWhenEmpty(): void {
    if (!this.#host.isEmpty()) return
    for (const timer of this.#timers) timer.cancel()
    this.#host.onEmpty()
  }
}

function endForShutdown(one: Endable): void {
  one.end('shutdown', 'the proxy is shutting down', { hint: 'Connect again in a moment.' })
}

function endForReplacement(one: Endable): void {
  const why = 'the part of the proxy that serves this connection is being replaced'
  one.end('shutdown', why, { hint: 'Connect again.' })
}
