import { createServer, type Server, type Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'

/** A connection that a client has opened and no worker has taken yet. Nothing of it has been read. */
export interface Arrival {
  socket: Socket
  route: Route
}

/** Whom connections are handed to: a data worker, as the control process knows it. */
export interface Taker {
  /** Connections that it has, and those on their way to it. */
  readonly load: number
  /** Connections on their way to it: handed over and not confirmed. */
  readonly owed: number
  /** Monotonic ms when the oldest of those was handed over; undefined when there is none. */
  readonly owedSinceMs: number | undefined
  /** Hands a connection over. It stays open here until the taker confirms it. */
  give(arrival: Arrival): void
}

/** Where clients come in: a port to listen on, or a socket that the service manager listens on already. */
export type Gateway = { host: string; port: number } | { fd: number }

/** A port that is open. */
export interface Place {
  route: Route
  host: string
  port: number
}

export interface EntranceOptions {
  clock: Clock
  log: Logger
  /** Those who can take connections now. */
  takers: () => readonly Taker[]
}

/** In ms: when a client that is silent is first asked whether it is still there. */
const keepAliveInitialDelay = 30_000
/** As many as the kernel keeps for a listener; more wait nowhere. */
const backlog = 1024
/** Most connections on their way to one worker. */
const owedMax = 256
/** A worker that takes longer than this to confirm gets nothing more while others are quicker. */
const lateMs = 100

/**
 * The ports that clients connect to. The control process listens and hands every connection to the worker that
 * has the fewest: limits are divided among the workers, so clients must be as well. A worker that has died or
 * hangs costs nobody a connection, because one that it has not confirmed goes to another.
 */
export class Entrance {
  readonly #options: EntranceOptions
  readonly #listeners: { server: Server; route: Route }[] = []
  readonly #waiting: Arrival[] = []
  #turn = 0
  #refusing = false

  constructor(options: EntranceOptions) {
    this.#options = options
  }

  /** Rejects with the system's error when the place cannot be listened on. */
  async listen(gateway: Gateway, route: Route): Promise<void> {
    // Read by the worker alone: what this process took off the socket would be lost.
    const options = {
      allowHalfOpen: true,
      pauseOnConnect: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay,
    }
    const listener = createServer(options, socket => {
      // What breaks it shows again at the worker.
      socket.on('error', () => undefined)
      this.admit({ socket, route })
    })
    this.#listeners.push({ server: listener, route })
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ ...gateway, backlog }, () => {
        listener.off('error', reject)
        listener.on('error', error => this.#options.log.error({ err: error }, 'a listener failed'))
        resolve()
      })
    })
  }

  /** The ports that are open. */
  get places(): Place[] {
    return this.#listeners.flatMap(({ server, route }) => {
      const address = server.address()
      return typeof address === 'object' && address
        ? { route, host: address.address, port: address.port }
        : []
    })
  }

  /** Hands a connection over, or keeps it until somebody can take it. */
  admit(arrival: Arrival): void {
    if (this.#waiting.length >= backlog) {
      if (!this.#refusing)
        this.#options.log.error(
          { event: 'proxy.refusing' },
          `no data worker takes connections and ${backlog} wait: further ones are closed`,
        )
      this.#refusing = true
      arrival.socket.destroy()
      return
    }
    this.#waiting.push(arrival)
    this.resume()
  }

  /** Hands over who waits, as far as somebody can take them. */
  resume(): void {
    while (this.#waiting.length > 0) {
      const taker = chooseTaker(this.#options.takers(), this.#turn++, this.#options.clock.nowMs())
      if (!taker) return
      taker.give(this.#waiting.shift()!)
      this.#refusing = false
    }
  }

  /** Listens no more, and closes what nobody has taken. */
  close(): void {
    for (const { server } of this.#listeners) server.close()
    for (const { socket } of this.#waiting.splice(0)) socket.destroy()
  }
}

/**
 * The one with the fewest connections; among equals the next in turn. One that is late with its confirmation is
 * chosen only when all are, and one that owes too many never.
 */
export function chooseTaker(takers: readonly Taker[], turn: number, nowMs: number): Taker | undefined {
  let best: Taker | undefined
  let bestIsLate = false
  for (let i = 0; i < takers.length; i++) {
    const taker = takers[(turn + i) % takers.length]!
    if (taker.owed >= owedMax) continue
    const isLate = taker.owedSinceMs !== undefined && nowMs - taker.owedSinceMs > lateMs
    const isBetter = !best || (isLate === bestIsLate ? taker.load < best.load : bestIsLate)
    if (!isBetter) continue
    best = taker
    bestIsLate = isLate
  }
  return best
}
