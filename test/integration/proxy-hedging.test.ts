import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import type { LaneCountersData } from '../../src/proxy/lanes/counters.ts'
import { hedgeBurst } from '../../src/routing/hedge.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import {
  alongside,
  answerTo,
  exactly,
  firstColumn,
  type LaneProxy,
  laneCounters,
  laneTables,
  parsed,
  simple,
  sqlstateOf,
  type Unit,
  untilShared,
  withProxy,
} from '../support/lanes.ts'
import { caughtUp, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { SlowLink } from '../support/slow-link.ts'
import { until } from '../support/wait.ts'
import type { Received, WireClient } from '../support/wire-client.ts'

/** Reads that are late are asked a second time on another replica; each client gets one answer, and its own. */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
let cluster: TestCluster
/** The ways to the replicas. */
let links: [SlowLink, SlowLink]

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
  await cluster.primary.query(laneTables)
  await cluster.primary.query('create table counter (n int); insert into counter values (0)')
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  const [b, c] = cluster.replicas
  links = [await SlowLink.to(b!.port), await SlowLink.to(c!.port)]
})

afterEach(() => {
  for (const link of links ?? []) link.delayFor = () => 0
})

after(async () => {
  for (const link of links ?? []) await link.close()
  await cluster?.stop()
})

function settings(more: Record<string, unknown> = {}): Record<string, unknown> {
  const at = (server: PostgresServer, port: number) => ({ name: server.name, host: '127.0.0.1', port })
  const [b, c] = cluster.replicas
  return {
    nodes: [at(cluster.primary, cluster.primary.port), at(b!, links[0].port), at(c!, links[1].port)],
    // Who is slow now and then stays, and keeps being asked.
    'proxy.ejection_max_percent': 0,
    ...more,
  }
}

/** Asks for something that no other client asks for, in one form or another. */
function markedUnit(mark: string, form: number): Unit {
  return form === 0
    ? simple(`select '${mark}', t from numbers where n = 7`)
    : parsed('select $1::text, t from numbers where n = 7', [mark], { describes: true })
}

/** Asks, and gives back how long that took, ms. There is one answer, of its own. */
async function askMarked(client: WireClient, mark: string, form: number): Promise<number> {
  const sinceMs = systemClock.nowMs()
  const received = await answerTo(client, markedUnit(mark, form))
  const ms = systemClock.nowMs() - sinceMs
  assert.deepEqual(firstColumn(received), [mark], exactly(received).join('\n'))
  assert.deepEqual(
    received.map(({ code }) => code).join(''),
    form === 0 ? 'TDCZ' : '12TDCZ',
    exactly(received).join('\n'),
  )
  return ms
}

/** Requests that were answered in lanes or sent elsewhere. */
function served({ refused, shared }: LaneCountersData): number {
  return Object.values(refused).reduce((sum, count) => sum + count, shared)
}

interface Run {
  /** How long each read took, ms, the quickest first. */
  times: number[]
  /** What was counted meanwhile. */
  shared: number
  hedged: number
  won: number
  refused: LaneCountersData['hedgesRefused']
}

/** So many reads of clients at both replicas, after enough to know how long they take; `begin` is called between. */
async function run(proxy: LaneProxy, clients: number, reads: number, begin: () => void): Promise<Run> {
  const open = await proxy.openMany(clients, proxy.host.config.proxy.read_port)
  const ask = (client: WireClient, at: number, turn: number): Promise<number> =>
    askMarked(client, `<${at}-${turn}>`, turn % 2)
  let turn = 0
  await untilShared(
    proxy.host,
    () => {
      turn++
      return Promise.all(open.map((client, at) => ask(client, at, turn)))
    },
    400,
  )
  const from = await laneCounters(proxy.host)
  begin()
  let left = reads
  const times: number[] = []
  const askAll = async (client: WireClient, at: number): Promise<void> => {
    while (left-- > 0) times.push(await ask(client, at, ++turn))
  }
  await Promise.all(open.map(askAll))
  const to = await until('it is counted', async () => {
    const now = await laneCounters(proxy.host)
    return served(now) - served(from) >= reads ? now : undefined
  })
  return {
    times: times.sort((a, b) => a - b),
    shared: to.shared - from.shared,
    hedged: to.hedged - from.hedged,
    won: to.hedgesWon - from.hedgesWon,
    refused: to.hedgesRefused,
  }
}

/** One piece in so many comes late from a replica. */
function hiccup(link: SlowLink, every: number, ms: number): void {
  let pieces = 0
  link.delayFor = () => (++pieces % every === 0 ? ms : 0)
}

test('replicas that are slow now and then hold up few readers: the other one answers them', async t => {
  const results: Run[] = []
  for (const percent of [0, 10]) {
    await withProxy(cluster, settings({ 'proxy.hedge_percent': percent }), async proxy => {
      results.push(await run(proxy, 8, 5000, () => links.forEach(link => hiccup(link, 50, 300))))
    })
    for (const link of links) link.delayFor = () => 0
  }
  const [off, on] = results as [Run, Run]
  const lateOf = ({ times }: Run): number => times.filter(ms => ms >= 250).length
  const told = results
    .map(each => {
      const p99Ms = each.times[Math.floor(each.times.length * 0.99)]!
      return `${lateOf(each)} late, p99 ${p99Ms.toFixed(1)} ms, ${each.hedged} hedged, ${each.won} won, ${JSON.stringify(each.refused)}`
    })
    .join('; ')
  t.diagnostic(told)
  assert.ok(lateOf(off) >= 20, told)
  assert.ok(lateOf(on) <= lateOf(off) / 3, told)
  assert.deepEqual([off.hedged, off.won], [0, 0])
  assert.ok(on.won > 0 && on.hedged >= on.won, told)
})

test('no more is asked twice than the budget allows', async t => {
  await withProxy(cluster, settings({ 'proxy.hedge_percent': 1 }), async proxy => {
    const result = await run(proxy, 60, 1500, () => {
      links[1].delayFor = () => 300
    })
    const told = `${result.hedged} of ${result.shared} hedged, ${result.won} won, ${JSON.stringify(result.refused)}`
    t.diagnostic(told)
    assert.ok(result.hedged > 0, told)
    assert.ok(result.hedged <= 0.01 * result.shared + hedgeBurst, told)
    assert.ok(result.refused.budget > 0, told)
  })
})

test('what is written is seen, also by who is asked twice', async () => {
  const c = cluster.replicas[1]!
  await withProxy(cluster, settings({ 'proxy.hedge_percent': 100 }), async proxy => {
    const clients = await proxy.openMany(6)
    const ask = async (client: WireClient): Promise<number> => {
      const received = await answerTo(client, simple('select n from counter'))
      return Number(firstColumn(received)[0])
    }
    await untilShared(proxy.host, () => Promise.all(clients.map(ask)), 200)
    const writer = await proxy.open()
    let written = 0
    const stale: string[] = []
    const writeAndRead = async (reads: number): Promise<LaneCountersData> => {
      await answerTo(writer, simple(`update counter set n = ${++written}`))
      for (let turn = 0; turn < reads; turn++)
        for (const seen of await Promise.all(clients.map(ask)))
          if (seen !== written) stale.push(`${seen} in place of ${written}`)
      return laneCounters(proxy.host)
    }
    hiccup(links[0], 20, 50)
    // One of them stays behind all the time, and one is slow now and then.
    await c.query('select pg_wal_replay_pause()')
    try {
      const isRefused = async (): Promise<boolean> => (await writeAndRead(2)).hedgesRefused.not_fresh > 0
      await until('some are not asked twice', isRefused, 60_000)
      assert.deepEqual(stale, [])
    } finally {
      await c.query('select pg_wal_replay_resume()')
    }
    await caughtUp(cluster.primary, c)
    const { hedgesWon } = await laneCounters(proxy.host)
    const haveWon = async (): Promise<boolean> => (await writeAndRead(20)).hedgesWon >= hedgesWon + 3
    await until('some are asked twice', haveWon, 60_000)
    assert.deepEqual(stale, [])
  })
})

/** What runs on a replica that has this in its text: process ids. */
async function running(server: PostgresServer, text: string): Promise<number[]> {
  const rows = await query<{ pid: number }>(
    server.port,
    `select pid from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%${text}%' order by query_start`,
  )
  return rows.map(({ pid }) => pid)
}

/** A client whose request runs on both replicas, for so long. */
async function startBoth(
  proxy: LaneProxy,
  name: string,
  ms: number,
): Promise<{ client: WireClient; received: Promise<Received[]> }> {
  const clients = await proxy.openMany(6, proxy.host.config.proxy.read_port)
  const sql = `select nap($1) as ${name}`
  await untilShared(
    proxy.host,
    () => Promise.all(clients.map(each => answerTo(each, parsed(sql, ['0'])))),
    150,
  )
  const client = clients[0]!
  const received = answerTo(client, parsed(sql, [`${ms}`]))
  received.catch(() => undefined)
  await until(`${name} runs twice`, async () => {
    const [b, c] = cluster.replicas
    return (await running(b!, name)).length === 1 && (await running(c!, name)).length === 1
  })
  return { client, received }
}

async function untilNoneRuns(name: string): Promise<void> {
  await until(`${name} runs nowhere`, async () => {
    for (const replica of cluster.replicas) if ((await running(replica, name)).length > 0) return false
    return true
  })
}

/** The client has had one answer, and goes on. */
async function goesOn(client: WireClient): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await askMarked(client, `<on ${turn}>`, turn % 2)
}

test('who cancels is told so once, and nothing runs on', async () => {
  await withProxy(cluster, settings(), async proxy => {
    const { client, received } = await startBoth(proxy, 'cancelled', 60_000)
    proxy.cancel(client)
    const answer = await received
    assert.equal(sqlstateOf(answer), '57014')
    assert.equal(answer.filter(({ code }) => code === 'Z').length, 1)
    await untilNoneRuns('cancelled')
    await goesOn(client)
  })
})

test('what runs twice for a client that leaves is ended twice', async () => {
  await withProxy(cluster, settings(), async proxy => {
    const { client } = await startBoth(proxy, 'abandoned', 60_000)
    // Half-closed it would still be answered.
    client.socket.resetAndDestroy()
    await untilNoneRuns('abandoned')
  })
})

for (const which of [0, 1]) {
  test(`when a server of the two is lost the other one answers: replica ${which}`, async () => {
    await withProxy(cluster, settings(), async proxy => {
      const name = `lost${which}`
      const { client, received } = await startBoth(proxy, name, 2000)
      const server = cluster.replicas[which]!
      const [pid] = await running(server, name)
      await server.query(`select pg_terminate_backend(${pid})`)
      await until('one runs on', async () => (await running(server, name)).length === 0)
      const answer = await received
      assert.deepEqual(firstColumn(answer), ['2000'])
      assert.equal(answer.map(({ code }) => code).join(''), '12DCZ')
      await untilNoneRuns(name)
      await goesOn(client)
    })
  })
}

/** A client that asks, cancels, leaves and comes back: whatever it is told is its own, and once. */
class Restless {
  readonly #proxy: LaneProxy
  readonly #id: number
  readonly #random: Random
  #client: WireClient | undefined
  #asked = 0

  constructor(proxy: LaneProxy, id: number) {
    this.#proxy = proxy
    this.#id = id
    this.#random = seededRandom(seed + id)
  }

  async ask(): Promise<void> {
    const client = (this.#client ??= await this.#proxy.openAt(this.#proxy.host.config.proxy.read_port))
    const mark = `<${this.#id}-${++this.#asked}>`
    const form = this.#asked % 2
    const whim = this.#random.next()
    const asked = answerTo(client, markedUnit(mark, form))
    if (whim < 0.02) {
      client.socket.resetAndDestroy()
      this.#client = undefined
      await asked.catch(() => undefined)
      return
    }
    if (whim < 0.1) this.#proxy.cancel(client)
    const received = await asked
    const codes = received.map(({ code }) => code).join('')
    if (sqlstateOf(received) === '57014') {
      assert.match(codes, /^[^Z]*EZ$/)
      assert.ok(whim < 0.1 || this.#hasCancelled, `${mark} was cancelled by nobody`)
    } else {
      assert.deepEqual(firstColumn(received), [mark], exactly(received).join('\n'))
      assert.equal(codes, form === 0 ? 'TDCZ' : '12TDCZ')
    }
    this.#hasCancelled = whim < 0.1
  }

  /** A cancel request that comes too late may hit what its own client asks next. */
  #hasCancelled = false
}

/** Some connection to a server is lost. */
async function loseOne(server: PostgresServer): Promise<void> {
  await query(
    server.port,
    "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1",
  )
}

test(`whatever happens while reads run twice, everyone is told its own (PGHERD_TEST_SEED=${seed})`, async t => {
  await withProxy(cluster, settings({ 'proxy.hedge_percent': 100 }), async proxy => {
    const restless = Array.from({ length: 12 }, (_, id) => new Restless(proxy, id))
    const askAll = (): Promise<unknown> => Promise.all(restless.map(each => each.ask()))
    await untilShared(proxy.host, askAll, 300)
    const from = await laneCounters(proxy.host)
    for (const link of links) hiccup(link, 60, 200)
    await alongside(
      restless.map(each => () => each.ask()),
      async () => {
        let looks = 0
        const haveWon = async (): Promise<boolean> => {
          if (++looks % 4 === 0) await loseOne(cluster.replicas[(looks / 4) % 2]!)
          return (await laneCounters(proxy.host)).hedgesWon >= from.hedgesWon + 60
        }
        await until('many were asked twice', haveWon, 90_000)
      },
    )
    const { givenBack, hedged, hedgesRefused, hedgesWon } = await laneCounters(proxy.host)
    t.diagnostic(
      `${hedged} hedged, ${hedgesWon} won, ${JSON.stringify(hedgesRefused)}, given back ${JSON.stringify(givenBack)}`,
    )
    for (const link of links) link.delayFor = () => 0
    await untilShared(proxy.host, askAll, 100)
  })
})

test('where there is no other replica nothing is asked twice', async () => {
  const nodes = (settings()['nodes'] as object[]).slice(0, 2)
  await withProxy(cluster, settings({ nodes }), async proxy => {
    const result = await run(proxy, 6, 500, () => hiccup(links[0], 50, 40))
    assert.equal(result.hedged, 0)
    assert.ok(result.refused.no_node > 0)
  })
})
