import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import type { Operations } from '../../src/topology/intent-change.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { proxyCounters } from '../support/counters.ts'
import { operationsOn, startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { caughtUp, connect, killServer, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

/** Pooled clients have no server while they want nothing: what happens to a server is not theirs to notice. */
let cluster: TestCluster
let host: Host
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
    'proxy.pool_mode': 'auto',
    'proxy.failover_wait': '20s',
    'probe.timeout': '500ms',
    'proxy.server_connect_timeout': '1s',
    'routing.drain_timeout': '1s',
    'proxy.slow_start': '1s',
  })
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
})

afterEach(async () => {
  for (const client of clients.splice(0)) await client.end().catch(() => undefined)
  await host?.stop()
})

async function session(at: number): Promise<Client> {
  const client = await connect(at)
  clients.push(client)
  return client
}

const whereIs = async (client: Client): Promise<number | undefined> =>
  (await client.query<{ port: number }>('select inet_server_port() as port')).rows[0]?.port

async function sessions(count: number, at: number): Promise<Client[]> {
  return Promise.all(Array.from({ length: count }, () => session(at)))
}

const operations = (): Operations => operationsOn(host)

test('a replica killed with -9 is noticed by none of the clients that read', async () => {
  const all = await sessions(10, host.config.proxy.read_port)
  const before = await Promise.all(all.map(whereIs))
  const killed = cluster.replicas[0]!
  assert.ok(before.includes(killed.port))
  await killServer(killed)
  for (let round = 0; round < 5; round++) {
    const seen = await Promise.all(all.map(whereIs))
    assert.deepEqual([...new Set(seen)], [cluster.replicas[1]!.port])
  }
  await killed.start()
})

test('a read that a dying replica has not answered is answered by another one', async () => {
  const all = await sessions(10, host.config.proxy.read_port)
  const killed = cluster.replicas[0]!
  await Promise.all(all.map(whereIs))
  const reads = all.map(client =>
    client.query<{ port: number }>('select inet_server_port() as port, pg_sleep(1)'),
  )
  await until('they run', async () => {
    const { nodes } = await proxyCounters(host.config.admin.port)
    return Object.values(nodes).reduce((sum, { sessions: busy }) => sum + busy, 0) === all.length
  })
  await killServer(killed)
  const seen = (await Promise.all(reads)).map(({ rows }) => rows[0]?.port)
  assert.deepEqual([...new Set(seen)], [cluster.replicas[1]!.port])
  await killed.start()
})

test('a drained replica is left at once, and a transaction on it comes to its end', async () => {
  const [b] = cluster.replicas
  const all = await sessions(10, host.config.proxy.read_port)
  const places = await Promise.all(all.map(whereIs))
  const busy = all[places.indexOf(b!.port)]!
  await busy.query('begin; select 1')
  await setNodeState(operations(), b!.name, 'drain', false)
  await until('the others have left', async () => {
    const others = await Promise.all(all.filter(client => client !== busy).map(whereIs))
    return !others.includes(b!.port)
  })
  assert.equal(await whereIs(busy), b!.port)
  await busy.query('commit')
  assert.equal(await whereIs(busy), cluster.replicas[1]!.port)
  await setNodeState(operations(), b!.name, 'active', false)
})

test('a client that leaves its replica never reads an older state on the next one', async () => {
  const [b, c] = cluster.replicas
  await cluster.primary.query('create table if not exists clock (i int)')
  await cluster.primary.query('truncate clock')
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  const reader = await session(host.config.proxy.read_port)
  await until('it reads on b', async () => {
    if ((await whereIs(reader)) === b!.port) return true
    await setNodeState(operations(), c!.name, 'drain', false)
    return false
  })
  await setNodeState(operations(), c!.name, 'active', false)
  await until(
    'c takes reads again',
    () => host.watcher.current().nodes.find(node => node.name === c!.name)?.readable,
  )
  assert.equal(await whereIs(reader), b!.port)
  await c!.query('select pg_wal_replay_pause()')
  await cluster.primary.query('insert into clock values (1)')
  await caughtUp(cluster.primary, b!)
  assert.equal((await reader.query('select * from clock')).rows.length, 1)
  const applied = host.proxy!.appliedRevision
  await setNodeState(operations(), b!.name, 'drain', false)
  await until('the drain is in force', () => host.proxy!.appliedRevision > applied)
  const next = reader.query<{ port: number; count: string }>(
    'select inet_server_port() as port, count(*) from clock',
  )
  await until('the read waits', async () => {
    const state = await proxyCounters(host.config.admin.port)
    return (state.nodes[c!.name]?.sessions ?? 0) > 0
  })
  await c!.query('select pg_wal_replay_resume()')
  assert.deepEqual((await next).rows, [{ port: c!.port, count: '1' }])
  await setNodeState(operations(), b!.name, 'active', false)
})

test('a replica that comes back gets its share of the readers', async () => {
  const [b] = cluster.replicas
  await setNodeState(operations(), b!.name, 'drain', false)
  const all = await sessions(8, host.config.proxy.read_port)
  await until('b is left', async () => !(await Promise.all(all.map(whereIs))).includes(b!.port))
  await setNodeState(operations(), b!.name, 'active', false)
  await until('both serve', async () => {
    const seen = await Promise.all(all.map(whereIs))
    return seen.filter(port => port === b!.port).length >= 3
  })
})

test('while the primary restarts its clients wait, whatever they had prepared and set', async () => {
  const all = await sessions(10, host.config.proxy.port)
  for (const client of all) {
    await client.query("set work_mem = '6MB'")
    await client.query({ name: 'kept', text: 'select $1::int + 1 as v', values: [1] })
  }
  await killServer(cluster.primary)
  // What is sent on a connection before its end is known may or may not have been carried out.
  await until('its connections are gone', () => host.proxy!.counters().nodes['a']?.idle === 0)
  const answers = all.map(async client => {
    const { rows } = await client.query<{ v: number }>({
      name: 'kept',
      text: 'select $1::int + 1 as v',
      values: [2],
    })
    assert.equal(rows[0]?.v, 3)
    const shown = await client.query<{ work_mem: string }>('show work_mem')
    assert.equal(shown.rows[0]?.work_mem, '6MB')
  })
  await cluster.primary.start()
  await Promise.all(answers)
})

test('after a promotion the clients of the old primary write to the new one, without connecting again', async () => {
  const all = await sessions(6, host.config.proxy.port)
  await Promise.all(all.map(whereIs))
  const [b] = cluster.replicas
  await caughtUp(cluster.primary, b!)
  await killServer(cluster.primary)
  // What is sent on a connection before its end is known may or may not have been carried out.
  await until('its connections are gone', () => host.proxy!.counters().nodes['a']?.idle === 0)
  const writes = all.map((client, number) =>
    client
      .query(`create table promoted_${number} as select inet_server_port() as port`)
      .then(() => whereIs(client)),
  )
  await b!.query('select pg_promote()')
  assert.deepEqual([...new Set(await Promise.all(writes))], [b!.port])
})
