import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { writeQuery } from '../../src/wire/messages.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** What clients see when the proxy is told to stop. */
let cluster: TestCluster
let host: Host
const clients: WireClient[] = []

before(async () => {
  cluster = await startTestCluster()
})

afterEach(async () => {
  for (const client of clients.splice(0)) client.close()
  await host?.stop()
})

after(async () => {
  await cluster?.stop()
})

async function start(overrides: Record<string, unknown>): Promise<void> {
  const { name, port } = cluster.primary
  const config = await testConfig([{ name, port }], {
    'proxy.pool_mode': 'auto',
    'proxy.workers': 1,
    'proxy.default_pool_size': 1,
    ...overrides,
  })
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
}

async function open(): Promise<WireClient> {
  const client = await WireClient.open(host.config.proxy.port)
  clients.push(client)
  return client
}

/** Codes of the messages that came behind the first `count`. */
const codesFrom = (client: WireClient, count: number): string =>
  client.received
    .slice(count)
    .map(({ code }) => code)
    .join('')

test('at a stop idle clients go at once, a transaction may end, and a request that waits is answered', async () => {
  await start({ 'proxy.shutdown_timeout': '10s' })
  const [busy, waiting, idle] = [await open(), await open(), await open()]
  await busy.query('begin; select 1')
  const told = waiting.received.length
  waiting.send(writeQuery("select 'served'"))
  await until('it waits', () => host.proxy!.counters().nodes['a']?.waiting === 1)
  const startedMs = systemClock.nowMs()
  const stopped = host.stop()
  assert.equal((await idle.refused()).get('C'), '57P01')
  await busy.query('select 1')
  assert.equal(waiting.closed, false)
  busy.send(writeQuery('commit'))
  assert.equal((await busy.refused()).get('C'), '57P01')
  assert.equal((await waiting.refused()).get('C'), '57P01')
  assert.equal(codesFrom(waiting, told), 'TDCZE')
  await stopped
  assert.ok(systemClock.nowMs() - startedMs < 5000, 'it does not wait for the time to be up')
})

test('a transaction is not cut before shutdown_timeout, and a request that nobody serves is told', async () => {
  await start({ 'proxy.shutdown_timeout': '1500ms' })
  const [busy, waiting] = [await open(), await open()]
  await busy.query('begin; select 1')
  waiting.send(writeQuery('select 1'))
  await until('it waits', () => host.proxy!.counters().nodes['a']?.waiting === 1)
  const startedMs = systemClock.nowMs()
  const stopped = host.stop()
  const [first, second] = await Promise.all([busy.refused(), waiting.refused()])
  const tookMs = systemClock.nowMs() - startedMs
  assert.equal(first.get('C'), '57P01')
  assert.equal(second.get('C'), '57P01')
  assert.ok(tookMs > 1400 && tookMs < 3500, `${tookMs} ms`)
  await stopped
})
