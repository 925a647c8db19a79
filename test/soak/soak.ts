import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Host } from '../../src/cli/host.ts'
import { childrenOf } from '../../src/runtime/process.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { namedModes } from '../compat/modes.ts'
import { runTool } from '../compat/tool.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import type { VisitCounts } from './visitors.ts'

/**
 * Thousands of clients that come and go for minutes. Afterwards, with everybody gone, the workers must hold no more
 * memory, descriptors and server connections than after a first round.
 *   npm run test:soak -- --minutes 3 --clients 2000 --mode session
 */
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '3' },
    clients: { type: 'string', default: '2000' },
    mode: { type: 'string', default: 'session' },
  },
})
const clients = Number(values.clients)
const totalMs = Number(values.minutes) * 60_000
const poolSize = 60
/** Clients of session pooling that rested would keep everybody else waiting. */
const idleMs = values.mode === 'session' ? 0 : 4000
/** The first round fills caches and grows heaps to their usual size. */
const warmUpShare = 0.3
const settleLimitMs = 30_000
const rssGrowthMax = 1.25
const rssSlackBytes = 16 * 1024 * 1024
/** Sockets that the proxy opens now and then by itself. */
const descriptorSlack = 5
/** Connections by which the proxy asks the server for its role and its catalog. */
const ownConnectionsMax = 3

/** What the workers and the server hold while no client is there. */
interface Holdings {
  rssBytes: number
  descriptors: number
  serverConnections: number
}

if (process.platform !== 'linux') throw new Error('the soak reads /proc: run it on Linux')
process.exitCode = await main()

async function main(): Promise<number> {
  const [mode] = namedModes([values.mode])
  const cluster = await startTestCluster({ settings: { max_connections: '300' } })
  const { name, port } = cluster.primary
  const config = await testConfig([{ name, port }], {
    'proxy.read_port': 0,
    ...mode?.settings,
    'proxy.default_pool_size': poolSize,
    'proxy.max_client_conn': clients * 2,
  })
  let host: Host | undefined
  try {
    host = await startTestHost(config)
    await untilRolesAreKnown(host)
    const workers = await workerPids()
    const measure = (): Promise<Holdings> => holdings(cluster, workers)

    await round('warm-up', config.proxy.port, totalMs * warmUpShare)
    await untilNobodyIsThere(config.admin.port)
    const before = await measure()
    say(`after the warm-up: ${shown(before)}`)

    const counts = await round('soak', config.proxy.port, totalMs * (1 - warmUpShare))
    await untilNobodyIsThere(config.admin.port)
    const after = await settled(before, measure)
    say(`after the soak:    ${shown(after)}`)
    return judge(before, after, counts)
  } finally {
    await host?.stop()
    await cluster.stop()
  }
}

async function round(name: string, port: number, durationMs: number): Promise<VisitCounts> {
  const program = fileURLToPath(new URL('visitors.js', import.meta.url))
  const args = [program, String(port), String(clients), String(durationMs), String(idleMs)]
  const limitMs = durationMs + settleLimitMs
  const counts = JSON.parse((await runTool(process.execPath, args, { limitMs })).stdout) as VisitCounts
  say(
    `${name}: ${counts.visits} visits (${Math.round((counts.visits * 1000) / durationMs)} a second), ` +
      `${counts.queries} requests, ${counts.broken} left without a word, ${counts.foreign} foreign answers`,
  )
  for (const [told, times] of Object.entries(counts.errors)) say(`  ${times} x ${told}`)
  return counts
}

/** Garbage is collected when the workers' heaps feel like it: gives them time to come within bounds. */
async function settled(before: Holdings, measure: () => Promise<Holdings>): Promise<Holdings> {
  let now = await measure()
  for (let waitedMs = 0; problemsOf(before, now).length > 0 && waitedMs < settleLimitMs; waitedMs += 1000) {
    await pause(systemTimers, 1000)
    now = await measure()
  }
  return now
}

function judge(before: Holdings, after: Holdings, counts: VisitCounts): number {
  const problems = problemsOf(before, after)
  if (counts.foreign > 0) problems.push(`${counts.foreign} clients saw an answer that was not theirs`)
  if (Object.keys(counts.errors).length > 0) problems.push('clients were refused or failed, see above')
  for (const problem of problems) say(`FAILED: ${problem}`)
  if (problems.length === 0) say('passed: nothing has grown, nobody was refused')
  return problems.length > 0 ? 1 : 0
}

function problemsOf(before: Holdings, after: Holdings): string[] {
  const problems: string[] = []
  if (after.rssBytes > before.rssBytes * rssGrowthMax + rssSlackBytes) problems.push('memory has grown')
  if (after.descriptors > before.descriptors + descriptorSlack) problems.push('descriptors have grown')
  if (after.serverConnections > poolSize + ownConnectionsMax)
    problems.push('more server connections than the pool may have')
  return problems
}

async function untilNobodyIsThere(adminPort: number): Promise<void> {
  await until(
    'the proxy counts no client',
    async () => (await proxyCounters(adminPort)).clients === 0,
    settleLimitMs,
  )
}

async function workerPids(): Promise<number[]> {
  const children = await childrenOf(process.pid)
  const lines = await Promise.all(
    children.map(pid => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  )
  return children.filter((_, i) => lines[i]?.includes('worker-main'))
}

async function holdings(cluster: TestCluster, workers: number[]): Promise<Holdings> {
  const sum = { rssBytes: 0, descriptors: 0 }
  for (const pid of workers) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    sum.rssBytes += Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024
    sum.descriptors += (await readdir(`/proc/${pid}/fd`)).length
  }
  const sql =
    "select count(*)::int as n from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
  const [row] = await cluster.primary.query<{ n: number }>(sql)
  return { ...sum, serverConnections: row?.n ?? -1 }
}

function shown({ rssBytes, descriptors, serverConnections }: Holdings): string {
  const megabytes = (rssBytes / 1024 / 1024).toFixed(0)
  return `${megabytes} MB in the workers, ${descriptors} descriptors, ${serverConnections} server connections`
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
