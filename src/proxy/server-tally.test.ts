import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NodeLoad } from '../routing/node-load.ts'
import { Typical } from '../routing/typical.ts'
import { NodeCounters } from './counters.ts'
import { Owed } from './relay/answers.ts'
import { ServerTally } from './server-tally.ts'
import { DatabaseStats } from './stats.ts'

function newTally(): { tally: ServerTally; counters: NodeCounters; stats: DatabaseStats } {
  const counters = new NodeCounters()
  const stats = new DatabaseStats()
  return { tally: new ServerTally(counters, new NodeLoad(), new Typical()), counters, stats }
}

test('a transaction takes from its first request to the answer that ends it', () => {
  const { counters, stats, tally } = newTally()
  tally.countFor(stats)
  tally.begin(1000)
  tally.countAnswer(false, 1010)
  assert.deepEqual([tally.answerMs, tally.transactionSinceMs, stats.transactions], [10, 1000, 0])
  tally.begin(1100)
  tally.countAnswer(false, 1105)
  tally.begin(1200)
  tally.countAnswer(true, 1230)
  assert.deepEqual([tally.answerMs, tally.transactionSinceMs, tally.requestSinceMs], [30, 0, 1230])
  assert.deepEqual([stats.transactions, stats.transactionMs, stats.queries, stats.queryMs], [1, 230, 3, 45])
  // The next one is one of its own.
  tally.begin(2000)
  tally.countAnswer(true, 2004)
  assert.deepEqual([stats.transactions, stats.transactionMs, counters.queries], [2, 234, 4])
})

test('of several requests at once each is timed from the answer before it', () => {
  const { stats, tally } = newTally()
  tally.countFor(stats)
  tally.begin(1000)
  tally.countAnswer(true, 1010)
  tally.countAnswer(true, 1015)
  assert.deepEqual([tally.answerMs, stats.queryMs], [5, 15])
})

test('the bytes of an answer are those since there was nothing to do', () => {
  const { tally } = newTally()
  tally.begin(1000)
  tally.answerBytes += 100
  tally.countAnswer(true, 1001)
  assert.equal(tally.answerBytes, 100)
  tally.begin(1002)
  assert.equal(tally.answerBytes, 0)
})

test('a unit that shares is a transaction, and takes as long as its client has waited altogether', () => {
  const { counters, stats, tally } = newTally()
  tally.countFor(stats)
  tally.countShared(5, new Typical(), 1005, 20)
  assert.deepEqual(
    [stats.transactions, stats.transactionMs, stats.queries, stats.queryMs, counters.queries],
    [1, 25, 1, 25, 1],
  )
  assert.equal(tally.requestSinceMs, 1005)
})

test('a Parse counts where it was sent and where it came from', () => {
  const { stats, tally } = newTally()
  tally.countRequest(Owed.Parse)
  assert.equal(stats.clientParses, 0, 'nothing counts before the database is known')
  tally.countFor(stats)
  for (const kind of [Owed.Parse, Owed.SkippedParse, Owed.OwnParse, Owed.Bind, Owed.Sync, Owed.Query])
    tally.countRequest(kind)
  assert.deepEqual([stats.clientParses, stats.serverParses, stats.binds], [2, 2, 1])
})
