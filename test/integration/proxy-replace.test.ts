import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Data workers that are replaced while clients use them. */
let cluster: TestCluster
let host: Host
let port: number

before(async () => {
  cluster = await startTestCluster()
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.pool_mode': 'auto',
    'proxy.shutdown_timeout': '20s',
  })
  host = await startTestHost(config)
  port = config.proxy.port
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const pids = (): number[] => host.proxy!.workers.map(({ pid }) => pid)

test('new workers take new clients, and old ones end when theirs are idle: nobody is refused or cut', async () => {
  const before = pids()
  const [idle, alsoIdle, busy, alsoBusy] = await Promise.all([1, 2, 3, 4].map(() => WireClient.open(port)))
  const inTransaction = [busy!, alsoBusy!]
  await Promise.all(inTransaction.map(client => client.query('begin')))
  const response = await fetch(`http://127.0.0.1:${host.config.admin.port}/api/proxy/restart-workers`, {
    method: 'POST',
  })
  assert.deepEqual([response.status, await response.json()], [202, { workers: 2 }])
  // Clients come all the time meanwhile, and each of them is served.
  let isOver = false
  let served = 0
  const coming = Promise.all(
    Array.from({ length: 3 }, async () => {
      while (!isOver) {
        await query(port, 'select 1')
        served++
      }
    }),
  )
  try {
    await until('a new one is there', () => pids().some(pid => !before.includes(pid)))
    await until('an idle client is ended', () =>
      [idle!, alsoIdle!].some(client => client.error?.get('C') === '57P01'),
    )
    for (const client of inTransaction) await client.query('select 1')
    await Promise.all(inTransaction.map(client => client.query('commit')))
    await until('all are new', () => !host.proxy!.isReplacing, 15_000)
  } finally {
    isOver = true
  }
  await coming
  assert.ok(served > 20, `${served} were served`)
  assert.equal(pids().filter(pid => before.includes(pid)).length, 0)
  assert.equal(host.proxy!.workers.length, 2)
  assert.equal(host.proxy!.crashes, 0)
  for (const client of inTransaction) assert.equal((await client.refused()).get('C'), '57P01')
  await until('nobody is counted who is gone', () => host.proxy!.counters().clients === 0)
})

test('a stop in the middle of it stops all', async () => {
  const holder = await WireClient.open(port)
  await holder.query('begin')
  host.restartWorkers()
  await until('a new one is there', () => host.proxy!.isReplacing && pids().length === 2)
  const stopped = host.stop()
  holder.close()
  await stopped
  assert.equal(host.proxy!.isReplacing, false)
})
