import type { Route } from '../../routing/choose.ts'
import type { NodeLoad } from '../../routing/node-load.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Timers } from '../../runtime/timers.ts'
import type { Database } from '../catalog/database.ts'
import type { Client } from '../client/client.ts'
import type { NodeCounters } from '../counters.ts'
import type { LaneCounters } from '../lanes/counters.ts'
import type { Lane } from '../lanes/lane.ts'
import { type LaneHome, Lanes } from '../lanes/lanes.ts'
import type { SharingPlace } from '../lanes/sharing.ts'
import type { LoginFailure } from '../relay/conversations.ts'
import { ServerConnection, type ServerOwner, type ServerUser, type Target } from '../server.ts'
import type { Reported, ReportedValues } from '../session/reported.ts'
import { parametersKey, Settings } from '../session/settings.ts'
import type { ServerAccount } from '../startup/server-account.ts'
import type { DatabaseStats } from '../stats.ts'
import type { PoolLimits } from './limits.ts'

/** What the node of a pool may be used for now; changed in place with every topology. */
export interface Use {
  /** Sessions of these routes may begin. */
  begins: Record<Route, boolean>
  /** Connections are kept when a session ends. */
  keepsIdle: boolean
}

/** What a pool needs of the node that it belongs to. */
export interface PoolHome {
  readonly target: Target
  readonly counters: NodeCounters
  readonly load: NodeLoad
  readonly use: Use
  /** It may be behind what is known elsewhere. */
  readonly isStandby: boolean
  /** Whether one more connection for this database and user keeps to the limits of the node. */
  hasRoom(pool: Pool): boolean
  /** The server has ended a connection, or it broke. */
  onLost(): void
  /** A connection could not be opened for whoever waits. */
  onOpenFailed(pool: Pool, failure: LoginFailure, waiting: Client[]): void
  addSession(client: Client): void
  removeSession(client: Client): void
}

export interface PoolOptions {
  home: PoolHome
  /** The name that clients ask for. */
  database: string
  user: string
  /** The database's name on the servers. */
  serverDatabase: string
  knowledge: Database
  limits: () => PoolLimits
  /** An operator has paused the database: no connection is opened, and none is kept. */
  isPaused: () => boolean
  stats: () => DatabaseStats
  /** What is counted of lanes in this worker. */
  lanes: LaneCounters
  /** A server has said on a lane what no read can bring about. */
  onLaneBroken: (server: ServerConnection, problem: string) => void
  reports: ReportedValues
  clock: Clock
  timers: Timers
}

/** How long a DISCARD ALL may take before the connection is given up. */
const resetTimeoutMs = 10_000
/** Connections that are opened at once while clients wait; more would only compete for the server's processors. */
const openingMax = 4

/**
 * The connections from this worker to one node for one database and user. Connections that were opened with equal
 * parameters stand in for each other; clients that find none and no room wait in order.
 *
 * Whether the server lets the proxy in for this user without asking for a password is learned from the first login.
 * While it is not known, and where it asks, every client's connection is opened for that client and with its own
 * startup parameters. Otherwise connections are opened for whoever comes first, and clients bring their settings.
 */
export class Pool implements ServerOwner, SharingPlace {
  readonly database: string
  readonly user: string
  readonly home: PoolHome
  readonly knowledge: Database
  /** Connections that several clients use at once. */
  readonly lanes: Lanes
  preparedMax = 0
  preparesUnnamed = false
  hedgePercent = 0
  #hasLanes = false
  readonly #options: PoolOptions
  readonly #servers = new Set<ServerConnection>()
  /** Waiting for a client; the one used last is at the end and is used first. */
  readonly #idle: ServerConnection[] = []
  readonly #waiting = new Set<Client>()
  readonly #opening = new Set<ServerConnection>()
  /** What sessions were told when they began. */
  readonly #greetings = new Map<string, Reported>()
  /** When a client that waits was served, or the first one began to wait. */
  #servedMs = 0
  #isServing = false
  #isToServe = false
  /** The server let the proxy in without a question; undefined while nobody has tried. */
  #trusts: boolean | undefined
  /** The parameters of a connection that fits every client. */
  readonly #clean: ReadonlyMap<string, string>
  readonly #cleanKey: string
  /** What the newest client brought to log in with; undefined when it answers the servers itself. */
  #credentials: ServerAccount | undefined

  constructor(options: PoolOptions) {
    this.#options = options
    this.database = options.database
    this.user = options.user
    this.home = options.home
    this.knowledge = options.knowledge
    this.#clean = new Map([
      ['user', options.user],
      ['database', options.database],
    ])
    this.#cleanKey = parametersKey(this.#clean)
    this.lanes = new Lanes(this.#laneHome())
    this.#takeLimits()
  }

  #laneHome(): LaneHome {
    const { clock, home, knowledge, lanes, onLaneBroken, timers } = this.#options
    const limits = (): PoolLimits => this.limits
    const waitingCount = (): number => this.waitingCount
    return {
      get limits() {
        return limits()
      },
      get waitingCount() {
        return waitingCount()
      },
      get needsFacts() {
        return knowledge.needsFacts(home.isStandby)
      },
      starvedMs: () => (this.#waiting.size === 0 ? 0 : clock.nowMs() - this.#servedMs),
      nowMs: () => clock.nowMs(),
      timers,
      counters: lanes,
      onBroken: onLaneBroken,
    }
  }

  /** What every unit would have to look up otherwise. */
  #takeLimits(): void {
    const { hedgePercent, lanes, mode, prepareUnnamed, preparedMax } = this.limits
    this.#hasLanes = lanes && mode !== 'session'
    this.preparedMax = preparedMax
    this.preparesUnnamed = prepareUnnamed
    this.hedgePercent = hedgePercent
    if (!this.#hasLanes) this.lanes.close()
  }

  /** A lane for a unit of `client` that is on its way elsewhere: one that is there, or a connection that is idle. */
  laneFor(client: Client): Lane | undefined {
    const { settings, told } = client.session!
    const { serverKey } = settings
    const nowMs = this.#options.clock.nowMs()
    let lane = this.lanes.pickQuick(serverKey, nowMs)
    if (!lane) {
      const at = this.#idle.findIndex(
        server =>
          server.fixedKey === this.#cleanKey &&
          server.settings.serverKey === serverKey &&
          fits(server, client),
      )
      const server = this.#idle[at]
      if (server && this.lanes.adopt(server)) {
        this.#idle.splice(at, 1)
        lane = this.lanes.pickQuick(serverKey, nowMs)
      }
    }
    // The client is told nothing of a server that may not be the one to answer.
    if (!lane || lane.server.reported !== told) return undefined
    // It was found to read no settings, or has a lane where they are its own: not so elsewhere.
    if (!lane.server.settings.equals(settings)) return undefined
    return lane.server.isTrusting || client.credentials !== undefined ? lane : undefined
  }

  /** Whether units of a client may share a connection with those of others. */
  mayShare(client: Client): boolean {
    return this.#hasLanes && client.startup.fixedKey === this.#cleanKey && !this.#options.isPaused()
  }

  get isEmpty(): boolean {
    return this.#servers.size === 0 && this.#waiting.size === 0
  }

  /** The database's name on the servers. */
  get serverDatabase(): string {
    return this.#options.serverDatabase
  }

  get limits(): PoolLimits {
    return this.#options.limits()
  }

  get size(): number {
    return this.#servers.size
  }

  get servers(): Iterable<ServerConnection> {
    return this.#servers
  }

  get waiting(): Iterable<Client> {
    return this.#waiting
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  get idleCount(): number {
    return this.#idle.length
  }

  /** Every connection is closed when it comes free; those that wait for a client at once. Returns how many. */
  renew(): number {
    const { size } = this
    for (const server of this.#servers) server.isSpoiled = true
    this.closeIdle()
    return size
  }

  /** Closes every connection, whatever it does. */
  abortAll(): void {
    for (const server of [...this.#servers]) server.abort()
  }

  /** Takes every client out of the queue. */
  takeWaiting(): Client[] {
    const clients = [...this.#waiting]
    for (const client of clients) this.abandon(client)
    return clients
  }

  /** Whether a client would get a connection that is there already. */
  hasIdleFor(client: Client): boolean {
    return this.#idle.some(server => fits(server, client))
  }

  /** An idle connection that fits, a new one, or a place in the queue. */
  acquire(client: Client): void {
    // Its database may be none that a connection of the pool's own could go to.
    if (!client.replication) this.#credentials = client.credentials
    const idle = this.#takeIdle(client) ?? this.#takeIdleLane(client)
    if (idle) {
      idle.use(client)
      return client.attach(idle)
    }
    if (this.#opensFor(client)) {
      if (this.#mayOpen(client)) return client.logInOn(this.#create(client, client, client.parameters))
    } else this.#openMore(client)
    const { waitingMax } = this.limits
    if (this.#waiting.size < waitingMax) {
      if (this.#waiting.size === 0) this.#servedMs = this.#options.clock.nowMs()
      this.#waiting.add(client)
      this.home.counters.waiting++
      this.lanes.yield()
    } else client.end('queue_full', `${waitingMax} clients wait for this database and user already`)
  }

  /** Whether the connection is opened for this client alone: it may have to answer the server's questions. */
  #opensFor(client: Client): boolean {
    if (!client.session || client.startup.fixedKey !== this.#cleanKey) return true
    return client.credentials === undefined && this.#trusts !== true
  }

  /** A client no longer waits here. */
  abandon(client: Client): boolean {
    if (!this.#waiting.delete(client)) return false
    this.home.counters.waiting--
    return true
  }

  /** Takes those waiting clients out of the queue that may not begin here any more. */
  takeUnwelcome(): Client[] {
    const clients = [...this.#waiting].filter(client => !this.home.use.begins[client.route])
    for (const client of clients) this.abandon(client)
    return clients
  }

  /** Closes the connections that wait for a client, and those that only the proxy itself asks something. */
  closeIdle(): void {
    this.#greetings.clear()
    this.lanes.close()
    for (const server of [...this.#idle]) server.destroy()
    for (const server of [...this.#servers]) if (server.user === nobody) server.destroy()
  }

  /** Closes connections that were idle or alive for too long, and opens what a pool should have; once a second. */
  tick(): void {
    if (!this.home.use.keepsIdle || this.#options.isPaused()) return this.closeIdle()
    const nowMs = this.#options.clock.nowMs()
    this.#takeLimits()
    this.lanes.tick(nowMs)
    const { queryTimeoutMs, serverIdleTimeoutMs, serverLifetimeMs, minPoolSize } = this.limits
    if (queryTimeoutMs > 0) this.lanes.endOverdue(nowMs, queryTimeoutMs)
    for (const server of [...this.#idle]) {
      const isSpare = this.#servers.size > minPoolSize
      const idleTooLong =
        isSpare && serverIdleTimeoutMs > 0 && nowMs - server.idleSinceMs > serverIdleTimeoutMs
      const tooOld = serverLifetimeMs > 0 && nowMs - server.createdMs > serverLifetimeMs
      if (idleTooLong || tooOld) server.destroy()
    }
    for (const client of this.#waiting) {
      // The reserve may be used by now.
      this.#openMore(client)
      break
    }
    const mayOpenAlone = this.#credentials !== undefined || this.#trusts === true
    if (mayOpenAlone && this.#servers.size < minPoolSize && this.home.hasRoom(this)) this.#open()
  }

  /** A connection with the client's parameters for another user than the client itself, past the queue. */
  openFor(client: Client, user: ServerUser): ServerConnection {
    const idle = this.#takeIdle(client)
    idle?.use(user)
    return idle ?? this.#create(client, user, client.parameters)
  }

  /** A login at this node has succeeded without the client's help, or it needed that. */
  learnTrust(trusts: boolean): void {
    this.#trusts = trusts
    if (trusts) this.#serveNext()
  }

  learnGreeting(server: ServerConnection): void {
    if (this.#greetings.size >= greetingsMax) this.#greetings.clear()
    this.#greetings.set(greetingKey(server.fixedKey, server.settings), server.reported)
  }

  /**
   * What a session begins with that has these settings, as one was told that began on a connection. There has to be one
   * that the client may use: else nobody knows whether the servers would have it.
   */
  greetingFor(client: Client, settings: Settings): Reported | undefined {
    const told = this.#greetings.get(greetingKey(client.startup.fixedKey, settings))
    if (!told) return undefined
    for (const server of this.#servers) {
      if (server.stateName !== 'new' && suits(server, client)) return told
    }
    return undefined
  }

  onServerIdle(server: ServerConnection): void {
    if (!this.home.use.keepsIdle || this.#options.isPaused()) return server.destroy()
    if (this.knowledge.needsFacts(this.home.isStandby) && this.limits.mode !== 'session') {
      server.use(nobody)
      return this.knowledge.load(server, () => {
        if (!server.isClosed) server.checkIn()
      })
    }
    if (this.#hasLanes && server.fixedKey === this.#cleanKey && this.lanes.adopt(server)) return
    this.#idle.push(server)
    this.#serveNext()
  }

  onServerClosed(server: ServerConnection): void {
    const at = this.#idle.indexOf(server)
    if (at >= 0) this.#idle.splice(at, 1)
    this.#opening.delete(server)
    if (!server.isEndedHere) this.home.onLost()
    if (this.#servers.delete(server)) this.#serveNext()
    if (this.#servers.size === 0) this.#greetings.clear()
  }

  /** The idle connection that needs the least to be done before this client can use it. */
  #takeIdle(client: Client): ServerConnection | undefined {
    const idle = this.#idle
    let found = -1
    for (let at = idle.length - 1; at >= 0; at--) {
      const server = idle[at]!
      if (!fits(server, client)) continue
      if (found < 0) found = at
      if (!client.session || server.settings.equals(client.session.settings)) {
        found = at
        break
      }
    }
    if (found < 0) return undefined
    return found === idle.length - 1 ? idle.pop() : idle.splice(found, 1)[0]
  }

  #takeIdleLane(client: Client): ServerConnection | undefined {
    return this.lanes.releaseIdle(server => suits(server, client)) ? this.#takeIdle(client) : undefined
  }

  /** Whether one more may be opened; a connection that is idle but does not fit gives way. */
  #mayOpen(client: Client): boolean {
    const { poolSize, reservePoolSize, reservePoolTimeoutMs } = this.limits
    const waitedMs = this.#options.clock.nowMs() - client.waitingSinceMs
    const usesReserve = reservePoolTimeoutMs > 0 && waitedMs >= reservePoolTimeoutMs
    const sizeMax = usesReserve ? poolSize + reservePoolSize : poolSize
    if (this.#servers.size >= sizeMax && !this.#evict()) return false
    return this.home.hasRoom(this)
  }

  /** The connection that was idle for longest, with whatever parameters, gives way. Its room is the caller's. */
  #evict(): boolean {
    const oldest = this.#idle.shift()
    if (!oldest) return false
    this.#servers.delete(oldest)
    oldest.destroy()
    return true
  }

  /** Closes an idle connection so that another pool of the same node has room. */
  giveWay(): boolean {
    return this.#evict()
  }

  get oldestIdleMs(): number | undefined {
    return this.#idle[0]?.idleSinceMs
  }

  /** Opens one more connection for whoever waits, unless enough are on their way. */
  #openMore(client: Client): void {
    if (this.#opening.size >= Math.min(openingMax, this.#waiting.size + 1)) return
    if (this.#mayOpen(client)) this.#open()
  }

  #open(): void {
    let challenged = false
    const opener: ServerUser = {
      ...nobody,
      onChallenge: () => {
        challenged = true
        server.destroy()
      },
      onServerReady: () => {
        this.#opening.delete(server)
        server.checkIn()
      },
      onLoginFailed: (_, failure) => {
        // What trusted the proxy does so no longer: the clients are asked themselves from now on.
        if (challenged) {
          this.#trusts = false
          return this.#reacquire()
        }
        const waiting = [...this.#waiting]
        for (const client of waiting) this.abandon(client)
        this.home.onOpenFailed(this, failure, waiting)
      },
    }
    const server = this.#create(undefined, opener, this.#clean)
    this.#opening.add(server)
  }

  #reacquire(): void {
    for (const client of [...this.#waiting]) {
      this.abandon(client)
      this.acquire(client)
    }
  }

  #create(
    client: Client | undefined,
    user: ServerUser,
    parameters: ReadonlyMap<string, string>,
  ): ServerConnection {
    const { clock, timers, reports } = this.#options
    const { target, counters, load } = this.home
    const { serverConnectTimeoutMs, serverLifetimeMs } = this.limits
    const server = new ServerConnection(
      {
        target,
        parameters: this.#onServer(parameters),
        parametersKey: client ? client.parametersKey : this.#cleanKey,
        fixedKey: client ? client.startup.fixedKey : this.#cleanKey,
        native: client?.startup.settings ?? Settings.none,
        credentials: client ? client.credentials : this.#credentials,
        reusable: !client?.replication,
        connectTimeoutMs: serverConnectTimeoutMs,
        resetTimeoutMs,
        // What a client has left running keeps its connection no longer than any other.
        finishTimeoutMs: serverLifetimeMs,
        clock,
        timers,
        counters,
        load,
        typical: this.knowledge.typicalOf(this.user),
        stats: this.#options.stats,
        reports,
        owner: this,
      },
      user,
    )
    this.#servers.add(server)
    return server
  }

  /** The database's name on the servers may be another one. */
  #onServer(parameters: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
    return new Map([...parameters, ['database', this.#options.serverDatabase]])
  }

  /**
   * Something has come free: the clients that have waited longest are served first. Who gives a connection back at once
   * leads here again from within, which thousands of them in a row must not do.
   */
  #serveNext(): void {
    this.#isToServe = true
    if (this.#isServing) return
    this.#isServing = true
    while (this.#isToServe) {
      this.#isToServe = false
      this.#serveWaiting()
    }
    this.#isServing = false
  }

  #serveWaiting(): void {
    for (const client of this.#waiting) {
      if (!this.home.use.begins[client.route]) continue
      const idle = this.#takeIdle(client)
      if (idle) {
        this.abandon(client)
        this.#servedMs = this.#options.clock.nowMs()
        idle.use(client)
        client.attach(idle)
      } else if (!this.#opensFor(client)) this.#openMore(client)
      else if (this.#mayOpen(client)) {
        this.abandon(client)
        client.logInOn(this.#create(client, client, client.parameters))
      }
      if (this.#idle.length === 0) return
    }
  }
}

/** Most settings with which sessions begin, of those that are remembered. */
const greetingsMax = 100

function greetingKey(fixedKey: string, settings: Settings): string {
  return `${fixedKey}\0${settings.serverKey}`
}

/** Whether a client may use a connection now, perhaps after bringing its settings onto it. */
function fits(server: ServerConnection, client: Client): boolean {
  return server.isFree && suits(server, client)
}

/** Whether a client may use a connection when it is free. */
function suits(server: ServerConnection, client: Client): boolean {
  if (client.replication) return false
  // What a secret was needed for is not for a client that nobody has checked: logins were passed through since.
  if (client.credentials === undefined && !server.isTrusting) return false
  if (server.parametersKey === client.parametersKey && !client.session) return true
  if (!client.session) return false
  if (server.parametersKey !== client.startup.fixedKey && server.parametersKey !== client.parametersKey)
    return false
  // Whoever has never heard of a setting must not find it empty instead of missing.
  for (const name of server.customNames) if (!client.session.settings.values.has(name)) return false
  return true
}

/** For a server connection that works for the proxy itself. */
const nobody: ServerUser = {
  onChallenge: () => undefined,
  onLoginNotice: () => undefined,
  onServerReady: () => undefined,
  onLoginFailed: () => undefined,
  onAside: () => undefined,
  onStatementsGone: () => undefined,
  onRetry: () => undefined,
  onServerData: () => undefined,
  onServerWritable: () => undefined,
  onServerLost: () => undefined,
}
