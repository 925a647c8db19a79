import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitUntilApplied } from '../src/cli/applied.ts'
import { operationsBy } from '../src/cli/operations.ts'
import { systemClock } from '../src/runtime/clock.ts'
import { pause, systemTimers } from '../src/runtime/timers.ts'
import type { Store } from '../src/store/store.ts'
import { changeSettings } from '../src/topology/operations.ts'
import { type Cli, startCli } from '../test/support/cli.ts'
import { EtcdCluster } from '../test/support/etcd.ts'
import { freePorts } from '../test/support/ports.ts'
import { openEtcd } from '../test/support/stores.ts'
import { percentile } from './statistics.ts'

/**
 * How long it takes from an operator's decision until every proxy of a fleet says that all its workers act by it, and
 * what of that the write takes. Real processes and a real etcd on this machine:
 * `node dist/bench/intent.js [proxies] [changes]`, 10 and 100 unless said. Needs no PostgreSQL: what is measured does
 * not depend on one.
 */
const cluster = 'bench'
const pauseMs = 100
const limitMs = 10_000
const warmUpChanges = 5

interface Times {
  writtenMs: number
  inForceMs: number
}

async function startProxies(count: number, endpoints: readonly string[], cwd: string): Promise<Cli[]> {
  const ports = await freePorts(count)
  const proxies: Cli[] = []
  for (const [index, port] of ports.entries()) {
    const flags = ['--port', `${port}`, '--read-port', '0', '--admin-port', '0', '--workers', '1']
    const name = ['--cluster', cluster, '--id', `p${index}`, '--etcd', endpoints.join(',')]
    proxies.push(await startCli(['proxy', ...flags, ...name], { cwd }))
  }
  return proxies
}

/** One change, from before it is begun until the last proxy has confirmed it. */
async function measure(store: Store, proxies: number, turn: number): Promise<Times> {
  const at = operationsBy('bench', store, cluster)
  const changes = [{ key: 'proxy.query_wait_timeout', text: `${1000 + turn}ms` }]
  const startedMs = systemClock.nowMs()
  const { revision } = await changeSettings(at, `change ${turn}`, changes, undefined)
  const writtenMs = systemClock.nowMs() - startedMs
  const { by, notBy } = await waitUntilApplied(store, cluster, revision, limitMs)
  const inForceMs = systemClock.nowMs() - startedMs
  if (by.length === proxies) return { writtenMs, inForceMs }
  throw new Error(`after ${limitMs} ms ${by.length} of ${proxies} had it, not ${notBy.join(', ')}`)
}

function row(what: string, values: number[]): string {
  const sorted = values.toSorted((a, b) => a - b)
  const cells = [0.5, 0.9, 0.99, 1].map(share => percentile(sorted, share).toFixed(1).padStart(8))
  return `${what.padEnd(26)}${cells.join('')}`
}

async function main(): Promise<void> {
  const [proxyCount = 10, changeCount = 100] = process.argv.slice(2).map(Number)
  const etcd = await EtcdCluster.start()
  const store = await openEtcd(etcd.endpoints)
  const folder = mkdtempSync(join(tmpdir(), 'pgherd-bench-intent-'))
  let proxies: Cli[] = []
  try {
    proxies = await startProxies(proxyCount, etcd.endpoints, folder)
    const times: Times[] = []
    for (let turn = -warmUpChanges; turn < changeCount; turn++) {
      const taken = await measure(store, proxyCount, turn)
      if (turn >= 0) times.push(taken)
      await pause(systemTimers, pauseMs)
    }
    console.log(`${proxyCount} proxies with a worker each, ${changeCount} changes, one etcd; ms`)
    console.log(`${''.padEnd(26)}     p50     p90     p99     max`)
    console.log(
      row(
        'written',
        times.map(({ writtenMs }) => writtenMs),
      ),
    )
    console.log(
      row(
        'in force on every proxy',
        times.map(({ inForceMs }) => inForceMs),
      ),
    )
  } finally {
    await Promise.allSettled(proxies.map(proxy => proxy.stop()))
    rmSync(folder, { recursive: true })
    await store.close()
    await etcd.stop()
  }
}

await main()
