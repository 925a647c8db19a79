import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { sync, writeBindText, writeExecute, writeParse } from '../../src/wire/messages.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { askForPasswords } from '../support/server-auth.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Data workers that are replaced while clients use them. */
let cluster: TestCluster
let host: Host
let port: number

before(async () => {
  cluster = await startTestCluster()
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.pool_mode': 'auto',
    'proxy.shutdown_timeout': '20s',
  })
  host = await startTestHost(config)
  port = config.proxy.port
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

/** Has the workers replaced while clients come all the time, of which each is served. */
async function replaceWhile(before: number[], work: () => Promise<void>): Promise<void> {
  const url = `http://127.0.0.1:${host.config.admin.port}/api/proxy/restart-workers`
  const response = await fetch(url, { method: 'POST' })
  assert.deepEqual([response.status, await response.json()], [202, { workers: 2 }])
  const over = new AbortController()
  let served = 0
  const coming = Array.from({ length: 3 }, async () => {
    while (!over.signal.aborted) {
      await query(port, 'select 1')
      served++
    }
  })
  try {
    await work()
    await until(
      'all are new',
      () => !pids().some(pid => before.includes(pid)) && !host.proxy!.isReplacing,
      15_000,
    )
  } finally {
    over.abort()
  }
  await Promise.all(coming)
  assert.ok(served > 10, `${served} were served`)
}

const pids = (): number[] => host.proxy!.workers.map(({ pid }) => pid)

test('pooled clients go on in the new workers and notice nothing, nobody is refused or cut', async () => {
  const before = pids()
  const idle = await WireClient.open(port)
  const busy = await WireClient.open(port)
  await idle.query("set application_name = 'moved'; set app.tenant = 'seven'")
  idle.send(
    Buffer.concat([
      writeParse('named', 'select $1::int + 1', []),
      writeParse('', 'select 40 + $1::int', []),
      sync,
    ]),
  )
  await idle.ready(idle.received.length)
  await busy.query('begin')
  await replaceWhile(before, async () => {
    await until('a new one is there', () => pids().some(pid => !before.includes(pid)))
    await busy.query('select 1')
    await busy.query('commit')
  })
  assert.equal(pids().filter(pid => before.includes(pid)).length, 0)
  assert.equal(host.proxy!.workers.length, 2)
  assert.equal(host.proxy!.crashes, 0)
  for (const [name, answer] of [
    ['', '42'],
    ['named', '3'],
  ] as const) {
    const from = idle.received.length
    idle.send(Buffer.concat([writeBindText('', name, ['2']), writeExecute(''), sync]))
    await idle.ready(from)
    assert.ok(
      idle.received.slice(from).some(({ body, code }) => code === 'D' && body.toString().endsWith(answer)),
    )
  }
  const rows = await idle.query(
    "select current_setting('application_name') || ' ' || current_setting('app.tenant')",
  )
  assert.match(rows.find(({ code }) => code === 'D')!.body.toString(), /moved seven/)
  await busy.query('select 1')
  // The cancel key that it was given still is its own.
  const running = assert.rejects(idle.query('select pg_sleep(20)'), /canceling statement due to user request/)
  await until('it runs', async () => {
    const sql =
      "select 1 from pg_stat_activity where query = 'select pg_sleep(20)' and wait_event = 'PgSleep'"
    return (await cluster.primary.query(sql)).length === 1
  })
  const canceller = new WireClient(port)
  canceller.send(writeCancelRequest(idle.processId, idle.secret))
  await running
  for (const client of [idle, busy, canceller]) client.close()
  await until('nobody is counted who is gone', () => host.proxy!.counters().clients === 0)
})

test('clients that go on asking while the workers are replaced again and again lose no answer', async () => {
  const over = new AbortController()
  const asked = [0, 0, 0, 0, 0, 0, 0, 0]
  const asking = asked.map(async (_, at) => {
    const client = await connect(port)
    while (!over.signal.aborted) {
      const { rows } = await client.query<{ n: number }>('select $1::int as n', [++asked[at]!])
      assert.equal(rows[0]?.n, asked[at])
    }
    await client.end()
  })
  for (let round = 0; round < 3; round++) await host.proxy!.replaceWorkers()
  over.abort()
  await Promise.all(asking)
  assert.ok(
    asked.every(count => count > 50),
    asked.join(' '),
  )
})

test('clients that must keep their connection are ended when they are idle', async () => {
  const before = pids()
  const pinned = await WireClient.open(port)
  await pinned.query('create temporary table kept ()')
  await replaceWhile(before, () => Promise.resolve())
  assert.equal((await pinned.refused()).get('C'), '57P01')
})

test('hundreds of clients go at once, and with them what the proxy logs in to the servers with', async () => {
  const { primary } = cluster
  const password = 'ada-Geheim-1'
  await primary.query(`create role ada login password '${password}'`)
  await askForPasswords(primary, ['host all all all scram-sha-256'])
  const config = await testConfig([{ name: 'a', port: primary.port }], {
    'proxy.pool_mode': 'auto',
    'proxy.default_pool_size': 4,
    'proxy.auth.method': 'proxy',
    'proxy.auth.query_user': 'postgres',
    'proxy.auth.rules': [
      { type: 'host', database: 'all', user: 'all', address: 'all', method: 'scram-sha-256' },
    ],
  })
  const other = await startTestHost(config)
  try {
    await untilRolesAreKnown(other)
    const clients = await Promise.all(
      Array.from({ length: 200 }, () => connect(config.proxy.port, { user: 'ada', password })),
    )
    await Promise.all(clients.map((client, at) => client.query(`set application_name = 'client ${at}'`)))
    await other.proxy!.replaceWorkers()
    assert.equal(other.proxy!.counters().disconnects.shutdown, 0)
    const names = await Promise.all(
      clients.map(async client => {
        const { rows } = await client.query<{ name: string }>(
          "select current_setting('application_name') as name",
        )
        return rows[0]?.name
      }),
    )
    assert.deepEqual(
      names,
      clients.map((_, at) => `client ${at}`),
    )
    await Promise.all(clients.map(client => client.end()))
  } finally {
    await other.stop()
  }
})

test('a stop in the middle of it stops all', async () => {
  const holder = await WireClient.open(port)
  await holder.query('begin')
  host.restartWorkers()
  await until('a new one is there', () => host.proxy!.isReplacing && pids().length === 2)
  const stopped = host.stop()
  holder.close()
  await stopped
  assert.equal(host.proxy!.isReplacing, false)
})
