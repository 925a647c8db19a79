import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Client as PgClient } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { frame, sync, writeBindText, writeExecute, writeParse, writeQuery } from '../../src/wire/messages.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Pool mode `auto`: what clients share, what they do not, and what keeps a client at its connection. */
const poolSize = 4

let cluster: TestCluster
let host: Host
let port: number

before(async () => {
  cluster = await startTestCluster({ replicas: 0 })
  host = await startTestHost(
    await testConfig([{ name: cluster.primary.name, port: cluster.primary.port }], {
      'proxy.pool_mode': 'auto',
      'proxy.workers': 1,
      'proxy.default_pool_size': poolSize,
      'proxy.databases': { statements: { pool_mode: 'statement', dbname: 'postgres' } },
      'proxy.users': { in_transactions: { pool_mode: 'transaction' } },
    }),
  )
  port = host.config.proxy.port
  await untilRolesAreKnown(host)
  await query(cluster.primary.port, 'create role in_transactions login superuser')
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const open: PgClient[] = []
async function client(options: Record<string, unknown> = {}): Promise<PgClient> {
  const one = await connect(port, options)
  open.push(one)
  return one
}

async function withClients(count: number, run: (clients: PgClient[]) => Promise<void>): Promise<void> {
  const clients = await Promise.all(Array.from({ length: count }, () => client()))
  try {
    await run(clients)
  } finally {
    await Promise.all(open.splice(0).map(each => each.end()))
  }
}

async function one(client: PgClient, sql: string, values?: unknown[]): Promise<unknown> {
  const { rows } = await client.query<Record<string, unknown>>(sql, values)
  return rows[0] && Object.values(rows[0])[0]
}

const serverProcess = (client: PgClient): Promise<unknown> => one(client, 'select pg_backend_pid()')
const pins = async (): Promise<Record<string, number>> => (await proxyCounters(host.config.admin.port)).pins

test('many clients work on few server connections', async () => {
  await withClients(50, async clients => {
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all(clients.map((each, number) => one(each, 'select $1::int', [number])))
      assert.deepEqual(answers, [...clients.keys()])
    }
    const [{ count }] = (await query<{ count: string }>(
      cluster.primary.port,
      "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() and application_name not like 'pgherd%'",
    )) as [{ count: string }]
    assert.ok(Number(count) <= poolSize, `${count} server connections`)
  })
})

test('settings stay with their client, in whatever way they were set', async () => {
  await withClients(2, async ([a, b]) => {
    assert.ok(a && b)
    await a.query("set work_mem = '7MB'")
    await b.query("select set_config('work_mem', '9MB', false)")
    for (let round = 0; round < 5; round++) {
      assert.deepEqual(await Promise.all([one(a, 'show work_mem'), one(b, 'show work_mem')]), ['7MB', '9MB'])
    }
    await a.query('begin')
    await a.query("set work_mem = '1MB'")
    await a.query('rollback')
    assert.equal(await one(a, 'show work_mem'), '7MB')
    await a.query("begin; set local work_mem = '1MB'")
    assert.equal(await one(a, 'show work_mem'), '1MB')
    await a.query('commit')
    assert.equal(await one(a, 'show work_mem'), '7MB')
    await a.query('reset all')
    assert.equal(await one(a, 'show work_mem'), '4MB')
    assert.equal(await one(b, 'show work_mem'), '9MB')
  })
})

test('a custom setting is there for its client alone: nobody else finds it, not even empty', async () => {
  await withClients(3, async ([a, b, c]) => {
    assert.ok(a && b && c)
    await a.query("set app.tenant = '7'")
    await c.query("begin; set local app.other = '8'; commit")
    for (let round = 0; round < 5; round++) {
      assert.equal(await one(a, "select current_setting('app.tenant', true)"), '7')
      assert.equal(await one(b, "select current_setting('app.tenant', true)"), null)
      assert.equal(await one(b, "select current_setting('app.other', true)"), null)
    }
  })
})

test('what a function sets is noticed, even when it was made a moment ago and elsewhere', async () => {
  await withClients(2, async ([a, b]) => {
    assert.ok(a && b)
    await query(
      cluster.primary.port,
      `create or replace function changes_things(text) returns void language plpgsql as
       $$ begin execute 'set work_mem = ' || quote_literal($1); perform set_config('app.fn', $1, false); end $$`,
    )
    await a.query("select changes_things('3MB')")
    for (let round = 0; round < 4; round++) {
      assert.equal(await one(a, 'show work_mem'), '3MB')
      assert.equal(await one(b, 'show work_mem'), '4MB')
      assert.equal(await one(b, "select current_setting('app.fn', true)"), null)
    }
  })
})

test('startup parameters reach every server connection, options included; bad ones are refused', async () => {
  const special = await client({ options: '-c work_mem=3MB --app.tenant=q', application_name: 'special' })
  await withClients(2, async ([a]) => {
    assert.ok(a)
    for (let round = 0; round < 4; round++) {
      assert.equal(await one(special, 'show work_mem'), '3MB')
      assert.equal(await one(special, 'show app.tenant'), 'q')
      assert.equal(await one(special, 'show application_name'), 'special')
      assert.equal(await one(a, 'show work_mem'), '4MB')
      assert.equal(await one(a, 'show application_name'), '')
    }
    await special.query("set work_mem = '5MB'")
    await special.query('reset work_mem')
    assert.equal(await one(special, 'show work_mem'), '3MB')
  })
  await assert.rejects(connect(port, { options: '-c work_mem=much' }), { code: '22023', severity: 'FATAL' })
  await assert.rejects(connect(port, { options: '-c nonsense=1' }), { code: '42704', severity: 'FATAL' })
})

test('what cannot be shared keeps its client at its connection, and only as long as it is there', async () => {
  const kinds: [reason: string, make: string, undo: string][] = [
    ['temporary_object', 'create temporary table tt (i int)', 'drop table tt'],
    ['listen', 'listen ch', 'unlisten *'],
    ['advisory_lock', 'select pg_advisory_lock(1)', 'select pg_advisory_unlock(1)'],
    ['held_cursor', 'declare hc cursor with hold for select 1', 'close hc'],
    ['sql_prepare', 'prepare sp as select 1', 'deallocate sp'],
    ['temporary_object', 'create temporary table td on commit drop as select 1', 'select 1'],
  ]
  await withClients(2, async ([a, b]) => {
    assert.ok(a && b)
    for (const [reason, make, undo] of kinds) {
      const before = (await pins())[reason] ?? 0
      await a.query(make)
      const process = await serverProcess(a)
      const isOver = make.includes('on commit drop')
      for (let round = 0; round < 3; round++) {
        const [mine, others]: unknown[] = await Promise.all([serverProcess(a), serverProcess(b)])
        if (!isOver) assert.equal(mine, process, make)
        if (!isOver) assert.notEqual(others, process, make)
      }
      if (!isOver) await until(`${reason} is counted`, async () => ((await pins())[reason] ?? 0) > before)
      await a.query(undo)
      // The next client that needs a connection may get that one: its own was used before.
      const clients = await Promise.all(Array.from({ length: poolSize }, () => connect(port)))
      const seen = await Promise.all(
        clients.map(async each => {
          await each.query('begin; select 1')
          return serverProcess(each)
        }),
      )
      assert.ok(isOver || seen.includes(process), `${make}: the connection is free after ${undo}`)
      await Promise.all(clients.map(each => each.end()))
    }
  })
})

test('notifications come to whoever listens', async () => {
  await withClients(2, async ([a, b]) => {
    assert.ok(a && b)
    const heard: (string | undefined)[] = []
    a.on('notification', ({ payload }) => heard.push(payload))
    await a.query('listen news')
    await b.query("notify news, 'one'")
    await until('the notification', () => heard.includes('one'))
  })
})

test('named statements follow their client', async () => {
  await withClients(8, async clients => {
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all(
        clients.map(async (each, number) => {
          const { rows } = await each.query<{ v: number }>({
            name: 'same name',
            text: `select $1::int + ${number} as v`,
            values: [round],
          })
          return rows[0]?.v
        }),
      )
      assert.deepEqual(
        answers,
        clients.map((_, number) => round + number),
      )
    }
    const [a] = clients
    assert.ok(a)
    await a.query('deallocate "same name"')
    await assert.rejects(a.query('deallocate "same name"'), { code: '26000' })
    await clients[1]?.query('deallocate all')
    assert.equal(await one(a, 'select 3'), 3)
  })
})

test('a statement whose table has changed since is prepared anew, without an error', async () => {
  await withClients(2, async ([a, b]) => {
    assert.ok(a && b)
    await a.query('create table changing (i int); insert into changing values (1)')
    const statement = { name: 'all', text: 'select * from changing' }
    for (const each of [a, b, a, b]) assert.deepEqual((await each.query(statement)).rows, [{ i: 1 }])
    await b.query('alter table changing add column j int default 2')
    for (const each of [a, b, a, b]) assert.deepEqual((await each.query(statement)).rows, [{ i: 1, j: 2 }])
    await b.query('drop table changing')
  })
})

test('the unnamed statement can be bound after a Sync, on whichever connection', async () => {
  const wire = await WireClient.open(port)
  wire.send(Buffer.concat([writeParse('', 'select $1::int + 1', []), sync]))
  await until('it is parsed', () => wire.received.some(({ code }) => code === '1'))
  await withClients(poolSize + 2, async clients => {
    for (let round = 0; round < 5; round++) {
      await Promise.all(clients.map(each => one(each, 'select $1::text', [`${round}`])))
      const from = wire.received.length
      wire.send(Buffer.concat([writeBindText('', '', [`${round}`]), writeExecute(''), sync]))
      await wire.ready(from)
      const row = wire.received.slice(from).find(({ code }) => code === 'D')
      assert.equal(row?.body.toString('latin1', 6), `${round + 1}`)
    }
  })
  wire.close()
})

test('a request that waits for a connection can be cancelled, and the client goes on', async () => {
  const holders = await Promise.all(Array.from({ length: poolSize }, () => connect(port)))
  await until('there is room', async () => (await proxyCounters(host.config.admin.port)).clientsWaiting === 0)
  const waiting = await WireClient.open(port)
  await Promise.all(holders.map(each => each.query('begin; select 1')))
  const from = waiting.received.length
  waiting.send(writeQuery('select 42'))
  const canceller = new WireClient(port)
  canceller.send(writeCancelRequest(waiting.processId, waiting.secret))
  await until('the answer', () => waiting.received.slice(from).some(({ code }) => code === 'Z'))
  assert.equal(waiting.error?.get('C'), '57014')
  await Promise.all(holders.map(each => each.end()))
  const after = await waiting.query('select 43')
  assert.ok(after.some(({ code, body }) => code === 'D' && body.toString('latin1').endsWith('43')))
  waiting.close()
})

test('a cancel request reaches the client it is for, and only while it runs something', async () => {
  const wires = await Promise.all([WireClient.open(port), WireClient.open(port)])
  const [one, other] = wires
  const from = one.received.length
  one.send(writeQuery('select pg_sleep(20)'))
  other.send(writeQuery('select pg_sleep(0.5), 7'))
  await until('it runs', async () => {
    const sql = `select from pg_stat_activity where query = 'select pg_sleep(20)' and state = 'active'`
    return (await query(cluster.primary.port, sql)).length === 1
  })
  new WireClient(port).send(writeCancelRequest(one.processId, one.secret))
  await until('the answer', () => one.received.slice(from).some(({ code }) => code === 'Z'))
  assert.equal(one.error?.get('C'), '57014')
  await until('the other answer', () => other.received.some(({ code }) => code === 'D'))
  assert.equal(other.error, undefined)
  for (const each of wires) each.close()
})

test('currval and lastval tell what the client itself has drawn, or an error', async () => {
  await query(cluster.primary.port, 'create table drawn (id serial)')
  // No more than there are connections: whoever draws keeps its own once somebody has asked.
  await withClients(poolSize, async clients => {
    for (let round = 0; round < 6; round++) {
      await Promise.all(
        clients.map(async each => {
          const { rows } = await each.query<{ id: number }>('insert into drawn default values returning id')
          try {
            assert.equal(Number(await one(each, 'select lastval()')), rows[0]?.id)
          } catch (cause) {
            // Only before the proxy has learned that somebody relies on it.
            assert.ok(round === 0, `round ${round}: ${String(cause)}`)
            assert.equal((cause as { code?: string }).code, '55000')
          }
        }),
      )
    }
  })
  await query(cluster.primary.port, 'drop table drawn')
})

test('in transaction mode nothing pins, and nothing of one client is seen by another', async () => {
  const options = { user: 'in_transactions' }
  const a = await connect(port, options)
  await a.query('create temporary table gone (i int)')
  await a.query('select pg_advisory_lock(77)')
  const others = await Promise.all(Array.from({ length: poolSize * 2 }, () => connect(port, options)))
  for (const each of others) {
    await assert.rejects(each.query('select * from gone'), { code: '42P01' })
  }
  await assert.rejects(a.query('select * from gone'), { code: '42P01' })
  assert.equal(await one(others[0]!, 'select pg_try_advisory_lock(77)'), true)
  await Promise.all([a, ...others].map(each => each.end()))
})

test('in statement mode a transaction ends the client with a clear error', async () => {
  const a = await connect(port, { database: 'statements' })
  assert.equal(await one(a, 'select current_database()'), 'postgres')
  await assert.rejects(a.query('begin'), { code: '0A000' })
})

test('protocol errors inside a pipeline are undone up to the next Sync, and the connection is shared again', async () => {
  const wire = await WireClient.open(port)
  const from = wire.received.length
  const broken = frame(0x42, Buffer.from('\0no such statement\0\0\0\0\0\0\0'))
  wire.send(Buffer.concat([broken, writeExecute(''), sync, writeQuery('select 5')]))
  await until('both answers', () => wire.received.slice(from).filter(({ code }) => code === 'Z').length === 2)
  assert.equal(
    wire.received
      .slice(from)
      .map(({ code }) => code)
      .join(''),
    'EZTDCZ',
  )
  wire.close()
})
