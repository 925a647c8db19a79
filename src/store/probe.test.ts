import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FakeTime } from '../../test/support/fake-time.ts'
import { seededRandom } from '../runtime/random.ts'
import { Probe } from './probe.ts'

describe('when the store is asked how it is', () => {
  function begin(from: { up: boolean; isWatching?: boolean; silentMs?: number; spreadMs?: number }): {
    time: FakeTime
    asked: number[]
    probe: Probe
  } {
    const { up, isWatching = true, silentMs = 0, spreadMs = 0 } = from
    const time = new FakeTime()
    const asked: number[] = []
    const probe = new Probe({
      connection: () => ({ up, sinceMs: 0, reason: undefined }),
      silentMs: () => silentMs,
      isWatching: () => isWatching,
      spreadMs: () => spreadMs,
      ask: async () => void asked.push(time.nowMs()),
      clock: time,
      timers: time,
      random: seededRandom(3),
    })
    return { time, asked, probe }
  }

  it('is away: often enough that its return is noticed within half a second', async () => {
    for (const isWatching of [true, false]) {
      const { time, asked, probe } = begin({ up: false, isWatching })
      await time.pass(20_000)
      const gaps = asked.slice(1).map((atMs, index) => atMs - asked[index]!)
      probe.close()
      assert.ok(gaps.length > 30)
      assert.ok(
        gaps.every(gap => gap >= 300 && gap <= 500),
        gaps.join(' '),
      )
    }
  })

  it('is away from a thousand proxies: each asks as rarely as all of them spread everything', async () => {
    const { time, asked } = begin({ up: false, spreadMs: 5_000 })
    await time.pass(500_000)
    assert.ok(asked.length > 70 && asked.length < 130, `${asked.length}`)
  })

  it('is there: only when it is silent, and now and then whether it takes writes', async () => {
    const talking = begin({ up: true })
    await talking.time.pass(60_000)
    assert.ok(talking.asked.length >= 10 && talking.asked.length <= 12, `${talking.asked.length}`)
    const silent = begin({ up: true, silentMs: 600 })
    await silent.time.pass(1_000)
    assert.ok(silent.asked.length > 0)
    const unneeded = begin({ up: true, silentMs: 600, isWatching: false })
    await unneeded.time.pass(60_000)
    assert.equal(unneeded.asked.length, 0)
  })
})
