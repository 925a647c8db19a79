import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/runtime/clock.ts'
import { childrenOf } from '../../src/runtime/process.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { EtcdCluster } from '../../test/support/etcd.ts'
import { freePorts } from '../../test/support/ports.ts'
import { connect, startTestCluster } from '../../test/support/postgres.ts'
import { until } from '../../test/support/wait.ts'
import { percentile } from '../statistics.ts'
import { Agents, endProgram, Usage } from './run.ts'

export interface ApplyAsked {
  nodes: number
  workers: number
  /** Who ask meanwhile. */
  clients: number
  rounds: number
  seconds: number
}

/** What a row of the result is about: the reports of this proxy's own cluster, or as many of another one. */
export type Row = Record<string, string | number>

const settleMs = 2000
/** A client asks this often: what waits is told apart from what the machine can do at most. */
const askEveryMs = 4

/**
 * One proxy and its workers in front of one server, while every node of a made-up fleet reports once a second: to
 * the cluster of this proxy in one turn, to another one in the next. So the machine has the same to do in both.
 */
export async function measureApply({ clients, nodes, rounds, seconds, workers }: ApplyAsked): Promise<Row[]> {
  const etcd = await EtcdCluster.start()
  const postgres = await startTestCluster()
  const folder = await mkdtemp(join(tmpdir(), 'pgherd-scale-'))
  const children: ChildProcess[] = []
  try {
    const { port } = postgres.primary
    const agents = await Agents.start({
      endpoints: etcd.endpoints,
      nodes,
      periodMs: 1000,
      leaseTtlMs: 30_000,
      primary: { host: '127.0.0.1', port },
      clusters: ['other', 'main'],
    })
    children.push(agents.child)
    const [proxyPort = 0, readPort = 0, adminPort = 0] = await freePorts(3)
    const file = join(folder, 'pgherd.json')
    const store = { kind: 'etcd', endpoints: etcd.endpoints }
    const proxy = { port: proxyPort, read_port: readPort, workers }
    const config = { cluster: 'main', store, proxy, admin: { port: adminPort }, log: { level: 'error' } }
    await writeFile(file, JSON.stringify(config))
    const child = spawn(process.execPath, [mainProgram, 'proxy', '--config', file], { stdio: 'inherit' })
    children.push(child)
    const asker = await until('the proxy serves', () => connect(proxyPort), 30_000)
    await asker.end()
    const pids: Record<string, number> = { control: child.pid! }
    for (const [index, pid] of (await childrenOf(child.pid!)).entries()) pids[`worker ${index}`] = pid
    const rows: Row[] = []
    for (let round = 0; round < rounds; round++) {
      for (const cluster of round % 2 === 0 ? ['other', 'main'] : ['main', 'other']) {
        agents.turnTo(cluster)
        await pause(systemTimers, settleMs)
        rows.push(await turn(agents, cluster, { port: proxyPort, pids, seconds, clients }))
      }
    }
    return rows
  } finally {
    for (const child of children.toReversed()) await endProgram(child)
    await Promise.all([etcd.stop(), postgres.stop()])
    await rm(folder, { recursive: true, force: true })
  }
}

const mainProgram = fileURLToPath(new URL('../../src/main.js', import.meta.url))

interface Turn {
  port: number
  pids: Record<string, number>
  seconds: number
  clients: number
}

async function turn(agents: Agents, cluster: string, { clients, pids, port, seconds }: Turn): Promise<Row> {
  const written = agents.told.written[cluster] ?? 0
  const usage = new Usage(pids)
  const asking = ask(port, clients, seconds * 1000)
  await pause(systemTimers, seconds * 1000)
  const percent = usage.percent()
  const changes = (agents.told.written[cluster] ?? 0) - written
  const latencies = await asking
  const own = cluster === 'main' ? changes : 0
  return {
    'reports/s': Math.round(own / seconds),
    ...Object.fromEntries(Object.entries(percent).map(([name, value]) => [`${name} %`, value])),
    queries: latencies.length,
    'p50 ms': Math.round(percentile(latencies, 0.5) * 100) / 100,
    'p99 ms': Math.round(percentile(latencies, 0.99) * 100) / 100,
    'max ms': Math.round((latencies.at(-1) ?? 0) * 100) / 100,
  }
}

/** Latencies of short queries, in ms, sorted. */
async function ask(port: number, clients: number, durationMs: number): Promise<Float64Array> {
  const latencies: number[] = []
  const endMs = systemClock.nowMs() + durationMs
  const work = async (): Promise<void> => {
    const client = await connect(port)
    while (systemClock.nowMs() < endMs) {
      const beganMs = systemClock.nowMs()
      await client.query('select 1')
      latencies.push(systemClock.nowMs() - beganMs)
      await pause(systemTimers, askEveryMs)
    }
    await client.end()
  }
  await Promise.all(Array.from({ length: clients }, work))
  return Float64Array.from(latencies).sort()
}
