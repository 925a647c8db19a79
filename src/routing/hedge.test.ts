import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { HedgeBudget, hedgeBurst, LatencyTail, lateMsMin } from './hedge.ts'

function tailOf(...times: number[]): LatencyTail {
  const tail = new LatencyTail()
  for (const ms of times) tail.observe(ms)
  return tail
}

const many = (count: number, ms: number): number[] => Array<number>(count).fill(ms)

test('nothing is late before enough was seen', () => {
  assert.equal(tailOf().lateAfterMs, undefined)
  assert.equal(tailOf(...many(49, 20)).lateAfterMs, undefined)
  assert.ok(tailOf(...many(50, 20)).lateAfterMs! >= 20)
})

test('late is what takes longer than 99 of 100, or a quarter more', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 16_000, noNaN: true }), { minLength: 50, maxLength: 1000 }),
      times => {
        const sorted = [...times].sort((a, b) => a - b)
        const p99 = sorted[times.length - 1 - Math.floor(times.length / 100)]!
        const late = tailOf(...times).lateAfterMs!
        assert.ok(late >= p99, `${late} for ${p99}`)
        assert.ok(late <= Math.max(lateMsMin, p99 * 1.25), `${late} for ${p99}`)
      },
    ),
  )
})

test('nothing is late before a few milliseconds, and nothing is too long to be counted', () => {
  assert.equal(tailOf(...many(100, 0)).lateAfterMs, lateMsMin)
  assert.equal(tailOf(...many(100, 0.3)).lateAfterMs, lateMsMin)
  assert.ok(tailOf(...many(100, 1e9)).lateAfterMs! > 10_000)
})

test('what was long ago is forgotten', () => {
  const tail = tailOf(...many(1000, 200))
  for (const ms of many(20_000, 10)) tail.observe(ms)
  assert.ok(tail.lateAfterMs! < 13)
})

test('answers that came late, and count as just late, do not put off what is late', () => {
  const tail = tailOf(...many(200, 12))
  const before = tail.lateAfterMs!
  for (let at = 0; at < 50_000; at++) tail.observe(at % 10 === 0 ? tail.lateAfterMs! : 12)
  assert.equal(tail.lateAfterMs, before)
  const quick = tailOf(...many(200, 1))
  for (let at = 0; at < 50_000; at++) quick.observe(at % 10 === 0 ? quick.lateAfterMs! : 1)
  assert.ok(quick.lateAfterMs! < lateMsMin * 1.25)
})

test('no more is asked twice than a part of all and a few', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 100 }),
      fc.array(fc.boolean(), { maxLength: 2000 }),
      (percent, wants) => {
        const budget = new HedgeBudget()
        let taken = 0
        wants.forEach((isWanted, at) => {
          budget.earn(percent)
          if (isWanted && budget.take()) taken++
          assert.ok(taken <= hedgeBurst + ((at + 1) * percent) / 100 + 1e-6)
        })
      },
    ),
  )
})

test('in the long run a part of all is asked twice, and what was not asked does not count', () => {
  const budget = new HedgeBudget()
  let taken = 0
  for (let read = 0; read < 10_000; read++) {
    budget.earn(2)
    if (!budget.take()) continue
    if (read % 2 === 0) budget.giveBack()
    else taken++
  }
  assert.ok(Math.abs(taken - 200 - hedgeBurst) <= 2, `${taken}`)
})

test('what was saved up is little', () => {
  const budget = new HedgeBudget()
  for (let read = 0; read < 100_000; read++) budget.earn(100)
  let taken = 0
  while (budget.take()) taken++
  assert.equal(taken, hedgeBurst)
})
