import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { startAdmin } from '../admin/admin.ts'
import { type AdminServer } from '../admin/http.ts'
import { type Agent, startAgent } from '../agent/agent.ts'
import { fleetFields } from '../config/fleet.ts'
import type { Origins } from '../config/load.ts'
import { changeSentence, diffFields } from '../config/reload.ts'
import type { Config } from '../config/schema.ts'
import type { OperatorCommands } from '../proxy/console/desk.ts'
import { type Inherited, ProxyControl } from '../proxy/control/control.ts'
import { FleetCancels } from '../proxy/control/fleet-cancels.ts'
import { Presence } from '../proxy/control/presence.ts'
import { Prober } from '../proxy/control/prober.ts'
import { driverTls, type ServerTls } from '../proxy/startup/dial.ts'
import { loadClientTls, loadServerTls } from '../proxy/startup/tls-contexts.ts'
import { type Clock, systemClock } from '../runtime/clock.ts'
import { type Logger, setLogLevel } from '../runtime/log.ts'
import { reachableHost } from '../runtime/network.ts'
import { type Random, systemRandom } from '../runtime/random.ts'
import { pause, systemTimers, type Timers } from '../runtime/timers.ts'
import type { Connection, Store } from '../store/store.ts'
import { withStoreAlarm, withTwinAlarm } from '../topology/store-alarm.ts'
import type { ProxyStatus, Topology } from '../topology/types.ts'
import { TopologyWatcher } from '../topology/watcher.ts'
import { configRows } from './console-config.ts'
import { FleetConfig } from './fleet-config.ts'
import { type OwnedStore, openStore } from './open-store.ts'
import { checkPorts } from './ports.ts'
import { seedNodes } from './seed.ts'
import { version } from './version.ts'
import { workerSettings } from './worker-settings.ts'

export interface HostOptions {
  config: Config
  /** Where its values come from: the fleet's settings stand in for its defaults alone. */
  origins: Origins
  /** Which parts run in this process. */
  parts: { agent: boolean; proxy: boolean; admin: boolean }
  log: Logger
  /** Where the lines of the data workers go. */
  writeLog: (line: string) => void
  /** Sockets of the service manager that take the place of the proxy's ports. */
  inherited?: readonly Inherited[]
  /** What the console may do to the process; undefined: nothing. */
  commands?: OperatorCommands
  logFormat: 'json' | 'text'
}

/** How long a start waits for the store before it goes on without. */
const storeWaitMs = 5000
/** When the row in the store is looked at again after a change of intent. */
const sessionsToldMs = [300, 600, 1000]

/**
 * One process of pgherd: the composition root of everything that is not a data worker. Starts the parts in
 * order, and when one cannot start takes down what was started before it throws.
 */
export class Host {
  readonly store: Store
  readonly #watcher: TopologyWatcher | undefined
  proxy: ProxyControl | undefined
  admin: AdminServer | undefined
  agent: Agent | undefined
  readonly #config: FleetConfig
  /** What the data workers were told. */
  #told: Config
  readonly #options: HostOptions
  readonly #closers: (() => Promise<void> | void)[] = []
  #presence: Presence | undefined
  #prober: Prober | undefined
  #serverTls: ServerTls | undefined
  #stopped: Promise<void> | undefined
  /** Whether the log says that the store is away. */
  #toldDown = false

  private constructor(options: HostOptions, owned: OwnedStore) {
    this.#options = options
    this.#config = new FleetConfig(options.config, options.origins)
    this.#told = options.config
    this.store = owned.store
    this.#closers.push(() => owned.store.close())
    // An agent alone has no use for what others report: telling each of them would cost the store the square of them.
    if (!options.parts.proxy && !options.parts.admin) return
    const watcher = new TopologyWatcher({
      store: owned.store,
      cluster: options.config.cluster,
      settings: fleet => this.#config.settings(fleet),
      timers: systemTimers,
      random: systemRandom,
      log: options.log,
      announce: options.parts.proxy,
    })
    this.#watcher = watcher
    this.#closers.push(() => watcher.close())
  }

  /** What is known of the cluster. Not there where an agent runs alone. */
  get watcher(): TopologyWatcher {
    assert(this.#watcher, 'an agent alone watches nothing')
    return this.#watcher
  }

  /** Calls `listener` with every snapshot of the cluster, or with none, once, where an agent runs alone. */
  onTopology(listener: (topology: Topology | undefined) => void): () => void {
    if (this.#watcher) return this.#watcher.onChange(listener)
    listener(undefined)
    return () => undefined
  }

  static async start(options: HostOptions): Promise<Host> {
    const { config, inherited, parts, log } = options
    await checkPorts(config, parts, inherited)
    const owned = await openStore(config, log)
    const host = new Host(options, owned)
    try {
      await host.#start(owned)
      return host
    } catch (cause) {
      await host.stop()
      throw cause
    }
  }

  async #start(owned: OwnedStore): Promise<void> {
    const { config, parts, log } = this.#options
    if (this.#watcher) await this.#awaitStore(this.#watcher)
    this.#closers.push(this.store.onConnection(connection => this.#tellStore(connection)))
    if (parts.proxy) {
      await seedNodes(this.store, config, log)
      await this.#startProxy()
    }
    if (parts.agent) this.agent = await this.#startAgent()
    if (parts.admin && config.admin.port !== 0) await this.#startAdmin(owned)
  }

  async #awaitStore(watcher: TopologyWatcher): Promise<void> {
    const known = new AbortController()
    await Promise.race([watcher.ready, pause(systemTimers, storeWaitMs, known.signal)])
    known.abort()
    this.#toldDown = !this.store.connection.up
    if (this.#toldDown)
      this.#options.log.warn({ event: 'store.down' }, 'the store is not reachable; starting without it')
  }

  #tellStore({ up, reason }: Connection): void {
    const { log } = this.#options
    const { kind } = this.store
    if (!up) log.error({ event: 'store.down' }, `the ${kind} store cannot be counted on: ${reason}`)
    else if (this.#toldDown) log.info({ event: 'store.up' }, `the ${kind} store can be counted on again`)
    this.#toldDown = !up
  }

  async #startProxy(): Promise<void> {
    const { log, logFormat, writeLog } = this.#options
    const config = this.#config.effective
    const { probe } = config
    this.#told = config
    const settings = workerSettings(config, logFormat)
    // What would keep every data worker from starting is told here, in one sentence.
    loadClientTls(settings.tls)
    this.#serverTls = loadServerTls(settings.serverTls)
    const prober = new Prober({
      watcher: this.watcher,
      user: probe.user,
      password: probe.password,
      database: probe.database,
      intervalMs: probe.interval,
      timeoutMs: probe.timeout,
      tls: () => driverTls(this.#serverTls),
      clock: systemClock,
      timers: systemTimers,
      log,
    })
    this.#prober = prober
    this.#closers.push(() => prober.close())
    const fleet = new FleetCancels({
      id: config.proxy.id,
      proxies: () => this.watcher.proxies(),
      timers: systemTimers,
      log,
      onPrefix: prefix => {
        this.proxy?.setCancelPrefix(prefix)
        this.#presence?.publish()
      },
    })
    const proxy = new ProxyControl({
      settings,
      workers: config.proxy.workers === 'auto' ? workersFor(availableParallelism()) : config.proxy.workers,
      inherited: this.#options.inherited ?? [],
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log,
      writeLog,
      onSuspect: node => this.#prober?.suspect(node),
      onApplied: () => this.#onApplied(),
      fleet,
      operator: {
        version,
        config: () => configRows(this.#config.effective),
        commands: this.#options.commands,
      },
      memory: () => process.memoryUsage(),
    })
    this.#closers.push(() => proxy.stop())
    await proxy.start()
    this.proxy = proxy
    this.#closers.push(
      this.watcher.onChange(topology => {
        this.#takeFleetSettings(proxy)
        proxy.setTopology(topology)
      }),
    )
    this.#closers.push(this.watcher.onChange(() => fleet.look()))
    const { host, port } = proxy.places[0] ?? { host: config.proxy.listen, port: config.proxy.port }
    const presence = new Presence({
      store: this.store,
      cluster: config.cluster,
      status: () => ({
        v: 1,
        id: config.proxy.id,
        address: `${reachableHost(host)}:${port}`,
        adminUrl: this.admin?.url ?? '',
        cancelPrefix: fleet.prefix,
        appliedRevision: Math.max(0, proxy.appliedRevision),
        clients: proxy.counters().clients,
        sessions: sessionsByNode(proxy),
        version,
        ownSettings: this.#config.ownSettings,
        at: new Date(systemClock.wallMs()).toISOString(),
      }),
      leaseTtlMs: config.store.lease_ttl,
      spreadMs: () => this.watcher.spreadMs,
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log,
    })
    this.#presence = presence
    this.#closers.push(() => presence.close())
    const ownRow = (): ProxyStatus | undefined =>
      this.watcher.proxies().find(({ id }) => id === config.proxy.id)
    this.#closers.push(this.watcher.onChange(() => presence.saw(ownRow())))
  }

  /** The topology that comes with them is told after them, and confirmed by the workers when they are in force. */
  #takeFleetSettings(proxy: ProxyControl): void {
    const config = this.#config.effective
    if (config === this.#told) return
    for (const change of diffFields(this.#told, config, fleetFields)) {
      this.#options.log.info({ event: 'config.fleet' }, `settings of the fleet: ${changeSentence(change)}`)
    }
    this.#told = config
    proxy.setSettings(workerSettings(config, this.#options.logFormat), false)
  }

  /** Says so at once, and again when the sessions that had to leave have had time to. */
  #onApplied(): void {
    this.#presence?.publishSoon()
    for (const delayMs of sessionsToldMs) systemTimers.after(delayMs, () => this.#presence?.publishSoon())
  }

  async #startAgent(): Promise<Agent> {
    const { config, log } = this.#options
    const agent = await startAgent(
      agentOptions(config, this.store, log, {
        clock: systemClock,
        timers: systemTimers,
        random: systemRandom,
      }),
    )
    this.#closers.push(() => agent.stop())
    return agent
  }

  async #startAdmin(owned: OwnedStore): Promise<void> {
    const { config, log } = this.#options
    const { proxy } = this
    this.admin = await startAdmin({
      listen: config.admin.listen,
      port: config.admin.port,
      token: config.admin.token,
      sources: {
        version,
        topology: () => this.#topologyWithAlarms(),
        store: () => this.store.connection,
        proxy:
          proxy &&
          (() => ({
            counters: proxy.counters(),
            workers: proxy.workers.length,
            crashes: proxy.crashes,
            appliedRevision: proxy.appliedRevision,
          })),
      },
      proxies: () => this.watcher.proxies(),
      notReady: () => this.notReady(),
      restartWorkers: proxy && (() => this.restartWorkers()),
      store: owned.embedded,
      timers: systemTimers,
      log,
    })
    const { admin } = this
    this.#closers.push(() => admin.close())
    this.#presence?.publish()
  }

  #topologyWithAlarms(): Topology {
    const topology = withTwinAlarm(
      this.watcher.current(),
      this.#options.config.proxy.id,
      this.#presence?.twin,
    )
    return withStoreAlarm(topology, this.store.connection)
  }

  /** Why this process is not ready; undefined when it is. A proxy is when a client can be brought to some node. */
  notReady(): string | undefined {
    if (!this.proxy) return undefined
    const topology = this.watcher.current()
    if (this.proxy.workers.length === 0) return 'no data worker runs'
    if (topology.nodes.some(node => node.writable || node.readable)) return undefined
    return topology.alarms[0] ?? 'no node can be used'
  }

  /** Takes over what may change while running. The caller has sorted out what needs a restart. */
  async reload(own: Config, origins: Origins): Promise<void> {
    this.#config.setOwn(own, origins)
    const config = this.#config.effective
    this.#told = config
    setLogLevel(this.#options.log, config.log.level)
    this.#watcher?.renew()
    const settings = workerSettings(config, this.#options.logFormat)
    try {
      this.#serverTls = loadServerTls(settings.serverTls)
    } catch {
      // The data workers, who stumble over the same, say so.
    }
    this.proxy?.setSettings(settings, true)
    this.#presence?.publish()
    if (this.proxy) await seedNodes(this.store, config, this.#options.log)
  }

  /** Replaces the data workers by new processes, one after the other, and tells the log how it goes. Returns how many. */
  restartWorkers(): number {
    const { proxy } = this
    const { log } = this.#options
    const event = 'proxy.restart_workers'
    const count = proxy?.workers.length ?? 0
    if (!proxy) log.warn({ event }, 'there are no data workers in this process')
    else if (proxy.isReplacing) log.info({ event }, 'data workers are being replaced already')
    else {
      log.info({ event }, `${count} data workers are replaced, one after the other`)
      proxy.replaceWorkers().then(
        () => log.info({ event }, 'the data workers are new processes'),
        (cause: unknown) => log.error({ event, err: cause }, 'the data workers could not all be replaced'),
      )
    }
    return count
  }

  /** What counts: the process's own configuration, and the fleet's settings where that says nothing. */
  get config(): Config {
    return this.#config.effective
  }

  /** The process's own configuration alone. */
  get ownConfig(): Config {
    return this.#config.own
  }

  /** Ends everything in the reverse order; the second call waits for the first. */
  stop(): Promise<void> {
    this.#stopped ??= this.#close()
    return this.#stopped
  }

  async #close(): Promise<void> {
    for (const close of this.#closers.toReversed()) {
      try {
        await close()
      } catch (cause) {
        this.#options.log.warn({ err: cause }, 'something could not be closed in good order')
      }
    }
  }
}

/** One processor is for the control process, and for what else runs here: workers that outnumber the rest slow it down. */
export function workersFor(processors: number): number {
  return Math.max(1, Math.min(8, processors - 1))
}

function sessionsByNode(proxy: ProxyControl): Record<string, number> {
  const nodes = Object.entries(proxy.counters().nodes)
  return Object.fromEntries(nodes.map(([name, { sessions }]) => [name, sessions]))
}

interface Primitives {
  clock: Clock
  timers: Timers
  random: Random
}

/** The options of the agent that a configuration describes; `agent.node` must be set. */
export function agentOptions(
  config: Config,
  store: Store,
  log: Logger,
  primitives: Primitives,
): Parameters<typeof startAgent>[0] {
  const { agent } = config
  const { postgres } = agent
  const isSocket = postgres.host.startsWith('/')
  return {
    cluster: config.cluster,
    node: agent.node ?? '',
    host: agent.advertise_host ?? (isSocket ? config.proxy.id : postgres.host),
    port: agent.advertise_port ?? postgres.port,
    zone: agent.zone,
    agentVersion: version,
    postgres: {
      host: postgres.host,
      port: postgres.port,
      user: postgres.user,
      database: postgres.database,
      password: postgres.password,
    },
    store,
    http: agent.http_port === 0 ? undefined : { host: agent.listen, port: agent.http_port },
    check: agent.check_port === 0 ? undefined : { host: agent.listen, port: agent.check_port },
    timings: {
      probePeriodMs: agent.interval,
      probeTimeoutMs: agent.timeout,
      reportPeriodMs: agent.report_interval,
      leaseTtlMs: config.store.lease_ttl,
    },
    log,
    ...primitives,
  }
}
