import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { writeQuery } from '../../src/wire/messages.ts'
import { writeCancelRequest, writeStartup } from '../../src/wire/startup.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need } from '../support/need.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

describe('a cancel request that comes to another proxy of the fleet', need('etcd', 'etcdctl'), () => {
  let cluster: TestCluster
  let etcd: EtcdCluster
  const hosts: Host[] = []
  const clients: WireClient[] = []

  before(async () => {
    ;[cluster, etcd] = await Promise.all([startTestCluster(), EtcdCluster.start()])
    await cluster.primary.query('create role sal login')
    const { name, port } = cluster.primary
    for (const [id, workers] of [['p1', 1] as const, ['p2', 2] as const]) {
      const config = await testConfig([{ name, port }], {
        'store.kind': 'etcd',
        'store.endpoints': etcd.endpoints,
        'proxy.id': id,
        'proxy.pool_mode': 'auto',
        'proxy.workers': workers,
        // One for each worker.
        'proxy.default_pool_size': workers,
        'proxy.users': { sal: { pool_mode: 'session' } },
      })
      hosts.push(await startTestHost(config))
    }
    await Promise.all(hosts.map(untilRolesAreKnown))
    await until('they know of each other', () => hosts.every(host => prefixes(host).length === 2))
  })

  afterEach(() => {
    for (const client of clients.splice(0)) client.close()
  })

  after(async () => {
    await Promise.all(hosts.map(host => host.stop()))
    await Promise.all([etcd?.stop(), cluster?.stop()])
  })

  const prefixes = (host: Host): number[] =>
    host.watcher.proxies().flatMap(({ cancelPrefix }) => cancelPrefix ?? [])

  const unknown = (host: Host): number => host.proxy!.counters().cancelsUnknown

  async function open(host: Host, { user = 'postgres', minor = 0 } = {}): Promise<WireClient> {
    const client = new WireClient(host.config.proxy.port)
    clients.push(client)
    client.expectMessages()
    const packet = writeStartup(new Map(Object.entries({ user, database: 'postgres' })))
    packet.writeUInt16BE(minor, 6)
    client.send(packet)
    await client.ready()
    return client
  }

  /** Sends a cancel key to a proxy, and waits until that has dealt with it. */
  async function cancel(
    host: Host,
    { processId, secret }: Pick<WireClient, 'processId' | 'secret'>,
  ): Promise<void> {
    const canceller = new WireClient(host.config.proxy.port)
    clients.push(canceller)
    canceller.send(writeCancelRequest(processId, secret))
    await until('the cancel connection is closed', () => canceller.closed)
  }

  const sleeping = (count: number): Promise<unknown> =>
    until('the query runs', async () => {
      const sql =
        "select 1 from pg_stat_activity where wait_event = 'PgSleep' and query like 'select pg_sleep(20%'"
      return (await cluster.primary.query(sql)).length === count
    })

  test('is carried out by the proxy that knows its key, whatever the client and its pool are like', async () => {
    const [one, two] = hosts as [Host, Host]
    assert.equal(new Set(prefixes(one)).size, 2)
    for (const options of [{}, { minor: 2 }, { user: 'sal' }, { user: 'sal', minor: 2 }]) {
      for (const [home, other] of [[one, two] as const, [two, one] as const]) {
        const client = await open(home, options)
        const bystander = await open(other, options)
        assert.equal(client.secret.length, options.minor === 2 ? 32 : 4)
        const running = assert.rejects(
          client.query('select pg_sleep(20)'),
          /canceling statement due to user request/,
        )
        const untouched = bystander.query('select pg_sleep(0.3)')
        await sleeping(1)
        await cancel(other, client)
        await running
        assert.ok((await untouched).some(({ code }) => code === 'C'))
        client.close()
        bystander.close()
      }
    }
  })

  test('reaches a client that still waits for a connection', async () => {
    const [one, two] = hosts as [Host, Host]
    const [holder, waiting] = [await open(one), await open(one)]
    await holder.query('begin; select 1')
    waiting.send(writeQuery('select 1'))
    await until('it waits', () => one.proxy!.counters().nodes['a']?.waiting === 1)
    await cancel(two, waiting)
    await until('it is told', () => waiting.error !== undefined)
    assert.equal(waiting.error!.get('C'), '57014')
    await holder.query('commit')
    await waiting.query('select 1')
  })

  test('is counted as unknown where its key leads to, and goes no further', async () => {
    const [one, two] = hosts as [Host, Host]
    const client = await open(one)
    const wrong = Buffer.from(client.secret)
    wrong[3]! ^= 1
    const before = [unknown(one), unknown(two)]
    await cancel(two, { processId: client.processId, secret: wrong })
    await until('it is counted', () => unknown(one) === before[0]! + 1)
    assert.equal(unknown(two), before[1])
    wrong[0] = 0
    await cancel(two, { processId: client.processId, secret: wrong })
    await until('it is counted', () => unknown(two) === before[1]! + 1)
    assert.equal(unknown(one), before[0]! + 1)
  })

  test('takes no longer than two seconds when that proxy is gone, and disturbs nobody', async () => {
    const [one, two] = hosts as [Host, Host]
    const { secret, processId } = await open(two)
    hosts.pop()
    await two.stop()
    await until('the report is gone', () => prefixes(one).length === 1)
    const startedMs = systemClock.nowMs()
    await cancel(one, { processId, secret })
    assert.ok(systemClock.nowMs() - startedMs < 3000)
    await (await open(one)).query('select 1')
  })
})
