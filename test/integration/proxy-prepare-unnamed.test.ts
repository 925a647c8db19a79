import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { frame, sync, writeBindText, writeExecute, writeParse, writeQuery } from '../../src/wire/messages.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { bodyWithoutTables } from '../support/lanes.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * Statements without a name that come again and again are prepared on the connections of pooled clients: what comes
 * back must be, byte for byte, what PostgreSQL tells a client of its own.
 */
let cluster: TestCluster
let host: Host

before(async () => {
  cluster = await startTestCluster({ replicas: 0 })
  host = await startTestHost(
    await testConfig([{ name: 'a', port: cluster.primary.port }], {
      'proxy.workers': 1,
      // What quick reads would share is what is looked at here.
      'proxy.lanes': 'off',
      'proxy.default_pool_size': 1,
      'proxy.users': { off: { prepare_unnamed: 'off' } },
      'proxy.max_prepared_statements': 3,
    }),
  )
  await untilRolesAreKnown(host)
  const setUp = await connect(cluster.primary.port)
  await setUp.query('create role off login superuser')
  await setUp.end()
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const P = (sql: string, types: number[] = []): Buffer => writeParse('', sql, types)
const B = (...values: string[]): Buffer => writeBindText('', '', values)
const E = writeExecute('')
const D = frame(0x44, Buffer.from('P\0'))
const DS = frame(0x44, Buffer.from('S\0'))
const Q = writeQuery
const S = sync
const unit = (sql: string, ...values: string[]): Buffer => Buffer.concat([P(sql), B(...values), D, E, S])
const bare = (sql: string, ...values: string[]): Buffer => Buffer.concat([P(sql), B(...values), E, S])

/** Sends messages in one piece and gives back what came; what servers report about themselves left out. */
async function ask(client: WireClient, ready: number, ...messages: Buffer[]): Promise<string[]> {
  const from = client.received.length
  client.send(Buffer.concat(messages))
  const count = (): number => client.received.slice(from).filter(({ code }) => code === 'Z').length
  await until('the answers', () => count() >= ready || client.closed)
  assert.equal(client.closed, false, `the connection was closed: ${client.error?.get('M')}`)
  return client.received
    .slice(from)
    .filter(({ code }) => code !== 'S')
    .map(({ code, body }) => `${code} ${bodyWithoutTables(code, body)}`)
}

/** How many statements the one connection of the pool has prepared. */
async function prepared(client: WireClient, like: string): Promise<number> {
  const [, row] = await ask(
    client,
    1,
    Q(`select count(*) from pg_prepared_statements where statement like '${like}'`),
  )
  return Number(row!.slice(8))
}

interface Hands {
  /** Through the way that is compared. */
  client: WireClient
  /** A connection of its own, for what others do. */
  beside: (sql: string) => Promise<void>
}
type Scenario = (hands: Hands) => Promise<string[][]>

/** Runs a scenario both ways and compares. `like`: what must be prepared by then through the proxy. */
function sameBothWays(name: string, like: string | undefined, scenario: Scenario): void {
  test(name, async () => {
    const answers: string[][][] = []
    for (const port of [cluster.primary.port, host.config.proxy.port]) {
      const setUp = await connect(cluster.primary.port)
      await setUp.query(`drop schema if exists near cascade; drop schema public cascade; create schema public;
        create table t (i int primary key, x text); insert into t select i, 'x' || i from generate_series(1, 9) i`)
      const client = await WireClient.open(port)
      await ask(client, 1, Q('deallocate all'))
      answers.push(
        await scenario({
          client,
          beside: async sql => {
            await setUp.query(sql)
          },
        }),
      )
      if (like !== undefined && port === host.config.proxy.port)
        assert.ok((await prepared(client, like)) > 0, 'it was prepared')
      client.close()
      await setUp.end()
    }
    assert.deepEqual(answers[1], answers[0])
    assert.equal(host.proxy!.crashes, 0)
  })
}

const select = 'select x, i + $1::int from t where i = $2'

sameBothWays('answers, errors of parameters and of the execution', 'select%', async ({ client }) => {
  const answers: string[][] = []
  for (let round = 0; round < 4; round++) {
    answers.push(await ask(client, 1, unit(select, '1', '2')), await ask(client, 1, bare(select, '1', '99')))
    answers.push(await ask(client, 1, unit(select, 'x', '2')), await ask(client, 1, bare(select, '1')))
    answers.push(await ask(client, 1, bare(select, '1', '2', '3')))
    answers.push(await ask(client, 1, unit('select 1 / $1::int', '0')))
    answers.push(await ask(client, 1, unit('select 1 / $1::int', '1')))
    answers.push(await ask(client, 1, P('select $1', [25]), B('typed'), E, S))
    answers.push(await ask(client, 1, P('select $1', [23]), B('7'), E, S))
    answers.push(await ask(client, 1, unit('update t set x = $1 where i = $2 returning x', `y${round}`, '3')))
    answers.push(await ask(client, 1, bare('insert into t values ($1, $2)', '5', 'twice')))
    answers.push(await ask(client, 1, bare('insert into t values ($1, $2)', `${100 + round}`, 'once')))
    answers.push(await ask(client, 1, bare('selec $1', '1')), await ask(client, 1, bare('show work_mem')))
  }
  return answers
})

sameBothWays('the unnamed statement is there afterwards', 'select%', async ({ client }) => {
  const answers: string[][] = []
  for (let round = 0; round < 4; round++) {
    answers.push(await ask(client, 1, unit(select, '1', '2')))
    answers.push(await ask(client, 1, B('2', '3'), E, S), await ask(client, 1, DS, S))
    answers.push(await ask(client, 1, unit(select, 'x', '2')), await ask(client, 1, B('2', '3'), E, S))
    // One that cannot be parsed leaves none.
    answers.push(await ask(client, 1, bare('selec')), await ask(client, 1, B('2', '3'), E, S))
    answers.push(await ask(client, 1, unit(select, '1', '2')), await ask(client, 1, Q('select 1')))
    answers.push(await ask(client, 1, B('2', '3'), E, S))
  }
  return answers
})

sameBothWays(
  'tables that change: in their columns, gone, and made again',
  'select%',
  async ({ client, beside }) => {
    const all = 'select * from t where i = $1'
    const answers: string[][] = []
    for (let round = 0; round < 3; round++) answers.push(await ask(client, 1, unit(all, '1')))
    await beside("alter table t add column more text default 'm'")
    for (let round = 0; round < 3; round++) answers.push(await ask(client, 1, unit(all, '1')))
    await beside('alter table t alter column x type varchar(7)')
    for (let round = 0; round < 3; round++) answers.push(await ask(client, 1, bare(all, '1')))
    await beside('drop table t')
    for (let round = 0; round < 3; round++) {
      answers.push(await ask(client, 1, unit(all, '1')), await ask(client, 1, B('1'), E, S))
    }
    await beside('create table t (x int, i int); insert into t values (1, 1)')
    for (let round = 0; round < 3; round++) answers.push(await ask(client, 1, unit(all, '1')))
    await beside('alter table t alter column i type text')
    for (let round = 0; round < 3; round++) answers.push(await ask(client, 1, unit(all, '1')))
    return answers
  },
)

sameBothWays(
  'what means something else since this proxy has let it be made',
  'select%',
  async ({ client }) => {
    const answers: string[][] = []
    await ask(client, 1, Q('create schema near'))
    await ask(client, 1, Q('set search_path = near, public'))
    const three = async (): Promise<void> => {
      for (let round = 0; round < 3; round++) {
        answers.push(await ask(client, 1, unit('select x from t where i = $1', '1')))
        answers.push(await ask(client, 1, unit('select f($1)', '1')))
      }
    }
    await ask(client, 1, Q("create function public.f(x text) returns text language sql as 'select ''text'''"))
    await three()
    await ask(client, 1, Q("create table near.t as select 1 as i, 'near' as x"))
    await ask(client, 1, Q("create function near.f(x text) returns text language sql as 'select ''near'''"))
    await three()
    await ask(client, 1, Q('set search_path = public'))
    await three()
    await ask(client, 1, Q('set datestyle = german'))
    answers.push(await ask(client, 1, unit("select date '2026-02-01' + $1::int", '1')))
    answers.push(await ask(client, 1, unit("select date '01.02.2026' + $1::int", '1')))
    return answers
  },
)

sameBothWays('in transactions', 'update%', async ({ client, beside }) => {
  const answers: string[][] = []
  const update = 'update t set x = x || $1 where i = $2'
  for (let round = 0; round < 4; round++) {
    answers.push(await ask(client, 1, Q('begin')))
    answers.push(await ask(client, 1, unit(update, 'a', '1')), await ask(client, 1, unit(select, '1', '1')))
    answers.push(await ask(client, 1, bare('insert into t values ($1, $2)', `${200 + round}`, 'x')))
    answers.push(await ask(client, 1, Q('savepoint s')), await ask(client, 1, bare(update, 'a', 'x')))
    answers.push(await ask(client, 1, bare(update, 'a', '1')), await ask(client, 1, Q('rollback to s')))
    answers.push(await ask(client, 1, bare(update, 'a')), await ask(client, 1, Q('rollback to s')))
    answers.push(await ask(client, 1, bare(update, 'b', '1')), await ask(client, 1, Q('commit')))
  }
  await beside('alter table t add column more text')
  answers.push(
    await ask(client, 1, Q('begin')),
    await ask(client, 1, unit('select * from t where i = $1', '1')),
  )
  answers.push(await ask(client, 1, unit(update, 'a', '1')), await ask(client, 1, Q('commit')))
  await beside('alter table t rename column x to y')
  for (let round = 0; round < 2; round++) {
    answers.push(await ask(client, 1, Q('begin')), await ask(client, 1, unit(update, 'a', '1')))
    answers.push(await ask(client, 1, B('a', '1'), E, S), await ask(client, 1, Q('rollback')))
  }
  await beside('alter table t rename column y to x')
  // What is changed in the transaction itself.
  answers.push(await ask(client, 1, Q('begin')), await ask(client, 1, Q('alter table t drop column x')))
  answers.push(await ask(client, 1, unit(update, 'a', '1')), await ask(client, 1, Q('rollback')))
  answers.push(await ask(client, 1, unit(update, 'a', '1')))
  answers.push(
    await ask(client, 1, Q('begin')),
    await ask(client, 1, Q('set local search_path = pg_catalog')),
  )
  answers.push(await ask(client, 1, unit(update, 'a', '1')), await ask(client, 1, Q('rollback')))
  return answers
})

sameBothWays('in pipelines and in pieces', undefined, async ({ client }) => {
  const answers: string[][] = []
  for (let round = 0; round < 4; round++) {
    answers.push(await ask(client, 3, unit(select, '1', '1'), unit(select, 'x', '1'), unit(select, '1', '3')))
    answers.push(await ask(client, 1, P(select), B('1', '1'), E, P(select), B('x', '1'), E, S))
    answers.push(await ask(client, 1, P(select), S), await ask(client, 1, B('1', '1'), E, S))
    answers.push(await ask(client, 2, unit(select, '1', '1'), Q('select 1')))
    answers.push(await ask(client, 1, P(select), B('1', '2'), frame(0x48, Buffer.alloc(0)), E, S))
  }
  return answers
})

sameBothWays('statements and settings that are given up', 'select%', async ({ client }) => {
  const answers: string[][] = []
  for (const last of ['deallocate all', 'discard all', "set work_mem = '70kB'", 'reset all', 'select 1']) {
    for (let round = 0; round < 3; round++) answers.push(await ask(client, 1, unit(select, '1', '2')))
    answers.push(await ask(client, 1, Q(last)), await ask(client, 1, B('1', '2'), E, S))
  }
  return [
    ...answers,
    await ask(client, 1, unit(select, '1', '2')),
    await ask(client, 1, unit(select, '1', '2')),
  ]
})

test('no more statements than max_prepared_statements are kept, and none where it is off', async () => {
  const client = await WireClient.open(host.config.proxy.port)
  for (let number = 0; number < 20; number++) {
    for (let round = 0; round < 4; round++)
      await ask(client, 1, unit(`select ${number} + $1::int as kept`, '1'))
  }
  const count = await prepared(client, '%as kept')
  assert.ok(count > 0 && count <= 3, `${count} statements`)
  const off = await WireClient.open(host.config.proxy.port, { user: 'off' })
  for (let round = 0; round < 4; round++) await ask(off, 1, unit('select $1::int as never', '1'))
  assert.equal(await prepared(off, '%as never'), 0)
  for (const each of [client, off]) each.close()
})

test('a plan for all values is made for what is quick, and never for what is slow', async () => {
  const client = await WireClient.open(host.config.proxy.port)
  const plans = async (like: string): Promise<string> => {
    const columns = "custom_plans || ' ' || generic_plans"
    const rows = await ask(
      client,
      1,
      Q(`select ${columns} from pg_prepared_statements where statement like '${like}'`),
    )
    return rows[1]!.slice(8)
  }
  for (let round = 0; round < 12; round++) {
    await ask(client, 1, unit('select x as quick from t where i = $1', '1'))
    await ask(client, 1, unit('select pg_sleep(0.06), x as slow from t where i = $1', '1'))
  }
  assert.equal((await plans('%as quick%')).split(' ')[0], '5')
  assert.equal(await plans('%as slow%'), '1 0')
  client.close()
})

test('what is only run once is not prepared', async () => {
  const client = await WireClient.open(host.config.proxy.port)
  for (let number = 0; number < 20; number++)
    await ask(client, 1, unit(`select ${number} + $1::int as once`, '1'))
  assert.equal(await prepared(client, '%as once'), 0)
  client.close()
})
