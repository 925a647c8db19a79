import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LaneLimit } from './lane-limit.ts'

/** Runs a pool in which the time to an answer follows from the lanes; units wait behind others. */
function run(limit: LaneLimit, seconds: number, answerMs: (lanes: number) => number, ahead = 4): number[] {
  const seen: number[] = []
  for (let nowMs = 0; nowMs < seconds * 1000; nowMs += 10) {
    limit.arrived(ahead)
    limit.answered(20, 20 * answerMs(limit.value), nowMs)
    seen.push(limit.value)
  }
  return seen
}

test('lanes are added while answers come sooner with each', () => {
  const limit = new LaneLimit()
  run(limit, 20, lanes => 100 / Math.min(lanes, 8))
  assert.ok(limit.value >= 8 && limit.value <= 9, `${limit.value} lanes`)
})

test('lanes that bring nothing are given up, and others are tried less and less often', () => {
  const limit = new LaneLimit()
  const seen = run(limit, 60, () => 5)
  assert.ok(Math.max(...seen) === 3, 'never more than one too many')
  const tries = seen.filter((value, at) => value > (seen[at - 1] ?? value)).length
  assert.ok(tries >= 3 && tries <= 8, `${tries} tries in a minute`)
  assert.equal(seen.at(-1), 1)
})

test('with fewer processors than lanes one is best', () => {
  const limit = new LaneLimit()
  run(limit, 20, lanes => 5 + lanes)
  assert.equal(limit.value, 1)
})

test('the number comes back when the load changes', () => {
  const limit = new LaneLimit()
  run(limit, 20, lanes => 5 + lanes)
  for (let nowMs = 20_000; nowMs < 100_000; nowMs += 10) {
    limit.arrived(4)
    limit.answered(20, (20 * 100) / Math.min(limit.value, 4), nowMs)
  }
  assert.ok(limit.value >= 4, `${limit.value} lanes`)
})

test('nothing is tried while nobody waits, nor with few answers', () => {
  assert.deepEqual([...new Set(run(new LaneLimit(), 10, lanes => 10 / lanes, 0))], [2])
  const limit = new LaneLimit()
  for (let nowMs = 0; nowMs < 10_000; nowMs += 100) {
    limit.arrived(4)
    limit.answered(1, 10 / limit.value, nowMs)
    assert.equal(limit.value, 2)
  }
})
