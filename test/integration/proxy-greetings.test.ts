import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { writeQuery } from '../../src/wire/messages.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** What clients of shared pools are told when their session begins, and when they have to wait for it. */
let cluster: TestCluster
let host: Host
let port: number
const clients: WireClient[] = []

before(async () => {
  cluster = await startTestCluster()
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.workers': 1,
    'proxy.pool_mode': 'auto',
    'proxy.default_pool_size': 1,
    'proxy.failover_wait': '500ms',
  })
  port = config.proxy.port
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

afterEach(() => {
  for (const client of clients.splice(0)) client.close()
})

async function open(parameters: Record<string, string> = {}): Promise<WireClient> {
  const client = await WireClient.open(port, parameters)
  clients.push(client)
  return client
}

/** The ParameterStatus messages that a client has got, the last of each name. */
function toldTo({ received }: WireClient): Record<string, string> {
  const told = received.filter(({ code }) => code === 'S').map(({ body }) => body.toString().split('\0'))
  return Object.fromEntries(told.map(([name, value]) => [name, value]))
}

test('who comes while all connections are busy is let in, and waits only with what it wants', async () => {
  const busy = await open()
  const from = busy.received.length
  busy.send(writeQuery('begin; select pg_sleep(1)'))
  await until('it runs', async () => {
    const sql = `select from pg_stat_activity where query like 'begin; select pg_sleep%' and state = 'active'`
    return (await query(cluster.primary.port, sql)).length === 1
  })
  const late = await open()
  assert.equal(busy.received.length, from, 'the other one still has the only connection')
  late.send(writeQuery('select 7'))
  await busy.ready(from)
  await busy.query('commit')
  await until('it has its answer', () => late.received.some(({ code }) => code === 'D'))
})

test('the later ones are told what the first was told, each with its settings', async () => {
  const settings = { application_name: 'greeted', TimeZone: 'Asia/Tokyo' }
  const plain = toldTo(await open())
  const first = toldTo(await open(settings))
  assert.deepEqual([first['application_name'], first['TimeZone']], ['greeted', 'Asia/Tokyo'])
  assert.deepEqual(toldTo(await open()), plain)
  assert.deepEqual(toldTo(await open(settings)), first)
  assert.ok(plain['server_version'])
})

test('what is another value by then is told with the first answer', async () => {
  const before = toldTo(await open())['DateStyle']
  await query(cluster.primary.port, `alter role postgres set datestyle = 'German, DMY'`)
  try {
    const client = await open()
    // The connection that is there began before, another one after that.
    await query(
      cluster.primary.port,
      `select pg_terminate_backend(pid) from pg_stat_activity
       where backend_type = 'client backend' and pid <> pg_backend_pid() and application_name not like 'pgherd%'`,
    )
    assert.equal(toldTo(client)['DateStyle'], before)
    await client.query('select 1')
    assert.equal(toldTo(client)['DateStyle'], 'German, DMY')
    assert.equal(toldTo(await open())['DateStyle'], 'German, DMY')
  } finally {
    await query(cluster.primary.port, 'alter role postgres reset datestyle')
  }
})

test('where nothing is known, the server decides: of a database that is not there, and while there is no server', async () => {
  for (let round = 0; round < 2; round++) {
    const stranger = new WireClient(port)
    stranger.startup({ user: 'postgres', database: 'nowhere' })
    assert.equal((await stranger.refused()).get('C'), '3D000')
  }
  await open()
  await cluster.primary.stop()
  const late = new WireClient(port)
  late.startup({ user: 'postgres', database: 'postgres' })
  assert.equal((await late.refused()).get('S'), 'FATAL')
  assert.ok(!late.received.some(({ code }) => code === 'Z'))
})
