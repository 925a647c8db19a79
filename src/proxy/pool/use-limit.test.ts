import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../runtime/random.ts'
import { UseLimit } from './use-limit.ts'

const max = 20

/** Runs a pool whose transactions end as often in a ms as its limit makes them; returns the limits that were in force. */
function run(
  limit: UseLimit,
  seconds: number,
  perMs: (inUse: number, nowMs: number) => number,
  fromMs = 0,
): number[] {
  const seen: number[] = []
  let due = 0
  for (let nowMs = fromMs; nowMs < fromMs + seconds * 1000; nowMs++) {
    due += perMs(limit.of(max), nowMs)
    for (; due >= 1; due--) limit.returned(true, nowMs)
    seen.push(limit.of(max))
  }
  return seen
}

/** The limit that was in force for most of the last five seconds: trials come and go. */
function settled(seen: number[]): number {
  const last = seen.slice(-5000)
  const times = new Map<number, number>()
  for (const value of last) times.set(value, (times.get(value) ?? 0) + 1)
  return [...times].sort((a, b) => b[1] - a[1])[0]![0]
}

test('all may be in use until something else is known to be better', () => {
  const limit = new UseLimit()
  assert.equal(limit.of(20), 20)
  assert.equal(limit.of(5), 5)
})

test('that fewer bring less shows within two seconds, of which half had all', () => {
  const noisy = noise(5, 0.05)
  const seen = run(new UseLimit(), 4, (inUse, nowMs) => (inUse / 5) * noisy(nowMs))
  assert.ok(seen.filter(value => value < max).length < 1000)
})

test('fewer are in use where more only get in each other’s way', () => {
  const limit = new UseLimit()
  const seen = run(limit, 60, inUse => Math.min(inUse, 4) / 2 - inUse / 20)
  assert.ok(settled(seen) <= 7, `${settled(seen)} in use`)
})

test('all are in use where each brings more', () => {
  const limit = new UseLimit()
  const seen = run(limit, 60, inUse => inUse / 10)
  assert.equal(settled(seen), max)
})

/** The same for a fifth of a second, as on a machine on which others work too. */
function noise(seed: number, most: number): (nowMs: number) => number {
  const random = seededRandom(seed)
  const known: number[] = []
  return nowMs => (known[Math.floor(nowMs / 170)] ??= 1 - most + 2 * most * random.next())
}

test('with no difference but noise nearly all of the time all may be in use', () => {
  for (const seed of [1, 2, 3, 4]) {
    const noisy = noise(seed, 0.15)
    const seen = run(new UseLimit(), 600, (_, nowMs) => 2 * noisy(nowMs))
    const all = seen.filter(value => value === max).length / seen.length
    assert.ok(all > 0.75, `seed ${seed}: ${(100 * all).toFixed(0)} % of the time`)
  }
})

test('a gain of a twentieth is found in noise', () => {
  for (const seed of [1, 2, 3, 4]) {
    const noisy = noise(seed, 0.05)
    const seen = run(new UseLimit(), 300, (inUse, nowMs) => 2 * (inUse > 12 ? 1 : 1.05) * noisy(nowMs))
    const fewer = seen.filter(value => value <= 12).length / seen.length
    assert.ok(fewer > 0.6, `seed ${seed}: ${(100 * fewer).toFixed(0)} % of the time`)
  }
})

test('the number comes back when what is done changes', () => {
  const limit = new UseLimit()
  run(limit, 60, inUse => Math.min(inUse, 4) / 2 - inUse / 20)
  const seen = run(limit, 120, inUse => inUse / 10, 60_000)
  assert.equal(settled(seen), max)
})

test('nothing is tried while nobody waits, and a trial ends when nobody does', () => {
  const limit = new UseLimit()
  for (let nowMs = 0; nowMs < 10_000; nowMs++) limit.returned(false, nowMs)
  assert.equal(limit.of(max), max)
  assert.equal(run(limit, 0.2, () => 2, 10_000).at(-1), 12)
  limit.returned(false, 10_200)
  assert.equal(limit.of(max), max)
})

test('few connections that come back tell nothing', () => {
  const limit = new UseLimit()
  const seen = run(limit, 60, inUse => (inUse === max ? 0.1 : 0.15))
  assert.equal(settled(seen), max)
})

test('a limit that is lowered holds at once, and one that is raised opens the way', () => {
  const limit = new UseLimit()
  run(limit, 60, inUse => Math.min(inUse, 4) / 2 - inUse / 20)
  assert.ok(limit.of(3) <= 3)
})
