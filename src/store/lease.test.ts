import assert from 'node:assert/strict'
import { beforeEach, describe, it } from 'node:test'
import { FakeTime } from '../../test/support/fake-time.ts'
import { silentLogger } from '../runtime/log.ts'
import { seededRandom } from '../runtime/random.ts'
import { KeptLease, type LeaseCalls } from './lease.ts'
import { StoreError } from './store.ts'

const ttlMs = 9_000

describe('KeptLease', () => {
  let time: FakeTime
  let renewedAtMs: number[]
  let lostAtMs: number | undefined
  beforeEach(() => {
    time = new FakeTime()
    renewedAtMs = []
    lostAtMs = undefined
  })

  function keep(calls: Partial<LeaseCalls>): KeptLease {
    const renew = async (limitMs: number): Promise<number> => {
      renewedAtMs.push(time.nowMs())
      return calls.renew ? calls.renew(limitMs) : ttlMs
    }
    const revoke = calls.revoke ?? (() => Promise.resolve())
    const world = { clock: time, timers: time, random: seededRandom(1), log: silentLogger }
    const lease = new KeptLease({ id: '1', ttlMs, askedMs: time.nowMs(), calls: { renew, revoke }, ...world })
    void lease.lost.then(() => {
      lostAtMs = time.nowMs()
    })
    return lease
  }

  it('is renewed about three times a lifetime, for as long as that is answered', async () => {
    keep({})
    await time.pass(ttlMs * 10)
    assert.equal(lostAtMs, undefined)
    assert.ok(renewedAtMs.length >= 27 && renewedAtMs.length <= 34, `${renewedAtMs.length} times`)
  })

  it('is lost the moment its time is over when no answer comes', async () => {
    keep({ renew: () => new Promise(() => undefined) })
    await time.pass(ttlMs - 1)
    assert.equal(lostAtMs, undefined)
    await time.pass(1)
    assert.equal(lostAtMs, ttlMs)
  })

  it('tries again and again when the store is away, and counts from when the answered question was asked', async () => {
    let away = true
    keep({
      async renew() {
        if (away) throw new StoreError('unavailable', 'away')
        away = true
        return ttlMs
      },
    })
    await time.pass(8_000)
    assert.ok(renewedAtMs.length > 5)
    away = false
    await time.pass(1_300)
    assert.ok(away)
    const answeredMs = renewedAtMs.at(-1) ?? 0
    await time.pass(20_000)
    assert.equal(lostAtMs, answeredMs + ttlMs)
  })

  it('is lost at once when the store says that it is gone, and when an answer comes too late', async () => {
    keep({ renew: () => Promise.resolve(0) })
    await time.pass(ttlMs / 2)
    assert.equal(lostAtMs, renewedAtMs[0])

    // The timer that ends it may be late as well: the process was stopped meanwhile.
    lostAtMs = undefined
    let answer: (leftMs: number) => void = () => undefined
    keep({
      renew: () =>
        new Promise(resolve => {
          answer = resolve
        }),
    })
    await time.pass(ttlMs * 2)
    answer(ttlMs)
    await time.pass(ttlMs)
    assert.ok(lostAtMs !== undefined)
  })

  it('ends with revoke, also when the store cannot be told, and is then not called lost', async () => {
    const lease = keep({ revoke: () => Promise.reject(new StoreError('unavailable', 'away')) })
    await lease.revoke()
    await time.pass(ttlMs * 3)
    assert.deepEqual(renewedAtMs, [])
    assert.equal(lostAtMs, undefined)
  })
})
