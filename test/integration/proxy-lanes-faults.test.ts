import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { signalProcess } from '../../src/runtime/process.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { operationsOn } from '../support/host.ts'
import {
  alongside,
  answerTo,
  bound,
  exactly,
  firstColumn,
  int4,
  type LaneProxy,
  laneCounters,
  laneTables,
  parsed,
  prepare,
  simple,
  sqlstateOf,
  type Unit,
  untilShared,
  withProxy,
} from '../support/lanes.ts'
import {
  caughtUp,
  connect,
  killServer,
  query,
  startTestCluster,
  type TestCluster,
} from '../support/postgres.ts'
import { essence } from '../support/script.ts'
import { until } from '../support/wait.ts'
import type { Received, WireClient } from '../support/wire-client.ts'

/** Server connections that clients share are lost, their tables change, operators interfere: nobody gets a wrong answer. */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 1)
let cluster: TestCluster

async function start(replicas = 0): Promise<void> {
  cluster = await startTestCluster({ replicas })
  await cluster.primary.query(laneTables)
}

afterEach(() => cluster?.stop())

const sql = 'select $1::text, nap($2::int) from numbers where n < $3::int'

/** Asks for some rows that carry the client's own mark, in any form. */
function markedUnit(mark: string, rows: number, ms: number, form: number): Unit {
  const values = [mark, int4(ms), `${rows}`]
  if (form === 0) return simple(`select '${mark}', nap(${ms}) from numbers where n < ${rows}`)
  if (form === 1) return parsed(sql, values, { describes: true })
  return bound('mine', values, { binary: true })
}

/**
 * One client that asks again and again: every answer is its own, whole, and ends in just one ReadyForQuery. Only what
 * it has not shared may be lost with a server connection to the primary; then it connects again.
 */
class Asker {
  readonly #proxy: LaneProxy
  readonly #port: number
  readonly #id: number
  readonly #random: Random
  #client: WireClient | undefined
  answers = 0

  constructor(proxy: LaneProxy, port: number, id: number) {
    this.#proxy = proxy
    this.#port = port
    this.#id = id
    this.#random = seededRandom(seed + id)
  }

  static all(proxy: LaneProxy, count: number, port = proxy.port): Asker[] {
    return Array.from({ length: count }, (_, id) => new Asker(proxy, port, id))
  }

  #below(limit: number): number {
    return Math.floor(this.#random.next() * limit)
  }

  async ask(msMax = 3): Promise<void> {
    const mark = `<c${this.#id}-${++this.answers}>`
    const rows = 1 + this.#below(5)
    const unit = markedUnit(mark, rows, this.#below(msMax), this.#below(3))
    const received = await this.#answerTo(unit)
    if (!received) return
    assert.equal(sqlstateOf(received), undefined, `${unit.text}: ${exactly(received)[0]}`)
    assert.deepEqual(firstColumn(received), Array(rows).fill(mark), unit.text)
    assert.deepEqual(
      received.filter(({ code }) => code === 'Z' || code === 'N').map(({ code }) => code),
      ['Z'],
    )
  }

  async #answerTo(unit: Unit): Promise<Received[] | undefined> {
    try {
      if (!this.#client) {
        this.#client = await this.#proxy.openAt(this.#port)
        await answerTo(this.#client, prepare('mine', sql))
      }
      const received = await answerTo(this.#client, unit, 1, 60_000)
      const end = received.findIndex(({ code }) => code === 'Z') + 1
      // What a server that ends has said right behind an answer that was not shared.
      const said = received.slice(end)
      if (!said.every(({ body }) => body.includes('\0C57P0'))) return received
      if (said.length > 0) {
        this.#client.close()
        this.#client = undefined
      }
      return received.slice(0, end)
    } catch (cause) {
      const told = this.#client?.error?.get('M') ?? ''
      if (
        !this.#client?.closed ||
        !/^(pgherd: the connection to . was lost|terminating connection)/.test(told)
      )
        throw cause
      this.#client = undefined
      return undefined
    }
  }
}

const shareAll = (proxy: LaneProxy, askers: readonly Asker[], units = 100): Promise<void> =>
  untilShared(proxy.host, () => Promise.all(askers.map(asker => asker.ask(1))), units)

test(`server connections that are lost take no read with them (PGHERD_TEST_SEED=${seed})`, async () => {
  await start()
  await withProxy(cluster, { 'proxy.default_pool_size': 4, 'proxy.failover_wait': '30s' }, async proxy => {
    const askers = Asker.all(proxy, 16)
    await shareAll(proxy, askers)
    await alongside(
      askers.map(asker => () => asker.ask()),
      async () => {
        for (let round = 0; round < 20 * rounds; round++) {
          await query(
            cluster.primary.port,
            "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1",
          )
          await pause(systemTimers, 50)
        }
      },
    )
    const { givenBack } = await laneCounters(proxy.host)
    assert.ok(givenBack.lost > 0, JSON.stringify(givenBack))
    // Answers that have begun may be torn, and then the connection ends; here none begins before it is whole.
    await shareAll(proxy, askers)
  })
})

test('the crash of a server process, and an immediate shutdown, are noticed by nobody who reads', async () => {
  await start()
  await withProxy(cluster, { 'proxy.default_pool_size': 4, 'proxy.failover_wait': '60s' }, async proxy => {
    const askers = Asker.all(proxy, 12)
    await shareAll(proxy, askers)
    await alongside(
      askers.map(asker => () => asker.ask(30)),
      async () => {
        for (let round = 0; round < 2 * rounds; round++) {
          const before = askers.map(({ answers }) => answers)
          const [{ pid }] = (await query<{ pid: number }>(
            cluster.primary.port,
            "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1",
          )) as [{ pid: number }]
          signalProcess(pid, 'SIGKILL')
          await until(
            'all are answered again',
            () => askers.every(({ answers }, id) => answers > before[id]! + 3),
            60_000,
          )
          await cluster.primary.stop('immediate')
          await cluster.primary.start()
          const later = askers.map(({ answers }) => answers)
          await until(
            'all are answered again',
            () => askers.every(({ answers }, id) => answers > later[id]! + 3),
            60_000,
          )
        }
      },
    )
    await until('some were run again', async () => (await laneCounters(proxy.host)).givenBack.lost > 0)
  })
})

/** What is changed under the clients' feet, one after another. */
const changes = [
  "create function grade(i int) returns text language sql stable as $$ select 'old ' || i $$; create table changing (i int, t text); insert into changing values (1, 'one'); create schema front",
  'alter table changing add column extra int default 7',
  'alter table changing alter column i type bigint',
  "create or replace function grade(i int) returns text language sql stable as $$ select 'new ' || i $$",
  "drop table changing; create table changing (t text, i int); insert into changing values ('two', 2), ('one', 1)",
  'alter table changing rename column t to label',
  'create table front.changing (i int); insert into front.changing values (1), (1)',
]

for (const through of ['pgherd', 'another way'] as const) {
  test(`schema changes through ${through} are seen as a client of its own would see them`, async () => {
    await start()
    await withProxy(
      cluster,
      { 'proxy.default_pool_size': 4, 'proxy.max_prepared_statements': 3 },
      async proxy => {
        const startup = { options: '-c search_path=front,public' }
        const ddl = await connect(through === 'pgherd' ? proxy.port : cluster.primary.port)
        const texts = ['select * from changing where i = $1', 'select grade($1::int), count(*) from changing']
        const units: Unit[] = texts.flatMap((text, at) => [
          simple(text.replace('$1', '1')),
          parsed(text, ['1']),
          parsed(text, ['1'], { describes: true }),
          bound(`n${at}`, ['1']),
          bound(`d${at}`, ['1'], { describes: true }),
        ])
        const direct = await proxy.openAt(cluster.primary.port, startup)
        const clients = await Promise.all(Array.from({ length: 4 }, () => proxy.open(startup)))
        try {
          for (const [phase, change] of changes.entries()) {
            // Whether what has a name finds a table of the same name that is new depends on when it was prepared.
            const isHidden = change.startsWith('create table front')
            if (isHidden && through !== 'pgherd') break
            await ddl.query(change)
            if (phase === 0) {
              for (const client of [direct, ...clients]) {
                for (const [at, text] of texts.entries()) {
                  await answerTo(client, prepare(`n${at}`, text))
                  await answerTo(client, prepare(`d${at}`, text))
                }
              }
            }
            const asked = isHidden ? units.filter(({ text }) => !text.startsWith('bind')) : units
            const expected: string[][] = []
            for (const unit of asked) {
              const answer = essence(await answerTo(direct, unit))
              // Whoever asks for the columns again gets them as they are now (docs/pooling.md).
              const takesNew = unit.text.endsWith('describe') && answer[0] === 'E ERROR 0A000'
              expected.push(takesNew ? expected[asked.indexOf(unit) - 2]!.slice(1) : answer)
            }
            const askAll = (): Promise<unknown> =>
              Promise.all(
                clients.map(async client => {
                  for (const [at, unit] of asked.entries())
                    assert.deepEqual(
                      essence(await answerTo(client, unit)),
                      expected[at],
                      `${unit.text}\nafter ${change}`,
                    )
                }),
              )
            await untilShared(proxy.host, askAll, 24)
          }
        } finally {
          await ddl.end()
        }
      },
    )
  })
}

test('tables that change all the time give every reader a whole answer', async () => {
  await start()
  await withProxy(cluster, { 'proxy.default_pool_size': 5 }, async proxy => {
    const ddl = await connect(proxy.port)
    await ddl.query(
      'create table shifting (i int, t text); insert into shifting select 1, generate_series(1, 3)',
    )
    const clients = await proxy.openMany(10)
    const unit = parsed('select * from shifting where i = $1', ['1'], { describes: true })
    const plain = simple('select * from shifting where i = 1')
    const ask = async (client: WireClient): Promise<void> => {
      for (const each of [unit, plain]) {
        const received = await answerTo(client, each)
        const sqlstate = sqlstateOf(received)
        // It is not there for a moment, for PostgreSQL's own clients too.
        if (sqlstate !== undefined)
          assert.ok(['42P01', '40P01', 'XX000'].includes(sqlstate), exactly(received).join())
        else {
          const columns = received.find(({ code }) => code === 'T')!.body.readUInt16BE(0)
          const rows = received.filter(({ code }) => code === 'D')
          assert.deepEqual(
            rows.map(({ body }) => body.readUInt16BE(0)),
            Array(3).fill(columns),
          )
        }
      }
    }
    try {
      await untilShared(proxy.host, () => Promise.all(clients.map(ask)), 50)
      await alongside(
        clients.map(client => () => ask(client)),
        async () => {
          for (let turn = 0; turn < 15 * rounds; turn++) {
            await ddl.query('alter table shifting add column more int default 5')
            await ddl.query('alter table shifting alter column t type varchar(9)')
            await ddl.query(
              'alter table shifting drop column more; alter table shifting alter column t type text',
            )
            await ddl.query(
              'drop table shifting; create table shifting (i int, t text); insert into shifting select 1, generate_series(1, 3)',
            )
            await pause(systemTimers, 20)
          }
        },
      )
      await untilShared(proxy.host, () => Promise.all(clients.map(ask)), 50)
    } finally {
      await ddl.end()
    }
  })
})

test('readers go on while nodes are drained, killed and promoted', async () => {
  await start(2)
  const [b, c] = cluster.replicas as [PostgresServer, PostgresServer]
  const settings = {
    'proxy.default_pool_size': 4,
    'proxy.failover_wait': '60s',
    'probe.timeout': '500ms',
    'proxy.server_connect_timeout': '1s',
    'routing.drain_timeout': '1s',
  }
  await withProxy(cluster, settings, async proxy => {
    const { host } = proxy
    const operations = operationsOn(host)
    const readers = Asker.all(proxy, 8, host.config.proxy.read_port)
    const askers = [...readers, ...Asker.all(proxy, 8)]
    await caughtUp(cluster.primary, b)
    await caughtUp(cluster.primary, c)
    await shareAll(proxy, readers)
    await shareAll(proxy, askers)
    const goOn = async (who: readonly Asker[]): Promise<void> => {
      const before = who.map(({ answers }) => answers)
      const haveAsked = (): boolean => who.every(({ answers }, id) => answers > before[id]! + 5)
      await until('all are answered again', haveAsked, 60_000)
    }
    await alongside(
      askers.map(asker => () => asker.ask()),
      async () => {
        await setNodeState(operations, 'b', 'drain', false)
        await goOn(askers)
        await setNodeState(operations, 'b', 'active', false)
        await goOn(askers)
        await killServer(c)
        await goOn(askers)
        await c.start()
        await goOn(askers)
        await killServer(cluster.primary)
        await b.query('select pg_promote()')
        await goOn(askers)
      },
    )
    await shareAll(proxy, askers)
    assert.deepEqual(
      host.watcher
        .current()
        .nodes.filter(({ writable }) => writable)
        .map(({ name }) => name),
      ['b'],
    )
  })
})

test('workers that are replaced leave nobody without an answer', async () => {
  await start()
  const settings = { 'proxy.default_pool_size': 4, 'proxy.workers': 2, 'proxy.shutdown_timeout': '20s' }
  await withProxy(cluster, settings, async proxy => {
    const pids = (): number[] => proxy.host.proxy!.workers.map(({ pid }) => pid)
    const askers = Asker.all(proxy, 16)
    await shareAll(proxy, askers)
    await alongside(
      askers.map(asker => () => asker.ask()),
      async () => {
        const before = pids()
        const url = `http://127.0.0.1:${proxy.host.config.admin.port}/api/proxy/restart-workers`
        assert.equal((await fetch(url, { method: 'POST' })).status, 202)
        const areNew = (): boolean =>
          !pids().some(pid => before.includes(pid)) && !proxy.host.proxy!.isReplacing
        await until('all workers are new', areNew, 40_000)
      },
    )
    await shareAll(proxy, askers)
  })
})

test('a shutdown waits for what clients have asked', async () => {
  await start()
  const settings = { 'proxy.default_pool_size': 2, 'proxy.shutdown_timeout': '20s' }
  await withProxy(cluster, settings, async proxy => {
    const clients = await proxy.openMany(8)
    const quick = simple('select nap(0), 3')
    await untilShared(proxy.host, () => Promise.all(clients.map(client => answerTo(client, quick))), 50)
    const answers = clients.map(client => answerTo(client, simple('select nap(50), 3')))
    const stopping = proxy.host.stop()
    for (const answer of answers) assert.deepEqual(firstColumn(await answer), ['50'])
    await stopping
    for (const client of clients) assert.equal((await client.refused()).get('C'), '57P01')
  })
})
