import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { NodeCountersData } from '../../src/proxy/counters.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { proxyCounters } from '../support/counters.ts'
import { operationsOn } from '../support/host.ts'
import { answerTo, firstColumn, type LaneProxy, laneTables, simple, withProxy } from '../support/lanes.ts'
import { caughtUp, connect, killServer, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { SlowLink } from '../support/slow-link.ts'
import { until } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

/** Clients that read go where they are served well: away from what is slow, far, or dead, and back. */
let cluster: TestCluster
let link: SlowLink

before(async () => {
  cluster = await startTestCluster({ replicas: 3 })
  await cluster.primary.query(laneTables)
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  link = await SlowLink.to(cluster.replicas[2]!.port)
})

after(async () => {
  await link?.close()
  await cluster?.stop()
})

/** The nodes of the configuration; `d` is reached by the link. */
function nodes(more: Record<string, object> = {}): Record<string, unknown>[] {
  return [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({
    ...{ name, host: '127.0.0.1', port: name === 'd' ? link.port : port },
    ...more[name],
  }))
}

const read = simple('select t from numbers where n = 7')

/** Clients that ask without a pause until `stop`, which rejects when one of them had no right answer. */
class Readers {
  readonly #asking: Promise<void>[]
  #isOver = false

  constructor(clients: readonly WireClient[]) {
    this.#asking = clients.map(client => this.#ask(client))
    for (const asking of this.#asking) asking.catch(() => undefined)
  }

  static async start(proxy: LaneProxy, count: number): Promise<Readers> {
    return new Readers(await proxy.openMany(count, proxy.host.config.proxy.read_port))
  }

  async #ask(client: WireClient): Promise<void> {
    while (!this.#isOver) assert.deepEqual(firstColumn(await answerTo(client, read)), ['number 7'])
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#asking)
  }
}

async function countersOf(proxy: LaneProxy): Promise<Record<string, NodeCountersData>> {
  return (await proxyCounters(proxy.host.config.admin.port)).nodes
}

/** Which part of at least 200 answers from now on came from a node. */
async function partOf(proxy: LaneProxy, name: string): Promise<number> {
  const sum = (counters: Record<string, NodeCountersData>): number =>
    Object.values(counters).reduce((total, { queries }) => total + queries, 0)
  const from = await countersOf(proxy)
  const to = await until('answers came', async () => {
    const now = await countersOf(proxy)
    return sum(now) >= sum(from) + 200 ? now : undefined
  })
  return ((to[name]?.queries ?? 0) - (from[name]?.queries ?? 0)) / (sum(to) - sum(from))
}

for (const [door, lanes] of [
  ['port', 'on'],
  ['read_port', 'off'],
] as const) {
  test(`a slow replica is left, and has its share again when it is quick: ${door}, lanes ${lanes}`, async () => {
    const settings = { nodes: nodes(), 'proxy.lanes': lanes, 'proxy.slow_start': '1s' }
    await withProxy(cluster, settings, async proxy => {
      const readers = new Readers(await proxy.openMany(12, proxy.host.config.proxy[door]))
      await until('all serve', async () => (await partOf(proxy, 'd')) > 0.1)
      link.delayMs = 40
      await until('d is out', async () => (await countersOf(proxy))['d']?.ejected === 1)
      await until('d is left', async () => (await partOf(proxy, 'd')) === 0)
      link.delayMs = 0
      await until('d serves again', async () => (await partOf(proxy, 'd')) > 0.1, 25_000)
      assert.equal((await countersOf(proxy))['d']!.ejected, 0)
      await readers.stop()
    }).finally(() => {
      link.delayMs = 0
    })
  })
}

test('reads stay in the own zone, go elsewhere when it has nobody, and come back', async () => {
  const zones = { b: { zone: 'east' }, c: { zone: 'west' }, d: { zone: 'west' } }
  const settings = { nodes: nodes(zones), 'proxy.zone': 'east', 'proxy.slow_start': '1s' }
  await withProxy(cluster, settings, async proxy => {
    const readers = await Readers.start(proxy, 6)
    assert.equal(await partOf(proxy, 'b'), 1)
    const [b] = cluster.replicas
    await killServer(b!)
    await until('others serve', async () => (await partOf(proxy, 'b')) === 0)
    await b!.start()
    await until('b has all again', async () => (await partOf(proxy, 'b')) === 1, 15_000)
    await readers.stop()
  })
})

test('sessions that read stay in their zone when another one gets a replica', async () => {
  const zones = { b: { zone: 'east' }, c: { zone: 'west' }, d: { zone: 'west' } }
  const settings = { nodes: nodes(zones), 'proxy.zone': 'east', 'proxy.pool_mode': 'session' }
  await withProxy(cluster, settings, async ({ host }) => {
    const at = operationsOn(host)
    const isReadable = (): boolean =>
      host.watcher.current().nodes.some(({ name, readable }) => name === 'c' && readable)
    await setNodeState(at, 'c', 'drain', false)
    await until('c is drained', () => !isReadable() && host.proxy!.isCurrent)
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect(host.config.proxy.read_port)))
    const ask = async (): Promise<unknown[]> => {
      const answers = clients.map(client =>
        client.query<{ port: number }>('select inet_server_port() as port'),
      )
      return (await Promise.all(answers)).map(({ rows }) => rows[0]?.port)
    }
    const [b] = cluster.replicas
    assert.deepEqual(await ask(), Array(4).fill(b!.port))
    await setNodeState(at, 'c', 'active', false)
    await until('c is back', () => isReadable() && host.proxy!.isCurrent)
    for (let round = 0; round < 5; round++) assert.deepEqual(await ask(), Array(4).fill(b!.port))
    await Promise.all(clients.map(client => client.end()))
  })
})

for (const lanes of ['on', 'off']) {
  test(`a replica is killed: no read fails, and nothing goes there any more, lanes ${lanes}`, async () => {
    await withProxy(cluster, { nodes: nodes(), 'proxy.lanes': lanes, 'proxy.workers': 2 }, async proxy => {
      const readers = await Readers.start(proxy, 16)
      await until('all serve', async () => (await partOf(proxy, 'b')) > 0.1)
      const [b] = cluster.replicas
      await killServer(b!)
      await until('nothing goes there', async () => (await partOf(proxy, 'b')) === 0)
      await readers.stop()
      await b!.start()
    })
  })
}

test('a proxy that does not talk to a replica knows within two seconds that it is dead', async () => {
  const settings = { nodes: nodes(), 'probe.interval': '1s' }
  await withProxy(cluster, settings, async proxy => {
    const [b] = cluster.replicas
    await killServer(b!)
    const readable = (): boolean =>
      proxy.host.watcher.current().nodes.some(({ name, readable }) => name === 'b' && readable)
    await until('b is out', () => !readable(), 2000)
    await b!.start()
  })
})
