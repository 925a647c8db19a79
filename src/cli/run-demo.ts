import { existsSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startAgent } from '../agent/agent.ts'
import { loadConfigFile } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { type Cluster, startCluster } from '../demo/cluster.ts'
import { type Load, startLoad } from '../demo/load.ts'
import { systemClock } from '../runtime/clock.ts'
import { createLogger, type Logger } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import type { DemoOptions } from './demo.ts'
import { greeting } from './demo-greeting.ts'
import { type DemoMoment, demoLine, ratesBetween, renderDemo } from './demo-view.ts'
import { Host } from './host.ts'
import type { CommandIo } from './output.ts'
import { checkPorts } from './ports.ts'
import { Screen } from './screen.ts'
import { version } from './version.ts'

const primitives = { clock: systemClock, timers: systemTimers, random: systemRandom }
const nodeNames = ['a', 'b', 'c']
const viewEveryMs = 1000
const lineEveryMs = 5000
/** Events that the live view shows. */
const eventsShown = 8
const rolesWaitMs = 10_000
const parts = { agent: false, proxy: true, admin: true }

/**
 * The whole demo: servers, agents, store, proxy, load, and the view, until it is told to stop. Everything that
 * was started is ended, also when something on the way fails.
 */
export async function runDemo(io: CommandIo, config: Config, options: DemoOptions): Promise<void> {
  const demo = new Demo(io, config, options)
  try {
    await demo.run()
  } finally {
    await demo.stop()
  }
}

class Demo {
  readonly #io: CommandIo
  readonly #config: Config
  readonly #options: DemoOptions
  readonly #stopping = new AbortController()
  readonly #closers: (() => Promise<void>)[] = []
  readonly #events: string[] = []
  readonly #log: Logger
  /** From then on events are shown in the view instead of as lines. */
  #hasView = false
  /** Whether servers were started or made. */
  #hasStarted = false

  constructor(io: CommandIo, config: Config, options: DemoOptions) {
    this.#io = io
    this.#config = config
    this.#options = options
    this.#log = createLogger({ level: config.log.level, format: 'text', write: line => this.#write(line) })
    const onSignal = (): void => this.#stopping.abort()
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, onSignal)
      this.#closers.push(async () => void process.off(signal, onSignal))
    }
  }

  async run(): Promise<void> {
    const { signal } = this.#stopping
    await checkPorts(this.#config, parts)
    try {
      const startedMs = systemClock.nowMs()
      const cluster = await this.#startServers()
      if (signal.aborted) return
      this.#say(
        `PostgreSQL ${cluster.binaries.version} runs on ports ${cluster
          .nodes()
          .map(({ port }) => port)
          .join(', ')}.`,
      )
      const host = await this.#startPgherd(cluster)
      if (signal.aborted) return
      await this.#untilRolesAreKnown(host, cluster.nodes().length)
      const load = this.#options.load ? await this.#startLoad() : undefined
      await this.#greet(cluster, systemClock.nowMs() - startedMs)
      await this.#show(host, load)
    } catch (cause) {
      // What fails because everything is being stopped is no failure.
      if (!signal.aborted) throw cause
    }
  }

  async stop(): Promise<void> {
    this.#hasView = false
    if (this.#hasStarted) this.#say('Stopping ...')
    for (const close of this.#closers.splice(0).toReversed()) await close()
    if (!this.#hasStarted) return
    const { data } = this.#options
    const kept = data !== undefined && existsSync(data)
    this.#say(kept ? `Stopped; the data is kept in ${data}.` : 'Stopped; nothing is left behind.')
  }

  async #startServers(): Promise<Cluster> {
    const { env } = this.#io
    const { data } = this.#options
    const cluster = await startCluster({
      dir: data === undefined ? undefined : join(data, 'servers'),
      nodes: nodeNames,
      programs: { path: env['PATH'] ?? '', folder: env['PGHERD_POSTGRES_BIN'] || undefined },
      signal: this.#stopping.signal,
      onStart: () => {
        this.#hasStarted = true
        this.#say('Starting three PostgreSQL servers: a primary and two streaming replicas ...')
      },
      clock: systemClock,
      timers: systemTimers,
      log: this.#log,
    })
    this.#closers.push(() => cluster.stop())
    return cluster
  }

  /** The store, the proxy and the admin interface, and then one agent for each server. */
  async #startPgherd(cluster: Cluster): Promise<Host> {
    const log = this.#log
    const host = await Host.start({
      config: this.#config,
      origins: new Map(),
      parts,
      log,
      writeLog: line => this.#write(line),
      logFormat: 'text',
    })
    this.#closers.push(() => host.stop())
    for (const { name, port } of cluster.nodes()) {
      const postgres = { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' }
      const agent = await startAgent({
        cluster: this.#config.cluster,
        node: name,
        host: '127.0.0.1',
        port,
        zone: '',
        agentVersion: version,
        postgres,
        store: host.store,
        log,
        ...primitives,
      })
      this.#closers.push(() => agent.stop())
    }
    return host
  }

  async #untilRolesAreKnown(host: Host, nodes: number): Promise<void> {
    const deadlineMs = systemClock.nowMs() + rolesWaitMs
    const known = (): number =>
      host.watcher.current().nodes.filter(node => node.writable || node.readable).length
    while (known() < nodes && systemClock.nowMs() < deadlineMs) {
      await pause(systemTimers, 50, this.#stopping.signal)
      if (this.#stopping.signal.aborted) return
    }
  }

  async #startLoad(): Promise<Load> {
    const { proxy } = this.#config
    const load = await startLoad({
      host: '127.0.0.1',
      port: proxy.port,
      readPort: proxy.read_port,
      writers: 4,
      readers: 12,
      ...primitives,
    })
    this.#closers.push(() => load.stop())
    return load
  }

  async #greet(cluster: Cluster, tookMs: number): Promise<void> {
    const { proxy, admin } = this.#config
    const [first, second] = cluster.nodes()
    this.#say(
      greeting({
        tookMs,
        port: proxy.port,
        readPort: proxy.read_port,
        adminPort: admin.port,
        adminPortDefault: adminPortDefault(),
        npxPlace: npxPlace(),
        psql: await findPsql(this.#io.env['PATH'] ?? '', cluster.binaries.folder),
        pgCtl: cluster.binaries.pgCtl,
        // The servers of root run as another user, and only that one may steer them.
        serverUser: cluster.account.identity && cluster.account.name,
        primary: first?.folder ?? '',
        replica: second?.folder ?? '',
        colour: this.#io.colour,
      }),
    )
  }

  /** The live view on a terminal, a line now and then elsewhere, until the demo is told to stop. */
  async #show(host: Host, load: Load | undefined): Promise<void> {
    const { signal } = this.#stopping
    this.#hasView = this.#io.width !== undefined
    const screen = new Screen(this.#io)
    let before: DemoMoment | undefined
    while (!signal.aborted) {
      const proxy = host.proxy
      if (!proxy) return
      const moment: DemoMoment = {
        topology: host.watcher.current(),
        counters: proxy.counters(),
        load: load?.counts(),
        nowMs: systemClock.nowMs(),
      }
      const rates = ratesBetween(before, moment)
      if (this.#hasView) screen.draw(renderDemo(moment, rates, this.#events, this.#io))
      else if (before) this.#log.info(demoLine(moment, rates))
      before = moment
      await pause(systemTimers, this.#hasView ? viewEveryMs : lineEveryMs, signal)
    }
  }

  #say(text: string): void {
    this.#io.stdout(`${text}\n`)
  }

  #write(line: string): void {
    if (!this.#hasView) return this.#io.stderr(line)
    this.#events.push(...line.trimEnd().split('\n'))
    this.#events.splice(0, this.#events.length - eventsShown)
  }
}

/** Where commands look that have no configuration. */
function adminPortDefault(): number | undefined {
  const readFile = (): never => {
    throw new Error('there is no file to read')
  }
  const loaded = loadConfigFile(undefined, { env: {}, overrides: {}, readFile })
  return loaded.ok ? loaded.config.admin.port : undefined
}

/** Undefined where pgherd is installed as a package, whose command the shell finds by itself. */
function npxPlace(): string | undefined {
  const root = fileURLToPath(new URL('../../../', import.meta.url))
  if (root.includes('/node_modules/')) return undefined
  return join(root) === join(process.cwd(), '/') ? 'in this folder' : `in ${root}`
}

/** How to call psql: by name where the PATH has it, else by path if it stands beside the server's programs. */
async function findPsql(path: string, binariesFolder: string): Promise<string | undefined> {
  const isProgram = (file: string): Promise<boolean> =>
    access(file, constants.X_OK).then(
      () => true,
      () => false,
    )
  for (const folder of path.split(':')) {
    if (folder !== '' && (await isProgram(join(folder, 'psql')))) return 'psql'
  }
  const beside = join(binariesFolder, 'psql')
  return (await isProgram(beside)) ? beside : undefined
}
