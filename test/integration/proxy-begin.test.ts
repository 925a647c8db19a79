import assert from 'node:assert/strict'
import { connect as connectTo, createServer, type Server, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import {
  frame,
  readErrorFields,
  sync,
  writeBind,
  writeBindText,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { freePorts } from '../support/ports.ts'
import { caughtUp, connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { type Received, WireClient } from '../support/wire-client.ts'

/**
 * A BEGIN is answered by the proxy and goes to a server with the first statement: what clients see must be, byte for
 * byte, what a connection of their own would tell.
 */
let cluster: TestCluster
let host: Host
let link: EditingLink

/** Passes bytes on to a server, but for a text in place of which another one of the same length goes. */
class EditingLink {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(target: number, from: string, to: string) {
    this.#server = createServer(near => {
      const far = connectTo({ port: target, host: '127.0.0.1' })
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one)
        one.on('error', () => {})
        one.on('close', () => other.destroy())
      }
      far.on('data', chunk => near.write(chunk))
      near.on('data', (chunk: Buffer) => {
        const at = chunk.indexOf(from)
        if (at >= 0) chunk.write(to, at, 'latin1')
        far.write(chunk)
      })
    })
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(port, '127.0.0.1', resolve))
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

const begins = 'BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE'

before(async () => {
  cluster = await startTestCluster({ replicas: 1 })
  // What a server may have against a BEGIN at any time is made up: it gets a word that it does not know.
  const [port] = await freePorts(1)
  link = new EditingLink(cluster.primary.port, begins, begins.replace('WRITE', 'WROTE'))
  await link.listen(port!)
  const [replica] = cluster.replicas
  host = await startTestHost(
    await testConfig(
      [
        { name: 'a', port: port! },
        { name: 'b', port: replica!.port },
      ],
      {
        'proxy.pool_mode': 'auto',
        'proxy.workers': 1,
        'proxy.default_pool_size': 3,
        'proxy.failover_wait': '20s',
        'proxy.users': { hasty: { idle_transaction_timeout: '1s' }, single: { pool_size: 1 } },
      },
    ),
  )
  await untilRolesAreKnown(host)
  const setUp = await connect(cluster.primary.port)
  await setUp.query(
    'create role hasty login superuser; create role single login superuser; create table t (i int unique)',
  )
  await setUp.end()
})

after(async () => {
  await host?.stop()
  await link?.close()
  await cluster?.stop()
})

const P = (name: string, sql: string): Buffer => writeParse(name, sql, [])
const B = (name: string, ...values: string[]): Buffer => writeBindText('', name, values)
const E = writeExecute('')
const D = frame(0x44, Buffer.from('P\0'))
const H = frame(0x48, Buffer.alloc(0))
const Q = writeQuery
const S = sync

/** Sends messages in one piece and gives back what came, as text; what servers report about themselves left out. */
async function ask(client: WireClient, ready: number, ...messages: Buffer[]): Promise<string[]> {
  return told(await receive(client, ready, ...messages))
}

async function receive(client: WireClient, ready: number, ...messages: Buffer[]): Promise<Received[]> {
  const from = client.received.length
  client.send(Buffer.concat(messages))
  const count = (): number => client.received.slice(from).filter(({ code }) => code === 'Z').length
  await until('the answers', () => count() >= ready || client.closed)
  assert.equal(client.closed, false, `the connection was closed: ${client.error?.get('M')}`)
  return client.received.slice(from)
}

function told(received: readonly Received[]): string[] {
  return received
    .filter(({ code }) => code !== 'S')
    .map(({ code, body }) => `${code} ${body.toString('latin1')}`)
}

const deferred = async (): Promise<number> => (await proxyCounters(host.config.admin.port)).beginsDeferred

/** Waits until what the workers tell now and then is what they have counted. */
async function untilDeferred(count: number): Promise<void> {
  await until(`${count} transactions were begun without a server`, async () => (await deferred()) >= count)
}

type Scenario = (open: () => Promise<WireClient>) => Promise<string[][]>

/** Runs a scenario both ways and compares; through the proxy at least `begun` transactions must have waited. */
function sameBothWays(name: string, begun: number, scenario: Scenario): void {
  test(name, async () => {
    const answers: string[][][] = []
    const before = await deferred()
    for (const port of [cluster.primary.port, host.config.proxy.port]) {
      const setUp = await connect(cluster.primary.port)
      await setUp.query('drop schema public cascade; create schema public; create table t (i int unique)')
      await setUp.end()
      const clients: WireClient[] = []
      answers.push(
        await scenario(async () => {
          const client = await WireClient.open(port)
          clients.push(client)
          return client
        }),
      )
      for (const client of clients) client.close()
    }
    assert.deepEqual(answers[1], answers[0])
    await untilDeferred(before + begun)
    assert.equal(host.proxy!.crashes, 0)
  })
}

/** Every way to send a statement alone. */
const ways: Record<string, (sql: string) => Buffer> = {
  simple: sql => Q(sql),
  extended: sql => Buffer.concat([P('', sql), B(''), E, S]),
  described: sql => Buffer.concat([P('', sql), B(''), D, E, S]),
  binary: sql =>
    Buffer.concat([P('', sql), frame(0x42, Buffer.from('\0\0\0\0\0\0\0\x01\0\x01', 'latin1')), E, S]),
  plain: sql => Buffer.concat([P('', sql), writeBind('', ''), E, S]),
}
const texts = [
  'BEGIN',
  'begin;',
  'start transaction',
  'Begin Transaction isolation level repeatable read, read only;',
  'begin isolation level serializable deferrable',
  'begin read write not deferrable',
]
const show = `select current_setting('transaction_isolation'), current_setting('transaction_read_only'),
  current_setting('transaction_deferrable')`

for (const [way, write] of Object.entries(ways)) {
  sameBothWays(`every form of BEGIN, COMMIT and ROLLBACK, sent ${way}`, 3 * texts.length, async open => {
    const client = await open()
    const answers: string[][] = []
    for (const text of texts) {
      answers.push(await ask(client, 1, write(text)), await ask(client, 1, write(show)))
      answers.push(
        await ask(client, 1, write('insert into t values (1)')),
        await ask(client, 1, write('commit')),
      )
      answers.push(await ask(client, 1, write(text)), await ask(client, 1, write('rollback;')))
      answers.push(await ask(client, 1, write(text)), await ask(client, 1, write('END')))
      answers.push(await ask(client, 1, write('delete from t')), await ask(client, 1, write('abort')))
    }
    return answers
  })
}

sameBothWays('named statements that begin and commit', 3, async open => {
  const client = await open()
  const answers = [
    await ask(client, 1, P('b', 'begin;'), S),
    await ask(client, 1, P('c', 'commit;'), frame(0x44, Buffer.from('Sc\0')), S),
    await ask(client, 1, P('i', 'insert into t values ($1)'), S),
  ]
  for (const value of ['1', '2', '2']) {
    answers.push(await ask(client, 1, B('b'), D, E, S))
    answers.push(await ask(client, 1, B('i', value), D, E, S))
    answers.push(await ask(client, 1, B('c'), E, S))
  }
  return [...answers, await ask(client, 1, Q('deallocate b')), await ask(client, 1, B('b'), E, S)]
})

sameBothWays('the first request of a transaction may be anything', 20, async open => {
  const client = await open()
  const firsts: [number, ...Buffer[]][] = [
    [1, Q('begin read only')],
    [1, Q('start transaction; select 1')],
    [1, Q('commit; select 1')],
    [1, Q('commit and chain')],
    [1, Q('rollback to savepoint none')],
    [1, Q('savepoint one')],
    [1, Q('set transaction isolation level repeatable read')],
    [1, Q('set transaction read only; insert into t values (7)')],
    [1, Q("set local work_mem = '123kB'")],
    [1, Q('select 1/0')],
    [1, Q('selec')],
    [1, Q('')],
    [1, Q('discard all')],
    [1, Q('vacuum t')],
    [1, Q('create temporary table mine (i int) on commit drop')],
    [1, Q('declare c cursor for select generate_series(1, 3)')],
    [1, Q("prepare transaction 'x'")],
    [1, S],
    [1, H, S],
    [1, P('', 'select $1::int + 1'), B('', '41'), D, E, S],
    [1, P('', 'select $1::int + 1'), B('', 'x'), D, E, S],
    [1, P('', 'nonsense'), S],
    [1, B(''), E, S],
    [3, Q('insert into t values (1)'), Q('select count(*) from t'), Q('select 1/0')],
    [3, P('', 'select 1'), B(''), E, S, P('', 'select 1/0'), B(''), E, S, Q('select 2')],
    [1, Q('copy t from stdin'), frame(0x64, Buffer.from('5\n')), frame(0x63, Buffer.alloc(0))],
  ]
  const answers: string[][] = []
  for (const [ready, ...first] of firsts) {
    answers.push(await ask(client, 1, Q('begin')), await ask(client, ready, ...first))
    answers.push(await ask(client, 1, Q(show)), await ask(client, 1, Q('select count(*) from t')))
    answers.push(await ask(client, 1, Q('rollback')), await ask(client, 1, Q('reset all')))
  }
  return answers
})

sameBothWays('the unnamed statement is what PostgreSQL would have', 3, async open => {
  const client = await open()
  return [
    await ask(client, 1, P('', 'select 1'), S),
    await ask(client, 1, P('', 'begin'), B(''), E, S),
    // BEGIN once more, which warns.
    await ask(client, 1, B(''), E, S),
    await ask(client, 1, Q('rollback')),
    await ask(client, 1, P('', 'select 1'), S),
    await ask(client, 1, Q('begin')),
    await ask(client, 1, B(''), E, S),
    await ask(client, 1, P('', 'rollback'), B(''), E, S),
    await ask(client, 1, Q('begin')),
    await ask(client, 1, P('', 'commit'), B(''), E, S),
    // COMMIT once more, which warns.
    await ask(client, 1, B(''), E, S),
  ]
})

sameBothWays('what has parameters or formats that it should not have', 0, async open => {
  const client = await open()
  const formats = Buffer.from('\0\0\0\0\0\0\0\x01\0\x07', 'latin1')
  return [
    await ask(client, 1, P('', 'begin'), B('', 'x'), E, S),
    await ask(client, 1, writeParse('', 'begin', [23]), B(''), E, S),
    await ask(client, 1, Q('rollback')),
    await ask(client, 1, P('', 'begin'), frame(0x42, formats), E, S),
    await ask(client, 1, Q('rollback')),
  ]
})

sameBothWays('a first statement of more than a megabyte', 1, async open => {
  const client = await open()
  const long = `select length('${'x'.repeat(1_200_000)}')`
  return [
    await ask(client, 1, Q('begin')),
    await ask(client, 2, Q(long), Q('insert into t values (1)')),
    await ask(client, 1, Q('rollback')),
    await ask(client, 1, Q('select count(*) from t')),
  ]
})

sameBothWays('in pieces, however they are cut', 0, async open => {
  const client = await open()
  const stream = Buffer.concat([Q('begin'), P('', 'insert into t values (3)'), B(''), E, S, Q('rollback')])
  for (let at = 1; at < stream.length; at += 3) {
    const from = client.received.length
    client.send(stream.subarray(0, at))
    await pause(systemTimers, 2)
    client.send(stream.subarray(at))
    const ready = (): number => client.received.slice(from).filter(({ code }) => code === 'Z').length
    await until('the answers', () => ready() >= 3)
  }
  return [told(client.received.slice(1).filter(({ code }) => 'CZE'.includes(code)))]
})

test('a transaction without a statement needs no server, and one that is begun goes to whichever is free', async () => {
  const [a, b] = [
    await WireClient.open(host.config.proxy.port, { user: 'single' }),
    await WireClient.open(host.config.proxy.port, { user: 'single' }),
  ]
  await ask(a, 1, Q('begin; select 1'))
  const before = await proxyCounters(host.config.admin.port)
  // Of the one connection nothing is free now.
  for (let count = 0; count < 3; count++) {
    assert.deepEqual(await ask(b, 1, Q('begin')), ['C BEGIN\0', 'Z T'])
    assert.deepEqual(await ask(b, 1, Q('commit')), ['C COMMIT\0', 'Z I'])
  }
  assert.deepEqual(await ask(b, 1, Q('begin')), ['C BEGIN\0', 'Z T'])
  await ask(a, 1, Q('commit'))
  assert.deepEqual((await ask(b, 1, Q('select 5'))).slice(1), ['D \0\x01\0\0\0\x015', 'C SELECT 1\0', 'Z T'])
  await ask(b, 1, Q('commit'))
  await until('all is counted', async () => {
    const now = await proxyCounters(host.config.admin.port)
    return now.beginsDeferred >= before.beginsDeferred + 4 && now.beginsSpared >= before.beginsSpared + 3
  })
  for (const client of [a, b]) client.close()
})

test('a request that is cancelled while it waits for a server leaves a failed transaction', async () => {
  const [a, b] = [
    await WireClient.open(host.config.proxy.port, { user: 'single' }),
    await WireClient.open(host.config.proxy.port, { user: 'single' }),
  ]
  const cancelled = async (): Promise<void> => {
    await ask(b, 1, Q('begin'))
    const from = b.received.length
    b.send(Q('insert into t values (77)'))
    const ready = (): boolean => b.received.slice(from).some(({ code }) => code === 'Z')
    while (!ready()) {
      const socket = connectTo({ port: host.config.proxy.port, host: '127.0.0.1' })
      socket.on('error', () => {})
      socket.write(writeCancelRequest(b.processId, b.secret))
      await until('the cancel request was taken', () => socket.destroyed || ready())
      await pause(systemTimers, 20)
    }
    assert.equal(b.error?.get('C'), '57014')
    assert.equal(b.received.at(-1)!.body.toString(), 'E')
  }
  await ask(a, 1, Q('begin; select 1'))
  await cancelled()
  assert.deepEqual(await ask(b, 1, Q('commit')), ['C ROLLBACK\0', 'Z I'])
  await cancelled()
  await ask(a, 1, Q('commit'))
  const refused = await receive(b, 1, Q('insert into t values (78)'))
  assert.equal(readErrorFields(refused[0]!.body).get('C'), '25P02')
  assert.equal(refused.at(-1)!.body.toString(), 'E')
  assert.deepEqual(await ask(b, 1, Q('commit')), ['C ROLLBACK\0', 'Z I'])
  assert.ok((await ask(b, 1, Q('select count(*) from t where i > 70')))[1]!.endsWith('0'))
  for (const client of [a, b]) client.close()
})

test('a BEGIN that the server refuses is told in the answer to the first request', async () => {
  const open = (): Promise<WireClient> => WireClient.open(host.config.proxy.port)
  const answer = async (client: WireClient, ready: number, ...messages: Buffer[]): Promise<string[]> => {
    assert.deepEqual(await ask(client, 1, Q(begins)), ['C BEGIN\0', 'Z T'])
    const received = await receive(client, ready, ...messages)
    return received
      .filter(({ code }) => code !== 'S')
      .map(({ code, body }) =>
        code === 'E' ? `E ${readErrorFields(body).get('C')}` : `${code} ${body.toString()}`,
      )
  }
  const client = await open()
  const insert = 'insert into t values (99)'
  assert.deepEqual(await answer(client, 1, Q(insert)), ['E 42601', 'Z I'])
  assert.deepEqual(await answer(client, 1, P('', insert), B(''), E, S), ['E 42601', 'Z I'])
  assert.deepEqual(await answer(client, 1, Q(`/* ${'x'.repeat(100_000)} */ ${insert}`)), ['E 42601', 'Z I'])
  // What follows such a request runs as it would behind a BEGIN that has failed.
  assert.deepEqual((await answer(client, 2, Q(insert), Q('select 1'))).slice(0, 2), ['E 42601', 'Z I'])
  const pipeline = [P('', insert), B(''), E, S, P('', 'select 1'), B(''), E, S]
  assert.deepEqual((await answer(client, 2, ...pipeline)).slice(0, 2), ['E 42601', 'Z I'])
  assert.ok((await ask(client, 1, Q('select count(*) from t where i = 99')))[1]!.endsWith('0'))
  client.close()
  // Of one that is too long to be held back the rest is not waited for.
  const other = await open()
  await ask(other, 1, Q(begins))
  other.send(Q(`/* ${'x'.repeat(2_000_000)} */ ${insert}`).subarray(0, 1_500_000))
  assert.equal((await other.refused()).get('V'), 'FATAL')
  assert.equal(host.proxy!.crashes, 0)
})

test('on the port for reads only what every standby takes is answered here', async () => {
  await caughtUp(cluster.primary, cluster.replicas[0]!)
  const [direct, pooled] = [
    await WireClient.open(cluster.replicas[0]!.port),
    await WireClient.open(host.config.proxy.read_port),
  ]
  const before = await deferred()
  const requests = [
    'begin read write',
    'begin isolation level serializable',
    'begin',
    show,
    'insert into t values (1)',
    'commit',
    'begin read only',
    'select 1',
    'commit',
  ]
  for (const sql of requests)
    assert.deepEqual(await ask(pooled, 1, Q(sql)), await ask(direct, 1, Q(sql)), sql)
  await untilDeferred(before + 2)
  for (const client of [direct, pooled]) client.close()
})

test('who begins and does nothing is ended by idle_transaction_timeout', async () => {
  const client = await WireClient.open(host.config.proxy.port, { user: 'hasty' })
  await ask(client, 1, Q('begin'))
  const error = await client.refused()
  assert.equal(error.get('C'), '25P03')
})

test('a transaction that is only begun outlives the server that its client had', async () => {
  const client = await WireClient.open(host.config.proxy.port)
  await ask(client, 1, Q('select 1'))
  await ask(client, 1, Q('begin isolation level repeatable read'))
  await cluster.primary.stop('immediate')
  await cluster.primary.start()
  assert.ok((await ask(client, 1, Q('show transaction_isolation')))[1]!.endsWith('repeatable read'))
  assert.deepEqual(await ask(client, 1, Q('commit')), ['C COMMIT\0', 'Z I'])
  client.close()
})
