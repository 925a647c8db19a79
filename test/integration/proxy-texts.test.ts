import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Client as PgClient } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { sync, writeBindText, writeExecute, writeParse, writeQueryBytes } from '../../src/wire/messages.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Texts that mean something else than they seem to, or than they did: no client gets what is another's. */
let cluster: TestCluster
let host: Host | undefined
let port: number

before(async () => {
  cluster = await startTestCluster()
})

after(async () => {
  await stop()
  await cluster?.stop()
})

async function start(overrides: Record<string, unknown>): Promise<void> {
  const { name, port: at } = cluster.primary
  host = await startTestHost(await testConfig([{ name, port: at }], overrides))
  port = host.config.proxy.port
  await untilRolesAreKnown(host)
}

const open: PgClient[] = []
async function client(): Promise<PgClient> {
  const one = await connect(port)
  open.push(one)
  return one
}

async function stop(): Promise<void> {
  await Promise.all(open.splice(0).map(each => each.end()))
  await host?.stop()
}

const one = async (client: PgClient, sql: string): Promise<unknown> =>
  Object.values((await client.query<Record<string, unknown>>(sql)).rows[0] ?? {})[0]

const rowsOf = (messages: readonly { code: string; body: Buffer }[]): string[] =>
  messages.filter(({ code }) => code === 'D').map(({ body }) => body.toString('latin1', 6))

const prepare = (text: string): Buffer => Buffer.concat([writeParse('one', text, []), sync])
const execute = Buffer.concat([writeBindText('', 'one', []), writeExecute(''), sync])

async function exchange(client: WireClient, request: Buffer): Promise<string[]> {
  const from = client.received.length
  client.send(request)
  await client.ready(from)
  return rowsOf(client.received.slice(from))
}

describe('equal texts of prepared statements that mean different things', () => {
  const date = "select '01/02/2020'::date::text"
  const [january, february] = ['2020-01-02', '2020-02-01']

  before(() => start({ 'proxy.workers': 1, 'proxy.default_pool_size': 1 }))

  const cases = [
    { setting: 'datestyle', values: ['ISO, MDY', 'ISO, DMY'], text: date, means: [january, february] },
    {
      setting: 'timezone',
      values: ['UTC', 'Asia/Tokyo'],
      text: "select extract(epoch from '2020-01-01'::timestamptz)::int::text",
      means: ['1577836800', '1577804400'],
    },
    {
      setting: 'intervalstyle',
      values: ['postgres', 'sql_standard'],
      text: "select extract(hour from interval '-1 2:03:04')::text",
      means: ['2', '-2'],
    },
    {
      setting: 'standard_conforming_strings',
      values: ['on', 'off'],
      text: "select length('a\\nb')::text",
      means: ['4', '3'],
    },
  ]
  for (const { setting, values, text, means } of cases) {
    test(`by ${setting}`, async () => {
      const clients = await Promise.all(values.map(value => WireClient.open(port, { [setting]: value })))
      for (let round = 0; round < 2; round++) {
        for (const [at, client] of clients.entries()) {
          if (round === 0) await exchange(client, prepare(text))
          assert.deepEqual(await exchange(client, execute), [means[at]])
        }
      }
      for (const client of clients) client.close()
    })
  }

  test('by client_encoding', async () => {
    const text = prepare("select ascii('#')::text")
    text[text.indexOf('#')] = 0xf5
    for (const [encoding, means] of [
      ['LATIN1', '245'],
      ['LATIN2', '337'],
    ] as const) {
      const client = await WireClient.open(port, { client_encoding: encoding })
      await exchange(client, text)
      assert.deepEqual(await exchange(client, execute), [means])
      client.close()
    }
  })

  test('by what was set for a transaction alone, or after it was prepared', async () => {
    const [changing, other] = [await WireClient.open(port), await WireClient.open(port)]
    await changing.query('begin')
    await changing.query("set local datestyle = 'ISO, DMY'")
    await exchange(changing, prepare(date))
    assert.deepEqual(await exchange(changing, execute), [february])
    await changing.query('commit')
    await exchange(other, prepare(date))
    assert.deepEqual(await exchange(other, execute), [january])
    await changing.query("set datestyle = 'ISO, DMY'")
    await changing.query('deallocate all')
    await exchange(changing, prepare(date))
    await changing.query("set datestyle = 'ISO, MDY'")
    // On a server connection that does not know it, it can only be what it says now.
    await query(port, 'select pg_terminate_backend(pg_backend_pid())').catch(() => undefined)
    assert.deepEqual(await exchange(changing, execute), [january])
    assert.deepEqual(await exchange(other, execute), [january])
    for (const client of [changing, other]) client.close()
  })
})

test('a client in an encoding that cannot be looked through keeps its server connection', async () => {
  await stop()
  await start({ 'proxy.workers': 1, 'proxy.default_pool_size': 2 })
  const other = await client()
  const hiding = await WireClient.open(port, { client_encoding: 'SJIS' })
  // The second byte of this letter is a backslash: read byte by byte, the constant would end much later.
  const so = '\x83\x5c'
  const from = hiding.received.length
  hiding.send(writeQueryBytes(`select E'${so}', set_config('app.secret', 'mine', false), E'${so}'`))
  await hiding.ready(from)
  const secret = "select current_setting('app.secret', true)"
  for (let round = 0; round < 5; round++) {
    assert.equal(await one(other, secret), null)
    assert.deepEqual(rowsOf(await hiding.query(secret)), ['mine'])
  }
  const pins = async (): Promise<number> => (await proxyCounters(host!.config.admin.port)).pins.unseen_setting
  await until('it is counted', async () => (await pins()) === 1)
  hiding.close()
})

/** Two clients of each of two workers. */
async function clientsOfBoth(): Promise<[[PgClient, PgClient], [PgClient, PgClient]]> {
  const counts = (): number[] => host!.proxy!.workers.map(({ clients }) => clients)
  await until('nobody is there', () => counts().every(count => count === 0))
  const all: PgClient[][] = [[], []]
  while (all.some(({ length }) => length < 2)) {
    const before = counts()
    const added = await client()
    const rose = (): number => counts().findIndex((count, index) => count > before[index]!)
    await until('it is counted', () => rose() >= 0)
    all[rose()]!.push(added)
  }
  return all as [[PgClient, PgClient], [PgClient, PgClient]]
}

test('a function that is replaced through one worker is another one for the other worker too', async () => {
  await stop()
  await start({ 'proxy.workers': 2, 'proxy.default_pool_size': 8 })
  await query(port, `create function tenant() returns text language sql as $$ select 'none' $$`)
  const [[first], [second, beside]] = await clientsOfBoth()
  for (const each of [first, second]) assert.equal(await one(each, 'select tenant()'), 'none')
  await first.query(
    `create or replace function tenant() returns text language sql
     as $$ select set_config('app.tenant', 'one', false) $$`,
  )
  const isKnown = async (): Promise<boolean> => {
    await second.query('select tenant()')
    // Where it was called is somebody else's now, unless it is known what it does.
    await beside.query('begin; select 1')
    const tenant = await one(second, `select current_setting('app.tenant', true)`)
    await beside.query('commit')
    return tenant === 'one'
  }
  await until('it is known what the function does now', isKnown, 2000)
})
