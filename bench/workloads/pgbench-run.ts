import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { baseEnvironment, type Child, startChild } from '../../src/runtime/process.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { benchDatabase, benchUser } from '../contestants/contestant.ts'
import { BenchError } from '../error.ts'
import { Meter, memoryNow, type Used } from '../meter.ts'
import type { Sample } from '../metrics.ts'
import { accountsPerScale } from '../postgres.ts'
import { percentile } from '../statistics.ts'
import { latenciesUs, takeLogs } from './pgbench-log.ts'
import type { Run } from './workload.ts'

/** What pgbench does. */
export interface PgbenchScript {
  protocol: 'simple' | 'extended' | 'prepared'
  /** More options, such as `-S`. */
  options?: readonly string[]
  /** A script in place of a built-in one; it knows `:accounts`, the number of accounts. */
  text?: string
  /** Milliseconds that each transaction sleeps in the client, which do not count as latency. */
  sleepMs?: number
  /** It changes the tables, so that they are tidied up before each run. */
  writes?: boolean
}

/** pgbench goes on for that long after what is measured, so that it is at full load to the end. */
const coolDownSeconds = 1
const connectLimitMs = 60_000

/**
 * Runs pgbench: the warm-up, and then the time that is measured, on the same connections. Throughput and latencies come
 * from its log of transactions; processor time is that of the same time, so that connecting does not count.
 */
export async function runPgbench(run: Run, script: PgbenchScript): Promise<Sample> {
  if (script.writes) {
    await run.postgres.query('vacuum pgbench_branches, pgbench_tellers')
    await run.postgres.query('truncate pgbench_history; checkpoint')
  }
  const dir = await mkdtemp(join(tmpdir(), 'pgherd-bench-'))
  try {
    const { child, warm } = await startPgbench(run, script, dir)
    const deadline = systemTimers.after(
      connectLimitMs + (run.warmUpSeconds + run.seconds + coolDownSeconds) * 1000,
      () => child.signal('SIGKILL'),
    )
    try {
      await Promise.race([warm, child.exited])
      const measured = await measure(run, child)
      const exit = await child.exited
      if (exit.code !== 0) throw failure(run, child)
      return { ...measured.memory, ...(await fromLogs(dir, measured, script.sleepMs ?? 0)) }
    } finally {
      deadline.cancel()
      await child.stop('SIGTERM', 1000)
    }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function startPgbench(
  run: Run,
  script: PgbenchScript,
  dir: string,
): Promise<{ child: Child; warm: Promise<void> }> {
  const { clients, contestant, postgres } = run
  const scriptFile = join(dir, 'script.sql')
  if (script.text !== undefined) await writeFile(scriptFile, script.text)
  const args = [
    ...['-h', '127.0.0.1', '-p', String(contestant.port), '-U', benchUser],
    ...['-n', '-M', script.protocol, ...(script.options ?? [])],
    ...(script.text === undefined ? [] : ['-f', scriptFile]),
    ...['-D', `accounts=${postgres.scale * accountsPerScale}`],
    ...['-c', String(clients), '-j', String(Math.min(run.jobs, clients))],
    ...['-T', String(run.warmUpSeconds + run.seconds + coolDownSeconds), '-P', String(run.warmUpSeconds)],
    ...['--log', '--log-prefix', join(dir, 'log'), benchDatabase],
  ]
  let isWarm: () => void = () => {}
  const warm = new Promise<void>(resolve => {
    isWarm = resolve
  })
  const child = await startChild({
    command: 'pgbench',
    args,
    env: { ...baseEnvironment(), PGSSLMODE: 'disable', PGGSSENCMODE: 'disable' },
    // The first report of its progress comes when the warm-up is over, which begins when all have connected.
    onLine: line => line.startsWith('progress:') && isWarm(),
  })
  return { child, warm }
}

interface Measured {
  used: Used
  memory: Sample
  /** Wall time, as pgbench's log has it. */
  fromMs: number
  toMs: number
}

async function measure(run: Run, child: Child): Promise<Measured> {
  if (child.exit) throw failure(run, child)
  const meter = new Meter({ proxy: run.contestant.pid, postgres: run.postgres.pid, load: child.pid })
  const fromMs = Date.now()
  await Promise.race([pause(systemTimers, run.seconds * 1000), child.exited])
  const toMs = Date.now()
  if (child.exit) throw failure(run, child)
  return { used: meter.used(), memory: memoryNow(run.contestant.pid), fromMs, toMs }
}

async function fromLogs(dir: string, measured: Measured, sleepMs: number): Promise<Sample> {
  const { fromMs, toMs, used } = measured
  const logs = await takeLogs(dir, 'log')
  const latencies = Float64Array.from(logs.flatMap(log => latenciesUs(log, fromMs, toMs))).sort()
  const count = latencies.length
  if (count === 0)
    throw new BenchError('load_failed', 'no transaction ended within the time that is measured')
  const ms = (share: number): number => percentile(latencies, share) / 1000 - sleepMs
  return {
    tps: (count * 1000) / (toMs - fromMs),
    p50Ms: ms(0.5),
    p95Ms: ms(0.95),
    p99Ms: ms(0.99),
    ...(used.proxyMs !== undefined && { proxyCpuUs: (used.proxyMs * 1000) / count }),
    totalCpuUs: (used.totalMs * 1000) / count,
  }
}

/** pgbench says first what went wrong, and then counts what went well. */
function failure(run: Run, child: Child): BenchError {
  const errors = child.tail.filter(line => /error|fatal/i.test(line)).slice(0, 3)
  const words =
    child.exit?.code === 0
      ? `no transaction had ended after ${run.warmUpSeconds + run.seconds + coolDownSeconds} s`
      : errors.join('; ') || `it ended with ${child.exit?.signal ?? child.exit?.code}`
  return new BenchError(
    'load_failed',
    `pgbench with ${run.clients} clients at ${run.contestant.name} failed: ${words}`,
  )
}
