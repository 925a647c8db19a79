import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { operationsOn, startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

/** Processes that hang or die at a bad moment: data workers, and the postmaster of a server that goes on serving. */
let cluster: TestCluster
let host: Host
let port: number
let readPort: number
const clients: Client[] = []

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
})

after(async () => {
  await cluster?.stop()
})

beforeEach(async () => {
  const servers = [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))
  const config = await testConfig(servers, {
    'probe.timeout': '500ms',
    'proxy.server_connect_timeout': '1s',
    'proxy.shutdown_timeout': '2s',
  })
  host = await startTestHost(config)
  port = config.proxy.port
  readPort = config.proxy.read_port
  await untilRolesAreKnown(host)
})

afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.end().catch(() => undefined)))
  await host?.stop()
})

async function session(at: number): Promise<Client> {
  const client = await connect(at)
  clients.push(client)
  return client
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return performance.now() - startedMs
}

const split = (): number[] => host.proxy!.workers.map(worker => worker.clients)
const isReadable = (name: string): boolean | undefined =>
  host.watcher.current().nodes.find(node => node.name === name)?.readable

test('clients that come all at once are spread evenly over the workers', async () => {
  await Promise.all(Array.from({ length: 30 }, () => session(port)))
  const isEven = (): boolean => split().every(count => Math.abs(count - 15) <= 1)
  await until('they are counted', () => split().reduce((sum, count) => sum + count, 0) === 30 && isEven())
})

test('a worker that hangs loses nobody who connects, and is replaced', async () => {
  const [victim] = host.proxy!.workers
  process.kill(victim!.pid, 'SIGSTOP')
  const slowest = await Promise.all(Array.from({ length: 6 }, () => timed(() => session(port))))
  assert.ok(Math.max(...slowest) < 9000, slowest.map(Math.round).join(' '))
  assert.ok(host.proxy!.workers.every(({ pid }) => pid !== victim!.pid))
  assert.equal(host.proxy!.crashes, 1)
  const rows = await Promise.all(clients.map(client => client.query('select 1 as one')))
  assert.ok(rows.every(({ rows: [row] }) => (row as { one: number }).one === 1))
})

test('while a worker hangs those who come later are not held up, and intent is applied when it is replaced', async () => {
  const [victim] = host.proxy!.workers
  process.kill(victim!.pid, 'SIGSTOP')
  const first = [session(port), session(port)]
  await Promise.race(first)
  // The hanging worker does not confirm what it is handed, and is passed over as soon as that is noticed.
  let quick = 0
  await until('those who come are served quickly', async () => {
    quick = (await timed(() => session(port))) < 500 ? quick + 1 : 0
    return quick === 5
  })
  await setNodeState(operationsOn(host), 'b', 'drain', false)
  const drained = (): boolean => host.watcher.current().nodes.some(node => node.state === 'drain')
  await until('it is known', drained)
  const { intentRevision } = host.watcher.current()
  await until('every worker has applied it', () => host.proxy!.appliedRevision >= intentRevision)
  await Promise.all(first)
})

test('workers killed while clients connect leave nobody hanging, and nothing open', async () => {
  const openFiles = (): number => (existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0)
  const before = openFiles()
  let slowestMs = 0
  let served = 0
  const storming = new AbortController()
  const storm = Array.from({ length: 20 }, async () => {
    while (!storming.signal.aborted) {
      const startedMs = performance.now()
      const client = await connect(port).catch(() => undefined)
      slowestMs = Math.max(slowestMs, performance.now() - startedMs)
      if (client) served++
      await client?.end().catch(() => undefined)
    }
  })
  for (let kills = 1; kills <= 3; kills++) {
    const already = served
    await until('the storm goes on', () => served > already + 50)
    process.kill(host.proxy!.workers[0]!.pid, 'SIGKILL')
    await until('it is gone', () => host.proxy!.crashes === kills)
    await until('it is replaced', () => host.proxy!.workers.length === 2)
  }
  storming.abort()
  await Promise.all(storm)
  assert.ok(slowestMs < 4000, `${Math.round(slowestMs)} ms`)
  await until('nothing is left open', () => openFiles() <= before)
})

test('a stop while a worker boots does not wait for it', async () => {
  const [victim] = host.proxy!.workers
  process.kill(victim!.pid, 'SIGKILL')
  await until('another one boots', () =>
    host.proxy!.workers.some(({ index, pid }) => index === victim!.index && pid !== victim!.pid),
  )
  const tookMs = await timed(() => host.stop())
  assert.ok(tookMs < 1500, `${Math.round(tookMs)} ms`)
})

test('a server whose postmaster hangs gets nobody new, although it serves those it has', async () => {
  const replica = cluster.replicas[0]!
  const pid = (await replica.pid())!
  // The prober has a connection to it by now, which goes on working.
  process.kill(pid, 'SIGSTOP')
  try {
    await until('somebody has tried it', async () => {
      await session(readPort)
      return isReadable('b') === false
    })
    for (let round = 0; round < 20; round++) {
      assert.ok((await timed(() => session(readPort))) < 500)
      assert.equal(isReadable('b'), false)
    }
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  await until('it is back', () => isReadable('b'))
})
