import { join } from 'node:path'
import { startAgent } from '../agent/agent.ts'
import type { Config } from '../config/schema.ts'
import { type Cluster, startCluster } from '../demo/cluster.ts'
import { type Load, startLoad } from '../demo/load.ts'
import { systemClock } from '../runtime/clock.ts'
import { createLogger, type Logger } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import type { DemoOptions } from './demo.ts'
import { type DemoMoment, demoLine, ratesBetween, renderDemo } from './demo-view.ts'
import { Host } from './host.ts'
import { type CommandIo, painter } from './output.ts'
import { checkPorts } from './ports.ts'
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
  #linesDrawn = 0

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
      this.#say('Starting three PostgreSQL servers: a primary and two streaming replicas ...')
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
      this.#greet(cluster, systemClock.nowMs() - startedMs)
      await this.#show(host, load)
    } catch (cause) {
      // What fails because everything is being stopped is no failure.
      if (!signal.aborted) throw cause
    }
  }

  async stop(): Promise<void> {
    this.#hasView = false
    this.#say('Stopping ...')
    for (const close of this.#closers.splice(0).toReversed()) await close()
    const { data } = this.#options
    this.#say(
      data === undefined ? 'Stopped; nothing is left behind.' : `Stopped; the data is kept in ${data}.`,
    )
  }

  async #startServers(): Promise<Cluster> {
    const { env } = this.#io
    const { data } = this.#options
    const cluster = await startCluster({
      dir: data === undefined ? undefined : join(data, 'servers'),
      nodes: nodeNames,
      programs: { path: env['PATH'] ?? '', folder: env['PGHERD_POSTGRES_BIN'] || undefined },
      signal: this.#stopping.signal,
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

  #greet(cluster: Cluster, tookMs: number): void {
    const { proxy, admin } = this.#config
    const paint = painter(this.#io.colour)
    const [first, second] = cluster.nodes()
    const command = (text: string): string => paint.bold(text)
    // The servers of root run as another user, and only that one may steer them.
    const pgCtl = (what: string): string => {
      const plain = `${cluster.binaries.pgCtl} ${what}`
      return cluster.account.identity === undefined
        ? plain
        : `su ${cluster.account.name} -s /bin/sh -c '${plain}'`
    }
    this.#say(`
pgherd is ready after ${(tookMs / 1000).toFixed(1)} s. In another terminal:

  ${command(`psql -h 127.0.0.1 -p ${proxy.port} -U postgres`)}    reads and writes, on the primary
  ${command(`psql -h 127.0.0.1 -p ${proxy.read_port} -U postgres`)}    reads, balanced over the replicas
  ${command(`curl http://127.0.0.1:${admin.port}/metrics`)}     Prometheus metrics

  ${command('npx pgherd status')}                        what pgherd knows, and why
  ${command('npx pgherd node drain b')}                  takes a replica out; "resume b" brings it back

  A failover by hand: stop the primary, promote a replica, and see the writes move.
  ${command(pgCtl(`stop -D ${first?.folder}`))}
  ${command(pgCtl(`promote -D ${second?.folder}`))}

Ctrl-C stops everything.
`)
  }

  /** The live view on a terminal, a line now and then elsewhere, until the demo is told to stop. */
  async #show(host: Host, load: Load | undefined): Promise<void> {
    const { signal } = this.#stopping
    const { width } = this.#io
    this.#hasView = width !== undefined
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
      if (this.#hasView)
        this.#draw(renderDemo(moment, rates, this.#events, { colour: this.#io.colour, width }))
      else if (before) this.#log.info(demoLine(moment, rates))
      before = moment
      await pause(systemTimers, this.#hasView ? viewEveryMs : lineEveryMs, signal)
    }
  }

  /** Draws over what was drawn before: up to its first line, then every line anew. */
  #draw(view: string): void {
    const up = this.#linesDrawn > 0 ? `\x1b[${this.#linesDrawn}A` : ''
    const lines = view.split('\n').slice(0, -1)
    // Each line is cleared to its end, and what is left below as well.
    this.#io.stdout(`${up}${lines.map(line => `${line}\x1b[K\n`).join('')}\x1b[J`)
    this.#linesDrawn = lines.length
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
