import { createServer, type Server, type Socket } from 'node:net'
import type { Route } from '../../routing/choose.ts'
import type { Clock } from '../../runtime/clock.ts'
import { handleOf, type ListeningHandle } from '../../runtime/listeners.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import type { HandOver } from '../session/hand-over.ts'
import { connectionOptions, unlimited } from './doors.ts'

/**
 * A connection that no worker has taken yet: nothing of it has been read, or a worker has handed it over, where
 * `client` is what was read before.
 */
export interface Arrival {
  socket: Socket
  route: Route
  client?: HandOver
  /** A worker to which it was handed had no room for it. The next one takes or refuses it. */
  isTurnedAway?: boolean
}

/** A port that workers are to accept from. */
export interface Loan {
  door: number
  route: Route
  /** How many connections the kernel keeps until they are accepted. */
  backlog: number
  handle: ListeningHandle
}

/** Who takes connections: a data worker, as the control process knows it. */
export interface Taker {
  /** Connections that it has, and those on their way to it. */
  readonly load: number
  /** Most connections that it takes; beyond that it refuses them. */
  readonly most: number
  /** Connections on their way to it: handed over and not confirmed. */
  readonly owed: number
  /** Monotonic ms when the oldest of those was handed over; undefined when there is none. */
  readonly owedSinceMs: number | undefined
  /** For how long nothing has been heard of it. */
  silentMs(nowMs: number): number
  /** Hands a connection over. It stays open here until the taker confirms it. */
  give(arrival: Arrival): void
  /** Lets it accept from a port. It answers with a copy of the handle: `Entrance.onLent`. */
  lend(loan: Loan): void
  /** So many connections it may have before it gives others away. */
  limit(connections: number): void
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
  timers: Timers
  log: Logger
  /** Those who can take connections now. */
  takers: () => readonly Taker[]
  /** Most connections that wait for one who can. */
  waitingMax: () => number
  /** Tells a client that there is no room for it, and closes its connection. */
  refuse: (socket: Socket, message: string) => void
}

interface Door {
  readonly route: Route
  readonly place: Place | undefined
  /** Kept for workers to come. That of `server`, while there is one. */
  handle: ListeningHandle
  /** Accepts here, as long as no worker does. */
  server: Server | undefined
}

/** How often is told that connections are refused, in ms. */
const refusalsTellMs = 1000
/** Most connections on their way to one worker. */
const owedMax = 256
/** A worker that takes longer than this to confirm gets nothing more while others are quicker. */
const lateMs = 250
/** When nothing has been heard of any worker for so long, none accepts. They say something four times a second. */
const quietMs = 1000
/** How soon workers learn how many connections the others have. */
const levelEveryMs = 10

/**
 * The ports that clients connect to. The workers accept from them, each as long as it does not have more connections
 * than the others: limits are divided among the workers, so clients must be as well. What a worker has beyond that
 * comes here and goes to the one with the fewest. A worker that has died or hangs costs nobody a connection, because
 * one that it has not confirmed goes to another.
 *
 * While there is no worker, or all hang, connections are accepted here and wait, up to a bound.
 */
export class Entrance {
  readonly #options: EntranceOptions
  readonly #doors: Door[] = []
  readonly #waiting: Arrival[] = []
  /** Those that accept, or will as soon as they are awake. */
  #lent = new WeakSet<Taker>()
  #levelling: Timer | undefined
  #closed = false
  #turn = 0
  /** Refused since that was last told, and when it was. */
  #refused = 0
  #toldMs = Number.NEGATIVE_INFINITY

  constructor(options: EntranceOptions) {
    this.#options = options
  }

  /** Rejects with the system's error when the place cannot be listened on. */
  async listen(gateway: Gateway, route: Route): Promise<void> {
    const server = this.#makeServer(route)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ ...gateway, backlog: this.#options.waitingMax() }, () => {
        server.off('error', reject)
        resolve()
      })
    })
    this.#watch(server)
    this.#doors.push({ route, place: placeOf(server, route), handle: handleOf(server), server })
    this.#lent = new WeakSet()
    this.resume()
  }

  #makeServer(route: Route): Server {
    // Read by the worker alone: what this process took off the socket would be lost.
    return createServer({ ...connectionOptions, pauseOnConnect: true }, socket => {
      // What breaks it shows again at the worker.
      socket.on('error', () => undefined)
      this.admit({ socket, route })
    })
  }

  #watch(server: Server): void {
    server.on('error', error => this.#options.log.error({ err: error }, 'a listener failed'))
  }

  /** The ports that are open. */
  get places(): Place[] {
    return this.#closed ? [] : this.#doors.flatMap(({ place }) => place ?? [])
  }

  /** Hands a connection over, or keeps it until somebody can take it. */
  admit(arrival: Arrival): void {
    const isFull = this.#waiting.length >= this.#options.waitingMax()
    // A client that has a session already is not turned away.
    if (isFull && !arrival.client) return this.#refuse(arrival)
    this.#waiting.push(arrival)
    this.#handOver()
    this.level()
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

  /** Somebody can take connections, or no longer can: who waits is handed over, and the ports are lent. */
  resume(): void {
    this.#handOver()
    this.level()
    this.#lend()
  }

  #handOver(): void {
    while (this.#waiting.length > 0) {
      const taker = chooseTaker(this.#options.takers(), this.#turn++, this.#options.clock.nowMs())
      if (!taker) return
      taker.give(this.#waiting.shift()!)
    }
  }

  /** What is known of somebody's connections has changed: the others hear of it in a moment. */
  level(): void {
    if (this.#closed) return
    this.#levelling ??= this.#options.timers.after(levelEveryMs, () => this.#level())
  }

  #level(): void {
    this.#levelling?.cancel()
    this.#levelling = undefined
    const takers = this.#options.takers()
    const ceilings = ceilingsOf(takers)
    for (const [at, taker] of takers.entries()) taker.limit(ceilings[at]!)
  }

  #lend(): void {
    if (this.#closed) return
    const lacking = this.#options.takers().filter(taker => !this.#lent.has(taker))
    // Each knows its ceiling before it begins.
    if (lacking.length > 0) this.#level()
    for (const taker of lacking) {
      this.#lent.add(taker)
      for (const [door, { route, handle }] of this.#doors.entries()) {
        taker.lend({ door, route, handle, backlog: this.#options.waitingMax() })
      }
    }
  }

  /** A worker accepts from a door now, and this is a copy of the handle to keep. */
  onLent(taker: Taker, number: number, handle: ListeningHandle): void {
    const door = this.#doors[number]
    if (!door?.server || this.#closed) return handle.close()
    // Together with the handle that it had, which may not have left yet for the others.
    door.server.close()
    door.server = undefined
    door.handle = handle
    this.#lent = new WeakSet([taker])
    this.#lend()
  }

  /** Accepts here when nobody does; to be called now and then, and when a worker has ended. */
  stepIn(): void {
    const { clock, takers, waitingMax } = this.#options
    const nowMs = clock.nowMs()
    if (this.#closed || takers().some(taker => taker.silentMs(nowMs) < quietMs)) return
    for (const door of this.#doors) {
      if (door.server) continue
      door.server = this.#makeServer(door.route)
      this.#watch(door.server)
      door.server.listen(door.handle, waitingMax())
    }
    // Those that hang learn it when they are awake.
    this.#lent = new WeakSet()
    this.#lend()
  }

  /** Lets nobody in any more, and closes what nobody has taken. */
  close(): void {
    this.#closed = true
    this.#levelling?.cancel()
    for (const { server, handle } of this.#doors) {
      if (server) server.close()
      else handle.close()
    }
    for (const { socket } of this.#waiting.splice(0)) socket.destroy()
  }
}

function placeOf(server: Server, route: Route): Place | undefined {
  const address = server.address()
  if (typeof address !== 'object' || !address) return undefined
  return { route, host: address.address, port: address.port }
}

/**
 * The one with the fewest connections; among equals the next in turn. One that is late with its confirmation is
 * chosen only when all are, one that has no room only when none has, and one that owes too many never.
 */
export function chooseTaker(takers: readonly Taker[], turn: number, nowMs: number): Taker | undefined {
  let best: Taker | undefined
  let bestRank = 0
  for (let i = 0; i < takers.length; i++) {
    const taker = takers[(turn + i) % takers.length]!
    if (taker.owed >= owedMax) continue
    const isLate = taker.owedSinceMs !== undefined && nowMs - taker.owedSinceMs > lateMs
    const rank = (isLate ? 0 : 2) + (taker.load < taker.most ? 1 : 0)
    if (best && (rank < bestRank || (rank === bestRank && taker.load >= best.load))) continue
    best = taker
    bestRank = rank
  }
  return best
}

/** Beyond the one with the fewest, a worker may have one connection more, and one for every so many that that has. */
const slackShare = 16

/**
 * How many connections each may have before it gives others away: not more than the others, or a few more where there
 * are many. One that hangs counts as well: what is given away because of it comes back soon, and it is replaced.
 */
export function ceilingsOf(takers: readonly Pick<Taker, 'load'>[]): number[] {
  return takers.map(taker => {
    let fewest = Number.POSITIVE_INFINITY
    for (const other of takers) if (other !== taker) fewest = Math.min(fewest, other.load)
    if (fewest === Number.POSITIVE_INFINITY) return unlimited
    return fewest + 1 + Math.floor(fewest / slackShare)
  })
}
