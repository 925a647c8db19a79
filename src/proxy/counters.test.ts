import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addCounters, Histogram, latencyBucketsSeconds, WorkerCounters } from './counters.ts'

test('an observation falls into the first bucket that is not below it', () => {
  const histogram = new Histogram()
  for (const durationMs of [0, 0.1, 0.11, 1, 59_999, 60_000, 60_001]) histogram.observe(durationMs)
  const { buckets, count, sumMs } = histogram.data()
  assert.equal(buckets.length, latencyBucketsSeconds.length + 1)
  assert.equal(buckets[0], 2)
  assert.equal(buckets[1], 1)
  assert.equal(buckets[latencyBucketsSeconds.indexOf(0.001)], 1)
  assert.equal(buckets[latencyBucketsSeconds.indexOf(60)], 2)
  assert.equal(buckets.at(-1), 1)
  assert.equal(count, 7)
  assert.ok(Math.abs(sumMs - 180_001.21) < 0.001)
})

test('workers add up, also when only one of them knows a node', () => {
  const one = new WorkerCounters()
  const two = new WorkerCounters()
  one.clients = 2
  two.clients = 3
  one.disconnects.login_timeout = 1
  two.node('b').queries = 5
  two.node('b').latency.observe(1)
  one.wait.observe(1)
  const sum = addCounters([one.data(), two.data()])
  assert.equal(sum.clients, 5)
  assert.equal(sum.disconnects.login_timeout, 1)
  assert.equal(sum.nodes['b']?.queries, 5)
  assert.equal(sum.nodes['b']?.latency.count, 1)
  assert.equal(sum.wait.count, 1)
})

test('what was sent does not change with what is counted later', () => {
  const counters = new WorkerCounters()
  counters.node('a').queries = 1
  const sent = counters.data()
  counters.node('a').queries = 2
  counters.disconnects.shutdown = 9
  assert.equal(sent.nodes['a']?.queries, 1)
  assert.equal(sent.disconnects.shutdown, 0)
})
