import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FakeTime, settle } from '../../test/support/fake-time.ts'
import { silentLogger } from '../runtime/log.ts'
import { seededRandom } from '../runtime/random.ts'
import { mirror } from './mirror.ts'
import { type Entry, type Store, StoreError, type WatchHandler } from './store.ts'

/** A store of which only the listing and the watch are asked; the test plays both. */
class PlayedStore {
  listing: { entries: Entry[]; revision: number } | StoreError = new StoreError('unavailable', 'away')
  lists = 0
  readonly watches: { fromRevision: number; handler: WatchHandler; closed: boolean }[] = []

  async list(): Promise<{ entries: Entry[]; revision: number }> {
    this.lists++
    if (this.listing instanceof StoreError) throw this.listing
    return this.listing
  }

  watch(_prefix: string, fromRevision: number, handler: WatchHandler): { close(): void } {
    const watch = { fromRevision, handler, closed: false }
    this.watches.push(watch)
    return {
      close: () => {
        watch.closed = true
      },
    }
  }
}

function entry(key: string, value: string, modRevision: number): Entry {
  return { key, value, modRevision, createRevision: modRevision, leaseId: undefined }
}

interface Call {
  values: string[]
  revision: number
  changedKeys: string[] | undefined
}

function start(store: PlayedStore): { time: FakeTime; calls: Call[]; following: ReturnType<typeof mirror> } {
  const time = new FakeTime()
  const calls: Call[] = []
  const following = mirror(store as unknown as Store, '/', {
    timers: time,
    random: seededRandom(1),
    log: silentLogger,
    onChange(entries, revision, changedKeys) {
      calls.push({ values: [...entries.values()].map(({ value }) => value), revision, changedKeys })
      throw new Error('thrown by the test')
    },
  })
  return { time, calls, following }
}

describe('mirror', () => {
  it('lists until it succeeds, ever less often, then watches from there', async () => {
    const store = new PlayedStore()
    const { time, calls, following } = start(store)
    await time.pass(60_000)
    assert.ok(store.lists > 40 && store.lists < 90, `${store.lists} times`)
    store.listing = { entries: [entry('/a', '1', 4)], revision: 7 }
    await time.pass(6_000)
    await following.ready
    assert.deepEqual(calls, [{ values: ['1'], revision: 7, changedKeys: undefined }])
    const [watch] = store.watches
    assert.equal(watch?.fromRevision, 8)
    watch?.handler.onEvents([{ kind: 'put', entry: entry('/b', '2', 9) }], 9)
    // Seen already.
    watch?.handler.onEvents([{ kind: 'put', entry: entry('/b', '2', 9) }], 9)
    watch?.handler.onEvents([{ kind: 'delete', entry: entry('/a', '', 10) }], 10)
    assert.deepEqual(calls.slice(1), [
      { values: ['1', '2'], revision: 9, changedKeys: ['/b'] },
      { values: ['2'], revision: 10, changedKeys: ['/a'] },
    ])
    following.close()
    assert.equal(watch?.closed, true)
  })

  it('lists again after a compaction, and never goes back', async () => {
    const store = new PlayedStore()
    store.listing = { entries: [entry('/a', '1', 4)], revision: 7 }
    const { time, calls } = start(store)
    await settle()
    store.listing = { entries: [], revision: 5 }
    store.watches[0]?.handler.onCompacted(20)
    await time.pass(10_000)
    assert.equal(calls.length, 1)
    store.listing = { entries: [entry('/a', '2', 21)], revision: 21 }
    await time.pass(10_000)
    assert.deepEqual(calls.slice(1), [{ values: ['2'], revision: 21, changedKeys: undefined }])
    assert.equal(store.watches.at(-1)?.fromRevision, 22)
    assert.equal(store.watches.length, 2)
  })

  it('ends with the store, and when it is closed while it waits', async () => {
    const store = new PlayedStore()
    const { time, following } = start(store)
    await time.pass(1_000)
    following.close()
    await following.ready
    const { lists } = store
    await time.pass(60_000)
    assert.equal(store.lists, lists)
    const closed = new PlayedStore()
    closed.listing = new StoreError('closed', 'closed')
    await start(closed).following.ready
    assert.equal(closed.lists, 1)
  })
})
