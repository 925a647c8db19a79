import type { Role } from '../topology/types.ts'
import type { Client } from './client.ts'
import type { NodeCounters } from './counters.ts'
import { Pool, type PoolOptions, type Use } from './pool.ts'
import type { ServerConnection, ServerUser, Target } from './server.ts'

/** Everything of one worker that concerns one node at one address: its pools and the sessions bound to it. */
export class NodePools {
  readonly target: Target
  readonly counters: NodeCounters
  readonly sessions = new Set<Client>()
  readonly use: Use
  /** Role at the last topology, to notice that it changed. */
  role: Role = 'unknown'
  /** Some of its sessions are asked to leave. */
  isLeaving = false
  readonly #options: PoolOptions
  readonly #pools = new Map<string, Pool>()

  constructor(options: PoolOptions) {
    this.target = options.target
    this.counters = options.counters
    this.use = options.use
    this.#options = options
  }

  get isEmpty(): boolean {
    return this.sessions.size === 0 && [...this.#pools.values()].every(pool => pool.isEmpty)
  }

  acquire(client: Client): void {
    this.#poolOf(client).acquire(client)
  }

  hasIdleFor(client: Client): boolean {
    return this.#pools.get(keyOf(client))?.hasIdleFor(client) ?? false
  }

  /** A connection for a session that moves here: an idle one that fits, else a new one. */
  openFor(client: Client, user: ServerUser): ServerConnection {
    return this.#poolOf(client).openFor(client, user)
  }

  addSession(client: Client): void {
    this.sessions.add(client)
    this.counters.sessions++
  }

  removeSession(client: Client): void {
    if (this.sessions.delete(client)) this.counters.sessions--
  }

  abandon(client: Client): boolean {
    for (const pool of this.#pools.values()) if (pool.abandon(client)) return true
    return false
  }

  takeUnwelcome(): Client[] {
    return [...this.#pools.values()].flatMap(pool => pool.takeUnwelcome())
  }

  closeIdle(): void {
    for (const pool of this.#pools.values()) pool.closeIdle()
  }

  expire(): void {
    for (const [key, pool] of this.#pools) {
      pool.expire()
      if (pool.isEmpty) this.#pools.delete(key)
    }
  }

  #poolOf(client: Client): Pool {
    const key = keyOf(client)
    let pool = this.#pools.get(key)
    if (!pool) {
      pool = new Pool(this.#options)
      this.#pools.set(key, pool)
    }
    return pool
  }
}

function keyOf(client: Client): string {
  return `${client.database}\0${client.user}`
}
