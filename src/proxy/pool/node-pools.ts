import type { NodeLoad } from '../../routing/node-load.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Timers } from '../../runtime/timers.ts'
import type { NodeState, Role } from '../../topology/types.ts'
import type { Databases } from '../catalog/database.ts'
import type { Client } from '../client/client.ts'
import type { WorkerSettings } from '../control/ipc.ts'
import type { NodeCounters } from '../counters.ts'
import type { LaneCounters } from '../lanes/counters.ts'
import type { LoginFailure } from '../relay/conversations.ts'
import type { ServerConnection, ServerUser, Target } from '../server.ts'
import type { ReportedValues } from '../session/reported.ts'
import type { StatsBook } from '../stats.ts'
import type { Gates } from './gates.ts'
import { type LimitsCache, serverDatabase } from './limits.ts'
import { Pool, type PoolHome, type Use } from './pool.ts'

export interface NodePoolsOptions {
  target: Target
  counters: NodeCounters
  load: NodeLoad
  use: Use
  settings: WorkerSettings
  limits: LimitsCache
  databases: Databases
  gates: Gates
  stats: StatsBook
  lanes: LaneCounters
  reports: ReportedValues
  clock: Clock
  timers: Timers
  /** A connection could not be opened for these clients, who wait no longer. */
  onOpenFailed: (pools: NodePools, failure: LoginFailure, waiting: Client[]) => void
  onLaneBroken: (server: ServerConnection, problem: string) => void
  /** The node has ended a connection, or it broke. */
  onLost: (node: string) => void
}

/** Everything of one worker that concerns one node at one address: its pools and the sessions bound to it. */
export class NodePools implements PoolHome {
  readonly target: Target
  readonly counters: NodeCounters
  readonly load: NodeLoad
  /** Clients that have one of its connections now. */
  readonly sessions = new Set<Client>()
  readonly use: Use
  /** Role at the last topology, to notice that it changed. */
  role: Role = 'unknown'
  /** As in the last topology; undefined when the node is gone from it. */
  state: NodeState | undefined
  /** It may have lanes of clients who want the primary. */
  wasPrimary = false
  /** Some of its sessions are asked to leave. */
  isLeaving = false
  readonly #options: NodePoolsOptions
  readonly #pools = new Map<string, Pool>()

  constructor(options: NodePoolsOptions) {
    this.target = options.target
    this.counters = options.counters
    this.load = options.load
    this.use = options.use
    this.#options = options
  }

  get isEmpty(): boolean {
    return this.sessions.size === 0 && [...this.#pools.values()].every(pool => pool.isEmpty)
  }

  get isStandby(): boolean {
    return this.role === 'replica'
  }

  get pools(): Iterable<Pool> {
    return this.#pools.values()
  }

  acquire(client: Client): void {
    this.#poolOf(client).acquire(client)
  }

  /** The pool of a client, when there is one. */
  find(client: Client): Pool | undefined {
    return this.#pools.get(client.poolKey)
  }

  hasIdleFor(client: Client): boolean {
    return this.#pools.get(client.poolKey)?.hasIdleFor(client) ?? false
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
    return this.#pools.get(client.poolKey)?.abandon(client) ?? false
  }

  takeUnwelcome(): Client[] {
    return [...this.#pools.values()].flatMap(pool => pool.takeUnwelcome())
  }

  /** What runs in lanes is run elsewhere. */
  abortLanes(): void {
    for (const pool of this.#pools.values()) pool.lanes.close(true)
  }

  closeIdle(): void {
    for (const pool of this.#pools.values()) pool.closeIdle()
  }

  tick(): void {
    for (const [key, pool] of this.#pools) {
      pool.tick()
      if (pool.isEmpty) this.#pools.delete(key)
    }
  }

  onLost(): void {
    this.#options.onLost(this.target.node)
  }

  onOpenFailed(_pool: Pool, failure: LoginFailure, waiting: Client[]): void {
    this.#options.onOpenFailed(this, failure, waiting)
  }

  /** Limits over several pools: idle connections of the others give way first. */
  hasRoom(pool: Pool): boolean {
    const { dbConnectionsMax, userConnectionsMax } = pool.limits
    if (dbConnectionsMax === 0 && userConnectionsMax === 0) return true
    return (
      this.#fitsIn(dbConnectionsMax, each => each.database === pool.database) &&
      this.#fitsIn(userConnectionsMax, each => each.user === pool.user)
    )
  }

  #fitsIn(max: number, counts: (pool: Pool) => boolean): boolean {
    if (max === 0) return true
    const pools = [...this.#pools.values()].filter(counts)
    const size = pools.reduce((sum, each) => sum + each.size, 0)
    if (size < max) return true
    const idle = pools.filter(each => each.oldestIdleMs !== undefined)
    idle.sort((a, b) => a.oldestIdleMs! - b.oldestIdleMs!)
    return idle[0]?.giveWay() ?? false
  }

  #poolOf(client: Client): Pool {
    let pool = this.#pools.get(client.poolKey)
    if (!pool) {
      const { settings, limits, databases, gates, stats, lanes, reports, clock, timers } = this.#options
      const { database, user } = client
      const onServer = serverDatabase(settings, database)
      pool = new Pool({
        home: this,
        database,
        user,
        serverDatabase: onServer,
        knowledge: databases.of(onServer),
        limits: () => limits.of(database, user),
        isPaused: () => gates.isPaused(database),
        stats: () => stats.of(database),
        lanes,
        onLaneBroken: this.#options.onLaneBroken,
        reports,
        clock,
        timers,
      })
      this.#pools.set(client.poolKey, pool)
    }
    return pool
  }
}
