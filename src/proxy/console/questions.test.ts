import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import type { ConsoleToWorker } from './messages.ts'
import { type AskedWorker, Questions } from './questions.ts'

function workers(count: number): (AskedWorker & { sent: ConsoleToWorker[] })[] {
  return Array.from({ length: count }, (_, index) => {
    const sent: ConsoleToWorker[] = []
    return { index, sent, send: message => void sent.push(message) }
  })
}

function setUp() {
  const time = new FakeTime()
  const all = workers(3)
  const questions = new Questions(time, () => all)
  const answers = questions.ask({ what: 'pools' })
  const tell = (index: number, rows: number[], last = true): void => {
    const { request } = all[index]!.sent[0]!
    questions.onTold(all[index]!, { kind: 'console_told', request, rows: rows.map(row => [row]), last })
  }
  return { time, all, questions, answers, tell }
}

test('rows of all workers come together, some at a time', async () => {
  const { answers, tell } = setUp()
  tell(1, [1], false)
  tell(0, [])
  tell(2, [3])
  tell(1, [2])
  const { missing, rows } = await answers
  assert.deepEqual(rows.flat().sort(), [1, 2, 3])
  assert.deepEqual(missing, [])
})

test('a worker that does not answer in time is left out and named, with what it had begun to tell', async () => {
  const { answers, tell, time } = setUp()
  tell(0, [1])
  tell(1, [2], false)
  tell(2, [3])
  let isOver = false
  void answers.then(() => {
    isOver = true
  })
  await time.pass(1999)
  assert.equal(isOver, false)
  await time.pass(1)
  const { missing, rows } = await answers
  assert.deepEqual(missing, [1])
  assert.deepEqual(rows.flat().sort(), [1, 3])
  // What comes too late is nobody's.
  tell(1, [4])
})

test('a worker that ends is not waited for', async () => {
  const { all, answers, questions, tell } = setUp()
  tell(0, [1])
  questions.forget(all[1]!)
  questions.forget(all[2]!)
  assert.deepEqual(await answers, { rows: [[1]], missing: [] })
})

test('without workers there is nothing to wait for', async () => {
  const questions = new Questions(new FakeTime(), () => [])
  assert.deepEqual(await questions.ask({ what: 'mem' }), { rows: [], missing: [] })
})
