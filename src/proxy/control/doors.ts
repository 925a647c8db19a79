import { createServer, type Server, type Socket } from 'node:net'
import type { Route } from '../../routing/choose.ts'
import type { ListeningHandle } from '../../runtime/listeners.ts'
import type { Logger } from '../../runtime/log.ts'
import { readOn, stopReading } from '../../runtime/sockets.ts'

export interface DoorsOptions {
  log: Logger
  /** Connections of this worker now. */
  load: () => number
  /** Takes a connection that has come. */
  accept: (socket: Socket, route: Route) => void
  /** Gives one to the control process, of which nothing was read. `onSent` is called when it has left. */
  giveAway: (socket: Socket, route: Route, onSent: () => void) => void
}

/** Most connections on their way to the control process. */
const leavingMax = 32
/** Most that wait to be one of those; beyond that the ceiling does not count. */
const waitingMax = 4096
/** In ms: when a client that is silent is first asked whether it is still there. */
const keepAliveInitialDelay = 30_000
/** How clients' connections are opened, whoever accepts them. */
export const connectionOptions = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay,
} as const

/** No ceiling. */
export const unlimited = Number.MAX_SAFE_INTEGER

/**
 * The ports that clients connect to, as a worker has them: all workers accept from the same sockets, whoever is the
 * first. What comes when a worker has as many connections as its ceiling says is given away, so that all have equally
 * many. Of that only a few are on their way at a time: as soon as others have them, the ceiling rises.
 */
export class Doors {
  readonly #options: DoorsOptions
  readonly #servers = new Map<number, Server>()
  readonly #waiting: { socket: Socket; route: Route }[] = []
  #ceiling = unlimited
  #leaving = 0
  #closed = false

  constructor(options: DoorsOptions) {
    this.#options = options
  }

  /** Accepts from `handle`. Returns whether it does: not when the door is open already, nor after the end. */
  open(door: number, handle: ListeningHandle, route: Route, backlog: number): boolean {
    if (this.#closed || this.#servers.has(door)) return false
    const server = createServer(connectionOptions, socket => this.#onConnection(socket, route))
    server.on('error', error => this.#options.log.error({ err: error }, 'a listener failed'))
    server.listen(handle, backlog)
    this.#servers.set(door, server)
    return true
  }

  get ceiling(): number {
    return this.#ceiling
  }

  /** So many connections it may have before it gives others away. */
  set ceiling(connections: number) {
    this.#ceiling = connections
    this.#resume()
  }

  /** Connections that have come and are neither accepted nor on their way. */
  get waiting(): number {
    return this.#waiting.length
  }

  #onConnection(socket: Socket, route: Route): void {
    const { accept, load } = this.#options
    if (this.#waiting.length === 0 && load() < this.#ceiling) return accept(socket, route)
    if (this.#waiting.length >= waitingMax || !stopReading(socket)) return accept(socket, route)
    // What breaks it shows again where it goes.
    socket.on('error', ignore)
    this.#waiting.push({ socket, route })
    this.#resume()
  }

  /** Takes or gives away who waits, in order. */
  #resume(): void {
    const { giveAway, load } = this.#options
    while (this.#waiting.length > 0) {
      const isOurs = this.#closed || load() < this.#ceiling
      if (!isOurs && this.#leaving >= leavingMax) return
      const { socket, route } = this.#waiting.shift()!
      if (socket.destroyed) continue
      if (isOurs) {
        this.#take(socket, route)
        continue
      }
      this.#leaving++
      giveAway(socket, route, () => {
        this.#leaving--
        this.#resume()
      })
    }
  }

  #take(socket: Socket, route: Route): void {
    socket.off('error', ignore)
    this.#options.accept(socket, route)
    readOn(socket)
  }

  /** Accepts no more: what waits in the kernel is for the others. */
  close(): void {
    this.#closed = true
    for (const server of this.#servers.values()) server.close()
    this.#servers.clear()
    this.#resume()
  }
}

const ignore = (): void => undefined
