import type { Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { ListeningHandle, Sendable } from '../runtime/listeners.ts'
import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import type { SharedCounters } from '../runtime/shared-counters.ts'
import { stopReading } from '../runtime/sockets.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { StatementClasses } from '../sql/statement-classes.ts'
import { applyChange, type TopologyChange } from '../topology/change.ts'
import type { Topology } from '../topology/types.ts'
import { type Database, Databases } from './catalog/database.ts'
import { CancelDesk } from './client/cancel-desk.ts'
import { type CancelKey, CancelKeys } from './client/cancels.ts'
import { Client } from './client/client.ts'
import type { ClientHost } from './client/client-host.ts'
import { ClientTally } from './client/client-tally.ts'
import { TransactionDesk } from './client/deferred-begin.ts'
import type { DisconnectReason } from './client/failures.ts'
import { shown } from './console/columns.ts'
import { PinLedger } from './console/pins.ts'
import { WorkerConsole } from './console/worker-console.ts'
import { Doors, unlimited } from './control/doors.ts'
import type { FromWorker, ToWorker, WorkerSettings } from './control/ipc.ts'
import { LoadReports } from './control/load-reports.ts'
import { Refuser } from './control/refuser.ts'
import { WorkerCounters } from './counters.ts'
import { Hedges } from './lanes/hedges.ts'
import type { Lane } from './lanes/lane.ts'
import { Sharing } from './lanes/sharing.ts'
import type { LaneUnit } from './lanes/unit.ts'
import { AcknowledgedWrites } from './pool/acknowledged.ts'
import { reviewMs } from './pool/balancer.ts'
import { Director } from './pool/director.ts'
import { Dispatcher } from './pool/dispatcher.ts'
import { Gates } from './pool/gates.ts'
import { KeptReads } from './pool/kept-reads.ts'
import { LimitsCache, type PoolLimits, type PoolMode, serverDatabase } from './pool/limits.ts'
import { poolGauges } from './pool-gauges.ts'
import type { LoginFailure } from './relay/conversations.ts'
import type { ServerConnection, Target } from './server.ts'
import type { HandOver } from './session/hand-over.ts'
import { type Reported, ReportedValues } from './session/reported.ts'
import { type PinReason, pinReasons } from './session/session-question.ts'
import { StartupForms } from './session/settings.ts'
import { Shutdown } from './shutdown.ts'
import { type Arrival, ClientStartup, type StartupHost } from './startup/client-startup.ts'
import { Security } from './startup/security.ts'
import { type DatabaseStats, StatsBook } from './stats.ts'

export interface WorkerOptions {
  settings: WorkerSettings
  /** Number of this worker among its siblings, from 0. */
  index: number
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
  /** What the workers have in common of what they acknowledge; undefined for one without siblings. */
  acknowledged: SharedCounters | undefined
  /** Makes up what an unknown user would have; the same in every worker. */
  mockSecret: Buffer
  memory: () => NodeJS.MemoryUsage
  /** A client's socket that goes along is the control process's from then on; `onSent` is called when it has left. */
  send: (message: FromWorker, handle?: Sendable, onSent?: () => void) => void
  /** Everything is closed: the process may end. */
  onStopped: () => void
}

const countersEveryMs = 250
/** Most clients on their way to another worker: nobody reads what they send meanwhile. */
const departingMax = 50
/** What averages of the console are about: at least the last period, at most the last two. */
const statsPeriodMs = 60_000
/** Connections beyond `clientsMax` that may be open before they have said what they want. */
const silentClientsMax = 100

/** A data worker: serves the clients that the control process hands to it. One a process. */
export class Worker implements ClientHost, StartupHost {
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  readonly log: Logger
  readonly security: Security
  readonly counters = new WorkerCounters()
  readonly startups = new StartupForms()
  readonly transactions: TransactionDesk
  readonly kept: KeptReads
  readonly classes: StatementClasses
  readonly #options: WorkerOptions
  readonly #settings: WorkerSettings
  /** Connections that have not said yet what they want. */
  readonly #arriving = new Set<ClientStartup>()
  readonly #clients = new Set<Client>()
  readonly #tally = new ClientTally()
  readonly #keys: CancelKeys
  readonly #cancels: CancelDesk<Client>
  readonly #shutdown: Shutdown<Client>
  readonly #dispatcher: Dispatcher
  readonly #director: Director
  readonly #writes: AcknowledgedWrites
  readonly #limits: LimitsCache
  readonly #databases: Databases
  readonly #gates = new Gates()
  readonly #refuser: Refuser
  readonly #stats: StatsBook
  readonly #sharing: Sharing
  readonly #hedges: Hedges
  readonly #pins = new PinLedger(this.counters.pinned)
  readonly #console: WorkerConsole
  readonly #timers: Timer[] = []
  readonly #doors: Doors
  readonly #reports: LoadReports
  #topology: Topology | undefined
  /** Clients on their way to another worker. */
  #departing = 0

  /** @throws TlsError, SecurityError when its files cannot be used */
  constructor(options: WorkerOptions) {
    this.#options = options
    this.#settings = options.settings
    this.clock = options.clock
    this.timers = options.timers
    this.random = options.random
    this.log = options.log
    const { clock, log, mockSecret, random, settings, timers } = options
    const targets = (): Target[] => this.#dispatcher.targets()
    this.security = new Security({ settings, mockSecret, targets, clock, timers, random, log })
    this.#keys = new CancelKeys(options.random)
    this.#refuser = new Refuser({ timers, hasTls: () => this.security.clientTls !== undefined })
    this.#limits = new LimitsCache(options.settings)
    this.transactions = new TransactionDesk({
      knowledgeOf: database => this.knowledgeOf(database),
      defers: ({ database, user }) => this.#limits.of(database, user).deferBegin,
    })
    this.#databases = new Databases(options.clock, database => options.send({ kind: 'catalog', database }))
    this.#stats = new StatsBook(options.clock.nowMs())
    this.classes = new StatementClasses(clock)
    this.#sharing = new Sharing(this.classes, this.counters.lanes, () => clock.nowMs(), log)
    this.#console = new WorkerConsole({
      ...options,
      counters: this.counters,
      clients: () => this.#clients,
      pools: () => this.#dispatcher.pools,
      arriving: () => this.#arriving.size,
      pins: this.#pins,
      sendCounters: () => this.#sendCounters(),
      onEnd: reason => this.#onGone(reason),
    })
    this.#cancels = new CancelDesk({
      keys: this.#keys,
      counters: this.counters,
      cancelOther: (processId, secret) => this.#console.cancel(processId, secret),
      askOthers: (processId, secret, isPassedOn, request) =>
        options.send({ kind: 'cancel', processId, secret: secret.toString('hex'), isPassedOn, request }),
    })
    this.#shutdown = new Shutdown({
      clock,
      timers,
      timeoutMs: () => settings.shutdownTimeoutMs,
      arriving: () => this.#arriving,
      clients: () => this.#clients,
      isEmpty: () => this.#connections + this.#departing === 0,
      handOver: client => this.#handOver(client),
      closeDoors: () => this.#doors.close(),
      endConsole: atOnce => this.#console.shutDown(atOnce),
      onEmpty: () => this.#onEmpty(),
    })
    this.#writes = new AcknowledgedWrites(options.acknowledged)
    const load = (): number => this.#connections
    this.#reports = new LoadReports({
      timers,
      load,
      isWanted: () => this.#doors.ceiling < unlimited,
      send: (connections, clients) => options.send({ kind: 'taken', connections, clients }),
    })
    this.#doors = new Doors({
      log,
      load,
      accept: (socket, route) => this.#accept(socket, route),
      giveAway: (socket, route, onSent) => this.#giveAway(socket, route, false, onSent),
    })
    this.#dispatcher = new Dispatcher({
      clock: options.clock,
      timers: options.timers,
      random: options.random,
      log: options.log,
      counters: this.counters,
      settings: options.settings,
      limits: this.#limits,
      databases: this.#databases,
      gates: this.#gates,
      stats: this.#stats,
      reports: new ReportedValues(),
      writes: this.#writes,
      clients: () => this.#clients,
      firstTurn: options.index,
      onSuspect: (node, reason) => options.send({ kind: 'suspect', node, reason }),
      serverTls: () => this.security.serverTls,
    })
    const dispatcher = this.#dispatcher
    this.#director = new Director({
      sharing: this.#sharing,
      positions: dispatcher.positions,
      counters: this.counters.routed,
      limitsOf: client => this.limitsOf(client),
      knowledgeOf: database => this.knowledgeOf(database),
      hasReplicas: () => dispatcher.hasReplicas,
      replicaFor: client => dispatcher.replicaFor(client),
      mayReadPrimary: () => dispatcher.mayReadPrimary,
      nowMs: () => this.clock.nowMs(),
      topology: () => dispatcher.topology,
      balancer: dispatcher.balancer,
    })
    this.kept = new KeptReads({
      positions: dispatcher.positions,
      clock: this.clock,
      timers: this.timers,
      tracksWrites: () => dispatcher.tracksWrites,
      primary: () => dispatcher.primary,
      demandOf: (client, hinted) => this.#director.demandOfKept(client, hinted),
    })
    this.#hedges = new Hedges({
      clock: this.clock,
      timers: this.timers,
      counters: this.counters.lanes,
      sharing: this.#sharing,
      percentOf: client => this.limitsOf(client).hedgePercent,
      besides: node => dispatcher.replicaBesides(node),
      laneOn: (node, client) => dispatcher.laneOn(node, client),
      whenFresh: (client, node, done) => this.#director.whenAlsoFresh(client, node, done),
      onMoved: (from, to) => dispatcher.balancer.onMoved(from, to),
    })
  }

  get loginTimeoutMs(): number {
    return this.#settings.clientLoginTimeoutMs
  }

  start(): void {
    this.#timers.push(
      this.timers.every(1000, () => this.#tick()),
      this.timers.every(reviewMs, () => this.#dispatcher.review()),
      this.timers.every(countersEveryMs, () => this.#sendCounters()),
      this.timers.every(statsPeriodMs, () => this.#stats.turn(this.clock.nowMs())),
    )
    this.#options.send({ kind: 'ready' })
  }

  #setTopology(change: TopologyChange): void {
    const before = this.#topology?.intentRevision
    this.#topology = applyChange(this.#topology, change)
    this.#dispatcher.setTopology(this.#topology)
    this.#options.send({ kind: 'applied', revision: this.#topology.intentRevision })
    // Whoever has changed the intent waits to see what becomes of the sessions.
    if (this.#topology.intentRevision !== before) this.#sendCounters()
  }

  #tick(): void {
    this.#dispatcher.tick()
    const { pool, users } = this.#settings
    if (!limitsIdleTime(pool) && !Object.values(users).some(limitsIdleTime)) return
    const nowMs = this.clock.nowMs()
    for (const client of [...this.#clients]) {
      client.limitIdleTime(nowMs, this.#limits.of(client.database, client.user))
    }
  }

  /** `handle` comes with a port, and with a connection unless it broke on the way. */
  onMessage(message: ToWorker, handle?: Sendable): void {
    switch (message.kind) {
      case 'listen':
        if (handle) this.#listen(message, handle as ListeningHandle)
        return
      case 'stop_listening':
        this.#doors.close()
        return
      case 'ceiling':
        this.#setCeiling(message.connections)
        return
      case 'connection':
        this.#reports.arrive(message.connection, () => {
          if (handle) this.#receive(handle as Socket, message)
        })
        return
      case 'take_over':
        this.#reports.arrive(message.connection, () => {
          if (handle) this.#takeOver(handle as Socket, message.client)
        })
        return
      case 'topology':
        this.#setTopology(message.change)
        return
      case 'cancel':
        this.#cancels.cancel(message.processId, Buffer.from(message.secret, 'hex'), found =>
          this.#options.send({ kind: 'cancelled', request: message.request, found }),
        )
        return
      case 'cancelled':
        this.#cancels.onAnswer(message.request, message.found)
        return
      case 'free_database':
        this.#dispatcher.closeIdleOf(message.database)
        return
      case 'catalog':
        this.#databases.expire(message.database)
        return
      case 'cancel_prefix':
        this.#keys.prefix = message.prefix
        return
      case 'drain':
        this.#shutdown.drain()
        return
      case 'stop':
        this.#shutdown.stop()
        return
      case 'settings':
        this.#reload(message.settings, message.readFiles)
        return
      case 'gates':
        this.#gates.set(message.gates)
        this.#dispatcher.onGatesChanged()
        return
      case 'console_ask':
      case 'console_rows':
      case 'console_done':
        this.#console.onMessage(message)
        return
      default:
        message satisfies never
    }
  }

  /** Whoever holds the settings sees the new ones; what needs a restart was left out before. */
  #reload(settings: WorkerSettings, readFiles: boolean): void {
    const { pool, ...rest } = settings
    Object.assign(this.#settings.pool, pool)
    Object.assign(this.#settings, rest)
    if (readFiles) this.security.reload()
    else this.security.takeBalancers()
    this.#limits.clear()
    this.log.level = settings.log.level
  }

  #listen({ door, route, backlog }: Extract<ToWorker, { kind: 'listen' }>, handle: ListeningHandle): void {
    const isUsed = this.#doors.open(door, handle, route, backlog)
    this.#options.send({ kind: 'listening', door }, handle, () => {
      if (!isUsed) handle.close()
    })
  }

  /** Whom this worker would have to refuse another one may still have room for. */
  #setCeiling(connections: number): void {
    const { clientsMax } = this.#settings
    this.#doors.ceiling = connections < unlimited ? Math.min(connections, clientsMax) : connections
    this.#reports.tellLoad()
  }

  /** Takes a connection that somebody else has accepted. */
  #receive(socket: Socket, { route, isTurnedAway }: Extract<ToWorker, { kind: 'connection' }>): void {
    // The others may have room: it was handed over by what was known of this worker a moment ago.
    if (!isTurnedAway && this.#connections >= this.#settings.clientsMax && stopReading(socket)) {
      // What breaks it shows again where it goes.
      socket.on('error', () => undefined)
      return this.#giveAway(socket, route, true)
    }
    // A socket that was handed over has lost what it was opened with.
    socket.allowHalfOpen = true
    this.#accept(socket, route)
  }

  #giveAway(socket: Socket, route: Route, isTurnedAway: boolean, onSent?: () => void): void {
    const message = { kind: 'surplus', route, isTurnedAway, clients: this.#connections } as const
    this.#options.send(message, socket, onSent)
  }

  #accept(socket: Socket, route: Route): void {
    this.counters.accepted++
    // Room for cancel requests and for being told no, but not for any number that says nothing.
    if (this.#connections >= this.#settings.clientsMax + silentClientsMax) {
      this.counters.disconnects.too_many_clients++
      return this.#refuser.refuse(socket, this.#tooMany)
    }
    this.#arriving.add(new ClientStartup(socket, route, this))
    this.#noteLoad()
  }

  /** Goes on with a client at rest that was another worker's. */
  #takeOver(socket: Socket, from: HandOver): void {
    socket.allowHalfOpen = true
    const { cancelKey, credentials } = from
    const arrival: Arrival = {
      ...from,
      socket,
      parameters: new Map(from.parameters),
      replication: false,
      negotiation: undefined,
      ahead: Buffer.alloc(0),
      tls: '',
      credentials: credentials && this.security.accounts.takenOver(from.user, credentials),
    }
    const client = new Client(arrival, this)
    this.#clients.add(client)
    this.#tally.add(client)
    this.#keys.takeOver(client, { ...cancelKey, secret: Buffer.from(cancelKey.secret, 'hex') })
    this.#noteLoad()
    client.takeOver(from)
  }

  /** Gives a client at rest to another worker, when it can go there. */
  #handOver(client: Client): boolean {
    const cancelKey = this.#departing < departingMax ? this.#keys.keyOf(client) : undefined
    const given = cancelKey && client.handOver()
    if (!given) return false
    this.#forget(client)
    this.#noteLoad()
    this.#departing++
    this.#options.send({ kind: 'hand_over', client: { ...given.client, cancelKey } }, given.socket, () => {
      this.#departing--
      this.#shutdown.onGone()
    })
    return true
  }

  #noteLoad(): void {
    this.counters.clients = this.#connections
    this.#reports.tellLoad()
  }

  get #connections(): number {
    return this.#arriving.size + this.#clients.size + this.#console.size
  }

  // What a client asks of the worker.

  refusal(): string | undefined {
    if (this.#shutdown.isStopping) return 'this proxy is shutting down'
    return this.#connections <= this.#settings.clientsMax ? undefined : this.#tooMany
  }

  get #tooMany(): string {
    return `too many clients: no more than ${this.#settings.clientsMax} are taken here (max_client_conn)`
  }

  onArrived(startup: ClientStartup, arrival: Arrival): void {
    this.#arriving.delete(startup)
    if (this.#console.take(arrival)) return
    const client = new Client(arrival, this)
    this.#clients.add(client)
    this.#tally.add(client)
    if (this.#gates.isDisabled(client.database)) {
      return client.end('database_disabled', `database "${shown(client.database)}" is disabled`, {
        hint: 'An operator has closed it to new clients (DISABLE on the console).',
      })
    }
    const excess = this.#tally.excess(client, this.#limits.of(client.database, client.user))
    if (excess === undefined) client.begin()
    else client.end('too_many_clients', excess)
  }

  acquire(client: Client): void {
    this.#dispatcher.acquire(client)
  }

  greetingFor(client: Client): Reported | undefined {
    return this.#dispatcher.greetingFor(client)
  }

  direct(client: Client, request: Buffer): boolean {
    return this.#director.direct(client, request)
  }

  goesOn(client: Client, request: Buffer): 'yes' | 'if fresh' | 'no' | 'several' {
    return this.transactions.ends(request, client) ? 'yes' : this.#director.goesOn(client, request)
  }

  explain(client: Client, request: Buffer): Buffer | undefined {
    return this.#director.explain(client, request)
  }

  whenReady(client: Client, isWanted: () => boolean, done: () => void): void {
    this.#director.whenReady(client, isWanted, done)
  }

  whenFresh(client: Client, node: string, done: (isFresh: boolean) => void): void {
    this.#director.whenFresh(client, node, done)
  }

  get tracksWrites(): boolean {
    return this.#dispatcher.tracksWrites
  }

  noteWrite(): void {
    this.#writes.note()
  }

  share(client: Client, request: Buffer): Lane | undefined {
    const place = this.#dispatcher.sharingPlaceOf(client)
    const lane = place && this.#sharing.submit(client, request, place)
    if (lane && client.route === 'replica') this.#hedges.onRead(lane, place.hedgePercent)
    return lane
  }

  onLate(client: Client, lane: Lane, unit: LaneUnit): void {
    this.#hedges.onLate(client, lane, unit)
  }

  abandon(client: Client): void {
    this.#dispatcher.abandon(client)
  }

  onLoginFailed(client: Client, server: ServerConnection, failure: LoginFailure): void {
    this.#dispatcher.onLoginFailed(client, server, failure)
  }

  mayBegin(client: Client, server: ServerConnection): boolean {
    return this.#dispatcher.mayBegin(client, server)
  }

  onAttached(client: Client, server: ServerConnection): void {
    this.#dispatcher.onAttached(client, server)
  }

  onDetached(client: Client, server: ServerConnection): void {
    this.#dispatcher.onDetached(client, server)
  }

  register(client: Client, server: ServerConnection | undefined): CancelKey {
    const secretBytes = client.minor < 2 ? 4 : 32
    return this.#keys.register(client, client.session ? undefined : server?.processId, secretBytes)
  }

  statsOf(database: string): DatabaseStats {
    return this.#stats.of(database)
  }

  modeOf(database: string, user: string): PoolMode {
    return this.#limits.of(database, user).mode
  }

  limitsOf(client: Client): PoolLimits {
    return this.#limits.at(client.poolKey, client.database, client.user)
  }

  freeDatabase(name: string): void {
    this.#dispatcher.closeIdleOf(name)
    this.#options.send({ kind: 'free_database', database: name })
  }

  knowledgeOf(database: string): Database {
    return this.#databases.of(serverDatabase(this.#settings, database))
  }

  onPinned(client: Client, before: readonly PinReason[]): void {
    const pins = client.session?.pins ?? []
    this.#pins.change(client, before, pins, this.clock.nowMs())
    const added = pins.filter(reason => !before.includes(reason))
    for (const reason of added) {
      this.counters.pins[reason]++
      this.log.info(
        {
          event: 'client.pinned',
          client: client.address,
          user: client.user,
          database: client.database,
          reason,
        },
        `a client keeps its server connection: ${pinReasons[reason]}`,
      )
    }
  }

  onRest(client: Client): void {
    this.#dispatcher.onRest(client)
  }

  onEnd(client: Client | ClientStartup, reason: DisconnectReason): void {
    if (client instanceof ClientStartup) this.#arriving.delete(client)
    else this.#forget(client)
    this.#onGone(reason)
  }

  #forget(client: Client): void {
    this.#clients.delete(client)
    this.#tally.remove(client)
    if (client.session) this.#pins.change(client, client.session.pinsTold, [], 0)
    this.#keys.forget(client)
    this.#dispatcher.onEnded(client)
  }

  #onGone(reason: DisconnectReason): void {
    this.counters.disconnects[reason]++
    this.#noteLoad()
    this.#shutdown.onGone()
  }

  cancel(processId: number, sent: Buffer, done: () => void): void {
    this.#cancels.take(processId, sent, done)
  }

  #sendCounters(): void {
    const databases = this.#stats.data(this.clock.nowMs())
    this.#options.send({
      kind: 'counters',
      counters: this.counters.data(databases, poolGauges(this.#dispatcher.pools)),
    })
  }

  /** The last client has gone, and none may come. */
  #onEmpty(): void {
    for (const timer of this.#timers) timer.cancel()
    this.#dispatcher.closeIdle()
    this.security.close()
    this.#sendCounters()
    this.#options.onStopped()
  }
}

/** Whether clients without a server connection have to be looked at. */
function limitsIdleTime(limits: Partial<PoolLimits>): boolean {
  const { clientIdleTimeoutMs = 0, idleTransactionTimeoutMs = 0, transactionTimeoutMs = 0 } = limits
  return clientIdleTimeoutMs + idleTransactionTimeoutMs + transactionTimeoutMs > 0
}
