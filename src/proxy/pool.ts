import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Timers } from '../runtime/timers.ts'
import type { Client } from './client.ts'
import type { NodeCounters } from './counters.ts'
import { ServerConnection, type ServerOwner, type ServerUser, type Target } from './server.ts'

/** Names and meanings are PgBouncer's; times in ms. */
export interface PoolLimits {
  /** Most connections to one node for one database and user, from this worker. */
  poolSize: number
  serverConnectTimeoutMs: number
  serverIdleTimeoutMs: number
  serverLifetimeMs: number
}

/** What the node of a pool may be used for now; changed in place with every topology. */
export interface Use {
  /** Sessions of these routes may begin. */
  begins: Record<Route, boolean>
  /** Connections are kept when a session ends. */
  keepsIdle: boolean
}

export interface PoolOptions {
  target: Target
  limits: PoolLimits
  clock: Clock
  timers: Timers
  counters: NodeCounters
  use: Use
}

/** How long a DISCARD ALL may take before the connection is given up. */
const resetTimeoutMs = 10_000

/**
 * The connections from this worker to one node for one database and user. Connections whose startup parameters
 * are equal stand in for each other; clients that find none and no room wait in order.
 */
export class Pool implements ServerOwner {
  readonly #options: PoolOptions
  readonly #servers = new Set<ServerConnection>()
  /** Waiting for a client; the one used last is at the end and is used first. */
  #idle: ServerConnection[] = []
  readonly #waiting = new Set<Client>()

  constructor(options: PoolOptions) {
    this.#options = options
  }

  get isEmpty(): boolean {
    return this.#servers.size === 0 && this.#waiting.size === 0
  }

  /** Whether a client would get a connection that is there already. */
  hasIdleFor(client: Client): boolean {
    return !client.replication && this.#idle.some(each => each.parametersKey === client.parametersKey)
  }

  /** An idle connection that fits, a new one, or a place in the queue. */
  acquire(client: Client): void {
    const idle = this.#takeIdle(client)
    if (idle) {
      idle.use(client)
      client.attach(idle)
    } else if (this.#servers.size < this.#options.limits.poolSize || this.#evict()) {
      client.logInOn(this.#create(client, client))
    } else {
      this.#waiting.add(client)
      this.#options.counters.waiting++
    }
  }

  /** A client no longer waits here. */
  abandon(client: Client): boolean {
    if (!this.#waiting.delete(client)) return false
    this.#options.counters.waiting--
    return true
  }

  /** Takes those waiting clients out of the queue that may not begin here any more. */
  takeUnwelcome(): Client[] {
    const clients = [...this.#waiting].filter(client => !this.#options.use.begins[client.route])
    for (const client of clients) this.abandon(client)
    return clients
  }

  closeIdle(): void {
    for (const server of [...this.#idle]) server.destroy()
  }

  /** Closes connections that were idle or alive for too long; called about once a second. */
  expire(): void {
    if (!this.#options.use.keepsIdle) return this.closeIdle()
    const nowMs = this.#options.clock.nowMs()
    const { serverIdleTimeoutMs, serverLifetimeMs } = this.#options.limits
    for (const server of [...this.#idle]) {
      const idleTooLong = serverIdleTimeoutMs > 0 && nowMs - server.idleSinceMs > serverIdleTimeoutMs
      const tooOld = serverLifetimeMs > 0 && nowMs - server.createdMs > serverLifetimeMs
      if (idleTooLong || tooOld) server.destroy()
    }
  }

  /** A connection with the client's parameters for another user than the client itself, past the queue. */
  openFor(client: Client, user: ServerUser): ServerConnection {
    const idle = this.#takeIdle(client)
    idle?.use(user)
    return idle ?? this.#create(client, user)
  }

  onServerIdle(server: ServerConnection): void {
    if (!this.#options.use.keepsIdle) return server.destroy()
    this.#idle.push(server)
    this.#serveNext()
  }

  onServerClosed(server: ServerConnection): void {
    this.#idle = this.#idle.filter(each => each !== server)
    if (this.#servers.delete(server)) this.#serveNext()
  }

  #takeIdle(client: Client): ServerConnection | undefined {
    if (client.replication) return undefined
    const fitting = this.#idle.findLastIndex(each => each.parametersKey === client.parametersKey)
    return fitting < 0 ? undefined : this.#idle.splice(fitting, 1)[0]
  }

  /** The connection that was idle for longest, with whatever parameters, gives way. Its room is the caller's. */
  #evict(): boolean {
    const oldest = this.#idle.shift()
    if (!oldest) return false
    this.#servers.delete(oldest)
    oldest.destroy()
    return true
  }

  #create(client: Client, user: ServerUser): ServerConnection {
    const { target, limits, clock, timers, counters } = this.#options
    const server = new ServerConnection(
      {
        target,
        parameters: client.parameters,
        parametersKey: client.parametersKey,
        reusable: !client.replication,
        connectTimeoutMs: limits.serverConnectTimeoutMs,
        resetTimeoutMs,
        // What a client has left running keeps its connection no longer than any other.
        finishTimeoutMs: limits.serverLifetimeMs,
        clock,
        timers,
        counters,
        owner: this,
      },
      user,
    )
    this.#servers.add(server)
    return server
  }

  #serveNext(): void {
    const hasRoom = this.#idle.length > 0 || this.#servers.size < this.#options.limits.poolSize
    if (!hasRoom) return
    for (const client of this.#waiting) {
      if (!this.#options.use.begins[client.route]) continue
      this.abandon(client)
      return this.acquire(client)
    }
  }
}
