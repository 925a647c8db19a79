import assert from 'node:assert/strict'
import { type PostgresAddress, Probe, type Sample } from '../probe/probe.ts'
import type { Clock } from '../runtime/clock.ts'
import { type Logger, silentLogger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import type { Store } from '../store/store.ts'
import type { NodeState, NodeStatus, RoutingSettings, Topology, TopologyNode } from '../topology/types.ts'
import { TopologyWatcher } from '../topology/watcher.ts'
import { checkLine, startCheckServer } from './check.ts'
import type { HealthView } from './health.ts'
import { type Listening, startHealthServer } from './http.ts'
import { LoadMeter } from './load.ts'
import { AgentMetrics } from './metrics.ts'
import { Reporter } from './reporter.ts'
import { type NodeIdentity, type NodeReport, reportOf } from './status.ts'

export interface AgentOptions extends NodeIdentity {
  cluster: string
  /** Name of the node in the store. */
  node: string
  /** How the agent itself reaches PostgreSQL; `host` and `port` beside it are for clients of the node. */
  postgres: PostgresAddress
  /** Left open by `stop()`. */
  store: Store
  /** Health checks and metrics over HTTP; port 0 takes any free one. */
  http?: { host: string; port: number } | undefined
  /** HAProxy agent-check; port 0 takes any free one. */
  check?: { host: string; port: number } | undefined
  timings?: Partial<AgentTimings> | undefined
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

export interface AgentTimings {
  /** How often PostgreSQL is asked. */
  probePeriodMs: number
  /** Limit for connecting to PostgreSQL, and for each answer. */
  probeTimeoutMs: number
  /** How often the connection is replaced, to see that new ones are accepted. */
  probeRenewMs: number
  /** Figures are written to the store at most this often; changes of role at once. */
  reportPeriodMs: number
  /** After an agent went silent its status stands this long. */
  leaseTtlMs: number
}

const defaultTimings: AgentTimings = {
  probePeriodMs: 500,
  probeTimeoutMs: 2_000,
  probeRenewMs: 2_000,
  reportPeriodMs: 1_000,
  leaseTtlMs: 10_000,
}

/** An agent decides nothing from them. */
const noSettings: RoutingSettings = {
  replicaLagBytesMax: Infinity,
  readFallback: 'primary',
  drainTimeoutMs: 0,
}

/** Rounds of probing that may be missed, on top of the slowest one, before `/liveness` fails. */
const missedRoundsMax = 10

export interface Agent {
  /** What was last found out about the node; undefined until PostgreSQL was asked once. */
  status(): NodeStatus | undefined
  /** What the operator wants of the node, as far as the store has told. */
  intent(): NodeState
  /** Where it listens; undefined for what is turned off. */
  readonly httpPort: number | undefined
  readonly checkPort: number | undefined
  /** Takes the status out of the store at once, closes everything. Resolves within a few seconds in any case. */
  stop(): Promise<void>
}

/**
 * Starts the agent of one node: asks PostgreSQL, reports to the store, answers balancers. Resolves when it
 * listens and PostgreSQL was asked once, whatever came out of that; neither PostgreSQL nor the store need be up.
 * Rejects when an address cannot be listened on; then nothing is left behind.
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const agent = new RunningAgent(options)
  try {
    await agent.start()
  } catch (cause) {
    await agent.stop()
    throw cause
  }
  return agent
}

class RunningAgent implements Agent {
  readonly #options: AgentOptions
  readonly #timings: AgentTimings
  readonly #log: Logger
  readonly #identity: NodeIdentity
  readonly #probe: Probe
  readonly #load = new LoadMeter()
  readonly #reporter: Reporter
  /** What the health checks want to know of the others; undefined where nobody can ask. */
  readonly #watcher: TopologyWatcher | undefined
  readonly #metrics: AgentMetrics
  readonly #stopping = new AbortController()
  #report: NodeReport | undefined
  #probedAtMs: number
  #probedAt = ''
  #loop: Promise<void> | undefined
  #http: Listening | undefined
  #check: Listening | undefined

  constructor(options: AgentOptions) {
    const { cluster, node, store, clock, timers, random } = options
    this.#options = options
    this.#timings = { ...defaultTimings, ...options.timings }
    const log = options.log.child({ node })
    this.#log = log
    const { host, port, zone, agentVersion } = options
    this.#identity = { host, port, zone, agentVersion }
    const { probeTimeoutMs, probeRenewMs, reportPeriodMs, leaseTtlMs } = this.#timings
    this.#probe = new Probe({
      postgres: options.postgres,
      timeoutMs: probeTimeoutMs,
      renewMs: probeRenewMs,
      applicationName: 'pgherd agent',
      clock,
      timers,
    })
    this.#reporter = new Reporter({
      store,
      cluster,
      node,
      leaseTtlMs,
      periodMs: reportPeriodMs,
      clock,
      timers,
      random,
      log,
    })
    // Every report of every node is told to whoever watches: as long as nobody can ask for it, that is for nothing.
    if (options.http || options.check) {
      // Proxies tell about the topology; an agent would only say the same once more.
      this.#watcher = new TopologyWatcher({
        store,
        cluster,
        settings: () => noSettings,
        timers,
        random,
        log: silentLogger,
      })
    }
    this.#metrics = new AgentMetrics(cluster, node)
    this.#probedAtMs = clock.nowMs()
  }

  async start(): Promise<void> {
    const { http, check, timers } = this.#options
    const log = this.#log
    await this.#round()
    this.#loop = this.#run()
    if (http) {
      const metrics = (): ReturnType<AgentMetrics['render']> =>
        this.#metrics.render({ ...this.#view(), reporter: this.#reporter.state })
      this.#http = await startHealthServer({ ...http, view: () => this.#view(), metrics, log })
    }
    if (check) this.#check = await startCheckServer({ ...check, line: () => this.#line(), timers, log })
  }

  get httpPort(): number | undefined {
    return this.#http?.port
  }

  get checkPort(): number | undefined {
    return this.#check?.port
  }

  status(): NodeStatus | undefined {
    return this.#report && { ...this.#report, seq: this.#reporter.seq, at: this.#probedAt }
  }

  intent(): NodeState {
    return (this.#watcher && this.#node()?.state) ?? 'active'
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    // The status goes first: from then on nobody is sent here on this agent's word.
    await this.#reporter.stop()
    this.#watcher?.close()
    await Promise.all([this.#http?.close(), this.#check?.close(), this.#probe.close()])
    await this.#loop
  }

  async #run(): Promise<void> {
    const { timers } = this.#options
    const { signal } = this.#stopping
    for (;;) {
      await pause(timers, this.#timings.probePeriodMs, signal)
      if (signal.aborted) return
      await this.#round()
    }
  }

  /** Asks PostgreSQL once and passes on what it says. */
  async #round(): Promise<void> {
    const { clock } = this.#options
    const [sample, load] = await Promise.all([this.#probe.sample(), this.#load.sample()])
    const report = reportOf(sample, this.#report, this.#identity, load)
    this.#tell(sample, report)
    this.#report = report
    this.#probedAtMs = clock.nowMs()
    this.#probedAt = new Date(clock.wallMs()).toISOString()
    this.#metrics.countProbe(sample.facts ? 'ok' : sample.failure.kind)
    this.#reporter.report(report)
  }

  /** Says what changed, once. */
  #tell(sample: Sample, report: NodeReport): void {
    const before = this.#report
    const event = 'agent.node'
    const problem = sample.facts ? sample.warning?.kind : sample.failure.kind
    if (before && before.role !== report.role)
      this.#log.info(
        { event, timeline: report.timeline },
        `the role is now ${report.role}, it was ${before.role}`,
      )
    if (before?.accepting !== report.accepting && report.accepting)
      this.#log.info({ event, role: report.role }, 'PostgreSQL accepts connections')
    if (report.reason !== undefined && report.reason !== before?.reason)
      this.#log.warn({ event, problem }, report.reason)
  }

  #topology(): Topology {
    assert(this.#watcher, 'only health checks ask for it')
    return this.#watcher.current()
  }

  #node(): TopologyNode | undefined {
    return this.#topology().nodes.find(({ name }) => name === this.#options.node)
  }

  #line(): string | undefined {
    const status = this.status()
    return status && checkLine(status, this.#node())
  }

  #view(): HealthView {
    const { cluster, node, agentVersion, store, clock } = this.#options
    const { probePeriodMs, probeTimeoutMs } = this.#timings
    return {
      cluster,
      node,
      agentVersion,
      status: this.status(),
      topology: this.#topology(),
      storeUp: store.connection.up,
      probeAgeMs: clock.nowMs() - this.#probedAtMs,
      probeAgeMaxMs: missedRoundsMax * probePeriodMs + 2 * probeTimeoutMs,
    }
  }
}
