import { createServer, type Server, type Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { HandOver } from './hand-over.ts'

/**
 * A connection that no worker has taken yet: a client has opened it and nothing of it has been read, or a worker has
 * handed it over, where `client` is what was read before.
 */
export interface Arrival {
  socket: Socket
  route: Route
  client?: HandOver
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
  /** Most connections that wait for one who can. */
  waitingMax: () => number
  /** Tells a client that there is no room for it, and closes its connection. */
  refuse: (socket: Socket, message: string) => void
}

/** In ms: when a client that is silent is first asked whether it is still there. */
const keepAliveInitialDelay = 30_000
/** How often is told that connections are refused, in ms. */
const refusalsTellMs = 1000
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
  /** Refused since that was last told, and when it was. */
  #refused = 0
  #toldMs = Number.NEGATIVE_INFINITY

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
      listener.listen({ ...gateway, backlog: this.#options.waitingMax() }, () => {
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
    const isFull = this.#waiting.length >= this.#options.waitingMax()
    // A client that has a session already is not turned away.
    if (isFull && !arrival.client) return this.#refuse(arrival)
    this.#waiting.push(arrival)
    this.resume()
  }

  #refuse({ socket }: Arrival): void {
    const { clock, log, refuse } = this.#options
    refuse(socket, 'too many clients connect at once')
    this.#refused++
    const nowMs = clock.nowMs()
    if (nowMs - this.#toldMs < refusalsTellMs) return
    log.error(
      { event: 'proxy.refusing', refused: this.#refused },
      `no data worker takes connections and ${this.#waiting.length} wait: further ones are refused`,
    )
    this.#refused = 0
    this.#toldMs = nowMs
  }

  /** Hands over who waits, as far as somebody can take them. */
  resume(): void {
    while (this.#waiting.length > 0) {
      const taker = chooseTaker(this.#options.takers(), this.#turn++, this.#options.clock.nowMs())
      if (!taker) return
      taker.give(this.#waiting.shift()!)
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
