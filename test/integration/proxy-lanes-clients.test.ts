import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { systemClock } from '../../src/runtime/clock.ts'
import { seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { proxyCounters } from '../support/counters.ts'
import {
  alongside,
  answerTo,
  firstColumn,
  int4,
  laneCounters,
  laneTables,
  parsed,
  simple,
  sqlstateOf,
  type Unit,
  untilReady,
  untilShared,
  withProxy,
} from '../support/lanes.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

/** Clients who share server connections, and of whom some are slow, cancel or vanish: the others never notice. */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 1) * 6
let cluster: TestCluster

before(async () => {
  cluster = await startTestCluster()
  await cluster.primary.query(laneTables)
})

after(async () => {
  await cluster?.stop()
})

test('who waits behind a slow statement is answered long before it ends', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 2 }, async proxy => {
    const { host } = proxy
    const [slow, ...others] = await proxy.openMany(17)
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
    proxy.cancel(slow!)
    assert.equal(sqlstateOf(await answer), '57014')
    await until('some were served elsewhere', async () => (await laneCounters(host)).givenBack.stall > 0)
  })
})

test('a cancel hits the statement that it is for, and nobody behind it', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 2 }, async proxy => {
    const { host } = proxy
    const clients = await proxy.openMany(8)
    const quick = simple('select nap(0), n from numbers where n < 5')
    await untilShared(host, () => Promise.all(clients.map(client => answerTo(client, quick))), 50)
    const [cancelled, ...others] = clients
    for (let round = 0; round < 5; round++) {
      const answer = answerTo(cancelled!, simple('select nap(30000), n from numbers where n < 5'))
      const answers = others.map(client => answerTo(client, quick))
      proxy.cancel(cancelled!)
      // One that comes too early has nothing to cancel.
      const timer = systemTimers.every(200, () => proxy.cancel(cancelled!))
      assert.equal(sqlstateOf(await answer), '57014')
      timer.cancel()
      for (const each of await Promise.all(answers)) assert.equal(firstColumn(each).length, 5)
    }
  })
})

test('one that waits behind others is cancelled at once', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 1 }, async proxy => {
    const { host } = proxy
    const [slow, next, last] = await proxy.openMany(3)
    const quick = parsed('select nap($1::int)', [int4(0)], { describes: true })
    const all = [slow!, next!, last!]
    await untilShared(host, () => Promise.all(all.map(client => answerTo(client, quick))), 30)
    const first = answerTo(slow!, parsed('select nap($1::int)', [int4(30_000)], { describes: true }))
    const second = answerTo(next!, quick)
    const third = answerTo(last!, quick)
    const timer = systemTimers.every(100, () => proxy.cancel(next!))
    assert.equal(sqlstateOf(await second), '57014')
    timer.cancel()
    assert.equal(slow!.received.at(-1)?.code, 'Z', 'the slow one is still at it')
    proxy.cancel(slow!)
    assert.equal(sqlstateOf(await first), '57014')
    assert.deepEqual(firstColumn(await third), ['0'])
  })
})

test(`cancels in a storm hit nobody else (PGHERD_TEST_SEED=${seed})`, async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
    const { host } = proxy
    const clients = await proxy.openMany(20)
    const warm = simple(`select '', nap(0)`)
    await untilShared(host, () => Promise.all(clients.map(client => answerTo(client, warm))), 100)
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
            proxy.cancel(client)
          }
          const received = await answer
          const sqlstate = sqlstateOf(received)
          if (sqlstate === undefined) assert.deepEqual(firstColumn(received), [mark])
          else assert.ok(cancels && sqlstate === '57014', `client ${id} got ${sqlstate} at ${unit.text}`)
          if (sqlstate !== undefined) hits++
        }
      }),
    )
    assert.ok(hits > 0, 'some were cancelled')
  })
})

test('a client that does not read its answer holds nobody up', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
    const { host } = proxy
    const clients = await proxy.openMany(9)
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

test('clients that vanish in the middle leave the others their answers', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 3 }, async proxy => {
    const { host } = proxy
    const staying = await proxy.openMany(8)
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
      const leaving = await proxy.openMany(4)
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
  await withProxy(cluster, { 'proxy.default_pool_size': 2 }, async proxy => {
    const { host } = proxy
    const clients = await proxy.openMany(4)
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
    // Half-closed it would still be answered.
    clients[0]!.socket.resetAndDestroy()
    await until('it was cancelled', async () => (await running()) === 0)
    await Promise.all(clients.slice(1).map(client => answerTo(client, quick)))
  })
})

test('whoever needs a connection of its own gets one, however busy the shared ones are', async () => {
  for (const poolSize of [1, 2, 4]) {
    await withProxy(cluster, { 'proxy.default_pool_size': poolSize }, async proxy => {
      const readers = await proxy.openMany(24)
      const unit = parsed('select n from numbers where n < $1', ['3'])
      const read = async (client: WireClient): Promise<void> => {
        assert.equal(firstColumn(await answerTo(client, unit)).length, 3)
      }
      await untilShared(proxy.host, () => Promise.all(readers.map(read)), 100)
      // All connections but one are in a transaction that does not end.
      const holders = await proxy.openMany(poolSize - 1)
      for (const holder of holders) await answerTo(holder, simple('begin'))
      const writers = await proxy.openMany(3)
      await alongside(
        readers.map(client => () => read(client)),
        async () => {
          for (let turn = 0; turn < 3; turn++) {
            await Promise.all(
              writers.map(async client => {
                for (const sql of ['begin', 'select n from numbers where n = 1 for update', 'commit'])
                  await answerTo(client, simple(sql), 1, 20_000)
              }),
            )
          }
        },
      )
    })
  }
})

test('query_timeout ends a request that shares its server connection, and nobody else', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 2, 'proxy.query_timeout': '2s' }, async proxy => {
    const clients = await proxy.openMany(6)
    const quick = simple('select nap(0), 1')
    await untilShared(proxy.host, () => Promise.all(clients.map(client => answerTo(client, quick))), 50)
    const [slow, ...others] = clients
    slow!.send(simple('select nap(30000), 1').bytes)
    await alongside(
      others.map(client => () => answerTo(client, quick)),
      async () => {
        assert.match((await slow!.refused(20_000)).get('M') ?? '', /query_timeout/)
      },
    )
    await until('it was cancelled', async () => {
      const running = await cluster.primary.query(
        "select from pg_stat_activity where state = 'active' and query like 'select nap(30000%'",
      )
      return running.length === 0
    })
  })
})

test('the console shows, holds and ends clients whose requests share server connections', async () => {
  await withProxy(cluster, { 'proxy.default_pool_size': 4 }, async proxy => {
    const ask = (sql: string): Promise<Record<string, unknown>[]> =>
      query(proxy.port, sql, { database: 'pgherd', user: 'operator' })
    const clients = await proxy.openMany(8)
    const read = async (client: WireClient, ms = 0): Promise<void> => {
      assert.deepEqual(firstColumn(await answerTo(client, simple(`select nap(${ms}), 2`))), [`${ms}`])
    }
    await untilShared(proxy.host, () => Promise.all(clients.map(client => read(client))), 50)
    /** Of the server processes that serve clients; the proxy's own questions come with a name. */
    const pids = async (): Promise<number[]> => {
      const rows = await cluster.primary.query<{ pid: number }>(
        "select pid from pg_stat_activity where backend_type = 'client backend' and application_name not like 'pgherd%' and pid <> pg_backend_pid()",
      )
      return rows.map(({ pid }) => pid)
    }
    const [slow, ...others] = clients
    const long = answerTo(slow!, simple('select nap(4000), 2'))
    await until('it is active', async () => {
      const rows = await ask('SHOW CLIENTS')
      return rows.filter(({ database, state }) => database === 'postgres' && state === 'active').length === 1
    })
    const pool = (await ask('SHOW POOLS')).find(({ database }) => database === 'postgres')
    assert.equal(Number(pool!['cl_active']), 8, 'as PgBouncer counts them: linked or idle')
    assert.equal(Number(pool!['cl_waiting']), 0)
    assert.ok(Number(pool!['sv_active']) >= 1)
    await long
    await alongside(
      others.map(client => () => read(client)),
      async () => {
        for (let round = 0; round < 3; round++) {
          await ask('PAUSE postgres')
          await ask('RESUME postgres')
          const before = await pids()
          await ask('RECONNECT postgres')
          await until('the server connections are others', async () => {
            const now = await pids()
            return !before.some(pid => now.includes(pid))
          })
        }
      },
    )
    await untilShared(proxy.host, () => Promise.all(clients.map(client => read(client))), 50)
    for (const client of clients) client.send(simple('select nap(200), 2').bytes)
    await ask('KILL postgres')
    await until('all are ended', () => clients.every(({ closed }) => closed))
    await ask('RESUME postgres')
    await read(await proxy.open())
  })
})
