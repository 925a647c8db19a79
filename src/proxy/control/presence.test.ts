import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FakeTime, settle } from '../../../test/support/fake-time.ts'
import { silentLogger } from '../../runtime/log.ts'
import { seededRandom } from '../../runtime/random.ts'
import { type Lease, type Store, StoreError } from '../../store/store.ts'
import type { ProxyStatus } from '../../topology/types.ts'
import { Presence } from './presence.ts'

/** A store that counts leases and can be told to fail. */
class LeaseCounter {
  granted = 0
  revoked = 0
  writes: string[] = []
  failure: Error | undefined
  /** Resolves the grants that wait, when grants are held. */
  letGrant: (() => void) | undefined
  holdGrants = false
  loseLease: () => void = () => undefined

  onConnection = (): (() => void) => () => undefined
  get = (): Promise<{ entry: undefined; revision: number }> =>
    Promise.resolve({ entry: undefined, revision: 1 })

  grantLease = async (ttlMs: number): Promise<Lease> => {
    if (this.holdGrants) await new Promise<void>(resolve => (this.letGrant = resolve))
    const id = String(++this.granted)
    const lost = new Promise<void>(resolve => (this.loseLease = resolve))
    const revoke = (): Promise<void> => {
      this.revoked++
      return Promise.resolve()
    }
    return { id, ttlMs, lost, revoke }
  }

  transact: Store['transact'] = ({ writes }) => {
    const [write] = writes
    this.writes.push((write?.kind === 'put' && write.leaseId) || '')
    if (this.failure) return Promise.reject(this.failure)
    return Promise.resolve({ applied: true, revision: 1 })
  }
}

let time: FakeTime
let store: LeaseCounter
let presence: Presence
let spreadMs: number
let clients: number

beforeEach(() => {
  spreadMs = 0
  clients = 0
  time = new FakeTime()
  store = new LeaseCounter()
})

const status = (): ProxyStatus => ({
  v: 1,
  id: 'p',
  address: '',
  adminUrl: '',
  appliedRevision: 0,
  clients,
  version: '',
  at: '',
})

function begin(): void {
  presence = new Presence({
    store: store as unknown as Store,
    cluster: 'test',
    status,
    leaseTtlMs: 10_000,
    spreadMs: () => spreadMs,
    clock: time,
    timers: time,
    random: seededRandom(1),
    log: silentLogger,
  })
}

test('while writes fail one lease is kept, and used when they work again', async () => {
  store.failure = new StoreError('unavailable', 'away')
  begin()
  await time.pass(30_000)
  assert.ok(store.writes.length > 5, 'it goes on trying')
  assert.ok(store.writes.length < 15, 'but not all the time')
  assert.deepEqual([store.granted, store.revoked], [1, 0])
  store.failure = undefined
  await time.pass(6000)
  const tries = store.writes.length
  await time.pass(30_000)
  assert.equal(store.writes.length, tries, 'written, and nothing has changed since')
  await presence.close()
  assert.deepEqual([store.granted, store.revoked], [1, 1])
})

test('a lease that the store does not know is replaced, and so is one that was lost', async () => {
  begin()
  await time.pass(100)
  store.failure = new StoreError('lease_not_found', 'gone')
  store.loseLease()
  await settle()
  store.failure = undefined
  await time.pass(5000)
  assert.equal(store.writes.at(-1), '3')
  assert.equal(store.granted, 3)
  await presence.close()
})

test('closing while a lease is granted writes nothing any more and ends that lease', async () => {
  store.holdGrants = true
  begin()
  await settle()
  const closing = presence.close()
  store.letGrant?.()
  await closing
  await time.pass(5000)
  assert.deepEqual([store.granted, store.revoked, store.writes], [1, 1, []])
})

test('closing while writes fail ends the lease and the attempts', async () => {
  begin()
  await settle()
  store.failure = new StoreError('unavailable', 'away')
  store.loseLease()
  await settle()
  await presence.close()
  const tries = store.writes.length
  await time.pass(30_000)
  assert.equal(store.writes.length, tries)
  assert.equal(store.revoked, 1)
})

test('figures that change all the time are written every few seconds, in a large fleet less often', async () => {
  const rows = async (fleetSpreadMs: number): Promise<number> => {
    spreadMs = fleetSpreadMs
    begin()
    await settle()
    const before = store.writes.length
    for (let second = 0; second < 120; second++) {
      clients++
      await time.pass(1000)
    }
    await presence.close()
    return store.writes.length - before
  }
  const small = await rows(0)
  assert.ok(small > 50 && small < 75, `${small} rows in two minutes`)
  const large = await rows(5000)
  assert.ok(large >= 4 && large <= 8, `${large} rows in two minutes`)
})

test('what every proxy writes because of one event is written at a moment by chance', async () => {
  spreadMs = 5000
  begin()
  await settle()
  clients = 7
  presence.publishSoon()
  presence.publishSoon()
  await settle()
  assert.equal(store.writes.length, 1)
  await time.pass(5000)
  assert.equal(store.writes.length, 2)
  await presence.close()
})

test('what a crashed predecessor of another address has left is no other proxy, unless it is written again', async () => {
  store.holdGrants = true
  begin()
  await settle()
  const left = { ...status(), address: 'before:6432', at: '2026-01-01T00:00:00.000Z' }
  presence.saw(left)
  presence.saw(left)
  assert.equal(presence.twin, undefined)
  store.holdGrants = false
  store.letGrant?.()
  await time.pass(100)
  assert.equal(store.writes.length, 1)
  presence.saw(left)
  assert.equal(presence.twin, undefined)
  presence.saw({ ...left, at: '2026-01-01T00:00:02.000Z' })
  assert.equal(presence.twin, 'before:6432')
  await presence.close()
})

test('another proxy of the same id is known for as long as it writes the same row', async () => {
  begin()
  await time.pass(100)
  presence.saw(status())
  assert.equal(presence.twin, undefined)
  presence.saw({ ...status(), address: 'elsewhere:6432' })
  assert.equal(presence.twin, 'elsewhere:6432')
  const before = store.writes.length
  await time.pass(9000)
  assert.equal(store.writes.length, before + 1, 'the row is written again, so that the other one sees it')
  assert.equal(presence.twin, 'elsewhere:6432')
  await time.pass(2000)
  assert.equal(presence.twin, undefined)
  await presence.close()
})
