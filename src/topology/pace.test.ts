import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeTime } from '../../test/support/fake-time.ts'
import { Pace } from './pace.ts'

interface Paced {
  time: FakeTime
  pace: Pace
  runsMs: number[]
}

function paced(): Paced {
  const time = new FakeTime()
  const runsMs: number[] = []
  return { time, runsMs, pace: new Pace(time, () => runsMs.push(time.nowMs())) }
}

test('what is urgent waits for nothing but the rest of its burst', async () => {
  const { pace, runsMs, time } = paced()
  pace.request(true)
  await time.pass(2)
  pace.request(true)
  await time.pass(50)
  assert.deepEqual(runsMs, [5])
})

test('figures wait for others to go along with', async () => {
  const { pace, runsMs, time } = paced()
  for (let ms = 0; ms < 1000; ms += 10) {
    pace.request(false)
    await time.pass(10)
  }
  assert.deepEqual(runsMs, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000])
})

test('figures that wait go along with what is urgent', async () => {
  const { pace, runsMs, time } = paced()
  pace.request(false)
  await time.pass(50)
  pace.request(true)
  await time.pass(500)
  assert.deepEqual(runsMs, [55])
})

test('however many urgent changes there are, there are at most fifty runs a second', async () => {
  const { pace, runsMs, time } = paced()
  for (let ms = 0; ms < 1000; ms++) {
    pace.request(true)
    await time.pass(1)
  }
  assert.ok(runsMs.length <= 50, `${runsMs.length} runs`)
  assert.ok(runsMs.length >= 45, `${runsMs.length} runs`)
})

test('what comes last is never lost, and nothing runs after the end', async () => {
  const { pace, runsMs, time } = paced()
  pace.request(true)
  await time.pass(10)
  pace.request(true)
  await time.pass(100)
  assert.deepEqual(runsMs, [5, 25])
  pace.request(true)
  pace.cancel()
  await time.pass(1000)
  assert.deepEqual(runsMs, [5, 25])
})
