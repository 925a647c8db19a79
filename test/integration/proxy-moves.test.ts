import assert from 'node:assert/strict'
import { connect as connectSocket, createServer, type Server, type Socket } from 'node:net'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import type { Made, Operations } from '../../src/topology/intent-change.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { operationsOn, startTestHost, testConfig } from '../support/host.ts'
import { caughtUp, connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Sessions that are moved off a drained replica: what must survive, and what must keep them where they are. */
let cluster: TestCluster
let host: Host
let readPort: number
const clients: (Client | WireClient)[] = []
/** In front of replica c: may be told to swallow what c says. */
let shim: Server
let stalls = false

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
  shim = createServer(socket => pipeThroughShim(socket))
  await new Promise<void>(resolve => shim.listen(0, '127.0.0.1', resolve))
})

after(async () => {
  shim?.close()
  await cluster?.stop()
})

function pipeThroughShim(socket: Socket): void {
  const server = connectSocket({ port: cluster.replicas[1]!.port, host: '127.0.0.1' })
  socket.on('data', chunk => server.write(chunk))
  server.on('data', chunk => {
    if (!stalls) socket.write(chunk)
    // Only AuthenticationOk, and then nothing.
    else socket.write(chunk.subarray(0, 9))
  })
  for (const [one, other] of [
    [socket, server],
    [server, socket],
  ] as const) {
    one.on('close', () => other.destroy())
    one.on('error', () => other.destroy())
  }
}

beforeEach(async () => {
  stalls = false
  const shimPort = (shim.address() as { port: number }).port
  const [b] = cluster.replicas
  const servers = [
    { name: 'a', port: cluster.primary.port },
    { name: 'b', port: b!.port },
    { name: 'c', port: shimPort },
  ]
  const config = await testConfig(servers, {
    'proxy.pool_mode': 'session',
    'proxy.workers': 1,
    'routing.drain_timeout': '1h',
    'proxy.server_connect_timeout': '800ms',
  })
  host = await startTestHost(config)
  readPort = config.proxy.read_port
  await until('the roles are known', () =>
    host.watcher.current().nodes.every(node => node.writable || node.readable),
  )
})

afterEach(async () => {
  for (const client of clients.splice(0)) {
    if (client instanceof WireClient) client.close()
    else await client.end().catch(() => undefined)
  }
  await host?.stop()
})

const operations = (): Operations => operationsOn(host)
const drain = (name: string): Promise<Made> => setNodeState(operations(), name, 'drain', true)
const moved = (): number => host.proxy!.counters().nodes['b']?.moved ?? 0

/** A session on b, made with a driver. */
async function onB(parameters: Parameters<typeof connect>[1] = {}): Promise<Client> {
  return until('a session on b', async () => {
    const client = await connect(readPort, parameters)
    clients.push(client)
    return (await whereIs(client)) === cluster.replicas[0]!.port ? client : undefined
  })
}

async function whereIs(client: Client): Promise<number | undefined> {
  return (await client.query<{ port: number }>('select inet_server_port() as port')).rows[0]?.port
}

async function drained(): Promise<void> {
  const { revision } = await drain('b')
  await until('the drain is applied', () => host.proxy!.appliedRevision >= revision)
}

const stays = async (client: Client): Promise<void> => {
  await drained()
  await client.query('select 1')
  assert.equal(await whereIs(client), cluster.replicas[0]!.port)
  assert.equal(moved(), 0)
}

test('a notice at the login hinders neither a login nor a move', async () => {
  await cluster.primary.query('alter role postgres set temp_tablespaces = nowhere_at_all')
  try {
    for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
    const client = await WireClient.open(readPort)
    clients.push(client)
    const codes = client.received.map(({ code }) => code)
    assert.equal(codes[0], 'R', `the login begins with AuthenticationOk, not ${codes.join('')}`)
    const driver = await onB()
    await drained()
    await until('the session has moved', async () => (await whereIs(driver)) === cluster.replicas[1]!.port)
  } finally {
    await cluster.primary.query('alter role postgres reset temp_tablespaces')
  }
})

test('a session in another encoding stays, whatever it has prepared', async () => {
  for (const encoding of ['SJIS', 'LATIN1']) {
    const client = await onB()
    await client.query(`set client_encoding = '${encoding}'`)
    await client.query('prepare p as select 1')
    await stays(client)
    await setNodeState(operations(), 'b', 'active', true)
    await until('b is back', () => host.watcher.current().nodes[1]?.readable === true)
  }
  assert.equal(host.proxy!.crashes, 0)
})

test('a statement that was prepared together with others is never run again', async () => {
  const client = await onB()
  await assert.rejects(client.query('prepare p as select 1; insert into pg_class default values'))
  await client.query('select 1')
  await stays(client)
})

test('the unnamed statement survives, moved or not', async () => {
  for (const obstacle of [undefined, 'select pg_advisory_lock(1)']) {
    const client = await until('a session on b', async () => {
      const each = await WireClient.open(readPort)
      clients.push(each)
      const row = (await each.query('select inet_server_port()')).find(({ code }) => code === 'D')
      return row?.body.toString().endsWith(String(cluster.replicas[0]!.port)) ? each : undefined
    })
    if (obstacle) await client.query(obstacle)
    let from = client.received.length
    client.send(Buffer.concat([message('P', '\0select 41 + 1\0\0\0'), message('S', '')]))
    await client.ready(from)
    await drained()
    if (!obstacle) await until('it has moved', () => moved() === 1)
    from = client.received.length
    client.send(
      Buffer.concat([message('B', '\0\0\0\0\0\0\0\0'), message('E', '\0\0\0\0\0'), message('S', '')]),
    )
    await client.ready(from)
    const row = client.received.slice(from).find(({ code }) => code === 'D')
    assert.match(row?.body.toString() ?? '', /42$/)
    await setNodeState(operations(), 'b', 'active', true)
    await until('b is back', () => host.watcher.current().nodes[1]?.readable === true)
  }
})

test('functions that set made-up settings keep sessions where they are, those that only update do not', async () => {
  await cluster.primary.query(`
    create table counted (n int);
    create function bump() returns void language plpgsql as $$ begin update counted set n = n + 1; end $$`)
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  const free = await onB()
  await drained()
  await until('it has moved', async () => (await whereIs(free)) === cluster.replicas[1]!.port)
  await setNodeState(operations(), 'b', 'active', true)
  await until('b is back', () => host.watcher.current().nodes[1]?.readable === true)
  await cluster.primary.query(
    "create function become(t text) returns text language sql begin atomic select set_config('app.tenant', t, false); end",
  )
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  const bound = await onB()
  await bound.query("select become('7')")
  await drained()
  const { rows } = await bound.query("select current_setting('app.tenant', true) as tenant")
  assert.deepEqual(rows, [{ tenant: '7' }])
  await cluster.primary.query('drop function become; drop function bump; drop table counted')
})

test('many and long prepared statements keep a session where it is, alive', async () => {
  const client = await onB()
  for (let index = 0; index < 100; index++) {
    await client.query(`prepare p${index} as select '${'x'.repeat(5000)}'`)
  }
  await stays(client)
  assert.equal((await client.query('execute p99')).rows.length, 1)
})

test('a session is not moved to where it would see less than it has seen', async () => {
  const [, c] = cluster.replicas
  await c!.query('select pg_wal_replay_pause()')
  try {
    await cluster.primary.query('create table seen (n int); insert into seen values (1)')
    await caughtUp(cluster.primary, cluster.replicas[0]!)
    const client = await onB()
    assert.equal((await client.query('table seen')).rows.length, 1)
    await drained()
    const reading = client.query('table seen')
    await c!.query('select pg_wal_replay_resume()')
    assert.equal((await reading).rows.length, 1)
    await until('it has moved', async () => (await whereIs(client)) === c!.port)
    assert.equal((await client.query('table seen')).rows.length, 1)
  } finally {
    await c!.query('select pg_wal_replay_resume()')
    await cluster.primary.query('drop table seen')
  }
})

test('sessions come back to a replica that has come back', async () => {
  const some = await Promise.all(Array.from({ length: 8 }, () => onB()))
  await drained()
  await until('all have moved', () => host.proxy!.counters().nodes['b']?.sessions === 0)
  await setNodeState(operations(), 'b', 'active', true)
  await until('the share of b is back', () => {
    const { nodes } = host.proxy!.counters()
    return Math.abs((nodes['b']?.sessions ?? 0) - (nodes['c']?.sessions ?? 0)) <= 1
  })
  await Promise.all(some.map(client => client.query('select 1')))
})

test('a node that falls silent in the middle of a move leaves the session where it was', async () => {
  const client = await onB()
  stalls = true
  await drained()
  const { rows } = await client.query('select 42 as answer')
  assert.deepEqual(rows, [{ answer: 42 }])
  assert.equal(moved(), 0)
  await until('nothing is left of the attempt', () => host.proxy!.counters().nodes['c']?.connecting === 0)
})

test('a session that came to the primary while there was no replica is not ended when one returns', async () => {
  await drain('b')
  await drain('c')
  await until('reads go to the primary', () => host.watcher.current().nodes.every(node => !node.readable))
  const client = await connect(readPort)
  clients.push(client)
  await client.query('listen something')
  assert.equal(await whereIs(client), cluster.primary.port)
  await setNodeState(operations(), 'c', 'active', true)
  await until('c is back', () => host.watcher.current().nodes[2]?.readable === true)
  await until(
    'that has been tried',
    () => host.proxy!.appliedRevision >= host.watcher.current().intentRevision,
  )
  assert.equal(await whereIs(client), cluster.primary.port)
  let notices = 0
  client.on('notification', () => notices++)
  await cluster.primary.query("notify something, 'x'")
  await until('the notification', async () => {
    await client.query('select 1')
    return notices === 1
  })
})

function message(code: string, body: string): Buffer {
  const bytes = Buffer.from(body)
  const head = Buffer.alloc(5)
  head.write(code)
  head.writeUInt32BE(bytes.length + 4, 1)
  return Buffer.concat([head, bytes])
}
