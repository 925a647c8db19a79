import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openEmbedded } from '../../test/support/stores.ts'
import { type Store, StoreError } from '../store/store.ts'
import { encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import { waitUntilApplied, waitUntilEmpty } from './applied.ts'

const keys = keysOf('main')

async function report(
  store: Store,
  id: string,
  appliedRevision: number,
  sessions?: Record<string, number>,
): Promise<void> {
  const row = { id, address: 'x:1', adminUrl: '', appliedRevision, clients: 0, version: '0', at: '' }
  const status = { ...row, ...(sessions && { sessions }) }
  const value = encode({ v: 1, ...status })
  await store.transact({ compares: [], writes: [{ kind: 'put', key: keys.proxyStatus(id), value }] })
}

test('with no proxy there is nothing to wait for', async () => {
  const store = await openEmbedded()
  const { by, notBy, elapsedMs } = await waitUntilApplied(store, 'main', 5, 10_000)
  assert.deepEqual([by, notBy], [[], []])
  assert.ok(elapsedMs < 1000)
  await store.close()
})

test('it ends when the last proxy has applied the revision, or has gone', async () => {
  const store = await openEmbedded()
  await report(store, 'p1', 6)
  await report(store, 'p2', 4)
  await report(store, 'p3', 0)
  const waiting = waitUntilApplied(store, 'main', 5, 10_000)
  await store.transact({ compares: [], writes: [{ kind: 'delete', key: keys.proxyStatus('p3') }] })
  await report(store, 'p2', 5)
  const { by, notBy, elapsedMs } = await waiting
  assert.deepEqual([by, notBy], [['p1', 'p2'], []])
  assert.ok(elapsedMs < 5000)
  await store.close()
})

test('after the limit those that have not are named', async () => {
  const store = await openEmbedded()
  await report(store, 'p2', 4)
  await report(store, 'p1', 5)
  const { by, notBy, elapsedMs } = await waitUntilApplied(store, 'main', 5, 50)
  assert.deepEqual([by, notBy], [['p1'], ['p2']])
  assert.ok(elapsedMs >= 49)
  await store.close()
})

test('where the store does not tell who lives, nobody is taken to have applied it', async () => {
  const store = await openEmbedded()
  const away: Store = {
    ...(store as Store),
    list: () => Promise.reject(new StoreError('unavailable', 'gone')),
  }
  const { by, isKnown } = await waitUntilApplied(away, 'main', 5, 50)
  assert.deepEqual([by, isKnown], [[], false])
  assert.equal(await waitUntilEmpty(away, 'main', 'b', 50), undefined)
  await store.close()
})

test('a node is empty when no proxy has a session on it any more', async () => {
  const store = await openEmbedded()
  await report(store, 'p1', 1, { b: 2 })
  await report(store, 'p2', 1, { a: 9, b: 1 })
  assert.equal(await waitUntilEmpty(store, 'main', 'b', 50), 3)
  const waiting = waitUntilEmpty(store, 'main', 'b', 10_000)
  await report(store, 'p1', 1, { b: 0 })
  await report(store, 'p2', 1, { a: 9 })
  assert.equal(await waiting, 0)
  await report(store, 'p3', 1)
  assert.equal(await waitUntilEmpty(store, 'main', 'b', 50), undefined, 'one does not tell')
  await store.close()
})
