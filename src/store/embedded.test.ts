import assert from 'node:assert/strict'
import { beforeEach, describe, it } from 'node:test'
import { FakeTime, settle } from '../../test/support/fake-time.ts'
import { silentLogger } from '../runtime/log.ts'
import { EmbeddedStoreOfProcess } from './embedded.ts'
import type { Journal } from './journal.ts'
import { type Change, StoreState } from './state.ts'
import { StoreError, type Write } from './store.ts'

/** A disk whose every write the test lets through or refuses. */
class FakeDisk implements Journal {
  readonly batches: Change[][] = []
  grown = false
  private readonly waiting: { changes: Change[]; resolve: () => void; reject: (cause: Error) => void }[] = []

  append(changes: Change[]): Promise<void> {
    return new Promise((resolve, reject) => this.waiting.push({ changes, resolve, reject }))
  }

  async succeed(): Promise<void> {
    await settle()
    const write = this.waiting.shift()
    assert.ok(write, 'no write is waiting')
    this.batches.push(write.changes)
    write.resolve()
    await settle()
  }

  async fail(): Promise<void> {
    await settle()
    const write = this.waiting.shift()
    assert.ok(write, 'no write is waiting')
    write.reject(new StoreError('full', 'no room'))
    await settle()
  }

  compact(): Promise<void> {
    return Promise.resolve()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

describe('embedded store and its disk', () => {
  let time: FakeTime
  let disk: FakeDisk
  let store: EmbeddedStoreOfProcess
  beforeEach(() => {
    time = new FakeTime()
    disk = new FakeDisk()
    const options = { path: 'unused', clock: time, timers: time, log: silentLogger, historyMax: 10 }
    store = new EmbeddedStoreOfProcess(options, disk, undefined, new StoreState().snapshot(), [])
  })

  const put = (key: string, value: string): Write => ({ kind: 'put', key, value })
  const write = (...writes: Write[]): Promise<number> =>
    store.transact({ compares: [], writes }).then(result => result.revision)

  it('shares one sync among the writes that wait for it', async () => {
    const writes = Array.from({ length: 100 }, (_, n) => write(put(`k${n}`, '1')))
    await settle()
    const later = [write(put('later', '1')), write(put('later', '2'))]
    await disk.succeed()
    await disk.succeed()
    assert.deepEqual(
      await Promise.all([...writes, ...later]),
      Array.from({ length: 102 }, (_, n) => n + 2),
    )
    assert.deepEqual(
      disk.batches.map(batch => batch.length),
      [100, 2],
    )
  })

  it('shows nothing before it is on disk, but decides with it', async () => {
    const first = store.transact({
      compares: [{ key: 'a', target: 'modified', revision: 0 }],
      writes: [put('a', '1')],
    })
    const second = store.transact({
      compares: [{ key: 'a', target: 'modified', revision: 0 }],
      writes: [put('a', '2')],
    })
    let settled = false
    void second.then(() => {
      settled = true
    })
    await settle()
    assert.deepEqual(await store.get('a'), { entry: undefined, revision: 1 })
    assert.equal(settled, false)
    await disk.succeed()
    assert.deepEqual(await first, { applied: true, revision: 2 })
    assert.deepEqual(await second, { applied: false, revision: 2 })
    assert.equal((await store.get('a')).entry?.value, '1')
  })

  it('a write the disk refuses did not happen, nor did those decided on top of it; then all is well', async () => {
    const kept = write(put('a', '1'))
    await disk.succeed()
    await kept
    const refused = [write(put('a', '2')), write(put('b', '2'))]
    await settle()
    const onTop = store.transact({
      compares: [{ key: 'a', target: 'modified', revision: 3 }],
      writes: [put('a', '3')],
    })
    const results = Promise.allSettled([...refused, onTop])
    await disk.fail()
    for (const result of await results) {
      assert.equal(result.status, 'rejected')
      assert.equal((result.reason as StoreError).code, 'full')
    }
    assert.equal(store.connection.up, false)
    assert.equal((await store.list('')).entries.length, 1)
    const after = write(put('b', '3'))
    await disk.succeed()
    assert.equal(await after, 3)
    assert.equal(store.connection.up, true)
  })

  it('an orphan lease ends in its time even if the disk refuses at first; one of this process stays', async () => {
    const granting = Promise.all([store.leases.grant(1_000), store.grantLease(1_000)])
    await disk.succeed()
    const [orphan, own] = await granting
    const writing = write(
      { ...put('orphan', '1'), leaseId: orphan.id } as Write,
      { ...put('own', '1'), leaseId: own.id } as Write,
    )
    await disk.succeed()
    await writing
    await time.pass(900)
    assert.equal(store.leases.keepAlive(orphan.id), 1_000)
    await time.pass(950)
    assert.ok((await store.get('orphan')).entry)
    await time.pass(100)
    await disk.fail()
    assert.ok((await store.get('orphan')).entry)
    await time.pass(100)
    await disk.succeed()
    assert.equal((await store.get('orphan')).entry, undefined)
    assert.throws(() => store.leases.keepAlive(orphan.id), { code: 'lease_not_found' })
    await time.pass(60_000)
    assert.ok((await store.get('own')).entry)
  })

  it('close waits for what is on its way', async () => {
    const writing = write(put('a', '1'))
    const closing = store.close()
    await disk.succeed()
    assert.equal(await writing, 2)
    await closing
    await assert.rejects(store.get('a'), { code: 'closed' })
  })

  it('more writes than may wait are refused', async () => {
    const writes = Array.from({ length: 10_001 }, (_, n) => write(put('a', String(n))))
    const last = writes.pop()
    assert.ok(last)
    await assert.rejects(last, { code: 'full' })
    await disk.succeed()
    assert.equal((await Promise.all(writes)).length, 10_000)
    assert.equal((await store.get('a')).entry?.value, '9999')
  })
})
