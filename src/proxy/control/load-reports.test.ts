import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { LoadReports } from './load-reports.ts'

let time: FakeTime
let load: number
let isWanted: boolean
let sent: [number[], number][]
let reports: LoadReports

beforeEach(() => {
  time = new FakeTime()
  load = 0
  isWanted = true
  sent = []
  reports = new LoadReports({
    timers: time,
    load: () => load,
    isWanted: () => isWanted,
    send: (confirmed, clients) => void sent.push([confirmed, clients]),
  })
})

/** As a worker takes one: it is counted, which is told of by itself. */
const arrive = (connection: number): void =>
  reports.arrive(connection, () => {
    load++
    reports.tellLoad()
  })

test('a connection is never counted without being confirmed', async () => {
  for (const connection of [1, 2, 3]) arrive(connection)
  await time.pass(100)
  let confirmed = 0
  for (const [connections, clients] of sent) assert.equal((confirmed += connections.length), clients)
  assert.equal(confirmed, 3)
  assert.deepEqual(sent[0], [[1], 1], 'the first at once')
})

test('of many at once the first is confirmed at once, and the others together', async () => {
  isWanted = false
  for (let connection = 1; connection <= 100; connection++) arrive(connection)
  assert.deepEqual(sent, [[[1], 1]])
  await time.pass(1)
  assert.equal(sent.length, 2)
  assert.deepEqual([sent[1]![0].length, sent[1]![1]], [99, 100])
})

test('the number of connections is told as it changes, and not more often than makes sense', async () => {
  for (let change = 1; change <= 50; change++) {
    load = change
    reports.tellLoad()
    await time.pass(1)
  }
  assert.deepEqual(sent[0], [[], 1])
  assert.ok(sent.length <= 6, `${sent.length} times`)
  await time.pass(20)
  assert.deepEqual(sent.at(-1), [[], 50])
  const before = sent.length
  reports.tellLoad()
  await time.pass(100)
  assert.equal(sent.length, before, 'the same number is not told again')
})

test('to nobody who wants to know nothing is told', async () => {
  isWanted = false
  load = 7
  reports.tellLoad()
  await time.pass(100)
  assert.deepEqual(sent, [])
})
