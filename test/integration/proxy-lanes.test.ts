import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { sync, terminate, writeParse, writeQuery } from '../../src/wire/messages.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import {
  answerTo,
  bound,
  describeStatement,
  exactly,
  type Form,
  int4,
  laneCounters,
  parsed,
  simple,
  type Unit,
  untilReady,
  untilShared,
  type Value,
} from '../support/lanes.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { type Received, WireClient } from '../support/wire-client.ts'

/**
 * Clients who share server connections without knowing: each gets its own answers, all of them, byte for byte as
 * PostgreSQL gives them.
 */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 1) * 6
/** Whatever may share does so by then: statements are seen, read and found to be quick. */
const roundsMax = 30
let cluster: TestCluster
const hosts: Host[] = []
const opened: WireClient[] = []

const tables = `
  create table numbers (n int primary key, t text);
  insert into numbers select n, 'number ' || n from generate_series(0, 49) n;
  create view evens as select n from numbers where n % 2 = 0;
  create function nap(ms int) returns int language plpgsql stable as
    $$ begin perform pg_sleep(ms / 1000.0); return ms; end $$;
  create function noisy(what text) returns text language plpgsql stable as
    $$ begin raise notice 'about to give %', what; return what; end $$;
  create function picky(i int) returns int language plpgsql immutable as
    $$ begin if i > 5 then raise exception 'not %', i using hint = 'less'; end if; return i; end $$`

before(async () => {
  cluster = await startTestCluster()
  await cluster.primary.query(tables)
})

after(async () => {
  await cluster?.stop()
})

/** Runs a test with a proxy of these settings; whoever has connected meanwhile is gone afterwards. */
async function withProxy(
  settings: Record<string, unknown>,
  use: (host: Host, port: number) => Promise<void>,
): Promise<void> {
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.pool_mode': 'auto',
    'proxy.workers': 1,
    ...settings,
  })
  const host = await startTestHost(config)
  hosts.push(host)
  try {
    await untilRolesAreKnown(host)
    await use(host, config.proxy.port)
    assert.equal(host.proxy!.crashes, 0)
  } finally {
    for (const client of opened.splice(0)) client.close()
    await host.stop()
  }
}

async function open(port: number, parameters?: Record<string, string>): Promise<WireClient> {
  const client = await WireClient.open(port, parameters)
  opened.push(client)
  return client
}

function openMany(count: number, port: number): Promise<WireClient[]> {
  return Promise.all(Array.from({ length: count }, () => open(port)))
}

function cancel(port: number, { processId, secret }: WireClient): void {
  const request = new WireClient(port)
  request.send(writeCancelRequest(processId, secret))
  request.socket.end()
}

/** What a result has in its first column, as text. */
function firstColumn(received: readonly Received[]): string[] {
  return received
    .filter(({ code }) => code === 'D')
    .map(({ body }) => body.toString('latin1', 6, 6 + body.readInt32BE(2)))
}

const sqlstateOf = (received: readonly Received[]): string | undefined =>
  received
    .find(({ code }) => code === 'E')
    ?.body.toString('latin1')
    .match(/\0C(\w+)\0/)?.[1]

/** A statement under a name, described as drivers do. */
const prepare = (name: string, sql: string): Unit => ({
  text: `prepare ${sql}`,
  bytes: Buffer.concat([writeParse(name, sql, []), describeStatement(name), sync]),
})

test('64 clients get each their own rows, over few server connections', async () => {
  await withProxy({ 'proxy.default_pool_size': 6 }, async (host, port) => {
    const clients = await openMany(64, port)
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
  await withProxy({ 'proxy.default_pool_size': 8 }, async (host, port) => {
    const expected: Map<Unit, string[]>[] = []
    for (const startup of startups) {
      const direct = await open(cluster.primary.port, startup)
      for (const unit of prepares) await answerTo(direct, unit)
      const answers = new Map<Unit, string[]>()
      for (const unit of units) answers.set(unit, exactly(await answerTo(direct, unit)))
      expected.push(answers)
    }
    const clients = await Promise.all([...startups, ...startups].map(startup => open(port, startup)))
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
    const all = shareable * clients.length
    for (let round = 0, share = 0; share < 0.5; round++) {
      assert.ok(
        round < roundsMax,
        `${Math.round(share * 100)} % share server connections: ${JSON.stringify(await laneCounters(host))}`,
      )
      const { shared } = await laneCounters(host)
      await Promise.all(clients.map(ask))
      share = ((await laneCounters(host)).shared - shared) / (shareable * clients.length)
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
  await withProxy({ 'proxy.default_pool_size': 3 }, async (host, port) => {
    const direct = await open(cluster.primary.port)
    const expected: string[][] = []
    for (const unit of scenario) expected.push(exactly(await answerTo(direct, unit)))
    const clients = await openMany(6, port)
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

test('who waits behind a slow statement is answered long before it ends', async () => {
  await withProxy({ 'proxy.default_pool_size': 2 }, async (host, port) => {
    const [slow, ...others] = await openMany(17, port)
    const quick = parsed('select nap($1)', ['0'])
    const all = [slow!, ...others]
    await untilShared(host, () => Promise.all(all.map(client => answerTo(client, quick))), 100)
    const answer = answerTo(slow!, parsed('select nap($1)', ['30000']))
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(others.map(client => answerTo(client, quick)))
      assert.deepEqual(
        answers.map(firstColumn),
        others.map(() => ['0']),
      )
    }
    cancel(port, slow!)
    assert.equal(sqlstateOf(await answer), '57014')
    await until('some were served elsewhere', async () => (await laneCounters(host)).givenBack.stall > 0)
  })
})

test('a cancel hits the statement that it is for, and nobody behind it', async () => {
  await withProxy({ 'proxy.default_pool_size': 2 }, async (host, port) => {
    const clients = await openMany(8, port)
    const quick = simple('select nap(0), n from numbers where n < 5')
    await untilShared(host, () => Promise.all(clients.map(client => answerTo(client, quick))), 50)
    const [cancelled, ...others] = clients
    for (let round = 0; round < 5; round++) {
      const answer = answerTo(cancelled!, simple('select nap(30000), n from numbers where n < 5'))
      const answers = others.map(client => answerTo(client, quick))
      cancel(port, cancelled!)
      // One that comes too early has nothing to cancel.
      const timer = systemTimers.every(200, () => cancel(port, cancelled!))
      assert.equal(sqlstateOf(await answer), '57014')
      timer.cancel()
      for (const each of await Promise.all(answers)) assert.equal(firstColumn(each).length, 5)
    }
  })
})

test('one that waits behind others is cancelled at once', async () => {
  await withProxy({ 'proxy.default_pool_size': 1 }, async (host, port) => {
    const [slow, next, last] = await openMany(3, port)
    const quick = parsed('select nap($1::int)', [int4(0)], { describes: true })
    const all = [slow!, next!, last!]
    await untilShared(host, () => Promise.all(all.map(client => answerTo(client, quick))), 30)
    const first = answerTo(slow!, parsed('select nap($1::int)', [int4(30_000)], { describes: true }))
    const second = answerTo(next!, quick)
    const third = answerTo(last!, quick)
    const timer = systemTimers.every(100, () => cancel(port, next!))
    assert.equal(sqlstateOf(await second), '57014')
    timer.cancel()
    assert.equal(slow!.received.at(-1)?.code, 'Z', 'the slow one is still at it')
    cancel(port, slow!)
    assert.equal(sqlstateOf(await first), '57014')
    assert.deepEqual(firstColumn(await third), ['\0\0\0\0'])
  })
})

test(`cancels in a storm hit nobody else (PGHERD_TEST_SEED=${seed})`, async () => {
  await withProxy({ 'proxy.default_pool_size': 3 }, async (host, port) => {
    const clients = await openMany(20, port)
    const overMs = systemClock.nowMs() + rounds * 500
    let hits = 0
    await Promise.all(
      clients.map(async (client, id) => {
        const random = seededRandom(seed + id)
        const cancels = id % 2 === 0
        while (systemClock.nowMs() < overMs) {
          const mark = `<c${id}-${Math.floor(random.next() * 1e6)}>`
          const ms = random.next() < 0.1 ? Math.floor(random.next() * 60) : 0
          const values = [mark, int4(ms)]
          const sql = 'select $1::text, nap($2::int)'
          const unit = random.next() < 0.5 ? parsed(sql, values) : simple(`select '${mark}', nap(${ms})`)
          const answer = answerTo(client, unit)
          if (cancels && random.next() < 0.3) {
            await pause(systemTimers, Math.floor(random.next() * 10))
            cancel(port, client)
          }
          const received = await answer
          const sqlstate = sqlstateOf(received)
          if (sqlstate === undefined) assert.deepEqual(firstColumn(received), [mark])
          else assert.ok(cancels && sqlstate === '57014', `client ${id} got ${sqlstate} at ${unit.text}`)
          if (sqlstate !== undefined) hits++
        }
      }),
    )
    await until('requests have shared', async () => (await laneCounters(host)).shared > 100)
    assert.ok(hits > 0, 'some were cancelled')
  })
})

test('a client that does not read its answer holds nobody up', async () => {
  await withProxy({ 'proxy.default_pool_size': 3 }, async (host, port) => {
    const clients = await openMany(9, port)
    const rows = (count: number): Unit =>
      parsed('select $1, n from generate_series(1, $2) n', ['y'.repeat(1000), `${count}`])
    await untilShared(host, () => Promise.all(clients.map(client => answerTo(client, rows(2)))), 50)
    const [slow, ...others] = clients
    const from = slow!.received.length
    slow!.socket.pause()
    slow!.send(rows(40_000).bytes)
    for (let round = 0; round < 20; round++)
      for (const each of await Promise.all(others.map(client => answerTo(client, rows(3)))))
        assert.equal(firstColumn(each).length, 3)
    assert.equal(slow!.received.length, from)
    slow!.socket.resume()
    await untilReady(slow!, from, 1, 'the large one')
    assert.equal(firstColumn(slow!.received.slice(from)).length, 40_000)
    assert.equal(firstColumn(await answerTo(slow!, rows(3))).length, 3)
  })
})

test('a request in two pieces, two in one, and one with the goodbye behind it', async () => {
  await withProxy({ 'proxy.default_pool_size': 3 }, async (host, port) => {
    const clients = await openMany(6, port)
    const direct = await open(cluster.primary.port)
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
    const over = new AbortController()
    const sharing = others.map(async client => {
      while (!over.signal.aborted) await ask(client)
    })
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
    for (const unit of units) {
      const [leaving, halfClosing] = await openMany(2, port)
      for (const client of [leaving!, halfClosing!]) await answerTo(client, prepare('few', sql))
      const marks = [leaving!.received.length, halfClosing!.received.length]
      leaving!.send(Buffer.concat([unit.bytes, terminate]))
      halfClosing!.socket.end(unit.bytes)
      await until('both are gone', () => leaving!.closed && halfClosing!.closed)
      for (const [at, client] of [leaving!, halfClosing!].entries())
        assert.deepEqual(exactly(client.received.slice(marks[at])), expected[units.indexOf(unit)], unit.text)
    }
    over.abort()
    await Promise.all(sharing)
  })
})

test('clients that vanish in the middle leave the others their answers', async () => {
  await withProxy({ 'proxy.default_pool_size': 3 }, async (host, port) => {
    const staying = await openMany(8, port)
    const ask = async (client: WireClient, id: number): Promise<void> => {
      const unit = parsed('select $1, nap(0) from numbers where n < 3', [`<c${id}>`])
      assert.deepEqual(
        firstColumn(await answerTo(client, unit)),
        Array.from({ length: 3 }, () => `<c${id}>`),
      )
    }
    await untilShared(host, () => Promise.all(staying.map(ask)), 50)
    const random = seededRandom(seed)
    for (let round = 0; round < rounds * 5; round++) {
      const leaving = await openMany(4, port)
      await Promise.all(
        leaving
          .map(async (client, id) => {
            await ask(client, id)
            await ask(client, id)
            const { bytes } = parsed('select $1, nap(0) from numbers where n < 3', [
              'x'.repeat(Math.floor(random.next() * 10_000)),
            ])
            client.send(
              random.next() < 0.7 ? bytes : bytes.subarray(0, Math.floor(random.next() * bytes.length)),
            )
            if (random.next() < 0.5) await pause(systemTimers, Math.floor(random.next() * 4))
            if (random.next() < 0.5) client.socket.resetAndDestroy()
            else client.close()
          })
          .concat(staying.map(ask)),
      )
    }
    await until(
      'nothing is left of them',
      async () => (await proxyCounters(host.config.admin.port)).clients === staying.length,
    )
  })
})

test('what a client has left running is cancelled', async () => {
  await withProxy({ 'proxy.default_pool_size': 2 }, async (host, port) => {
    const clients = await openMany(4, port)
    const quick = simple('select nap(0), 7')
    await untilShared(host, () => Promise.all(clients.map(client => answerTo(client, quick))), 30)
    const running = async (): Promise<number> =>
      (
        await cluster.primary.query(
          "select from pg_stat_activity where state = 'active' and query like 'select nap(60000%'",
        )
      ).length
    clients[0]!.send(simple('select nap(60000), 7').bytes)
    await until('it runs', async () => (await running()) === 1)
    clients[0]!.close()
    await until('it was cancelled', async () => (await running()) === 0)
    await Promise.all(clients.slice(1).map(client => answerTo(client, quick)))
  })
})
