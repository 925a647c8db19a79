// postgres.js: pipelined extended queries, automatic named statements, cursors, COPY streams, subscriptions by name.
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'
import { check, md5Url, run, scramUrl, url } from './checks.mjs'

const quiet = { onnotice: () => {} }

/** Runs a check with a pool of its own that is closed afterwards. */
const withSql = (work, options) => async () => {
  const sql = postgres(url, { max: 1, ...quiet, ...options })
  await work(sql)
  await sql.end({ timeout: 5 })
}

check(
  'parameter types',
  withSql(async sql => {
    const at = new Date('2024-02-29T12:30:01.005Z')
    const [row] = await sql`
      select ${7}::int4 as int4, ${'1099511627776'}::int8 as int8, ${1.5}::float8 as float8,
             ${'12.340'}::numeric as numeric, ${"naïve 'text' \\ 😀"}::text as text, ${true}::bool as bool,
             ${Buffer.from([0, 1, 255])}::bytea as bytea, ${at}::timestamptz as at,
             ${[1, 2, 3]}::int4[] as ints, ${['a', 'b"c']}::text[] as texts,
             ${sql.json({ a: [1, null] })}::jsonb as json, ${null}::int4 as nothing`
    assert.deepEqual(
      { ...row, bytea: [...row.bytea] },
      {
        int4: 7,
        int8: '1099511627776',
        float8: 1.5,
        numeric: '12.340',
        text: "naïve 'text' \\ 😀",
        bool: true,
        bytea: [0, 1, 255],
        at,
        ints: [1, 2, 3],
        texts: ['a', 'b"c'],
        json: { a: [1, null] },
        nothing: null,
      },
    )
  }),
)

check(
  'prepared statements',
  withSql(async sql => {
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 20; i++) {
        const [{ n }] = await sql.unsafe(`select $1::int + ${i} as n`, [round], { prepare: true })
        assert.equal(n, round + i)
      }
    }
    assert.equal((await sql`select ${1}::int as a, ${'x'}::text as b`.describe()).columns.length, 2)
  }),
)

check(
  'prepared statement after a schema change',
  withSql(async sql => {
    await sql`drop table if exists compat_js`
    await sql`create table compat_js (a int)`
    const read = () => sql`select * from compat_js`
    assert.deepEqual([...(await read())], [])
    await sql`alter table compat_js add b int`
    await sql`insert into compat_js values (1, 2)`
    assert.deepEqual([...(await read())], [{ a: 1, b: 2 }])
    await sql`drop table compat_js`
  }),
)

check(
  'without prepared statements',
  withSql(
    async sql => {
      for (let i = 0; i < 10; i++) assert.equal((await sql`select ${i}::int as n`)[0].n, i)
    },
    { prepare: false },
  ),
)

check(
  'pipelining with errors',
  withSql(
    async sql => {
      const work = Array.from({ length: 500 }, (_, i) =>
        i % 50 === 49
          ? sql`select 1 / ${0}::int`.catch(({ code }) => code)
          : sql`select ${i}::int as n`.then(([{ n }]) => n),
      )
      for (const [i, answer] of (await Promise.all(work)).entries())
        assert.equal(answer, i % 50 === 49 ? '22012' : i)
    },
    { max: 2, max_pipeline: 100 },
  ),
)

check(
  'several statements in one query',
  withSql(async sql => {
    const results = await sql`select 1 as a; select 2 as b`.simple()
    assert.deepEqual(
      results.map(rows => ({ ...rows[0] })),
      [{ a: 1 }, { b: 2 }],
    )
  }),
)

check(
  'copy text',
  withSql(async sql => {
    await sql`create temp table copied (id int, text text)`
    const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\tline ${i}\n`)
    await pipeline(Readable.from(lines), await sql`copy copied from stdin`.writable())
    assert.equal(await text(await sql`copy copied to stdout`.readable()), lines.join(''))
  }),
)

check(
  'large objects',
  withSql(async sql => {
    const data = Buffer.alloc(500_000, 'large object')
    const big = await sql.largeObject()
    await pipeline(Readable.from([data]), await big.writable())
    await big.seek(0)
    assert.equal((await big.size())[0].size, '500000')
    assert.equal((await big.read(12))[0].data.toString(), 'large object')
    await big.close()
  }),
)

check(
  'listen and notify',
  withSql(async sql => {
    const heard = []
    let done
    const all = new Promise(resolve => {
      done = resolve
    })
    const { unlisten } = await sql.listen('compat_js', payload => {
      if (heard.push(payload) === 3) done()
    })
    for (let i = 0; i < 3; i++) await sql.notify('compat_js', `message ${i}`)
    await all
    assert.deepEqual(heard, ['message 0', 'message 1', 'message 2'])
    await unlisten()
  }),
)

check(
  'cursor with row limits',
  withSql(async sql => {
    let sum = 0
    for await (const rows of sql`select i from generate_series(1, ${1000}::int) i`.cursor(33))
      for (const { i } of rows) sum += i
    assert.equal(sum, 500_500)
    let seen = 0
    await sql`select generate_series(1, 100000) as i`.cursor(10, rows => {
      seen += rows.length
      return sql.CLOSE
    })
    assert.equal(seen, 10)
    assert.equal((await sql`select 4 as n`)[0].n, 4)
  }),
)

check(
  'rows one by one',
  withSql(async sql => {
    let sum = 0
    await sql`select i from generate_series(1, 20000) i`.forEach(({ i }) => {
      sum += i
    })
    assert.equal(sum, (20_000 * 20_001) / 2)
  }),
)

check(
  'cancel',
  withSql(async sql => {
    await sql`select 1`
    const sleeping = sql`select pg_sleep(20)`
    setTimeout(() => sleeping.cancel(), 300)
    await assert.rejects(sleeping, { code: '57014' })
    assert.equal((await sql`select 5 as n`)[0].n, 5)
  }),
)

check(
  'transactions and savepoints',
  withSql(async sql => {
    await sql`create temp table steps (n int)`
    await sql.begin('isolation level repeatable read', async sql => {
      await sql`insert into steps values (1)`
      await sql
        .savepoint(async sql => {
          await sql`insert into steps values (2)`
          await sql`select 1 / 0`
        })
        .catch(({ code }) => assert.equal(code, '22012'))
      await sql`insert into steps values (4)`
    })
    await assert.rejects(
      sql.begin(async sql => {
        await sql`insert into steps values (8)`
        throw new Error('enough')
      }),
      /enough/,
    )
    const all = await sql.begin(sql => [sql`select sum(n)::int as n from steps`, sql`select 7 as n`])
    assert.deepEqual(
      all.map(([{ n }]) => n),
      [5, 7],
    )
  }),
)

check(
  'settings and search path',
  withSql(async sql => {
    await sql`create schema if not exists compat_js`
    await sql`set search_path to compat_js`
    for (let i = 0; i < 8; i++) assert.equal((await sql`select current_schema() as s`)[0].s, 'compat_js')
    await sql`set search_path to public`
    await sql`set timezone to 'Asia/Tokyo'`
    assert.equal(sql.parameters.TimeZone, 'Asia/Tokyo')
  }),
)

check(
  'startup options',
  withSql(
    async sql => {
      assert.equal((await sql`show statement_timeout`)[0].statement_timeout, '54321ms')
      assert.equal((await sql`show search_path`)[0].search_path, 'pg_catalog')
    },
    { connection: { statement_timeout: 54_321, search_path: 'pg_catalog' } },
  ),
)

check(
  'temporary tables',
  withSql(async sql => {
    await sql`create temp table mine (n int)`
    for (let i = 0; i < 10; i++) await sql`insert into mine values (${i})`
    assert.equal((await sql`select count(*)::int as n from mine`)[0].n, 10)
  }),
)

check(
  'advisory locks',
  withSql(
    async sql => {
      const [holder, other] = [await sql.reserve(), await sql.reserve()]
      await holder`select pg_advisory_lock(4715)`
      assert.equal((await other`select pg_try_advisory_lock(4715) as got`)[0].got, false)
      await holder`select pg_advisory_unlock(4715)`
      assert.equal((await other`select pg_try_advisory_lock(4715) as got`)[0].got, true)
      holder.release()
      other.release()
    },
    { max: 2 },
  ),
)

check(
  'large values',
  withSql(async sql => {
    const value = 'é'.repeat(5_000_000)
    assert.equal((await sql`select ${value}::text as value`)[0].value === value, true)
  }),
)

check(
  'many connections',
  withSql(
    async sql => {
      const answers = await Promise.all(
        Array.from({ length: 60 }, (_, i) => sql`select pg_sleep(0.05), ${i}::int as n`.then(([{ n }]) => n)),
      )
      assert.deepEqual(
        answers,
        Array.from({ length: 60 }, (_, i) => i),
      )
    },
    { max: 60 },
  ),
)

check(
  'reuse after errors',
  withSql(async sql => {
    for (let i = 0; i < 20; i++) {
      await assert.rejects(sql`select 10 / ${0}::int`, { code: '22012' })
      assert.equal((await sql`select ${i}::int as n`)[0].n, i)
    }
  }),
)

check('scram and md5 login', async () => {
  for (const each of [scramUrl, md5Url]) {
    const sql = postgres(each, { max: 1, ...quiet })
    assert.ok(each.includes((await sql`select current_user::text as name`)[0].name))
    await sql.end()
    const wrong = postgres(each.replace(/:[^:@]*@/, ':wrong@'), { max: 1, ...quiet })
    await assert.rejects(wrong`select 1`, { code: '28P01' })
    await wrong.end()
  }
})

await run()
