import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import type { Operations } from '../../src/topology/intent-change.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { proxyCounters } from '../support/counters.ts'
import { operationsOn, startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import {
  connect,
  freezeServer,
  killServer,
  query,
  startTestCluster,
  type TestCluster,
  thawServer,
} from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Servers that die, hang, are promoted or drained behind a proxy that has no agents. */
let cluster: TestCluster
let host: Host
let port: number
let readPort: number
const clients: (Client | WireClient)[] = []

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
})

after(async () => {
  await cluster?.stop()
})

beforeEach(async () => {
  const servers = [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))
  const config = await testConfig(servers, {
    'proxy.pool_mode': 'session',
    'proxy.failover_wait': '8s',
    'probe.timeout': '500ms',
    'proxy.server_connect_timeout': '1s',
    'routing.drain_timeout': '1s',
  })
  host = await startTestHost(config)
  port = config.proxy.port
  readPort = config.proxy.read_port
  await untilRolesAreKnown(host)
})

afterEach(async () => {
  for (const client of clients.splice(0)) {
    if (client instanceof WireClient) client.close()
    else await client.end().catch(() => undefined)
  }
  await host?.stop()
})

async function session(at: number, options?: Parameters<typeof connect>[1]): Promise<Client> {
  const client = await connect(at, options)
  clients.push(client)
  return client
}

const whereIs = async (client: Client): Promise<number | undefined> =>
  (await client.query<{ port: number }>('select inet_server_port() as port')).rows[0]?.port

/** Waits until a session has been ended by the other side. */
async function ended(client: Client): Promise<void> {
  await until('the session is ended', () =>
    client.query('select 1').then(
      () => false,
      () => true,
    ),
  )
}

/** One read session on each replica. */
async function sessionOnEach(): Promise<{ b: Client; c: Client }> {
  const [b, c] = cluster.replicas
  const found = new Map<number, Client>()
  await until('a session on each replica', async () => {
    const client = await session(readPort)
    found.set((await whereIs(client))!, client)
    return found.has(b!.port) && found.has(c!.port)
  })
  return { b: found.get(b!.port)!, c: found.get(c!.port)! }
}

const operations = (): Operations => operationsOn(host)

async function sessionsOn(name: string): Promise<number> {
  return (await proxyCounters(host.config.admin.port)).nodes[name]?.sessions ?? 0
}

test('a replica killed with -9 takes only its own sessions along, and is back by itself when it is', async () => {
  const { b, c } = await sessionOnEach()
  const writer = await session(port)
  await killServer(cluster.replicas[0]!)
  await ended(b)
  assert.equal(await whereIs(c), cluster.replicas[1]!.port)
  assert.equal(await whereIs(writer), cluster.primary.port)
  // Nobody is refused meanwhile, not even before the probe has noticed.
  for (let round = 0; round < 6; round++)
    assert.equal(await whereIs(await session(readPort)), cluster.replicas[1]!.port)
  await cluster.replicas[0]!.start()
  await until(
    'the replica serves again',
    async () => (await whereIs(await session(readPort))) === cluster.replicas[0]!.port,
  )
})

test('a replica that hangs is left out after the timeout, and its clients are told nothing wrong', async () => {
  await freezeServer(cluster.replicas[0]!)
  try {
    const answers = await Promise.all(Array.from({ length: 6 }, async () => whereIs(await session(readPort))))
    assert.deepEqual([...new Set(answers)], [cluster.replicas[1]!.port])
    await until(
      'the topology knows',
      () => host.watcher.current().nodes.find(node => node.name === 'b')?.readable === false,
    )
  } finally {
    await thawServer(cluster.replicas[0]!)
  }
  await until(
    'it is back',
    () => host.watcher.current().nodes.find(node => node.name === 'b')?.readable === true,
  )
})

test('sessions that hold nothing leave a drained replica at once, without their clients noticing', async () => {
  const { b } = await sessionOnEach()
  const onB = [b]
  while (onB.length < 4) {
    const client = await session(readPort)
    if ((await whereIs(client)) === cluster.replicas[0]!.port) onB.push(client)
  }
  // What is not shared state is carried along: settings, and statements prepared in either way.
  await onB[0]!.query("set search_path = pg_catalog; set statement_timeout = '77s'")
  await onB[1]!.query({ name: 'by-name', text: 'select $1::int + 1 as next', values: [1] })
  await onB[2]!.query('prepare by_sql (int) as select $1 * 2 as twice')
  const startedMs = performance.now()
  await setNodeState(operations(), 'b', 'drain', false)
  await until('b is empty', async () => {
    const rows = await cluster.replicas[0]!.query(
      "select 1 from pg_stat_activity where application_name = '' and backend_type = 'client backend' and pid <> pg_backend_pid()",
    )
    return rows.length === 0
  })
  assert.ok(performance.now() - startedMs < 1000, 'long before the drain timeout')
  const c = cluster.replicas[1]!.port
  assert.deepEqual(await Promise.all(onB.map(whereIs)), [c, c, c, c])
  const settings = await onB[0]!.query(
    "select current_setting('search_path') as path, current_setting('statement_timeout') as timeout",
  )
  assert.deepEqual(settings.rows, [{ path: 'pg_catalog', timeout: '77s' }])
  assert.deepEqual(
    (await onB[1]!.query({ name: 'by-name', text: 'select $1::int + 1 as next', values: [41] })).rows,
    [{ next: 42 }],
  )
  assert.deepEqual((await onB[2]!.query('execute by_sql(21)')).rows, [{ twice: 42 }])
  await until(
    'the sessions are counted on c',
    async () => (await sessionsOn('b')) === 0 && (await sessionsOn('c')) >= 4,
  )

  await setNodeState(operations(), 'b', 'active', false)
  await until(
    'b takes sessions again',
    async () => (await whereIs(await session(readPort))) === cluster.replicas[0]!.port,
  )
})

test('a drained node lets a transaction end, and a session that cannot be moved stay for the drain timeout', async () => {
  const { b } = await sessionOnEach()
  const busy = [b]
  while (busy.length < 3) {
    const client = await session(readPort)
    if ((await whereIs(client)) === cluster.replicas[0]!.port) busy.push(client)
  }
  const [inTransaction, hidden, locked] = busy as [Client, Client, Client]
  await inTransaction.query('begin')
  await hidden.query("set app.tenant = '7'")
  await locked.query('select pg_advisory_lock(7)')
  await setNodeState(operations(), 'b', 'drain', false)
  await until(
    'the drain is applied',
    () => host.proxy!.appliedRevision >= host.watcher.current().intentRevision,
  )
  const bPort = cluster.replicas[0]!.port
  assert.deepEqual(await Promise.all(busy.map(whereIs)), [bPort, bPort, bPort])
  const { rows } = await hidden.query("select current_setting('app.tenant') as tenant")
  assert.deepEqual(rows, [{ tenant: '7' }])
  // The advisory lock and the made-up setting keep their sessions there, which end when the time is up.
  for (const client of [hidden, locked]) {
    await ended(client)
  }
  assert.equal(await whereIs(inTransaction), bPort)
  await inTransaction.query('commit')
  await ended(inTransaction)
  await setNodeState(operations(), 'b', 'active', false)
})

test('what a server says when it ends a session reaches the client once', async () => {
  const client = await WireClient.open(port)
  clients.push(client)
  await cluster.primary.query(`select pg_terminate_backend(${client.processId})`)
  const error = await client.refused()
  assert.equal(error.get('C'), '57P01')
  assert.match(error.get('M') ?? '', /^terminating connection due to administrator command/)
  assert.equal(client.received.filter(({ code }) => code === 'E').length, 1)
})

test('a worker killed with -9 takes only its own clients along, and is replaced', async () => {
  const sessions = await Promise.all([1, 2, 3, 4].map(() => session(port)))
  const [victim] = host.proxy!.workers
  process.kill(victim!.pid, 'SIGKILL')
  const alive = async (): Promise<number> => {
    const results = await Promise.allSettled(sessions.map(client => client.query('select 1')))
    return results.filter(result => result.status === 'fulfilled').length
  }
  await until('half of them are gone', async () => (await alive()) === 2)
  await until(
    'it is replaced',
    () => host.proxy!.workers.filter(({ pid }) => pid !== victim!.pid).length === 2,
  )
  assert.equal(host.proxy!.crashes, 1)
  for (let round = 0; round < 4; round++)
    assert.equal(await whereIs(await session(port)), cluster.primary.port)
  assert.equal(await alive(), 2)
})

test('with no connection left a client waits for one, and is told when its time is up', async () => {
  await host.stop()
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.pool_mode': 'session',
    'proxy.workers': 1,
    'proxy.default_pool_size': 1,
    'proxy.query_wait_timeout': '600ms',
  })
  host = await startTestHost(config)
  const first = await session(config.proxy.port)
  await first.query('select 1')
  await assert.rejects(query(config.proxy.port, 'select 1'), (error: Error & { code?: string }) => {
    assert.equal(error.code, '53300')
    assert.match(error.message, /no connection to a became free within 600 ms \(query_wait_timeout\)/)
    return true
  })
  const waiting = query(config.proxy.port, 'select 7 as seven')
  await until(
    'the client is counted as waiting',
    async () => (await proxyCounters(config.admin.port)).nodes['a']?.waiting === 1,
  )
  await first.end()
  assert.deepEqual(await waiting, [{ seven: 7 }])
})

test('a stop lets a transaction end and ends idle sessions at once', async () => {
  const idle = await session(port)
  const busy = await session(port)
  await busy.query('begin')
  const stopping = host.stop()
  await ended(idle)
  const { rows } = await busy.query<{ one: number }>('select 1 as one')
  assert.deepEqual(rows, [{ one: 1 }])
  await busy.query('commit').catch(() => undefined)
  await stopping
})

// These two change the cluster for good, so they come last.

test('with two who claim to be primary writes stop, sessions are cut, and reads go on', async () => {
  const writer = await session(port)
  await cluster.replicas[1]!.promote()
  await until('the conflict is seen', () => host.watcher.current().conflict.length === 2)
  await assert.rejects(writer.query('select 1'))
  assert.equal(await whereIs(await session(readPort)), cluster.replicas[0]!.port)
  const response = await fetch(`http://127.0.0.1:${host.config.admin.port}/metrics`)
  assert.match(await response.text(), /pgherd_topology_alarms [1-9]/)
  await cluster.replicas[1]!.stop()
  await until('one is left', () => host.watcher.current().conflict.length === 0)
  assert.equal(await whereIs(await session(port)), cluster.primary.port)
})

test('a replica promoted by hand takes the writes over: who comes meanwhile waits, and is not refused', async () => {
  const old = await session(port)
  await cluster.primary.stop()
  const waiting = session(port)
  await assert.rejects(old.query('select 1'))
  await cluster.replicas[0]!.promote()
  const writer = await waiting
  assert.equal(await whereIs(writer), cluster.replicas[0]!.port)
  await writer.query('create table after_promotion ()')
  assert.equal(host.watcher.current().primary, 'b')
})
