// node-postgres: simple and extended queries, named statements, cursors by portal, COPY streams, pools.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import copyStreams from 'pg-copy-streams'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { check, md5Url, run, scramUrl, url } from './checks.mjs'

async function connect(options = {}) {
  const client = new pg.Client({ connectionString: url, ssl: false, ...options })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Runs a check with a client that is closed afterwards. */
const withClient = (work, options) => async () => {
  const client = await connect(options)
  await work(client)
  await client.end()
}

const one = async (client, sql, values) => Object.values((await client.query(sql, values)).rows[0])[0]

check(
  'parameter types',
  withClient(async client => {
    const at = new Date('2024-02-29T12:30:01.005Z')
    const values = {
      int4: 7,
      int8: '1099511627776',
      float8: 1.5,
      numeric: '12.340',
      text: "naïve 'text' \\ 😀",
      bool: true,
      bytea: Buffer.from([0, 1, 255]),
      timestamptz: at,
      uuid: '12345678-1234-5678-1234-567812345678',
      'int4[]': [1, 2, 3],
      'text[]': ['a', null, 'b"c'],
      jsonb: { a: [1, null] },
      int2: null,
    }
    for (const [type, value] of Object.entries(values)) {
      assert.deepEqual(await one(client, `select $1::${type}`, [value]), value)
    }
    const { rows } = await client.query({ text: 'select $1::int4 as n', values: [258], binary: true })
    assert.deepEqual(rows, [{ n: 258 }])
  }),
)

check(
  'several statements in one query',
  withClient(async client => {
    const results = await client.query(
      'select 1 as a; create temp table t (n int); insert into t values (1), (2); select 2 as b',
    )
    assert.deepEqual(
      results.map(({ command, rowCount }) => [command, rowCount]),
      [
        ['SELECT', 1],
        ['CREATE', null],
        ['INSERT', 2],
        ['SELECT', 1],
      ],
    )
    assert.equal((await client.query('')).rows.length, 0)
  }),
)

check(
  'prepared statements',
  withClient(async client => {
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 20; i++) {
        const { rows } = await client.query({
          name: `named ${i}`,
          text: `select $1::int + ${i} as n`,
          values: [round],
        })
        assert.equal(rows[0].n, round + i)
      }
    }
    await assert.rejects(client.query({ name: 'bad', text: 'select nonsense' }), { code: '42703' })
    const { rows } = await client.query({ name: 'named 0', text: 'select $1::int + 0 as n', values: [9] })
    assert.equal(rows[0].n, 9)
  }),
)

check(
  'queries queued without waiting',
  withClient(async client => {
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, i) => one(client, 'select $1::int', [i])),
    )
    assert.deepEqual(
      answers,
      Array.from({ length: 300 }, (_, i) => i),
    )
  }),
)

check(
  'pipelining',
  withClient(
    async client => {
      const work = Array.from({ length: 300 }, (_, i) =>
        i % 50 === 49
          ? client.query('select 1 / $1::int', [0]).catch(({ code }) => code)
          : one(client, 'select $1::int', [i]),
      )
      const answers = await Promise.all(work)
      for (const [i, answer] of answers.entries()) assert.equal(answer, i % 50 === 49 ? '22012' : i)
    },
    { pipelining: true },
  ),
)

check(
  'copy text',
  withClient(async client => {
    await client.query('create temp table copied (id int, text text)')
    const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\tline ${i}\n`)
    await pipeline(Readable.from(lines), client.query(copyStreams.from('copy copied from stdin')))
    assert.equal(await text(client.query(copyStreams.to('copy copied to stdout'))), lines.join(''))
    const bad = client.query(copyStreams.from('copy copied from stdin'))
    await assert.rejects(pipeline(Readable.from(['1\tgood\n', 'bad\tbad\n']), bad), { code: '22P02' })
    assert.equal(await one(client, 'select count(*)::int from copied'), 20_000)
  }),
)

check(
  'copy binary',
  withClient(async client => {
    await client.query(
      'create temp table source as select i, md5(i::text) t from generate_series(1, 20000) i',
    )
    await client.query('create temp table target (like source)')
    const chunks = []
    for await (const chunk of client.query(copyStreams.to('copy source to stdout (format binary)')))
      chunks.push(chunk)
    await pipeline(
      Readable.from(chunks),
      client.query(copyStreams.from('copy target from stdin (format binary)')),
    )
    assert.equal(await one(client, 'select count(*)::int from source join target using (i, t)'), 20_000)
  }),
)

check(
  'copy straight from one connection to another',
  withClient(async client => {
    const other = await connect()
    await client.query('create temp table target (n int, t text)')
    const rows = other.query(
      copyStreams.to("copy (select i, repeat('x', 100) from generate_series(1, 50000) i) to stdout"),
    )
    await pipeline(rows, client.query(copyStreams.from('copy target from stdin')))
    assert.equal(await one(client, 'select sum(n)::int from target'), (50_000 * 50_001) / 2)
    await other.end()
  }),
)

check(
  'large objects',
  withClient(async client => {
    const data = Buffer.alloc(2_000_000, 'large object')
    await client.query('begin')
    const oid = await one(client, 'select lo_from_bytea(0, $1)', [data])
    const fd = await one(client, 'select lo_open($1, 131072)', [oid])
    assert.deepEqual(await one(client, 'select loread($1, 3000000)', [fd]), data)
    await client.query('select lo_unlink($1)', [oid])
    await client.query('commit')
  }),
)

check(
  'listen and notify',
  withClient(async client => {
    const speaker = await connect()
    await client.query('listen compat_node')
    const heard = []
    client.on('notification', ({ payload }) => heard.push(payload))
    for (let i = 0; i < 3; i++) await speaker.query("select pg_notify('compat_node', $1)", [`message ${i}`])
    while (heard.length < 3) await once(client, 'notification', { signal: AbortSignal.timeout(10_000) })
    assert.deepEqual(heard, ['message 0', 'message 1', 'message 2'])
    await speaker.end()
  }),
)

check(
  'cursor with row limits',
  withClient(async client => {
    const cursor = client.query(new Cursor('select i from generate_series(1, $1::int) i', [1000]))
    let sum = 0
    for (let rows = await cursor.read(33); rows.length > 0; rows = await cursor.read(33))
      for (const { i } of rows) sum += i
    assert.equal(sum, 500_500)
    const early = client.query(new Cursor('select generate_series(1, 100000)'))
    assert.equal((await early.read(10)).length, 10)
    await early.close()
    assert.equal(await one(client, 'select 4'), 4)
  }),
)

check(
  'rows as a stream',
  withClient(async client => {
    const stream = client.query(
      new QueryStream("select i, repeat('x', 100) from generate_series(1, 20000) i", [], { batchSize: 77 }),
    )
    let sum = 0
    for await (const { i } of stream) sum += i
    assert.equal(sum, (20_000 * 20_001) / 2)
  }),
)

check(
  'cursor with hold',
  withClient(async client => {
    await client.query('begin')
    await client.query('declare held cursor with hold for select generate_series(1, 10) as i')
    await client.query('commit')
    assert.deepEqual((await client.query('fetch 2 from held')).rows, [{ i: 1 }, { i: 2 }])
    assert.deepEqual((await client.query('fetch 1 from held')).rows, [{ i: 3 }])
    await client.query('close held')
  }),
)

check(
  'cancel by process id',
  withClient(async client => {
    const other = await connect()
    const sleeping = assert.rejects(client.query('select pg_sleep(20)'), { code: '57014' })
    // What the client was told of its server is what the server itself says, while it runs something.
    while (
      !(await one(other, 'select pg_cancel_backend(pid) from pg_stat_activity where query = $1', [
        'select pg_sleep(20)',
      ]).catch(() => false))
    );
    await sleeping
    assert.equal(await one(client, 'select 5'), 5)
    await other.end()
  }),
)

check(
  'transactions and savepoints',
  withClient(async client => {
    await client.query('create temp table steps (n int)')
    await client.query('begin isolation level repeatable read')
    await client.query('insert into steps values (1)')
    await client.query('savepoint s')
    await assert.rejects(client.query('insert into steps values (1 / 0)'), { code: '22012' })
    await assert.rejects(client.query('select 1'), { code: '25P02' })
    await client.query('rollback to s')
    await client.query('insert into steps values (2)')
    await client.query('commit')
    assert.equal(await one(client, 'select sum(n)::int from steps'), 3)
  }),
)

check(
  'settings and search path',
  withClient(async client => {
    await client.query('create schema if not exists compat_node')
    await client.query("set search_path to compat_node; set work_mem = '9MB'")
    await client.query('begin')
    await client.query("set work_mem = '15MB'")
    await client.query('rollback')
    for (let i = 0; i < 8; i++) {
      assert.equal(await one(client, 'select current_schema()'), 'compat_node')
      assert.equal(await one(client, 'show work_mem'), '9MB')
    }
    await client.query('discard all')
    assert.equal(await one(client, 'select current_schema()'), 'public')
  }),
)

check(
  'startup options',
  withClient(
    async client => {
      assert.equal(await one(client, 'show work_mem'), '7MB')
      assert.equal(await one(client, 'show statement_timeout'), '54321ms')
      assert.equal(await one(client, 'show idle_in_transaction_session_timeout'), '43210ms')
      assert.equal(await one(client, 'show application_name'), 'compat')
    },
    {
      options: '-c work_mem=7MB',
      statement_timeout: 54_321,
      idle_in_transaction_session_timeout: 43_210,
      application_name: 'compat',
    },
  ),
)

check(
  'temporary tables',
  withClient(async client => {
    await client.query('create temp table mine (n int)')
    for (let i = 0; i < 10; i++) await client.query('insert into mine values ($1)', [i])
    assert.equal(await one(client, 'select count(*)::int from mine'), 10)
  }),
)

check(
  'advisory locks',
  withClient(async client => {
    const other = await connect()
    await client.query('select pg_advisory_lock(4714)')
    assert.equal(await one(other, 'select pg_try_advisory_lock(4714)'), false)
    await client.query('select pg_advisory_unlock(4714)')
    assert.equal(await one(other, 'select pg_try_advisory_lock(4714)'), true)
    await other.end()
  }),
)

check(
  'large values',
  withClient(async client => {
    const value = 'é'.repeat(5_000_000)
    assert.equal((await one(client, 'select $1::text', [value])) === value, true)
    const bytes = Buffer.alloc(10_000_000, 'bytes')
    assert.equal(bytes.equals(await one(client, 'select $1::bytea', [bytes])), true)
  }),
)

check('pool', async () => {
  const pool = new pg.Pool({ connectionString: url, max: 40, ssl: false })
  const answers = await Promise.all(Array.from({ length: 400 }, (_, i) => one(pool, 'select $1::int', [i])))
  assert.deepEqual(
    answers,
    Array.from({ length: 400 }, (_, i) => i),
  )
  await pool.end()
})

check('many connections', async () => {
  const clients = await Promise.all(Array.from({ length: 60 }, () => connect()))
  const answers = await Promise.all(clients.map((client, i) => one(client, 'select $1::int', [i])))
  assert.deepEqual(
    answers,
    Array.from({ length: 60 }, (_, i) => i),
  )
  await Promise.all(clients.map(client => client.end()))
})

check(
  'reuse after errors',
  withClient(async client => {
    for (let i = 0; i < 20; i++) {
      await assert.rejects(client.query('select $1::int', ['nonsense']), { code: '22P02' })
      assert.equal(await one(client, 'select $1::int', [i]), i)
    }
  }),
)

check(
  'notices',
  withClient(async client => {
    const told = []
    client.on('notice', ({ message }) => told.push(message))
    await client.query("do $$ begin raise notice 'told %', 42; end $$")
    assert.deepEqual(told, ['told 42'])
  }),
)

check('scram and md5 login', async () => {
  for (const connectionString of [scramUrl, md5Url]) {
    const client = await connect({ connectionString })
    assert.ok(connectionString.includes(await one(client, 'select current_user::text')))
    await client.end()
    const wrong = connectionString.replace(/:[^:@]*@/, ':wrong@')
    await assert.rejects(connect({ connectionString: wrong }), { code: '28P01' })
  }
})

await run()
