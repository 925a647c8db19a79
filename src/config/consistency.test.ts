import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConsistency, writeConsistency } from './consistency.ts'

test('levels are read as they are written', () => {
  for (const text of ['strong', 'causal', 'eventual', 'bounded:500', 'bounded:0'])
    assert.equal(writeConsistency(parseConsistency(text)!), text)
  assert.deepEqual(parseConsistency(' Bounded:250ms '), { level: 'bounded', staleMs: 250 })
  for (const text of ['', 'cusal', 'bounded', 'bounded:', 'bounded:-1', 'bounded:1s', 'bounded:999999999'])
    assert.equal(parseConsistency(text), undefined, text)
})
