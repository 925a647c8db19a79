import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { sync, terminate } from '../../src/wire/messages.ts'
import {
  alongside,
  answerTo,
  bound,
  describeStatement,
  exactly,
  type Form,
  firstColumn,
  int4,
  laneCounters,
  laneTables,
  parsed,
  prepare,
  simple,
  type Unit,
  untilReady,
  untilShared,
  type Value,
  withProxy,
} from '../support/lanes.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

/**
 * Clients who share server connections without knowing: each gets its own answers, all of them, byte for byte as
 * PostgreSQL gives them.
 */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 1) * 4
/** Whatever may share does so by then: statements are seen, read and found to be quick. */
const roundsMax = 30
let cluster: TestCluster

before(async () => {
  cluster = await startTestCluster()
  await cluster.primary.query(laneTables)
})

after(async () => {
  await cluster?.stop()
})

test('64 clients get each their own rows, over few server connections', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 6 }, async proxy => {
    const { host } = proxy
    const clients = await proxy.openMany(64)
    const sql = 'select $1::text, n from numbers where n < $2::int'
    await Promise.all(clients.map(client => answerTo(client, prepare('mine', sql))))
    const ask = async (client: WireClient, id: number): Promise<void> => {
      const mark = `<c${id}>`
      const rows = Array.from({ length: 1 + (id % 40) }, () => mark)
      const units = [
        simple(`select '${mark}', n from numbers where n < ${rows.length}`),
        parsed(sql, [mark, int4(rows.length)]),
        parsed(sql, [mark, `${rows.length}`], { describes: true }),
        bound('mine', [mark, `${rows.length}`], { describes: id % 2 === 0 }),
        bound('mine', [mark, int4(rows.length)], { binary: true }),
      ]
      for (const unit of units) assert.deepEqual(firstColumn(await answerTo(client, unit)), rows, unit.text)
    }
    await untilShared(host, () => Promise.all(clients.map(ask)), 64 * 5 * 3)
    const [{ count } = { count: 0 }] = await query<{ count: number }>(
      cluster.primary.port,
      "select count(*)::int from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()",
    )
    assert.ok(count <= 6 + 1, `${count} server connections`)
  })
})

interface Question {
  sql: string
  /** One set of parameters after another; none: it is asked as a simple query too. */
  values: readonly (readonly Value[])[]
  /** It never shares: it is here for the answers. */
  alone?: boolean
}

const manyColumns = Array.from({ length: 300 }, (_, at) => `${at} as column_${at}`).join(', ')
const questions: Question[] = [
  { sql: 'select $1::int + 1', values: [['41'], [int4(-7)], [null], ['x'], [], ['1', '2'], ['99999999999']] },
  {
    sql: 'select $1, $2::int[], $3::bytea',
    values: [
      ['a', '{1,2}', '\\x00ff'],
      [null, null, null],
    ],
  },
  { sql: 'select n, t from numbers where n < $1 order by n', values: [['0'], ['1'], ['50']] },
  { sql: 'select n from evens where n = $1::int', values: [[int4(4)], ['5']] },
  // Not from a parameter alone: the planner would fail, or not, by the plan that it takes.
  { sql: 'select 100 / n from numbers where n = $1', values: [['7'], ['0']] },
  { sql: 'select picky(n) from numbers where n = $1', values: [['5'], ['6']] },
  { sql: 'select noisy($1)', values: [['this'], ['that']] },
  { sql: "select repeat('x', $1::int)", values: [['1'], ['70000'], ['1000000']] },
  { sql: 'select t::int from numbers where n = $1::int', values: [['3'], ['300']] },
  { sql: `select ${manyColumns}`, values: [[]] },
  {
    sql: "select date '2026-02-01', timestamptz '2026-01-01 12:00+00', interval '1 day 2 hours'",
    values: [[]],
  },
  { sql: 'select 1', values: [[]] },
  { sql: 'select null, null::int', values: [[]] },
  { sql: 'select from numbers where n < 2', values: [[]] },
  { sql: 'table numbers', values: [[]] },
  { sql: "values (1, 'a'), (2, null)", values: [[]] },
  { sql: 'with a as (select n from numbers where n < 3) select sum(n) from a', values: [[]] },
  { sql: 'select 1/0', values: [[]] },
  { sql: 'select * from missing', values: [[]], alone: true },
  { sql: 'select nonsense from', values: [[]], alone: true },
  { sql: '', values: [[]], alone: true },
  { sql: "select 'pgherd_1', $1::int", values: [['pgherd_2']] },
]

const forms: Form[] = [{}, { describes: true }, { binary: true, describes: true }]

/** Every question in every form. What a simple query and a named statement cannot ask is left out. */
function everyUnit(): { prepares: Unit[]; units: Unit[]; shareable: number } {
  const prepares: Unit[] = []
  const units: Unit[] = []
  let shareable = 0
  for (const [number, { alone, sql, values }] of questions.entries()) {
    const before = units.length
    if (values[0]!.length === 0) units.push(simple(sql))
    for (const each of values) for (const form of forms) units.push(parsed(sql, each, form))
    if (!alone) {
      shareable += units.length - before + values.length * forms.length
      prepares.push(prepare(`q${number}`, sql))
      for (const each of values) for (const form of forms) units.push(bound(`q${number}`, each, form))
    }
  }
  return { prepares, units, shareable }
}

const startups: Record<string, string>[] = [
  {},
  { options: '-c DateStyle=German -c IntervalStyle=iso_8601', TimeZone: 'Asia/Tokyo' },
  { client_encoding: 'LATIN1', options: '-c search_path=pg_catalog,public -c bytea_output=escape' },
]

test(`answers are byte for byte those of PostgreSQL (PGHERD_TEST_SEED=${seed})`, async () => {
  const { prepares, shareable, units } = everyUnit()
  await withProxy(cluster, { 'proxy.default_pool_size': 8 }, async proxy => {
    const { host } = proxy
    const expected: Map<Unit, string[]>[] = []
    for (const startup of startups) {
      const direct = await proxy.openAt(cluster.primary.port, startup)
      for (const unit of prepares) await answerTo(direct, unit)
      const answers = new Map<Unit, string[]>()
      for (const unit of units) answers.set(unit, exactly(await answerTo(direct, unit)))
      expected.push(answers)
    }
    const clients = await Promise.all([...startups, ...startups].map(startup => proxy.open(startup)))
    await Promise.all(
      clients.map(async client => {
        for (const unit of prepares) await answerTo(client, unit)
      }),
    )
    const ask = async (client: WireClient, id: number): Promise<void> => {
      const random = seededRandom(seed + id)
      const mixed = units.map(unit => ({ unit, at: random.next() })).sort((a, b) => a.at - b.at)
      for (const { unit } of mixed) {
        const answer = exactly(await answerTo(client, unit)).map(each =>
          each.replace(/statement "pgherd_\d+"/, `statement "q0"`),
        )
        assert.deepEqual(answer, expected[id % startups.length]!.get(unit), `client ${id}: ${unit.text}`)
      }
    }
    for (let round = 0, share = 0; share < 0.5 || round < rounds; round++) {
      const { shared } = await laneCounters(host)
      await Promise.all(clients.map(ask))
      const now = await laneCounters(host)
      share = (now.shared - shared) / (shareable * clients.length)
      const few = `${Math.round(share * 100)} % share server connections: ${JSON.stringify(now)}`
      assert.ok(share >= 0.5 || round < rounds + roundsMax, few)
    }
  })
})

test('an unnamed statement that was parsed in a shared unit is there for the next one', async () => {
  const again = (values: Value[]): Unit => bound('', values)
  const sql = 'select $1::int * 2, n from numbers where n = 1'
  const scenario: Unit[] = [
    parsed(sql, ['4']),
    again(['5']),
    { text: 'describe', bytes: Buffer.concat([describeStatement(''), sync]) },
    simple('select 1'),
    again(['6']),
    parsed(sql, ['7']),
    parsed('select nonsense', []),
    again(['8']),
    parsed(sql, ['9']),
    parsed(sql, ['no number']),
    again(['10']),
    parsed('select n from numbers where n = $1', ['11'], { describes: true }),
    again(['12']),
  ]
  await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
    const { host } = proxy
    const direct = await proxy.openAt(cluster.primary.port)
    const expected: string[][] = []
    for (const unit of scenario) expected.push(exactly(await answerTo(direct, unit)))
    const clients = await proxy.openMany(6)
    await untilShared(
      host,
      () =>
        Promise.all(
          clients.map(async (client, id) => {
            for (const [at, unit] of scenario.entries())
              assert.deepEqual(exactly(await answerTo(client, unit)), expected[at], `${id}: ${unit.text}`)
          }),
        ),
      200,
    )
  })
})

test('a request in two pieces, two in one, and one with the goodbye behind it', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
    const { host } = proxy
    const clients = await proxy.openMany(6)
    const direct = await proxy.openAt(cluster.primary.port)
    const sql = 'select n, t from numbers where n < $1'
    for (const client of [...clients, direct]) await answerTo(client, prepare('few', sql))
    const units = [
      simple('select n, t from numbers where n < 3'),
      parsed(sql, ['3'], { describes: true }),
      bound('few', ['3']),
    ]
    const together: Unit = { text: 'all at once', bytes: Buffer.concat(units.map(({ bytes }) => bytes)) }
    const expected: string[][] = []
    for (const unit of units) expected.push(exactly(await answerTo(direct, unit)))
    const ask = async (client: WireClient): Promise<void> => {
      for (const [at, unit] of units.entries())
        assert.deepEqual(exactly(await answerTo(client, unit)), expected[at])
    }
    await untilShared(host, () => Promise.all(clients.map(ask)), 200)
    const [split, pipelined, ...others] = clients
    await alongside(
      others.map(client => () => ask(client)),
      async () => {
        for (const [at, { bytes, text }] of units.entries()) {
          for (let cut = 1; cut < bytes.length; cut++) {
            const from = split!.received.length
            split!.send(bytes.subarray(0, cut))
            await pause(systemTimers, 1)
            split!.send(bytes.subarray(cut))
            await untilReady(split!, from, 1, `${text} cut at ${cut}`)
            assert.deepEqual(exactly(split!.received.slice(from)), expected[at], `${text} cut at ${cut}`)
          }
          const all = exactly(await answerTo(pipelined!, together, units.length))
          assert.deepEqual(all, expected.flat())
        }
        for (const [at, unit] of units.entries()) {
          const [leaving, halfClosing] = await proxy.openMany(2)
          for (const client of [leaving!, halfClosing!]) await answerTo(client, prepare('few', sql))
          const from = leaving!.received.length
          leaving!.send(Buffer.concat([unit.bytes, terminate]))
          halfClosing!.socket.end(unit.bytes)
          await until(`both have left: ${unit.text}`, () => leaving!.closed && halfClosing!.closed)
          assert.deepEqual(exactly(halfClosing!.received.slice(from)), expected[at], unit.text)
          // Who says goodbye is not there any more for the answer.
          const seen = exactly(leaving!.received.slice(from))
          assert.deepEqual(seen, expected[at]!.slice(0, seen.length), unit.text)
        }
      },
    )
  })
})

test('a setting is told to the client that has changed it, and to nobody else', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
    const clients = await proxy.openMany(6)
    const unit = parsed("select date '2026-02-01', n from numbers where n < $1", ['2'])
    const askAll = (): Promise<unknown> => Promise.all(clients.map(client => answerTo(client, unit)))
    await untilShared(proxy.host, askAll, 60)
    const from = clients.map(({ received }) => received.length)
    const [german, ...others] = clients
    await answerTo(german!, simple("set datestyle = 'German'"))
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        clients.map(async client => {
          const dates = firstColumn(await answerTo(client, unit))
          assert.deepEqual(dates, Array(2).fill(client === german ? '01.02.2026' : '2026-02-01'))
        }),
      )
    }
    const told = clients.map(({ received }, id) =>
      received.slice(from[id]).filter(({ code }) => code === 'S'),
    )
    assert.deepEqual(
      told[0]!.map(({ body }) => body.toString()),
      ['DateStyle\0German, DMY\0'],
    )
    for (const [id, messages] of told.entries()) if (id > 0) assert.deepEqual(messages, [])
    assert.equal(others.length, 5)
  })
})

test('a setting that the operator changes is told to everybody, and constants are read by it', async () => {
  const setStyle = async (style: string): Promise<void> => {
    await cluster.primary.query(`alter system set datestyle = '${style}'`)
    await cluster.primary.query('select pg_reload_conf()')
  }
  const told = ({ received }: WireClient): string | undefined => {
    const style = received.findLast(({ body, code }) => code === 'S' && body.includes('DateStyle'))
    return style?.body.toString('latin1').split('\0')[1]
  }
  try {
    await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
      const clients = await proxy.openMany(6)
      const sql = (more: number): string =>
        `select date '03.04.2026' - date '2026-01-01' + ${more} from numbers where n = `
      const units: ((more: number) => Unit)[] = [
        more => parsed(`${sql(more)}$1`, ['2']),
        more => simple(`${sql(more)}2`),
      ]
      /** `march`: the expected day, which else may be another one while the setting changes. */
      const askAll = (more: number, march?: number): Promise<unknown> =>
        Promise.all(
          clients.map(async client => {
            for (const unit of units) {
              const days = firstColumn(await answerTo(client, unit(more)))
              if (march !== undefined) assert.deepEqual(days, [`${march + more}`], unit(more).text)
            }
          }),
        )
      const styles = ['ISO, MDY', 'ISO, DMY', 'ISO, MDY', 'ISO, DMY', 'ISO, MDY']
      for (const [phase, style] of styles.entries()) {
        await setStyle(style)
        // What is prepared just then is prepared by who knows which of the two.
        for (let round = 0; round < 3; round++) await askAll(phase)
        await until('everybody was told', async () => {
          await askAll(phase)
          return clients.every(client => told(client) === style)
        })
        const march = style === 'ISO, MDY' ? 62 : 92
        await untilShared(proxy.host, () => askAll(phase, march), 60)
        for (let before = 0; before < phase; before++) await askAll(before, march)
      }
    })
  } finally {
    await cluster.primary.query('alter system reset datestyle')
    await cluster.primary.query('select pg_reload_conf()')
  }
})

test('where lanes are off nothing is shared', async () => {
  await cluster.primary.query('create user alone')
  const settings = {
    'proxy.databases': { quiet: { dbname: 'postgres', lanes: 'off' } },
    'proxy.users': { alone: { lanes: 'off' } },
  }
  await withProxy(cluster, settings, async proxy => {
    const clients = await Promise.all([
      ...Array.from({ length: 4 }, () => proxy.open({ database: 'quiet' })),
      ...Array.from({ length: 4 }, () => proxy.open({ user: 'alone' })),
    ])
    for (let round = 0; round < 30; round++)
      for (const each of await Promise.all(clients.map(client => answerTo(client, simple('select 1')))))
        assert.deepEqual(firstColumn(each), ['1'])
    await until('it was counted', async () => (await laneCounters(proxy.host)).refused.off >= 8 * 29)
    assert.equal((await laneCounters(proxy.host)).shared, 0)
    const others = await proxy.openMany(4)
    await untilShared(proxy.host, () =>
      Promise.all(others.map(client => answerTo(client, simple('select 1')))),
    )
  })
})

test('SHOW LANES tells which there are, what they have done, and what they work on', async () => {
  await withProxy(cluster, {}, async proxy => {
    const { host, port } = proxy
    const lanes = (): Promise<Record<string, unknown>[]> =>
      query(port, 'show lanes', { database: 'pgherd', user: 'operator' })
    assert.deepEqual(await lanes(), [])
    const client = await proxy.open()
    const read = simple('select t from numbers where n = 7')
    await untilShared(host, () => answerTo(client, read), 3)
    const [lane, ...others] = await lanes()
    assert.ok(lane)
    assert.deepEqual(others, [])
    const { database, user, node, state, units, clients, head_ms, worker } = lane
    assert.deepEqual(
      [database, user, node, state, units, clients, head_ms, worker],
      ['postgres', 'postgres', 'a', 'open', 0, 0, '0', 0],
    )
    const answeredThere = Number(lane['answered'])
    await until('it has answered all', async () => (await laneCounters(host)).shared === answeredThere)
    const servers = await query(port, 'show servers', { database: 'pgherd', user: 'operator' })
    assert.equal(servers.find(({ id }) => id === lane['id'])?.['remote_pid'], lane['server_pid'])

    const locking = await connect(cluster.primary.port)
    await locking.query('begin; lock table numbers')
    const answered = answerTo(client, read)
    await until(
      'the server has worked on it for a while',
      async () => Number((await lanes())[0]?.['head_ms']) > 50,
    )
    const [busy] = await lanes()
    assert.deepEqual([busy?.['id'], busy?.['units'], busy?.['clients']], [lane['id'], 1, 1])
    await locking.end()
    assert.deepEqual(firstColumn(await answered), ['number 7'])
    await until('it is given back to the pool', async () => (await lanes()).length === 0)
  })
})
