import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import {
  frame,
  readErrorFields,
  sync,
  writeBindText,
  writeCloseStatement,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { essence } from '../support/script.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * Corners of the protocol where a shared server connection could give a wrong answer, each once directly and once
 * through a pool: the answers must be the same.
 */
let cluster: TestCluster
let host: Host

before(async () => {
  cluster = await startTestCluster({ replicas: 0 })
  host = await startTestHost(
    await testConfig([{ name: cluster.primary.name, port: cluster.primary.port }], {
      'proxy.pool_mode': 'auto',
      'proxy.workers': 1,
      'proxy.default_pool_size': 4,
    }),
  )
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const P = (name: string, sql: string): Buffer => writeParse(name, sql, [])
const B = (name: string, ...values: string[]): Buffer => writeBindText('', name, values)
const E = writeExecute('')
const D = (kind: 'S' | 'P', name: string): Buffer => frame(0x44, Buffer.from(`${kind}${name}\0`))
const C = writeCloseStatement
const Q = writeQuery
const S = sync

/** Sends requests and gives back what came, reduced to what does not depend on the way. */
async function ask(client: WireClient, readyForQueries: number, ...messages: Buffer[]): Promise<string[]> {
  const from = client.received.length
  client.send(Buffer.concat(messages))
  const ready = (): number => client.received.slice(from).filter(({ code }) => code === 'Z').length
  await until('the answers', () => ready() >= readyForQueries || client.closed)
  assert.equal(client.closed, false, 'the connection was closed')
  return essence(client.received.slice(from))
}

type Scenario = (open: (parameters?: Record<string, string>) => Promise<WireClient>) => Promise<string[][]>

/** Runs a scenario both ways and compares; the proxy's worker must have survived. */
function sameBothWays(name: string, scenario: Scenario): void {
  test(name, async () => {
    const answers: string[][][] = []
    for (const port of [cluster.primary.port, host.config.proxy.port]) {
      const clients: WireClient[] = []
      const setUp = await connect(cluster.primary.port)
      await setUp.query('drop schema public cascade; create schema public')
      await setUp.end()
      answers.push(
        await scenario(async parameters => {
          const client = await WireClient.open(port, parameters)
          clients.push(client)
          return client
        }),
      )
      for (const client of clients) client.close()
    }
    assert.deepEqual(answers[1], answers[0])
    assert.equal(host.proxy!.crashes, 0)
  })
}

sameBothWays('a described statement whose table is gone, bound on another connection', async open => {
  const [a, b, other] = [await open(), await open(), await open()]
  await ask(other, 1, Q('create table t (i int)'))
  const first = await ask(a, 1, P('s1', 'select * from t'), D('S', 's1'), S)
  await ask(b, 1, Q('begin; select 1'))
  await ask(other, 1, Q('drop table t'))
  return [
    first,
    await ask(a, 1, B('s1'), E, S),
    await ask(a, 1, Q('select 1')),
    await ask(b, 1, Q('select 2')),
  ]
})

sameBothWays('a described statement bound behind an error, before the Sync', async open => {
  const [a, b] = [await open(), await open()]
  const first = await ask(a, 1, P('s1', 'select 1'), D('S', 's1'), S)
  await ask(b, 1, Q('begin; select 1'))
  return [first, await ask(a, 1, B('nope'), B('s1'), E, S), await ask(a, 1, B('s1'), E, S)]
})

sameBothWays('an unnamed statement of more than a megabyte is the one that is executed', async open => {
  const a = await open()
  const long = `select 'long' /* ${'x'.repeat(1_200_000)} */`
  return [
    await ask(a, 1, P('', "select 'short'"), B(''), E, S),
    await ask(a, 1, P('', long), B(''), E, S),
    await ask(a, 1, Q(`select 'query' /* ${'x'.repeat(3_000_000)} */`)),
    await ask(a, 1, P('', "select 'short'"), B(''), E, S),
  ]
})

sameBothWays('constants are read by the settings of the client that has the statement', async open => {
  const [a, b, c] = [await open({ TimeZone: 'UTC' }), await open({ TimeZone: 'Asia/Tokyo' }), await open()]
  const hour = "select extract(epoch from timestamptz '2026-01-01 00:00')::bigint"
  const day = "select date '01/02/2026'::text"
  const answers: string[][] = []
  for (const [client, style] of [
    [a, 'ISO, MDY'],
    [b, 'ISO, DMY'],
    [c, 'ISO, YMD'],
  ] as const) {
    await ask(client, 1, Q(`set datestyle = '${style}'`))
    answers.push(await ask(client, 1, P('h', hour), B('h'), E, P('d', day), B('d'), E, S))
    answers.push(
      await ask(
        client,
        1,
        Q('begin; set local transform_null_equals = on'),
        P('', 'select null = null'),
        B(''),
        E,
        S,
      ),
    )
    answers.push(await ask(client, 1, Q('rollback')))
    answers.push(await ask(client, 1, P('', 'select null = null'), B(''), E, S))
  }
  return answers
})

sameBothWays('a pipeline with a transaction in it is not run twice when a plan has changed', async open => {
  const [a, other] = [await open(), await open()]
  await ask(other, 1, Q('create table t (i int); create table log (i int)'))
  const first = await ask(a, 1, P('s1', 'select * from t'), B('s1'), D('P', ''), E, S)
  await ask(other, 1, Q('alter table t add column j int'))
  const run = (sql: string): Buffer[] => [P('', sql), B(''), E]
  await ask(
    a,
    1,
    ...run('begin'),
    ...run('insert into log values (1)'),
    ...run('commit'),
    B('s1'),
    D('P', ''),
    E,
    S,
  )
  return [first, await ask(other, 1, Q('select count(*) from log'))]
})

sameBothWays('nobody finds the statements of another client, under whatever name', async open => {
  const [a, b] = [await open(), await open()]
  const answers = [await ask(a, 1, P('', "select 'secret'"), P('own', "select 'secret too'"), S)]
  for (const name of ['', 'pgherd_1', 'pgherd_2', 'own']) {
    answers.push(await ask(b, 1, B(name), E, S), await ask(b, 1, D('S', name), S))
  }
  answers.push(await ask(b, 1, C('pgherd_1'), C('pgherd_2'), S))
  answers.push(await ask(b, 1, Q('deallocate pgherd_1')))
  answers.push(await ask(a, 1, B('own'), E, S))
  return answers
})

sameBothWays('currval and lastval never tell what another client has drawn', async open => {
  const [a, b] = [await open(), await open()]
  await ask(a, 1, Q('create table parent (id serial); create table plain (i int)'))
  await ask(b, 1, Q('insert into parent default values'))
  const answers = [await ask(a, 1, Q('insert into plain values (1)')), await ask(a, 1, Q('select lastval()'))]
  // What the proxy refuses comes without a description of columns.
  return answers.map(lines => lines.filter(line => !line.startsWith('T ')))
})

sameBothWays('lastval does not tell what another client has drawn where nobody could see it', async open => {
  const [a, b] = [await open(), await open()]
  await ask(a, 1, Q("create sequence s; create view v as select nextval('s') as n"))
  await ask(b, 1, Q('select 1'))
  await ask(a, 1, Q('select n from v'))
  const lines = await ask(b, 1, Q('select lastval()'))
  return [lines.filter(line => !line.startsWith('T '))]
})

/** The same as `ask`, with all that errors say and where. */
async function askInFull(
  client: WireClient,
  readyForQueries: number,
  ...messages: Buffer[]
): Promise<string[]> {
  const from = client.received.length
  const lines = await ask(client, readyForQueries, ...messages)
  const errors = client.received.slice(from).filter(({ code }) => code === 'E')
  const said = errors.map(({ body }) =>
    ['M', 'P', 'D', 'H'].map(field => readErrorFields(body).get(field)).join('|'),
  )
  return [...lines, ...said]
}

/** A sequence that another client has drawn from on the connection that comes next, and a client that gets it. */
async function afterADraw(
  open: (parameters?: Record<string, string>) => Promise<WireClient>,
): Promise<WireClient> {
  const [client, other] = [await open(), await open()]
  await ask(other, 1, Q('create sequence s; create table t (i int)'))
  await ask(client, 1, Q('select 1'))
  await ask(other, 1, Q("select nextval('s')"))
  return client
}

const nope = "select 1, currval('nope')"

for (const [what, request] of Object.entries({
  'a simple query': [Q(nope)],
  'a simple query with a semicolon': [Q(`${nope} ;\n`)],
  'a simple query that cannot be parsed': [Q("select currval('s') frm x")],
  'an unnamed statement': [P('', nope), B(''), D('P', ''), E, S],
  'a named statement': [P('s1', nope), B('s1'), D('P', ''), E, S],
  'a parameter': [P('', 'select currval($1::regclass)'), B('', 'nope'), E, S],
})) {
  sameBothWays(`currval of what is no sequence fails as with PostgreSQL: ${what}`, async open => {
    const client = await afterADraw(open)
    const answers = [await askInFull(client, 1, ...request), await ask(client, 1, Q('select 2'))]
    for (const begin of ['begin', 'select 1; begin']) {
      await ask(client, 1, Q(begin))
      answers.push(
        await askInFull(client, 1, ...request),
        await askInFull(client, 1, ...request),
        await ask(client, 1, Q('rollback')),
      )
    }
    answers.push(
      await askInFull(client, 3, Q("select 'before'"), ...request, Q("select 'after'")),
      await askInFull(client, 2, Q(nope), P('', 'select 3'), B(''), E, S),
    )
    return answers
  })
}

sameBothWays('a BEGIN that fails before currval of what is no sequence', async open => {
  const client = await afterADraw(open)
  return [
    await ask(client, 1, Q('begin')),
    await ask(client, 1, Q(nope)),
    await ask(client, 1, Q('rollback')),
  ]
})

describe('clients whose statements with currval fail by themselves', () => {
  const clients: WireClient[] = []
  const opening = async (user: string): Promise<WireClient> => {
    const client = await WireClient.open(host.config.proxy.port, { user })
    clients.push(client)
    return client
  }
  const pins = async (user: string): Promise<string[]> => {
    const rows = await query<{ user: string; pins: string }>(host.config.proxy.port, 'show pins', {
      database: 'pgherd',
    })
    return rows.filter(row => row.user === user).map(row => row.pins)
  }
  const fail = async (client: WireClient): Promise<void> => {
    const parameter = [P('', 'select currval($1::regclass)'), B('', 'nope'), E, S]
    for (const request of [[Q(nope)], [P('', nope), B(''), E, S], parameter])
      assert.match((await ask(client, 1, ...request)).join('\n'), /E ERROR 42P01/)
  }

  beforeEach(async () => {
    await cluster.primary.query('drop schema public cascade; create schema public')
  })
  afterEach(() => {
    for (const each of clients.splice(0)) each.close()
  })

  test('are not pinned, and are where the answer of another is right', async () => {
    await cluster.primary.query('create role first superuser login; create sequence s')
    const client = await opening('first')
    await fail(client)
    await ask(client, 1, Q("select nextval('s')"))
    await fail(client)
    assert.deepEqual(await pins('first'), [])
    assert.deepEqual((await ask(client, 1, Q("select currval('s')"))).slice(1), [
      'D \0\x01\0\0\0\x011',
      'C SELECT 1\0',
      'Z I',
    ])
    assert.deepEqual(await pins('first'), ['sequence'])
  })

  test('are not pinned, and are where another has been refused', async () => {
    await cluster.primary.query('create role second superuser login')
    const client = await afterADraw(() => opening('second'))
    const draw = (): Promise<string[]> => ask(client, 1, Q("select nextval('s')"))
    await fail(client)
    await draw()
    await fail(client)
    await draw()
    assert.deepEqual(await pins('second'), [])
    assert.match((await ask(client, 1, Q("select currval('s')"))).join('\n'), /E ERROR 55000/)
    await draw()
    assert.deepEqual(await pins('second'), ['sequence'])
  })
})

sameBothWays('what a function call by number sets stays with its client', async open => {
  const [a, b] = [await open(), await open()]
  const text = (value: string): Buffer => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(value.length)
    return Buffer.concat([bytes, Buffer.from(value)])
  }
  const head = Buffer.alloc(8)
  const oid = Number((await cluster.primary.query("select 'set_config'::regproc::oid as oid"))[0]!['oid'])
  head.writeUInt32BE(oid, 0)
  head.writeUInt16BE(3, 6)
  const body = Buffer.concat([head, text('app.fast'), text('7'), text('f'), Buffer.from([0, 0])])
  const answers = [await ask(a, 1, frame(0x46, body))]
  for (const client of [b, a, b])
    answers.push(await ask(client, 1, Q("select current_setting('app.fast', true)")))
  return answers
})

sameBothWays('a request that follows one whose plan has changed is answered too', async open => {
  const [a, other] = [await open(), await open()]
  await ask(other, 1, Q('create table t (i int)'))
  await ask(a, 1, P('s1', 'select * from t'), B('s1'), D('P', ''), E, S)
  await ask(other, 1, Q('alter table t add column j int'))
  const from = a.received.length
  a.send(Buffer.concat([B('s1'), E, S]))
  a.send(Q("select 'second'"))
  const ready = (): number => a.received.slice(from).filter(({ code }) => code === 'Z').length
  await until('both answers', () => ready() === 2)
  return [essence(a.received.slice(from))]
})

sameBothWays('Describe of a portal tells the columns of its own statement', async open => {
  const a = await open()
  await ask(a, 1, P('s1', 'select 1 as one'), P('s2', "select 'x' as x, 2 as two"), S)
  return [
    await ask(
      a,
      1,
      writeBindText('p1', 's1', []),
      writeBindText('p2', 's2', []),
      D('P', 'p1'),
      D('P', 'p2'),
      S,
    ),
    await ask(a, 1, B('s2'), E, S),
    await ask(a, 1, B('s1'), E, S),
  ]
})

sameBothWays('names whose Close fails keep their meaning', async open => {
  const a = await open()
  await ask(a, 1, P('s0', 'select 73'), S)
  return [
    await ask(a, 2, B('nope'), C('s0'), S, B('s0'), E, S),
    await ask(a, 1, P('', "select 'unnamed'"), B('nope'), C(''), S),
    await ask(a, 1, B(''), E, S),
  ]
})

sameBothWays('settings that only a superuser may set do not end up with the next client', async open => {
  await cluster.primary.query('drop role if exists adm; drop role if exists plain')
  await cluster.primary.query('create role adm superuser; create role plain login in role adm')
  const parameters = { user: 'plain' }
  const [a, b] = [await open(parameters), await open(parameters)]
  const set = 'set role adm; set log_min_duration_statement = 12345; reset role'
  return [
    await ask(a, 1, Q(set)),
    await ask(b, 1, Q('show log_min_duration_statement')),
    await ask(a, 1, Q('show log_min_duration_statement')),
    await ask(b, 1, Q('select 1')),
  ]
})

sameBothWays(
  'copy data sent ahead behind a change of the session is taken, and the end after it',
  async open => {
    const a = await open()
    await ask(a, 1, Q('create table t (i int)'))
    const data = frame(0x64, Buffer.from('1\n2\n'))
    const from = a.received.length
    a.send(
      Buffer.concat([Q("set work_mem = '65kB'"), Q('copy t from stdin'), data, frame(0x63, Buffer.alloc(0))]),
    )
    a.socket.end()
    await until('it is closed', () => a.closed)
    const b = await open()
    return [essence(a.received.slice(from)), await ask(b, 1, Q('select count(*) from t'))]
  },
)

sameBothWays('startup settings of a made-up class are back after DISCARD ALL', async open => {
  const a = await open({ options: '-c app.tenant=q -c work_mem=65kB' })
  const answers: string[][] = []
  for (const sql of ['discard all', 'reset all', 'reset app.tenant']) {
    await ask(a, 1, Q(sql))
    answers.push(await ask(a, 1, Q("select current_setting('app.tenant'), current_setting('work_mem')")))
  }
  return answers
})

test('a client that has sent a part of a request holds no server connection', async () => {
  const parts = await Promise.all(Array.from({ length: 6 }, () => WireClient.open(host.config.proxy.port)))
  for (const client of parts) client.send(Buffer.from('Q'))
  const other = await WireClient.open(host.config.proxy.port)
  assert.ok((await ask(other, 1, Q('select 1'))).includes('C SELECT 1\0'))
  for (const client of [...parts, other]) client.close()
})

test('a piece that begins with the letter of Terminate does not end a client in the middle of a message', async () => {
  const client = await WireClient.open(host.config.proxy.port)
  const query = Q("SELECT 'XY'")
  const cut = query.indexOf('X')
  const from = client.received.length
  client.send(query.subarray(0, cut))
  await pause(systemTimers, 50)
  client.send(query.subarray(cut))
  await until(
    'the answer',
    () => client.received.slice(from).some(({ code }) => code === 'Z') || client.closed,
  )
  assert.equal(client.closed, false)
  client.close()
})

sameBothWays('the unnamed statement after a Close behind an error and a simple query', async open => {
  const a = await open()
  return [
    await ask(a, 1, P('', 'select 1'), S),
    await ask(a, 3, E, B('nope'), C(''), S, Q("set application_name = 'other'"), B(''), E, S),
    await ask(a, 1, P('', 'select 2'), S),
    await ask(a, 2, B('nope'), C(''), S, B(''), E, S),
  ]
})

sameBothWays('a name that is given again right behind the end of a failed transaction', async open => {
  const a = await open()
  return [
    await ask(a, 1, P('s1', 'select 1'), S),
    await ask(a, 2, Q('begin'), Q('select 1/0')),
    await ask(a, 3, Q('commit'), P('s1', 'select 2'), S, B('s1'), E, S),
    await ask(a, 1, B('s1'), E, S),
  ]
})

sameBothWays('a name whose Parse is not carried out, bound by the request right behind it', async open => {
  const [a, b] = [await open(), await open()]
  return [
    await ask(b, 1, P('s1', 'select 1'), S),
    await ask(a, 1, P('other', 'select 1'), S),
    await ask(a, 2, B('nope'), P('s1', 'select 1'), S, B('s1'), E, S),
    await ask(a, 2, B('nope'), P('s1', 'select 1'), S, D('S', 's1'), S),
    await ask(a, 2, P('s1', 'select 1'), S, B('s1'), E, S),
  ]
})

test('columns that have changed are refused in the way by which drivers know that they have to prepare anew', async () => {
  await cluster.primary.query('create table shape (a int)')
  const [first, second] = await Promise.all([1, 2].map(() => WireClient.open(host.config.proxy.port)))
  await ask(first!, 1, P('s', 'select * from shape'), D('S', 's'), S)
  await cluster.primary.query('alter table shape add column b int')
  // On the one connection that both use it has the new columns now.
  await ask(second!, 1, P('other', 'select * from shape'), D('S', 'other'), S)
  const from = first!.received.length
  await ask(first!, 1, B('s'), E, S)
  const error = first!.received.slice(from).find(({ code }) => code === 'E')
  const fields = readErrorFields(error!.body)
  assert.deepEqual([fields.get('C'), fields.get('R')], ['0A000', 'RevalidateCachedQuery'])
  for (const client of [first!, second!]) client.close()
})
