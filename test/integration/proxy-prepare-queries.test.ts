import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { answerTo, bodyWithoutTables, simple, untilShared } from '../support/lanes.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { type Received, WireClient } from '../support/wire-client.ts'

/**
 * Simple queries that come again and again with other constants are prepared in lanes, with parameters in place of the
 * constants: what comes back must be, byte for byte, what PostgreSQL tells a client of its own.
 */
let cluster: TestCluster
let host: Host
let direct: WireClient
let client: WireClient

before(async () => {
  cluster = await startTestCluster({ replicas: 0 })
  const setUp = await connect(cluster.primary.port)
  await setUp.query(`
    create type mood as enum ('sad', 'ok', 'happy');
    create domain positive as integer check (value > 0);
    create table things (
      i integer primary key, s smallint, b bigint, n numeric(10, 2), f double precision, t text, v varchar(5), c char(5),
      d date, z timestamptz, m mood, u uuid, o boolean, j jsonb, a integer[], y bytea, p positive, k interval, r money);
    insert into things
      select i, i, i * 3000000000, i / 4.0, i / 3.0, 'it''s ' || i, 'v' || i, 'c' || i, date '2020-01-01' + i,
        timestamptz '2020-01-01 12:00+00' + i * interval '1 hour', (array['sad', 'ok', 'happy'])[1 + i % 3]::mood,
        ('00000000-0000-0000-0000-0000000000' || lpad(i::text, 2, '0'))::uuid, i % 2 = 0,
        jsonb_build_object('k', i), array[i, i + 1], decode(lpad(i::text, 2, '0'), 'hex'), i,
        i * interval '1 day', i::money
      from generate_series(1, 60) i;
    create index on things ((j ->> 'k'));
    create view seen as select i, t from things where s < 50;
    create table parted (i integer, t text) partition by range (i);
    create table parted_low partition of parted for values from (0) to (30);
    create table parted_high partition of parted for values from (30) to (100);
    insert into parted select i, t from things;
    analyze;
  `)
  await setUp.end()
  host = await startTestHost(
    await testConfig([{ name: 'a', port: cluster.primary.port }], {
      'proxy.workers': 1,
      'proxy.default_pool_size': 4,
      'proxy.users': { plain: { prepare_unnamed: 'off' } },
    }),
  )
  await untilRolesAreKnown(host)
  direct = await WireClient.open(cluster.primary.port)
  client = await WireClient.open(host.config.proxy.port)
})

after(async () => {
  direct?.close()
  client?.close()
  await host?.stop()
  await cluster?.stop()
})

const shown = (received: readonly Received[]): string[] =>
  received.map(({ code, body }) => `${code} ${bodyWithoutTables(code, body)}`)

/** Runs the same on both, one after the other with every value. */
async function compare(sql: (value: string) => string, values: readonly string[]): Promise<string[]> {
  const told: string[] = []
  for (const value of values) {
    const text = sql(value)
    const expected = shown(await answerTo(direct, simple(text)))
    assert.deepEqual(shown(await answerTo(client, simple(text))), expected, text)
    told.push(...expected)
  }
  return told
}

const numbers = Array.from({ length: 12 }, (_, at) => String(1 + at * 5))
/** What each column is compared with: good values, and some that it has no room for or that cannot be read. */
const comparisons: [string, string[]][] = [
  [
    'i =',
    [
      ...numbers,
      '-5',
      '- 5',
      '999999999',
      '1000000000',
      '2147483648',
      '-2147483648',
      '99999999999',
      '1.0',
      '1e1',
    ],
  ],
  ['s =', [...numbers, '40000', '-32768']],
  ['b >', [...numbers, '3000000000', '-1', "'30000000000'", "'x'"]],
  ['n <=', [...numbers, "'1.25'", "'1e2'", "'NaN'", '1.25']],
  ['f <', [...numbers, "'Infinity'", "'0.1'"]],
  ['t =', ["'it''s 7'", "'it''s 8'", "''", "'it''s ''9'''", "'\\'", "E'it\\'s 7'", "'it' '''s 7'", '5']],
  ['v =', ["'v7'", "'v8'", "'v7   '", "'a longer one'", "'ä'", "'€'"]],
  ['c =', ["'c7'", "'c8'", "'c7   '", "'c7                 '", "'longer than five'"]],
  ['d >=', ["'2020-01-08'", "'2020-02-10'", "'20200115'", "'tomorrow'", "'2020-13-01'", "'infinity'"]],
  ['z <', ["'2020-01-02'", "'2020-01-02 10:00+05'", "'2020-01-01 17:00 Europe/Berlin'", "'nonsense'"]],
  ['m =', ["'sad'", "'ok'", "'happy'", "'glad'", "'ok'"]],
  ['m >', ["'sad'", "'ok'", "'happy'"]],
  ['u =', ["'00000000-0000-0000-0000-000000000007'", "'{00000000-0000-0000-0000-000000000008}'", "'x'"]],
  ['o =', ["'t'", "'no'", "'yes'", "'maybe'", 'true']],
  ['j =', [`'{"k": 7}'`, `'{"k" : 8}'`, "'{'", `'{"k":"it''s"}'`]],
  [`j ->> 'k' =`, ["'7'", "'8'", "'x'"]],
  ['a =', ["'{7,8}'", "'{8, 9}'", "'{'"]],
  ['y =', ["'\\x07'", "'\\x08'", "'\\xg'", "'\\001'"]],
  ['p =', [...numbers, '-5', "'7'", "'-7'", '0']],
  ['k =', ["'7 days'", "'P8D'", "'1 fortnight'", "'x'"]],
  ['r =', ["'7'", "'$8.00'", '9']],
]

for (const [comparison, values] of comparisons) {
  test(`${comparison} a constant`, async () => {
    const column = comparison.split(' ')[0]
    const sql = (value: string): string => `select i, ${column} from things where ${comparison} ${value}`
    // Good ones first, so that it is prepared when the others come.
    await untilShared(host, () => compare(sql, values.slice(0, 2)), 4)
    await compare(sql, [...values, ...values])
  })
}

test('lists, ranges, several constants, joins, subqueries, views and partitions', async () => {
  const forms: ((value: string) => string)[] = [
    value => `select i from things where i in (${value}, 3, -4)`,
    value => `select i from things where i not in (${value}, null)`,
    value => `select i from things where i between ${value} and 40 order by 1 limit 5`,
    value =>
      `select i from things where not (i < ${value} or t = 'it''s 9') and d > '2020-01-10' order by i desc`,
    value =>
      `select x.i, y.t from things x join things y on x.i = y.i and y.i > ${value} where x.s < 30 order by 1`,
    value => `select count(*), 5, 'five' from things where ${value} >= i group by 2 having count(*) > 2`,
    value =>
      `select i from things where exists (select 1 from parted where parted.i = ${value} and parted.i = things.i)`,
    value => `select i, (select t from parted where i = ${value}) from things where i = 3`,
    value => `select t from seen where i = ${value}`,
    value => `select t, tableoid::regclass from parted where i = ${value}`,
    value => `values (${value})`,
    value => `select i from things where i = ${value} union all select i from parted where i = 8 order by 1`,
    value => `select 1 / (i - 6) from things where i = ${value}`,
    value => `select i /* ${value} */ from things where i=${value}--${value}`,
    value => `select i from things where\ni=+${value}and s=${value}`,
    value => `select pg_typeof(i) from things where i = ${value} and ${value} = ${value}`,
    value => `select t from things where t = concat('it''s ', ${value})`,
    value => `table seen order by 1 limit ${value}`,
  ]
  for (const form of forms) {
    await untilShared(host, () => compare(form, numbers.slice(0, 2)), 4)
    await compare(form, [...numbers, '6', ...numbers])
  }
})

test('a table that changes, goes and comes back', async () => {
  const admin = await connect(cluster.primary.port)
  const query = (value: string): string => `select * from moving where i = ${value}`
  await admin.query(
    'create table moving (i integer, t text); insert into moving select i, i from generate_series(1, 50) i',
  )
  await compare(query, numbers)
  await compare(query, numbers)
  await admin.query('alter table moving add column more integer default 5')
  await compare(query, numbers)
  await admin.query('alter table moving alter column i type text')
  const told = await compare(query, numbers)
  assert.ok(told.some(each => each.includes('operator does not exist')))
  await admin.query('drop table moving')
  await compare(query, numbers)
  await admin.query('create table moving (i bigint); insert into moving values (6)')
  await compare(query, [...numbers, ...numbers])
  await admin.query('drop table moving')
  await admin.end()
})

test('they are prepared with parameters, and not where that is off', async () => {
  const admin = await connect(cluster.primary.port)
  await admin.query('create role plain login superuser')
  const running = async (what: string): Promise<boolean> => {
    const { rows } = await admin.query('select 1 from pg_stat_activity where query like $1', [
      `select t, s from ${what}%`,
    ])
    return rows.length > 0
  }
  await compare(value => `select t, s from things where i = ${value}`, [...numbers, ...numbers])
  assert.equal(await running('things where i =  $1 '), true)
  const plain = await WireClient.open(host.config.proxy.port, { user: 'plain' })
  for (const value of [...numbers, ...numbers])
    await answerTo(plain, simple(`select t, s from parted where i = ${value}`))
  assert.equal(await running('parted where i = $1 '), false)
  plain.close()
  await admin.end()
})

test('statements whose other constants differ each time are not prepared one by one', async () => {
  const admin = await connect(cluster.primary.port)
  const text = (at: number): string => `select i, ${at} from things where s = 5`
  for (let at = 0; at < 300; at++) {
    const [, row] = await answerTo(client, simple(text(at)))
    assert.match(row!.body.toString('latin1'), new RegExp(`${at}$`))
  }
  await admin.end()
})

/** What is made past the proxy is known to it within half a minute: here it is told. */
async function untilPrepared(asking: WireClient, sql: string): Promise<void> {
  await answerTo(asking, simple('create table told (); drop table told'))
  const prepared = async (): Promise<number> => (await proxyCounters(host.config.admin.port)).queriesPrepared
  const before = await prepared()
  await until(`${sql} is prepared`, async () => {
    for (const each of ['begin', sql, 'rollback']) await answerTo(asking, simple(each))
    return (await prepared()) > before
  })
}

const changes: ((value: string) => string)[] = [
  value => `update counts set n = n + ${value} where i = 3`,
  value => `update counts set n = n - -${value}, s = ${value}, t = t where i = 4 and s > -${value}`,
  value =>
    `insert into counts (i, n, s, t) values (${value} + 100, ${value}, 1, 'text'), (-${value}, 5, 2, 'it''s')`,
  value => `delete from counts where i = -${value}`,
  value => `delete from counts where i = ${value} + 100`,
  value => `delete from counts where i in (${value}, -${value}) and n between 5 and ${value}`,
  // What fails, when it is parsed, bound or executed: also where in the text it says so.
  value => `update counts set n = 5, nothing = ${value} where i = 70`,
  value => `update counts set n = ${value} where i = 1234 and missing = 4`,
  value => `insert into nowhere (i) values (${value})`,
  value => `insert into counts (i, d) values (${value}, 7)`,
  value => `insert into counts (i, s) values (${value}${value}${value}${value}, 1)`,
  value => `update counts set s = ${value} * 9999 where i = 5`,
  value => `update counts set s = n / (${value} - 6) where i = 5`,
  value => `insert into counts (i) values (1), (${value})`,
  value => `update counts set p = 3 - ${value} where i = 5`,
  value => `update counts set n = ${value} where i = 'x'`,
  value => `update counts set n = ${value} wher i = 5`,
  // Others than these go as they came.
  value => `update counts set n = abs(${value}) where i = 5 returning i, n`,
  value => `insert into counts (i) values (1) on conflict (i) do update set n = ${value}`,
  value => `update counts set t = 'v${value}' where i = 6`,
  value => `update counts set n = (select max(n) from counts where i = ${value}) where i = 7`,
  value => `with gone as (delete from counts where i = ${value} returning 1) select count(*) from gone`,
  value =>
    `update only counts as c set n = c.n + ${value} from things where things.i = c.i and c.i = ${value}`,
]

test('changes, by themselves and in transactions: the same answers and the same rows', async () => {
  const admin = await connect(cluster.primary.port)
  const table = (name: string): Promise<unknown> =>
    admin.query(`
      create schema ${name}; create table ${name}.counts
        (i integer primary key, n bigint not null default 0, s smallint, t text, d date, p positive);
      insert into ${name}.counts select i, i, i, 't' || i from generate_series(1, 9) i`)
  await table('here')
  await table('there')
  const mine = await WireClient.open(host.config.proxy.port, { options: '-c search_path=there,public' })
  const plain = await WireClient.open(cluster.primary.port, { options: '-c search_path=here,public' })
  const both = async (text: string): Promise<void> => {
    const expected = shown(await answerTo(plain, simple(text)))
    const answer = shown(await answerTo(mine, simple(text)))
    assert.deepEqual(
      answer.map(each => each.replaceAll('there', 'here')),
      expected.map(each => each.replaceAll('there', 'here')),
      text,
    )
  }
  await untilPrepared(mine, 'update counts set n = n + 5 where i = 3')
  for (let round = 0; round < 4; round++) {
    for (const change of changes) {
      for (const value of ['11', '6', '4', '2']) {
        await both(change(value))
        await both('begin')
        await both(change(value))
        await both(`insert into counts (i, n) values (${500 + round}, ${value})`)
        await both('select count(*), sum(n), sum(s), sum(p) from counts')
        await both(change(value))
        await both(round % 2 === 0 ? 'rollback' : 'commit')
        await both('begin isolation level repeatable read')
        await both('select count(*) from counts where n = 5')
        await both(change(value))
        await both('end')
      }
    }
    await both('delete from counts where i = 500 or i = 501 or i = 502 or i = 503')
  }
  const { rows } = await admin.query(`
    select count(*)::int as count from
      ((table here.counts except all table there.counts) union all (table there.counts except all table here.counts)) x`)
  assert.deepEqual(rows, [{ count: 0 }])
  mine.close()
  plain.close()
  await admin.end()
})

test('changes are prepared with parameters, and judged anew when a column is another one', async () => {
  const admin = await connect(cluster.primary.port)
  await admin.query('create table total (i integer primary key, n integer); insert into total values (1, 0)')
  const told = async (sql: string): Promise<string[]> => shown(await answerTo(client, simple(sql)))
  await untilPrepared(client, 'update total set n = n + 5 where i = 1')
  let sum = 0
  let turns = 0
  // What is known of the table may be read anew at any time, and nothing is prepared meanwhile.
  await until('it is prepared', async () => {
    await told('begin')
    assert.equal((await told(`update total set n = n + ${++turns} where i = 1`))[0], 'C UPDATE 1\0')
    sum += turns
    const { rows } = await admin.query(`select query from pg_stat_activity where query like 'update total%'`)
    await told('commit')
    return rows[0]?.query === 'update total set n = n +  $1  where i =  $2 '
  })
  await admin.query('alter table total alter column n type numeric(6, 1)')
  await told('begin')
  assert.equal((await told('update total set n = n + 5 where i = 1'))[0], 'C UPDATE 1\0')
  await told('commit')
  assert.match((await told('select n from total where i = 1'))[1]!, new RegExp(`${sum + 5}\\.0$`))
  await admin.query('drop table total')
  await admin.end()
})

/** What would be another thing with a parameter in a constant's place, or with a plan for all values; with the number of the turn. */
const traps: ((turn: number) => string)[] = [
  // Fails when it is planned, whether there is such a row or not.
  turn => `update counts set s = ${turn < 12 ? 1 : 99999} where i = -${turn + 1}`,
  turn => `update counts set v = ${turn < 12 ? 1 : 99999} where i = -${turn + 1}`,
  turn =>
    `update counts set n = ${turn < 12 ? 1 : 999999} * ${turn < 12 ? 1 : 999998} where i = -${turn + 1}`,
  turn => `update counts set n = 5 where 1 = ${turn + 2} and s = 1 / 0`,
  turn => `update counts set n = ${turn} where i = 5 and 3 in (1, ${turn})`,
  turn => `insert into counts (i, s) values (${turn + 600}, ${turn < 12 ? 1 : 99999})`,
  // Does more than it says.
  turn => `update ruled set n = n + ${turn} where i = ${turn + 1}`,
  turn => `insert into instead values (${turn}, ${turn})`,
  turn => `update triggered set n = n + ${turn} where i = 1`,
  turn => `insert into child values (${turn}, ${turn < 8 ? 1 : 77})`,
  turn => `update split set n = n + ${turn} where i = ${turn}`,
  turn => `insert into split values (${turn + 100}, 1)`,
  // Cannot be read as it stands, or says something when it is read.
  turn => `update counts set n = $1 where i = ${turn}`,
  turn => `select i from counts where i = ${turn} and s = $1`,
  turn => `update counts set n = n + 1 where i = ${turn}and s = 1`,
  turn => `select i from counts where i = ${turn}and s > 0`,
  turn => `update counts as ${'a'.repeat(70)} set n = n + ${turn} where i = ${turn}`,
  turn => `select i as ${'a'.repeat(70)} from counts where i = ${turn}`,
  turn => `select i, now()::timestamp(9) is null from counts where i = ${turn}`,
  // A sign is part of the number, and else an operator, which may be one's own.
  turn => `update counts set n = n + -${turn} where i = 3`,
  turn => `update counts set n = n - - ${turn} where i = 3`,
  turn => `select n from counts where n > -${turn} or n > - ${turn} order by i`,
  turn => `update counts set n = n + ${turn} where i = ${turn} = true`,
  turn => `update counts set (n, s) = (${turn}, 5) where i = ${turn}`,
  turn => `update counts set n = n + ${turn} where current of nothing`,
]

test('what only looks as if it could have parameters', async () => {
  const admin = await connect(cluster.primary.port)
  for (const name of ['trap', 'tram']) {
    await admin.query(`
      create schema ${name}; set search_path = ${name}, public;
      create table counts (i integer primary key, n bigint not null default 0, s smallint, v varchar(2));
      insert into counts select i, i, i, i from generate_series(1, 20) i;
      create table ruled (i integer primary key, n integer); insert into ruled select i, i from generate_series(1, 20) i;
      create rule more as on update to ruled do also select 'seen' as what, new.n;
      create table instead (i integer, n integer);
      create rule other as on insert to instead do instead select 'instead' as what, new.n;
      create table triggered (i integer, n integer); insert into triggered values (1, 0);
      create function tell() returns trigger language plpgsql as
        $$ begin raise notice 'told of %', current_query(); return new; end $$;
      create trigger told after update on triggered for each row execute function tell();
      create constraint trigger told_later after update on triggered deferrable initially deferred
        for each row execute function tell();
      create table parent (i integer primary key); insert into parent values (1);
      create table child (i integer, p integer references parent deferrable initially deferred);
      create table split (i integer, n integer) partition by range (i);
      create table split_low partition of split for values from (0) to (5);
      create table split_high partition of split for values from (5) to (100);
      insert into split select i, i from generate_series(0, 9) i;
      create function minus(integer) returns integer language sql as 'select 1000000 + $1';
      create operator - (rightarg = integer, function = minus)`)
  }
  const open = (port: number, schema: string): Promise<WireClient> =>
    WireClient.open(port, { options: `-c search_path=${schema},pg_catalog,public` })
  const mine = await open(host.config.proxy.port, 'trap')
  const plain = await open(cluster.primary.port, 'tram')
  const both = async (text: string): Promise<void> => {
    const [expected, answer] = await Promise.all([
      answerTo(plain, simple(text)),
      answerTo(mine, simple(text)),
    ])
    assert.deepEqual(
      shown(answer).map(each => each.replaceAll('trap', 'tram')),
      shown(expected),
      text,
    )
  }
  await untilPrepared(mine, 'update counts set n = n + 5 where i = 3')
  for (const trap of traps) {
    for (let turn = 0; turn < 15; turn++) await both(trap(turn))
    for (let turn = 0; turn < 15; turn++) {
      await both('begin')
      await both(`update counts set n = n + ${turn} where i = 7`)
      await both(trap(turn))
      await both('commit')
    }
  }
  for (const table of ['counts', 'ruled', 'instead', 'triggered', 'child', 'split'])
    await both(`select * from ${table} order by 1, 2`)
  mine.close()
  plain.close()
  await admin.end()
})
