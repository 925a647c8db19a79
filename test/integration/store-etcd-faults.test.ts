import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { systemClock } from '../../src/runtime/clock.ts'
import { type Store, StoreError } from '../../src/store/store.ts'
import { EtcdCluster, EtcdMember } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { rejects } from '../support/store-conformance.ts'
import { Collector, follow, openEtcd, put, write } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const prefix = '/pgherd/test/'
const leaseTtlMs = 5_000

describe('etcd that fails', need('etcd', 'etcdctl'), () => {
  it('the leader killed in the middle of writes: nothing lost or doubled, writes recover', () =>
    withCluster(3, async (etcd, stores) => {
      const writers = new Writers(stores)
      const lease = await stores[0].grantLease(leaseTtlMs)
      const watch = new Collector(stores[1], prefix, 1)
      await until('some writes', () => writers.acknowledged.length > 50)
      const leader = await etcd.leader()
      await leader.kill()
      const killedMs = systemClock.nowMs()
      const before = writers.acknowledged.length
      // More than one write that was on its way then: of every writer several.
      await until('writes to recover', () => writers.acknowledged.length > before + 50, leaseTtlMs)
      assert.ok(systemClock.nowMs() - killedMs < leaseTtlMs)
      leader.start()
      await leader.healthy()
      await writers.stop()
      await checkHistory(etcd, watch, writers.acknowledged)
      // The lease went on across the change.
      await write(stores[0], put(`${prefix}lease`, 'kept', lease.id))
      await lease.revoke()
    }))

  it('the member in use stopped: watch, writes and lease move on, and nothing is told twice when it returns', () =>
    withCluster(3, async (etcd, stores) => {
      // Both clients begin with the first member.
      const stopped = etcd.members[0]
      assert.ok(stopped)
      const lease = await stores[0].grantLease(leaseTtlMs)
      let lost = false
      void lease.lost.then(() => {
        lost = true
      })
      await write(stores[0], put(`${prefix}lease`, 'kept', lease.id))
      const watch = new Collector(stores[1], prefix, 1)
      const writers = new Writers(stores)
      await until('some writes', () => writers.acknowledged.length > 50)
      stopped.pause()
      try {
        const before = writers.acknowledged.length
        await until('writes to recover', () => writers.acknowledged.length > before + 50, leaseTtlMs)
        const seen = writers.acknowledged.at(-1) ?? 0
        await watch.reaches(seen, leaseTtlMs)
        await outlives(leaseTtlMs * 1.2)
        assert.equal(lost, false)
        const { entry } = await stores[0].get(`${prefix}lease`)
        assert.equal(entry?.leaseId, lease.id)
      } finally {
        stopped.resume()
      }
      await writers.stop()
      await checkHistory(etcd, watch, writers.acknowledged)
    }))

  it('a quiet watch on a stopped member notices by itself', () =>
    withCluster(3, async (etcd, [store, writer]) => {
      const from = await write(store, put(`${prefix}a`, '0'))
      const watch = new Collector(store, prefix, from)
      await watch.reaches(from)
      // The other client is not on the member that stops.
      const [stopped, running] = etcd.members
      assert.ok(stopped && running)
      const elsewhere = await openEtcd([running.url], { requestTimeoutMs: 1_000 })
      stopped.pause()
      try {
        const revision = await until(
          'a write elsewhere',
          () => write(elsewhere, put(`${prefix}a`, '1')),
          5_000,
        )
        await watch.reaches(revision, 6_000)
      } finally {
        stopped.resume()
        await elsewhere.close()
        watch.close()
      }
      await writer.get(`${prefix}a`)
    }))

  it('killed and started again on the same data: watches and mirrors go on, the lease is told lost in time', () =>
    withCluster(1, async (etcd, [store, other]) => {
      const [member] = etcd.members
      assert.ok(member)
      const lease = await store.grantLease(2_000)
      const { mirror, view } = follow(other, prefix)
      const watch = new Collector(store, prefix, 1)
      const first = await write(store, put(`${prefix}a`, '1'))
      await watch.reaches(first)
      await until('up', () => other.connection.up)
      const downs: boolean[] = []
      other.onConnection(({ up }) => downs.push(up))
      await member.kill()
      const killedMs = systemClock.nowMs()
      await lease.lost
      const lostMs = systemClock.nowMs() - killedMs
      assert.ok(lostMs < lease.ttlMs + 200, `lost after ${lostMs} ms`)
      await rejects(write(store, put(`${prefix}a`, '2')), 'unavailable')
      assert.equal(store.connection.up, false)
      assert.match(store.connection.reason ?? '', /ECONNREFUSED/)
      member.start()
      await member.healthy()
      const second = await until('a write', () => write(store, put(`${prefix}a`, '3')))
      await watch.reaches(second)
      await until('the mirror', () => view()[`${prefix}a`] === '3')
      assert.deepEqual(downs, [false, true])
      assert.deepEqual(
        watch.steps.map(step => step.revision),
        [first, second],
      )
      mirror.close()
      watch.close()
    }))

  it('compacted while a watcher was away: the watch is told, the mirror lists again', () =>
    withCluster(1, async (etcd, [store, writer]) => {
      const [member] = etcd.members
      assert.ok(member)
      const { mirror, view } = follow(store, prefix)
      await mirror.ready
      const from = await write(writer, put(`${prefix}a`, '1'))
      const watch = new Collector(store, prefix, from)
      await watch.reaches(from)
      await until('the mirror', () => view()[`${prefix}a`] === '1')
      // On another port nobody who knows the first one is there while history goes away.
      await member.kill()
      await until('the clients to notice', () => !store.connection.up)
      const detour = await EtcdMember.beside(member)
      const elsewhere = await openEtcd([detour.url])
      for (const value of ['2', '3', '4']) await write(elsewhere, put(`${prefix}a`, value))
      await elsewhere.close()
      await etcd.compact(detour)
      await detour.kill()
      member.start()
      const revision = await until('the compaction to be told', () => watch.compactRevision, 10_000)
      assert.ok(revision > from)
      await until('the mirror', () => view()[`${prefix}a`] === '4')
      mirror.close()
    }))

  it('restored under another token: refused, although it was written to past what was seen', () =>
    withCluster(1, async (etcd, [store, writer]) => {
      const member = etcd.members[0]!
      const { mirror, view } = follow(store, prefix)
      await mirror.ready
      await write(writer, put(`${prefix}a`, 'before'))
      const snapshot = join(etcd.folder, 'snapshot')
      await etcd.ctl(['snapshot', 'save', snapshot])
      const seen = await write(writer, put(`${prefix}a`, 'lost'))
      await until('the mirror', () => view()[`${prefix}a`] === 'lost')
      await member.kill()
      await until('the outage to be noticed', () => !store.connection.up)
      await member.swapData(await member.restore(snapshot, 'another'))
      const detour = await EtcdMember.beside(member)
      const elsewhere = await openEtcd([detour.url])
      const others = [1, 2, 3].map(n => put(`${prefix}b`, `${n}`))
      for (const other of others) assert.ok((await write(elsewhere, other)) > 0)
      const { entry, revision } = await elsewhere.get(`${prefix}a`)
      assert.deepEqual([entry?.value, revision > seen], ['before', true])
      await elsewhere.close()
      await detour.kill()
      member.start()
      await member.healthy()
      await until('it to be refused', () => /another cluster/.test(store.connection.reason ?? ''))
      await assert.rejects(store.get(`${prefix}a`), { code: 'unavailable', message: /another cluster/ })
      assert.equal(store.connection.up, false)
      assert.deepEqual(view(), { [`${prefix}a`]: 'lost' })
      mirror.close()
    }))
})

/** Writers that go on whatever happens, each on keys of its own, and remember what was acknowledged. */
class Writers {
  /** Revisions of acknowledged writes. */
  readonly acknowledged: number[] = []
  private running = true
  private readonly done: Promise<void[]>

  constructor(stores: Store[]) {
    this.done = Promise.all(
      stores.flatMap((store, s) => [0, 1, 2].map(n => this.run(store, `${prefix}w${s}${n}`))),
    )
  }

  async stop(): Promise<void> {
    this.running = false
    await this.done
  }

  private async run(store: Store, key: string): Promise<void> {
    for (let n = 0; this.running; n++) {
      try {
        this.acknowledged.push(await write(store, put(key, String(n)), put(`${key}/twin`, String(n))))
      } catch (cause) {
        assert.ok(cause instanceof StoreError && cause.code === 'unavailable', String(cause))
      }
    }
  }
}

/** What a watch told through all the trouble is the full history, read back by a fresh one. */
async function checkHistory(etcd: EtcdCluster, watch: Collector, acknowledged: number[]): Promise<void> {
  const fresh = await openEtcd(etcd.endpoints)
  const full = new Collector(fresh, prefix, 1)
  const end = await write(fresh, put(`${prefix}end`, ''))
  await Promise.all([full.reaches(end), watch.reaches(end)])
  assert.deepEqual(watch.steps, full.steps)
  const revisions = full.steps.map(step => step.revision)
  assert.equal(new Set(revisions).size, revisions.length)
  const told = new Set(revisions)
  assert.deepEqual(
    acknowledged.filter(revision => !told.has(revision)),
    [],
  )
  assert.equal(new Set(acknowledged).size, acknowledged.length)
  assert.ok(
    full.steps.every(({ events, revision }) => events.every(({ entry }) => entry.modRevision === revision)),
  )
  watch.close()
  full.close()
  await fresh.close()
}

async function withCluster(
  size: number,
  body: (etcd: EtcdCluster, stores: [Store, Store]) => Promise<void>,
): Promise<void> {
  const etcd = await EtcdCluster.start({ size })
  const stores: [Store, Store] = [
    await openEtcd(etcd.endpoints, { requestTimeoutMs: 2_000 }),
    await openEtcd(etcd.endpoints, { requestTimeoutMs: 2_000 }),
  ]
  try {
    await body(etcd, stores)
  } finally {
    await Promise.all(stores.map(store => store.close()))
    await etcd.stop()
  }
}

/** Lets `durationMs` pass: the condition is that time itself. */
async function outlives(durationMs: number): Promise<void> {
  const endMs = systemClock.nowMs() + durationMs
  await until('time to pass', () => systemClock.nowMs() > endMs, durationMs * 2)
}
