import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LaneLimit } from './lane-limit.ts'

/** Runs a pool whose throughput follows from its lanes; units always wait behind others. */
function run(limit: LaneLimit, seconds: number, throughput: (lanes: number) => number, ahead = 4): number[] {
  const seen: number[] = []
  for (let nowMs = 0; nowMs < seconds * 1000; nowMs += 10) {
    limit.arrived(ahead)
    limit.answered(throughput(limit.value) / 100, nowMs)
    seen.push(limit.value)
  }
  return seen
}

test('lanes are added while each brings more', () => {
  const limit = new LaneLimit()
  run(limit, 20, lanes => 1000 * Math.min(lanes, 8))
  assert.ok(limit.value >= 8 && limit.value <= 9, `${limit.value} lanes`)
})

test('where one more brings nothing it is given up, and tried less and less often', () => {
  const limit = new LaneLimit()
  const seen = run(limit, 60, () => 5000)
  const tries = seen.filter((value, at) => value > 2 && seen[at - 1] === 2).length
  assert.ok(Math.max(...seen) === 3, 'never more than one too many')
  assert.ok(tries >= 3 && tries <= 8, `${tries} tries in a minute`)
})

test('nothing is tried while nobody waits', () => {
  const limit = new LaneLimit()
  const seen = run(limit, 10, lanes => 1000 * lanes, 0)
  assert.deepEqual([...new Set(seen)], [2])
})
