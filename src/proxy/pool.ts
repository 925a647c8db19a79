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

export interface PoolOptions {
  target: Target
  limits: PoolLimits
  clock: Clock
  timers: Timers
  counters: NodeCounters
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
  readonly #keepIdle: () => boolean

  constructor(options: PoolOptions, keepIdle: () => boolean) {
    this.#options = options
    this.#keepIdle = keepIdle
  }

  get isEmpty(): boolean {
    return this.#servers.size === 0 && this.#waiting.size === 0
  }

  /** An idle connection that fits, a new one, or a place in the queue. */
  acquire(client: Client): void {
    const idle = this.#takeIdle(client)
    if (idle) {
      idle.use(client)
      client.attach(idle)
    } else if (this.#servers.size < this.#options.limits.poolSize) this.#open(client)
    else if (this.#idle.length > 0) {
      // An idle connection with other parameters gives way.
      this.#idle.shift()?.destroy()
      this.#open(client)
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

  /** Takes every waiting client out of the queue, for another node. */
  takeWaiting(): Client[] {
    const clients = [...this.#waiting]
    for (const client of clients) this.abandon(client)
    return clients
  }

  closeIdle(): void {
    for (const server of [...this.#idle]) server.destroy()
  }

  /** Closes connections that were idle or alive for too long; called about once a second. */
  expire(): void {
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

  #takeIdle(client: Client): ServerConnection | undefined {
    if (client.replication) return undefined
    const fitting = this.#idle.findLastIndex(each => each.parametersKey === client.parametersKey)
    return fitting < 0 ? undefined : this.#idle.splice(fitting, 1)[0]
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

  onServerIdle(server: ServerConnection): void {
    if (!this.#keepIdle()) return server.destroy()
    this.#idle.push(server)
    this.#serveNext()
  }

  onServerClosed(server: ServerConnection): void {
    this.#servers.delete(server)
    this.#idle = this.#idle.filter(each => each !== server)
    this.#serveNext()
  }

  #open(client: Client): void {
    client.logInOn(this.#create(client, client))
  }

  #serveNext(): void {
    const [next] = this.#waiting
    if (!next) return
    const hasRoom = this.#idle.length > 0 || this.#servers.size < this.#options.limits.poolSize
    if (!hasRoom) return
    this.abandon(next)
    this.acquire(next)
  }
}
