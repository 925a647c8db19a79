import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import type { Logger } from '../../runtime/log.ts'
import type { Timers } from '../../runtime/timers.ts'
import type { ProxyStatus } from '../../topology/types.ts'
import { writeCancelRequest } from '../../wire/startup.ts'
import { markPassedOn } from '../client/cancels.ts'

export interface FleetCancelsOptions {
  /** Name of this proxy. */
  id: string
  /** What the proxies of the cluster report, this one included. */
  proxies: () => readonly ProxyStatus[]
  timers: Timers
  log: Logger
  onPrefix: (prefix: number) => void
}

/** Prefixes are 1 to this; 0 is that of nobody. */
const prefixMax = 255
/** How long another proxy may take for a cancel request. */
const limitMs = 2000
/** Requests on their way to other proxies; more are dropped, as PostgreSQL itself promises nothing. */
const outstandingMax = 64

/**
 * Cancel requests that reach the wrong proxy, for example through a balancer in front of several: every cancel key
 * begins with the prefix of the proxy that made it, and whoever gets a key with another's prefix sends it there.
 * Each proxy picks a prefix that no other one reports; when two have picked the same at once, the one whose name
 * comes later in the order of names picks again.
 */
export class FleetCancels {
  readonly #options: FleetCancelsOptions
  #prefix: number
  #outstanding = 0

  constructor(options: FleetCancelsOptions) {
    this.#options = options
    this.#prefix = this.#pick()
  }

  get prefix(): number {
    return this.#prefix
  }

  /** The reports of the proxies may have changed. */
  look(): void {
    const { id, log, onPrefix } = this.#options
    const isTaken = this.#others().some(other => other.cancelPrefix === this.#prefix && other.id < id)
    if (!isTaken) return
    this.#prefix = this.#pick()
    log.info(
      { event: 'proxy.cancel_prefix' },
      'another proxy has the same prefix of cancel keys: a new one is used',
    )
    onPrefix(this.#prefix)
  }

  /**
   * Sends a key that nobody knows here to the proxy that made it. Resolves, when that has dealt with it or time is
   * up, with whether there is such a proxy; never rejects.
   */
  async passOn(processId: number, secret: Buffer): Promise<boolean> {
    const prefix = secret[0] ?? 0
    if (prefix === 0 || prefix === this.#prefix) return false
    const owner = this.#others().find(({ cancelPrefix }) => cancelPrefix === prefix)
    const address = owner && addressOf(owner.address)
    if (!address || this.#outstanding >= outstandingMax) return false
    this.#outstanding++
    await this.#send(address, writeCancelRequest(processId, markPassedOn(secret)))
    this.#outstanding--
    return true
  }

  #send(address: { host: string; port: number }, request: Buffer): Promise<void> {
    return new Promise(resolve => {
      const socket = connect(address, () => socket.write(request))
      const timer = this.#options.timers.after(limitMs, () => socket.destroy())
      socket.on('error', () => undefined)
      socket.on('close', () => {
        timer.cancel()
        resolve()
      })
      socket.resume()
    })
  }

  #others(): ProxyStatus[] {
    return this.#options.proxies().filter(({ id }) => id !== this.#options.id)
  }

  /** The same after each start, so that keys which clients still have lead to the right place, unless it is taken. */
  #pick(): number {
    const taken = new Set(this.#others().map(({ cancelPrefix }) => cancelPrefix))
    const first = createHash('sha256').update(this.#options.id).digest().readUInt32BE(0)
    for (let step = 0; step < prefixMax; step++) {
      const prefix = ((first + step) % prefixMax) + 1
      if (!taken.has(prefix)) return prefix
    }
    return 0
  }
}

/** `host:port`, where the host may be an IPv6 address in brackets or not. */
function addressOf(text: string): { host: string; port: number } | undefined {
  const at = text.lastIndexOf(':')
  const port = Number(text.slice(at + 1))
  const host = text.slice(0, at).replace(/^\[|\]$/g, '')
  return at > 0 && port > 0 ? { host, port } : undefined
}
