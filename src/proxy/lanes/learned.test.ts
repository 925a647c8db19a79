import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Learned } from './learned.ts'

test('a new kind of statement runs by itself, a quick one shares from then on', () => {
  const learned = new Learned()
  assert.equal(learned.refusal(0), 'new')
  learned.ranAlone(0.3, 200)
  assert.equal(learned.refusal(0), undefined)
})

test('a slow one runs by itself until it was quick', () => {
  const learned = new Learned()
  learned.ranAlone(2000, 200)
  assert.equal(learned.refusal(0), 'slow')
  learned.ranAlone(1, 200)
  assert.equal(learned.refusal(0), undefined)
})

test('large answers run by themselves, one that was large once is tried again after many small ones', () => {
  const learned = new Learned()
  learned.ranAlone(1, 1_000_000)
  assert.equal(learned.refusal(0), 'large')
  let runs = 0
  while (learned.refusal(0) === 'large' && runs < 1000) {
    learned.ranAlone(1, 100)
    runs++
  }
  assert.ok(runs > 10 && runs < 100, `${runs} runs`)
})

test('one that waited for a processor now and then is not slow, one that takes long every time is', () => {
  const learned = new Learned()
  learned.ranAlone(0.1, 100)
  for (let run = 0; run < 1000; run++) learned.ranShared(run % 10 === 0 ? 0.1 : 50, 100, false, 0)
  assert.equal(learned.refusal(0), undefined)
  for (let run = 0; run < 400; run++) learned.ranShared(50, 100, false, 0)
  assert.equal(learned.refusal(0), 'slow')
})

test('who holds others up for long runs by itself for a while, for longer each time, and is forgiven', () => {
  const learned = new Learned()
  learned.ranAlone(0.1, 100)
  learned.ranShared(2000, 100, false, 3000)
  assert.equal(learned.refusal(3000), undefined, 'nobody waited behind it')
  learned.ranShared(2000, 100, true, 3000)
  assert.equal(learned.refusal(3900), 'slow')
  assert.equal(learned.refusal(4100), undefined)
  learned.ranShared(2000, 100, true, 5000)
  assert.equal(learned.refusal(6900), 'slow', 'twice as long')
  for (let run = 0; run < 1001; run++) learned.ranShared(0.1, 100, false, 8000)
  learned.ranShared(2000, 100, true, 9000)
  assert.equal(learned.refusal(10_900), 'slow')
  assert.equal(learned.refusal(11_100), undefined, 'one of the two was forgiven')
})
