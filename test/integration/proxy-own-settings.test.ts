import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

/** `pgherd.route` and its like mean something to the proxy alone: they keep nobody apart. */
let cluster: TestCluster
let host: Host
let clients: Client[] = []

before(async () => {
  cluster = await startTestCluster()
  await cluster.primary.query('create table items as select 1 as id')
})
afterEach(async () => {
  await Promise.all(clients.map(each => each.end()))
  clients = []
  await host?.stop()
})
after(() => cluster?.stop())

async function start(poolSize: number): Promise<void> {
  const { name, port } = cluster.primary
  const settings = { 'proxy.workers': 1, 'proxy.default_pool_size': poolSize }
  host = await startTestHost(await testConfig([{ name, port }], settings))
  await untilRolesAreKnown(host)
}

async function open(options = ''): Promise<Client> {
  const client = await connect(host.config.proxy.port, options === '' ? {} : { options })
  clients.push(client)
  return client
}

/** A statement that nobody could take for one that only reads. */
const ownPid = 'select pg_backend_pid() as value from (select 1 for update) as x'
async function one(client: Client, sql: string): Promise<unknown> {
  return Object.values((await client.query(sql)).rows[0])[0]
}

test('a connection serves others after one who has set something of pgherd', async () => {
  await start(1)
  const plain = await open()
  // What the first client was logged in on is for those who say the same.
  await one(plain, ownPid)
  const wishing = await open('-c pgherd.route=primary')
  const pid = await one(wishing, ownPid)
  await wishing.query(`set pgherd.token = '0/1'`)
  for (let turn = 0; turn < 2; turn++) {
    assert.equal(await one(plain, ownPid), pid)
    assert.equal(await one(wishing, ownPid), pid)
  }
  await wishing.query(`set app.tenant = '7'`)
  // Other settings of made-up classes are seen by their client alone.
  assert.notEqual(await one(plain, ownPid), pid)
})

test('everybody keeps what it has set', async () => {
  await start(1)
  const [a, b] = [await open('-c pgherd.route=replica'), await open()]
  const shown = (client: Client, name = 'route'): Promise<unknown> =>
    one(client, `select coalesce(current_setting('pgherd.${name}', true), '') as value`)
  const both = async (...expected: string[]): Promise<void> => {
    assert.deepEqual([await shown(a), await shown(b)], expected)
    assert.deepEqual([await shown(a), await shown(b)], expected)
  }
  await both('replica', '')
  await b.query(`set pgherd.route = 'primary'`)
  await both('replica', 'primary')
  await a.query('begin')
  await a.query(`set pgherd.route = 'auto'`)
  assert.equal(await shown(a), 'auto')
  await a.query('rollback')
  await both('replica', 'primary')
  await a.query('begin')
  await a.query(`set local pgherd.route = 'auto'`)
  assert.equal(await shown(a), 'auto')
  await a.query('commit')
  await both('replica', 'primary')
  await a.query('begin; savepoint s')
  await a.query(`set pgherd.route = 'auto'`)
  await a.query('rollback to s; commit')
  await both('replica', 'primary')
  await a.query(`set pgherd.route = 'auto'`)
  await both('auto', 'primary')
  await b.query('reset pgherd.route')
  await both('auto', '')
  await a.query('discard all')
  await both('replica', '')
  await a.query(`set pgherd.consistency = 'strong'`)
  assert.deepEqual([await shown(a, 'consistency'), await shown(b, 'consistency')], ['strong', ''])
})

test('clients with tokens of their own share connections for quick reads', async () => {
  await start(10)
  const wanting = await Promise.all(
    ['0/1', '0/2', '0/3', ''].map(token => open(token && `-c pgherd.token=${token}`)),
  )
  const read = 'select pg_backend_pid() as value, count(*) from items'
  const places = async (client: Client): Promise<Set<unknown>> => {
    const pids = new Set<unknown>()
    for (let each = 0; each < 50; each++) pids.add(await one(client, read))
    return pids
  }
  const shared = async (): Promise<number> => (await proxyCounters(host.config.admin.port)).lanes.shared
  await until('all read on the same connections', async () => {
    const before = await shared()
    const [first, ...others] = await Promise.all(wanting.map(places))
    const isEverywhere = others.every(pids => [...pids].some(pid => first!.has(pid)))
    await until('it is counted', async () => (await shared()) > before)
    return isEverywhere && (await shared()) - before > 150
  })
  // What it has set is still told where it is asked for.
  const asked = `select current_setting('pgherd.token', true) as value, count(*) from items`
  for (let turn = 0; turn < 20; turn++) {
    const told = await Promise.all(wanting.map(client => one(client, asked)))
    assert.deepEqual(
      told.map(each => each || ''),
      ['0/1', '0/2', '0/3', ''],
    )
  }
})

test('other names that begin with pgherd are those of users, and keep their clients apart', async () => {
  await cluster.primary.query(`
    create role tenant login;
    create table owned as select owner::text from generate_series(1, 2) as owner;
    alter table owned enable row level security;
    create policy own on owned using (owner = current_setting('pgherd.tenant', true));
    grant select on owned to tenant`)
  await start(6)
  const all = await Promise.all(
    ['1', '2', '1', '2'].map(async owner => {
      const client = await connect(host.config.proxy.port, { user: 'tenant' })
      clients.push(client)
      await client.query(`select set_config('pgherd.tenant', $1, false)`, [owner])
      return { client, owner }
    }),
  )
  const reading = all.map(async ({ client, owner }) => {
    for (let each = 0; each < 200; each++) {
      const { rows } = await client.query('select owner from owned')
      assert.deepEqual(rows, [{ owner }])
    }
  })
  await Promise.all(reading)
})
