import assert from 'node:assert/strict'
import { test } from 'node:test'
import { latenciesUs } from './pgbench-log.ts'

const log = `0 0 100 0 1000 0
1 0 200 0 1000 500000
0 1 failed 0 1000 600000
1 1 300 0 1000 999999
0 2 400 0 1001 0
1 2 50`

test('transactions that ended within the time count, but for failed ones', () => {
  assert.deepEqual(latenciesUs(log, 1_000_000, 1_001_000), [100, 200, 300])
  assert.deepEqual(latenciesUs(log, 1_000_500, 1_002_000), [200, 300, 400])
})

test('a log that is cut off, or empty, is read as far as it goes', () => {
  assert.deepEqual(latenciesUs('', 0, 1e15), [])
  assert.deepEqual(latenciesUs(log, 0, 1e15), [100, 200, 300, 400])
})
