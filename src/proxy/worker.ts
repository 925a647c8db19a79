import type { Socket } from 'node:net'
import type { Route } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import { type CancelKey, CancelKeys } from './cancels.ts'
import { Client, type ClientHost } from './client.ts'
import type { LoginFailure } from './conversations.ts'
import { WorkerCounters } from './counters.ts'
import { type Database, Databases } from './database.ts'
import { Dispatcher } from './dispatcher.ts'
import type { DisconnectReason } from './failures.ts'
import type { FromWorker, ToWorker, WorkerSettings } from './ipc.ts'
import { LimitsCache, type PoolMode, serverDatabase } from './limits.ts'
import { ReportedValues } from './reported.ts'
import type { ServerConnection, Target } from './server.ts'
import { type PinReason, pinReasons } from './session-question.ts'
import { type Arrival, ClientStartup, type StartupHost } from './startup/client-startup.ts'
import { Security } from './startup/security.ts'

export interface WorkerOptions {
  settings: WorkerSettings
  /** Number of this worker among its siblings, from 0. */
  index: number
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
  /** Makes up what an unknown user would have; the same in every worker. */
  mockSecret: Buffer
  send: (message: FromWorker) => void
  /** Everything is closed: the process may end. */
  onStopped: () => void
}

const countersEveryMs = 250
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
  readonly #options: WorkerOptions
  readonly #settings: WorkerSettings
  /** Connections that have not said yet what they want. */
  readonly #arriving = new Set<ClientStartup>()
  readonly #clients = new Set<Client>()
  readonly #keys: CancelKeys
  readonly #dispatcher: Dispatcher
  readonly #limits: LimitsCache
  readonly #databases: Databases
  readonly #timers: Timer[] = []
  /** Cancel requests that other workers are asked about, by number. */
  readonly #asked = new Map<number, () => void>()
  #requests = 0
  #stopping = false

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
    this.#limits = new LimitsCache(options.settings)
    this.#databases = new Databases(options.clock)
    this.#dispatcher = new Dispatcher({
      clock: options.clock,
      timers: options.timers,
      log: options.log,
      counters: this.counters,
      settings: options.settings,
      limits: this.#limits,
      databases: this.#databases,
      reports: new ReportedValues(),
      firstTurn: options.index,
      onSuspect: (node, reason) => options.send({ kind: 'suspect', node, reason }),
      serverTls: () => this.security.serverTls,
    })
  }

  get loginTimeoutMs(): number {
    return this.#settings.clientLoginTimeoutMs
  }

  start(): void {
    this.#timers.push(
      this.timers.every(1000, () => this.#dispatcher.tick()),
      this.timers.every(countersEveryMs, () => this.#sendCounters()),
    )
    this.#options.send({ kind: 'ready' })
  }

  /** `socket` comes with a connection, unless it broke on the way. */
  onMessage(message: ToWorker, socket?: Socket): void {
    switch (message.kind) {
      case 'connection':
        if (socket) this.#accept(socket, message.route)
        this.#options.send({ kind: 'taken', connection: message.connection, clients: this.#connections })
        return
      case 'topology':
        this.#dispatcher.setTopology(message.topology)
        this.#options.send({ kind: 'applied', revision: message.topology.intentRevision })
        this.#sendCounters()
        return
      case 'cancel':
        this.#cancelHere(message.processId, Buffer.from(message.secret, 'hex'), found =>
          this.#options.send({ kind: 'cancelled', request: message.request, found }),
        )
        return
      case 'cancelled':
        if (!message.found) this.counters.cancelsUnknown++
        this.#asked.get(message.request)?.()
        this.#asked.delete(message.request)
        return
      case 'stop':
        this.#stop()
        return
      case 'settings':
        this.#reload(message.settings)
        return
      default:
        message satisfies never
    }
  }

  /** Whoever holds the settings sees the new ones; what needs a restart was left out before. */
  #reload(settings: WorkerSettings): void {
    const { pool, ...rest } = settings
    Object.assign(this.#settings.pool, pool)
    Object.assign(this.#settings, rest)
    this.security.reload()
    this.#limits.clear()
    this.log.level = settings.log.level
  }

  #accept(socket: Socket, route: Route): void {
    this.counters.accepted++
    // A socket that was handed over has lost what it was opened with.
    socket.allowHalfOpen = true
    socket.setNoDelay(true)
    // Room for cancel requests and for being told no, but not for any number that says nothing.
    if (this.#connections >= this.#settings.clientsMax + silentClientsMax) {
      this.counters.disconnects.too_many_clients++
      socket.destroy()
      return
    }
    this.#arriving.add(new ClientStartup(socket, route, this))
    this.counters.clients = this.#connections
  }

  get #connections(): number {
    return this.#arriving.size + this.#clients.size
  }

  // What a client asks of the worker.

  refusal(): string | undefined {
    if (this.#stopping) return 'this proxy is shutting down'
    const { clientsMax } = this.#settings
    if (this.#connections <= clientsMax) return undefined
    return `too many clients: no more than ${clientsMax} are taken here (max_client_conn)`
  }

  onArrived(startup: ClientStartup, arrival: Arrival): void {
    this.#arriving.delete(startup)
    const client = new Client(arrival, this)
    this.#clients.add(client)
    client.begin()
  }

  acquire(client: Client): void {
    this.#dispatcher.acquire(client)
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

  register(client: Client, server: ServerConnection): CancelKey {
    return this.#keys.register(client, client.session ? undefined : server.processId)
  }

  modeOf(database: string, user: string): PoolMode {
    return this.#limits.of(database, user).mode
  }

  preparedMaxOf(client: Client): number {
    return this.#limits.of(client.database, client.user).preparedMax
  }

  knowledgeOf(database: string): Database {
    return this.#databases.of(serverDatabase(this.#settings, database))
  }

  onPinned(client: Client, before: readonly PinReason[]): void {
    const added = client.session?.pins.filter(reason => !before.includes(reason)) ?? []
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
    this.counters.disconnects[reason]++
    if (client instanceof ClientStartup) this.#arriving.delete(client)
    else {
      this.#clients.delete(client)
      this.#keys.forget(client)
      this.#dispatcher.onEnded(client)
    }
    this.counters.clients = this.#connections
    if (this.#stopping) this.#endWhenEmpty()
  }

  /** A cancel key that is not known here may be another worker's. */
  cancel(processId: number, secret: Buffer, done: () => void): void {
    this.#cancelHere(processId, secret, found => {
      if (found) return done()
      const request = ++this.#requests
      this.#asked.set(request, done)
      this.#options.send({ kind: 'cancel', processId, secret: secret.toString('hex'), request })
    })
  }

  #cancelHere(processId: number, secret: Buffer, done: (found: boolean) => void): void {
    const client = this.#keys.find(processId, secret)
    const server = client?.server
    // Between two requests there is nothing to cancel, and what comes next is not meant.
    if (server?.isBusy) {
      this.counters.cancelsForwarded++
      server.cancel(() => done(true))
    } else done(client !== undefined)
  }

  #sendCounters(): void {
    this.#options.send({ kind: 'counters', counters: this.counters.data() })
  }

  // The end: sessions at rest go at once, the others when they come to rest or time is up.

  #stop(): void {
    if (this.#stopping) return
    this.#stopping = true
    const endAtRest = (): void => {
      for (const arriving of [...this.#arriving]) this.#endForShutdown(arriving)
      for (const client of [...this.#clients])
        if (!client.isActive || client.isAtRest) this.#endForShutdown(client)
    }
    endAtRest()
    this.#timers.push(this.timers.every(20, endAtRest))
    this.timers.after(this.#settings.shutdownTimeoutMs, () => {
      for (const client of [...this.#clients]) this.#endForShutdown(client)
    })
    this.#endWhenEmpty()
  }

  #endForShutdown(client: Client | ClientStartup): void {
    client.end('shutdown', 'the proxy is shutting down', { hint: 'Connect again in a moment.' })
  }

  #endWhenEmpty(): void {
    if (this.#connections > 0) return
    for (const timer of this.#timers) timer.cancel()
    this.#dispatcher.closeIdle()
    this.security.close()
    this.#sendCounters()
    this.#options.onStopped()
  }
}
