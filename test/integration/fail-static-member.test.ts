import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { operationsBy } from '../../src/cli/operations.ts'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { keysOf } from '../../src/topology/keys.ts'
import { setNodeWeight } from '../../src/topology/operations.ts'
import { EtcdMember } from '../support/etcd.ts'
import { Fleet, Traffic } from '../support/fleet.ts'
import { need } from '../support/need.ts'
import { openEtcd, put, write } from '../support/stores.ts'
import { until } from '../support/wait.ts'

describe('an etcd of one member, traffic goes on', need('etcd', 'etcdctl'), () => {
  let fleet: Fleet

  before(async () => {
    fleet = await Fleet.start({ replicas: 1, etcd: { quotaBytes: 16 * 1024 * 1024 } })
  })
  after(() => fleet?.stop())

  test('what has changed while the proxy was cut off is told, although the history of it is compacted', async t => {
    const traffic = await Traffic.start(fleet)
    const [member] = fleet.etcd.members
    await member?.kill()
    await until('the outage to be noticed', async () => !(await fleet.seen()).store.up)
    // Where nobody else knows it, it goes on without them.
    const elsewhere = await EtcdMember.beside(member!)
    const store = await openEtcd([elsewhere.url])
    for (const weight of [2, 3, 4]) await setNodeWeight(operationsBy('test', store, 'main'), 'b', weight)
    await store.close()
    await fleet.etcd.compact(elsewhere)
    await elsewhere.kill()
    member?.start()
    await member?.healthy()
    t.diagnostic(`as before ${await fleet.converged('a')} ms after the return`)
    const { topology } = await fleet.seen()
    assert.equal(topology.nodes.find(({ name }) => name === 'b')?.weight, 4)
    await traffic.stop()
  })

  test('data from a backup are not believed', async () => {
    const { etcd } = fleet
    const traffic = await Traffic.start(fleet)
    const store = await openEtcd(etcd.endpoints)
    const [member] = etcd.members
    const backup = await member!.copyData()
    // What the newer data have: that somebody wants the node drained.
    const drained = await fleet.command('node', 'drain', 'b')
    assert.equal(drained.code, 0, drained.err)
    // Everybody sees so many changes that the old data do not catch up by what is written to them.
    for (let n = 0; n < 50; n++) await write(store, put(keysOf('main').historyEntry(n), '{}'))
    const { revision } = await store.get('/x')
    await until('the proxy to see them', async () => (await fleet.seen()).topology.revision >= revision)
    await member!.kill()
    const newer = await member!.swapData(backup)
    member!.start()
    await until('the old data to be refused', async () => {
      const { store } = await fleet.seen()
      return !store.up && /is at revision \d+ although \d+ was seen/.test(store.reason ?? '')
    })
    await until('every client to refuse them', () =>
      store.get('/x').then(
        () => false,
        (cause: unknown) => /is at revision/.test(String(cause)),
      ),
    )
    const { topology } = await fleet.seen()
    assert.equal(topology.nodes.find(({ name }) => name === 'b')?.state, 'drain')
    await member!.kill()
    await member!.swapData(newer)
    member!.start()
    await fleet.untilSettled('a')
    await traffic.stop()
    await store.close()
    assert.equal((await fleet.command('node', 'resume', 'b')).code, 0)
  })

  test('etcd is full (NOSPACE), and a replica is promoted by hand meanwhile', async t => {
    const { etcd, servers } = fleet
    const [b] = servers.replicas as [PostgresServer]
    const store = await openEtcd(etcd.endpoints)
    const traffic = await Traffic.start(fleet)
    const value = 'x'.repeat(1_000_000)
    const fill = async (): Promise<void> => {
      for (let n = 0; n < 40; n++) await write(store, put(`${keysOf('other').root}big`, value))
    }
    await assert.rejects(fill(), { code: 'full' })
    await fleet.untilAlarmed()
    const refused = await fleet.command('node', 'drain', 'b')
    assert.match(refused.err, /^error: etcd refused a request: .*space exceeded.*compact/)
    await traffic.stop()
    await servers.primary.stop('immediate')
    await b.promote()
    await until('writes to go to b', async () => (await fleet.seen()).topology.primary === 'b')
    const later = await Traffic.start(fleet)
    await etcd.compact()
    await etcd.ctl(['defrag'])
    await etcd.ctl(['alarm', 'disarm'])
    t.diagnostic(`the agents tell the same ${await fleet.converged('b')} ms after the end of it`)
    await later.stop()
    await store.close()
  })
})
