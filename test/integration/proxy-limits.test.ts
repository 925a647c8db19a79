import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { type Client, DatabaseError } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, type QueryOptions, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Limits of clients, connections and times, with clients that share server connections. */
let cluster: TestCluster
let host: Host
const clients: (Client | WireClient)[] = []
const users = ['ann', 'bea', 'cleo', 'dora']

before(async () => {
  cluster = await startTestCluster()
  for (const user of users) await cluster.primary.query(`create role ${user} login`)
  await cluster.primary.query('create database other')
})

afterEach(async () => {
  for (const client of clients.splice(0)) {
    if (client instanceof WireClient) client.close()
    else await client.end().catch(() => undefined)
  }
  await host?.stop()
})

after(async () => {
  await cluster?.stop()
})

async function start(overrides: Record<string, unknown>): Promise<void> {
  const { name, port } = cluster.primary
  const config = await testConfig([{ name, port }], {
    'proxy.pool_mode': 'auto',
    // Limits are divided among the workers: with one they are what they say.
    'proxy.workers': 1,
    'proxy.shutdown_timeout': '0',
    ...overrides,
  })
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
}

async function open(options?: QueryOptions): Promise<Client> {
  const client = await connect(host.config.proxy.port, options)
  clients.push(client)
  return client
}

/** SQLSTATE and message of what a promise is rejected with. */
async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => assert.fail('it should have been refused'),
    (cause: unknown) => cause,
  )
  return error instanceof DatabaseError ? `${error.code} ${error.message}` : String(error)
}

/** How the other side ends a client: SQLSTATE and message. */
function farewell(client: Client): Promise<string> {
  return new Promise(resolve => {
    client.on('error', error => {
      if (error instanceof DatabaseError) resolve(`${error.code} ${error.message}`)
    })
  })
}

const pidOf = async (client: Client): Promise<number> =>
  (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid

/** Server connections of the proxy's clients, by user, in one database. */
async function connectionsOf(user: string, database = 'postgres'): Promise<number> {
  const rows = await cluster.primary.query<{ count: number }>(
    `select count(*)::int as count from pg_stat_activity where usename = '${user}' and datname = '${database}'`,
  )
  return rows[0]!.count
}

test('more clients of a database, of a user, or in all than allowed are refused with 53300', async () => {
  await start({
    'proxy.max_client_conn': 5,
    'proxy.max_user_client_connections': 2,
    'proxy.databases': { narrow: { dbname: 'postgres', max_db_client_connections: 1 } },
    'proxy.users': { bea: { max_user_client_connections: 3 } },
  })
  const first = await open({ user: 'ann' })
  await open({ user: 'ann', database: 'narrow' })
  assert.equal(
    await refusal(open({ user: 'bea', database: 'narrow' })),
    '53300 pgherd: too many clients of database "narrow": no more than 1 are taken here (max_db_client_connections)',
  )
  assert.match(await refusal(open({ user: 'ann' })), /^53300 .*user "ann".*2 .*max_user_client_connections/)
  await Promise.all([1, 2, 3].map(() => open({ user: 'bea' })))
  assert.match(await refusal(open({ user: 'cleo' })), /^53300 .*5 .*max_client_conn/)
  // Whoever leaves makes room.
  await first.end()
  await until('there is room', () =>
    open({ user: 'ann' }).then(
      () => true,
      () => false,
    ),
  )
})

test('what takes longer than it may is ended with the reason, and only that', async () => {
  await start({
    'proxy.client_login_timeout': '1s',
    'proxy.users': {
      ann: { query_timeout: '1s' },
      bea: { idle_transaction_timeout: '1s' },
      cleo: { transaction_timeout: '1s' },
      dora: { client_idle_timeout: '1s' },
    },
  })
  const silent = new WireClient(host.config.proxy.port)
  clients.push(silent)
  silent.expectMessages()
  const [ann, bea, cleo, dora, free] = await Promise.all([
    ...users.map(user => open({ user })),
    open({ user: 'postgres' }),
  ])
  const startedMs = systemClock.nowMs()
  const endings = [bea!, dora!].map(farewell)
  await Promise.all([bea!, cleo!, free!].map(client => client.query('begin; select 1')))
  // A transaction that goes on talking is not idle, and still has an end.
  // Between two of its queries the client is told the end, in the middle of one the query is.
  const told = farewell(cleo!)
  const talking = until('it is ended', () =>
    cleo!.query('select 1').then(
      () => undefined,
      (cause: unknown) => (cause instanceof DatabaseError ? `${cause.code} ${cause.message}` : told),
    ),
  )
  const running = refusal(ann.query('select pg_sleep(60)'))
  assert.match(await running, /^57014 .*query_timeout/)
  const [ofBea, ofDora] = await Promise.all(endings)
  const ofCleo = await talking
  assert.match(ofBea!, /^25P03 .*idle_transaction_timeout/)
  assert.match(ofCleo, /^25P04 .*transaction_timeout/)
  assert.match(ofDora!, /^57P05 .*client_idle_timeout/)
  assert.equal((await silent.refused()).get('C'), '57014')
  const tookMs = systemClock.nowMs() - startedMs
  assert.ok(tookMs >= 1000 && tookMs < 5000, `${tookMs} ms`)
  // The server was told: it does not sleep on for nobody.
  await until('the query is cancelled', async () => {
    const rows = await cluster.primary.query(
      "select 1 from pg_stat_activity where usename = 'ann' and state = 'active'",
    )
    return rows.length === 0
  })
  await free!.query('commit')
})

test('whoever waits too long for a connection, or behind too many, is refused', async () => {
  await start({
    'proxy.default_pool_size': 1,
    'proxy.query_wait_timeout': '1s',
    'proxy.query_wait_queue_max': 2,
  })
  const holder = await open()
  const others = await Promise.all([1, 2, 3].map(() => open()))
  await holder.query('begin; select 1')
  const startedMs = systemClock.nowMs()
  const told = await Promise.all(others.map(client => refusal(client.query('select 1'))))
  const tookMs = systemClock.nowMs() - startedMs
  assert.equal(told.filter(each => /^53300 .*2 clients wait/.test(each)).length, 1, told.join('\n'))
  assert.equal(told.filter(each => /^53300 .*query_wait_timeout/.test(each)).length, 2, told.join('\n'))
  assert.ok(tookMs >= 900 && tookMs < 4000, `${tookMs} ms`)
  await holder.query('commit')
})

test('the reserve is for those who have waited, and the pool is no larger than both', async () => {
  await start({
    'proxy.default_pool_size': 1,
    'proxy.reserve_pool_size': 1,
    'proxy.reserve_pool_timeout': '1s',
  })
  const [first, second, third] = await Promise.all([open(), open(), open()])
  await first.query('begin; select 1')
  const startedMs = systemClock.nowMs()
  await second.query('begin; select 1')
  const waitedMs = systemClock.nowMs() - startedMs
  assert.ok(waitedMs >= 900 && waitedMs < 4000, `${waitedMs} ms`)
  const waiting = third.query('select 1 as one')
  await until('it waits longer than that', () => host.proxy!.counters().nodes['a']?.waiting === 1)
  await until('the time of the reserve is over', () => systemClock.nowMs() - startedMs > waitedMs + 2200)
  assert.equal(host.proxy!.counters().nodes['a']?.waiting, 1)
  await first.query('commit')
  assert.equal((await waiting).rowCount, 1)
  await second.query('commit')
})

test('connections of one database and of one user are limited over all pools, idle ones give way', async () => {
  await start({
    'proxy.databases': { postgres: { max_db_connections: 2 } },
    'proxy.users': { dora: { max_user_connections: 1 } },
  })
  const [ann, bea, cleo] = await Promise.all(['ann', 'bea', 'cleo'].map(user => open({ user })))
  await ann!.query('begin; select 1')
  await bea!.query('begin; select 1')
  const waiting = cleo!.query('select 1 as one')
  await until('it waits', () => host.proxy!.counters().nodes['a']?.waiting === 1)
  const sum = async (): Promise<number> =>
    (await Promise.all(['ann', 'bea', 'cleo'].map(user => connectionsOf(user)))).reduce((a, b) => a + b)
  assert.equal(await sum(), 2)
  await ann!.query('commit')
  assert.equal((await waiting).rowCount, 1)
  await until('one has given way', async () => (await sum()) === 2)
  await bea!.query('commit')

  const here = await open({ user: 'dora', database: 'other' })
  const there = await open({ user: 'dora', database: 'other' })
  await here.query('begin; select 1')
  const later = there.query('select 1 as one')
  await until('it waits', () => host.proxy!.counters().nodes['a']?.waiting === 1)
  assert.equal(await connectionsOf('dora', 'other'), 1)
  await here.query('commit')
  assert.equal((await later).rowCount, 1)
})

test('a pool that is used keeps its least size, and connections end at their lifetime', async () => {
  await start({ 'proxy.min_pool_size': 3, 'proxy.server_lifetime': '3s' })
  const client = await open({ user: 'ann' })
  const pid = await pidOf(client)
  await until('the pool is filled', async () => (await connectionsOf('ann')) === 3)
  await client.query('begin; select 1')
  const kept = await pidOf(client)
  const startedMs = systemClock.nowMs()
  await until('their time is over', () => systemClock.nowMs() - startedMs > 4500)
  assert.equal(await pidOf(client), kept, 'nobody loses a connection that is in use')
  await client.query('commit')
  await until('it is another one', async () => ![pid, kept].includes(await pidOf(client)))
  await until('the pool is filled again', async () => (await connectionsOf('ann')) === 3)
})

test('twenty clients of one connection take turns', async () => {
  await start({ 'proxy.default_pool_size': 1 })
  const asking = await Promise.all(Array.from({ length: 20 }, () => open()))
  const counts = asking.map(() => 0)
  const untilMs = systemClock.nowMs() + 1500
  await Promise.all(
    asking.map(async (client, at) => {
      while (systemClock.nowMs() < untilMs) {
        await client.query('select 1')
        counts[at]!++
      }
    }),
  )
  const [least, most] = [Math.min(...counts), Math.max(...counts)]
  assert.ok(least > 10 && most - least <= Math.max(2, least * 0.1), `answers of each: ${counts.join(' ')}`)
})

test('a worker killed with -9 costs its own clients alone, in the middle of what they do', async () => {
  await start({ 'proxy.workers': 2 })
  const all = await Promise.all(Array.from({ length: 8 }, () => open()))
  await Promise.all(all.map(client => client.query("set application_name = 'crash'")))
  await Promise.all(all.slice(0, 4).map(client => client.query('begin; select 1')))
  await until(
    'all are counted',
    () => host.proxy!.workers.reduce((sum, { clients }) => sum + clients, 0) === 8,
  )
  const [victim, survivor] = host.proxy!.workers
  const left = survivor!.clients
  assert.ok(left > 0 && left < 8)
  process.kill(victim!.pid, 'SIGKILL')
  const answers = await Promise.all(
    all.map(client =>
      client.query<{ name: string }>("select current_setting('application_name') as name").then(
        ({ rows }) => rows[0]?.name,
        () => undefined,
      ),
    ),
  )
  assert.deepEqual(
    answers.filter(answer => answer !== undefined),
    Array.from({ length: left }, () => 'crash'),
  )
  await until(
    'it is replaced',
    () => host.proxy!.workers.filter(({ pid }) => pid !== victim!.pid).length === 2,
  )
  await Promise.all(Array.from({ length: 4 }, async () => (await open()).query('select 1')))
  await until('nothing is left of it on the server', async () => {
    const rows = await cluster.primary.query(
      "select 1 from pg_stat_activity where application_name = 'crash' and state like 'idle in transaction%'",
    )
    return rows.length <= 4
  })
  assert.equal(host.proxy!.crashes, 1)
})
