import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Client } from 'pg'
import type { TopologyAnswer } from '../../src/admin/admin.ts'
import { operationsBy } from '../../src/cli/operations.ts'
import type { ProxyAnswer } from '../../src/cli/status-view.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { changeSettings } from '../../src/topology/operations.ts'
import { type Cli, type CliResult, runCli, startCli } from './cli.ts'
import { EtcdCluster, type EtcdOptions } from './etcd.ts'
import { freePorts } from './ports.ts'
import { connect, startTestCluster, type TestCluster } from './postgres.ts'
import { openEtcd } from './stores.ts'
import { until } from './wait.ts'

export interface FleetOptions {
  replicas: number
  etcd?: EtcdOptions
}

/** Short, so that reports end within an outage. */
const leaseTtlMs = 2_000
/** Twice what is promised: machines that run tests are busy. */
const convergenceLimitMs = 2_000

/** PostgreSQL servers, an agent beside each, a proxy in front and an etcd behind: processes as in production. */
export class Fleet {
  readonly etcd: EtcdCluster
  readonly servers: TestCluster
  readonly agents: Cli[] = []
  proxy!: Cli
  port = 0
  readPort = 0
  private adminUrl = ''
  private changes = 0
  private readonly folder: string

  static async start({ replicas, etcd }: FleetOptions): Promise<Fleet> {
    const folder = await mkdtemp(join(tmpdir(), 'pgherd-fleet-'))
    const [store, servers] = await Promise.all([EtcdCluster.start(etcd), startTestCluster({ replicas })])
    const fleet = new Fleet(folder, store, servers)
    try {
      await fleet.startProcesses()
      return fleet
    } catch (cause) {
      await fleet.stop()
      throw cause
    }
  }

  private constructor(folder: string, etcd: EtcdCluster, servers: TestCluster) {
    this.folder = folder
    this.etcd = etcd
    this.servers = servers
  }

  private async startProcesses(): Promise<void> {
    const { etcd, folder, servers } = this
    const store = `{kind: etcd, endpoints: [${etcd.endpoints.join(', ')}], lease_ttl: ${leaseTtlMs}ms, request_timeout: 1s}`
    const config = join(folder, 'pgherd.yaml')
    const [port = 0, readPort = 0, adminPort = 0] = await freePorts(3)
    Object.assign(this, { port, readPort, adminUrl: `http://127.0.0.1:${adminPort}` })
    const text = `store: ${store}
probe: {interval: 200ms}
log: {format: text}
proxy: {id: p1, workers: 1, port: ${port}, read_port: ${readPort}}
admin: {port: ${adminPort}}
agent: {interval: 200ms, http_port: 0, check_port: 0}
`
    await writeFile(config, text)
    for (const { name, port } of [servers.primary, ...servers.replicas]) {
      const flags = ['--node', name, '--postgres', `127.0.0.1:${port}`]
      this.agents.push(await startCli(['-c', config, 'agent', ...flags]))
    }
    this.proxy = await startCli(['-c', config, 'proxy'])
    await this.untilSettled(servers.primary.name)
  }

  async seen(): Promise<TopologyAnswer> {
    const response = await fetch(`${this.adminUrl}/api/topology`)
    return (await response.json()) as TopologyAnswer
  }

  private async appliedRevision(): Promise<number> {
    const response = await fetch(`${this.adminUrl}/api/proxy`)
    return ((await response.json()) as ProxyAnswer).appliedRevision
  }

  /** Runs a command as an operator would on the proxy's machine. */
  command(...args: string[]): Promise<CliResult> {
    return runCli(['-c', join(this.folder, 'pgherd.yaml'), ...args])
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.adminUrl}/metrics`)).text()
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
  }

  /** Waits until the store is up and every running node is told by its agent, with `primary` to write to. */
  async untilSettled(primary: string, limitMs?: number): Promise<void> {
    await until(
      'agents to be believed again',
      async () => {
        const { store, topology } = await this.seen()
        const running = topology.nodes.filter(node => node.accepting)
        return store.up && topology.primary === primary && running.every(node => node.source === 'agent')
      },
      limitMs,
    )
  }

  /**
   * Waits until a change that an operator makes now, the moment that the store is back, is in force on the proxy, and the
   * proxy says that the store is up and believes its agents again. Returns how many ms that took; fails after 2 s.
   */
  async converged(primary: string): Promise<number> {
    const backMs = systemClock.nowMs()
    const leftMs = (): number => backMs + convergenceLimitMs - systemClock.nowMs()
    const store = await openEtcd(this.etcd.endpoints)
    try {
      const changes = [{ key: 'proxy.query_wait_timeout', text: `${60_000 + ++this.changes}ms` }]
      const at = operationsBy('test', store, 'main')
      const { revision } = await changeSettings(at, 'a change', changes, undefined)
      const isApplied = async (): Promise<boolean> => (await this.appliedRevision()) >= revision
      await until('a change to be in force', isApplied, leftMs())
      await this.untilSettled(primary, leftMs())
      return Math.round(systemClock.nowMs() - backMs)
    } finally {
      await store.close()
    }
  }

  async untilDown(): Promise<void> {
    await until('the outage to be noticed', async () => !(await this.seen()).store.up)
  }

  /**
   * Waits until the outage is known, in the log, the metrics and the status, and has outlived every lease; by then the
   * servers have been asked themselves.
   */
  async untilAlarmed(): Promise<void> {
    const accepting = async (): Promise<string[]> =>
      (await this.seen()).topology.nodes.filter(node => node.accepting).map(({ name }) => name)
    const before = await accepting()
    await this.untilDown()
    const noticedMs = systemClock.nowMs()
    await until('the alarm in the log', () =>
      this.proxy.err.includes('the etcd store cannot be counted on: '),
    )
    assert.equal(await this.metric('pgherd_store_up'), 0)
    await until('the alarm in the metrics', async () => (await this.metric('pgherd_topology_alarms')) > 0)
    const { code, out, err } = await this.command('status')
    assert.equal(code, 0, err)
    assert.match(out, /^alarm: the store is away/m)
    await until('leases to have ended', () => systemClock.nowMs() - noticedMs > leaseTtlMs * 1.5)
    const { topology } = await this.seen()
    assert.deepEqual(await accepting(), before)
    assert.ok(topology.nodes.every(node => node.source === 'probe'))
  }

  async stop(): Promise<void> {
    const processes = [...(this.proxy ? [this.proxy] : []), ...this.agents]
    try {
      await Promise.all(processes.map(process => process.stop()))
    } finally {
      await Promise.all([this.etcd.stop(), this.servers.stop()])
      await rm(this.folder, { recursive: true, force: true })
    }
  }
}

/** Clients that write and read all the time, over connections that stay and over new ones. Any error is the test's. */
export class Traffic {
  private readonly stopped = new AbortController()
  private readonly done: Promise<void>[]
  /** How often each has had its answer. */
  private readonly counts = [0, 0, 0]

  static async start({ port, readPort }: Fleet): Promise<Traffic> {
    const [writer, reader] = await Promise.all([connect(port), connect(readPort)])
    await writer.query('create table if not exists written (n int)')
    return new Traffic(readPort, writer, reader)
  }

  private constructor(readPort: number, writer: Client, reader: Client) {
    this.done = [
      this.repeat(0, async () => void (await writer.query('insert into written values (1)'))),
      this.repeat(1, async () => void (await reader.query('select 1'))),
      this.repeat(2, async () => {
        const client = await connect(readPort)
        await client.query('select 1')
        await client.end()
      }),
    ]
    for (const each of this.done) each.catch(() => undefined)
    void Promise.allSettled(this.done).then(() => Promise.allSettled([writer.end(), reader.end()]))
  }

  /** Ends it, and fails with what a client was told, if any was told anything but its answer. */
  async stop(): Promise<void> {
    const enough = until('each to have been answered', () => this.counts.every(count => count > 5))
    await Promise.race([enough, Promise.all(this.done)])
    this.stopped.abort()
    await Promise.all(this.done)
  }

  private async repeat(at: number, work: () => Promise<void>): Promise<void> {
    while (!this.stopped.signal.aborted) {
      await work()
      this.counts[at]!++
      await pause(systemTimers, 10)
    }
  }
}
