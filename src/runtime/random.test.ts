import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemRandom } from './random.ts'

test('bytes are as many as asked for, and never the same twice', () => {
  const seen = new Set<string>()
  // More than is drawn at once, several times over.
  for (let i = 0; i < 2000; i++) {
    const bytes = systemRandom.bytes(18)
    assert.equal(bytes.length, 18)
    seen.add(bytes.toString('hex'))
  }
  assert.equal(seen.size, 2000)
  for (const count of [0, 1, 256, 257, 5000]) assert.equal(systemRandom.bytes(count).length, count)
})

test('what was given out stays as it is', () => {
  const first = systemRandom.bytes(32)
  const copy = Buffer.from(first)
  for (let i = 0; i < 1000; i++) systemRandom.bytes(32)
  assert.deepEqual(first, copy)
})
