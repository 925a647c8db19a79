import { type LookupAddress, lookup } from 'node:dns'
import { connect, isIP, type LookupFunction } from 'node:net'
import type { Timers } from '../runtime/timers.ts'

/** The addresses that `host` has; rejects where the system knows none. */
export type Resolve = (host: string) => Promise<LookupAddress[]>

export const resolveBySystem: Resolve = host =>
  new Promise((resolve, reject) => {
    lookup(host, { all: true }, (cause, addresses) => (cause ? reject(cause) : resolve(addresses)))
  })

/**
 * Knocks at a member: begins a connection, and closes it as soon as it stands. The system looks up few names at a time
 * and none of these can be called off, so that there is one lookup at most, and knocks do not wait for it where an
 * earlier one has told the addresses.
 */
export class EtcdKnocker {
  readonly #host: string
  readonly #port: number
  readonly #timers: Timers
  readonly #resolve: Resolve
  #addresses: LookupAddress[]
  #lookup: Promise<void> | undefined

  /** `target`: `host:port` */
  constructor(target: string, timers: Timers, resolve: Resolve = resolveBySystem) {
    const [, host = '', port] = /^\[?(.*?)\]?:(\d+)$/.exec(target) ?? []
    this.#host = host
    this.#port = Number(port)
    this.#timers = timers
    this.#resolve = resolve
    const family = isIP(host)
    this.#addresses = family === 0 ? [] : [{ address: host, family }]
  }

  /** Resolves when there is an address to knock at, or `signal` aborts; the addresses that are known are renewed. */
  async prepare(signal: AbortSignal): Promise<void> {
    if (isIP(this.#host) !== 0) return
    this.#lookup ??= this.#resolve(this.#host)
      .then(
        addresses => {
          this.#addresses = addresses
        },
        () => undefined,
      )
      .finally(() => {
        this.#lookup = undefined
      })
    if (this.#addresses.length > 0 || signal.aborted) return
    const lookedUp = this.#lookup
    await new Promise<void>(resolve => {
      const end = (): void => {
        signal.removeEventListener('abort', end)
        resolve()
      }
      signal.addEventListener('abort', end)
      void lookedUp.then(end)
    })
  }

  get isPrepared(): boolean {
    return this.#addresses.length > 0
  }

  /** Whether a connection stands within `limitMs`. A refusal is an answer. */
  knock(limitMs: number, signal: AbortSignal): Promise<boolean> {
    const found = this.#addresses
    const known: LookupFunction = (_host, { all }, tell) => {
      if (all) tell(null, found)
      else tell(null, found[0]?.address ?? '', found[0]?.family)
    }
    return new Promise(resolve => {
      const socket = connect({ host: this.#host, port: this.#port, lookup: known })
      const end = (isAnswered: boolean): void => {
        timer.cancel()
        signal.removeEventListener('abort', callOff)
        socket.destroy()
        resolve(isAnswered)
      }
      const callOff = (): void => end(false)
      const timer = this.#timers.after(limitMs, callOff)
      signal.addEventListener('abort', callOff)
      socket.on('connect', () => end(true))
      socket.on('error', (cause: NodeJS.ErrnoException) => end(cause.code === 'ECONNREFUSED'))
    })
  }
}
