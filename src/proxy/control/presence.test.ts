import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FakeTime, settle } from '../../../test/support/fake-time.ts'
import { silentLogger } from '../../runtime/log.ts'
import { seededRandom } from '../../runtime/random.ts'
import { type Lease, type Store, StoreError } from '../../store/store.ts'
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

beforeEach(() => {
  time = new FakeTime()
  store = new LeaseCounter()
})

function begin(): void {
  presence = new Presence({
    store: store as unknown as Store,
    cluster: 'test',
    status: () => ({
      v: 1,
      id: 'p',
      address: '',
      adminUrl: '',
      appliedRevision: 0,
      clients: 0,
      version: '',
      at: '',
    }),
    leaseTtlMs: 10_000,
    timers: time,
    random: seededRandom(1),
    log: silentLogger,
  })
}

test('while writes fail one lease is kept, and used when they work again', async () => {
  store.failure = new StoreError('unavailable', 'away')
  begin()
  await time.pass(30_000)
  assert.ok(store.writes.length > 10, 'it goes on trying')
  assert.deepEqual([store.granted, store.revoked], [1, 0])
  store.failure = undefined
  await time.pass(2000)
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
