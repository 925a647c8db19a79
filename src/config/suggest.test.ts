import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { didYouMean, editDistance, nearest } from './suggest.ts'

test('the distance counts inserted, removed, replaced and swapped letters', () => {
  assert.equal(editDistance('', 'abc'), 3)
  assert.equal(editDistance('listen', 'listen'), 0)
  assert.equal(editDistance('listen', 'lisetn'), 1)
  assert.equal(editDistance('port', 'prot'), 1)
  assert.equal(editDistance('kitten', 'sitting'), 3)
})

test('the distance is symmetric and zero only for equals', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (left, right) => {
      assert.equal(editDistance(left, right), editDistance(right, left))
      assert.equal(editDistance(left, right) === 0, left === right)
    }),
  )
})

test('all words of the smallest distance are near, and nothing far is', () => {
  assert.deepEqual(nearest('hort', ['host', 'port', 'zone']), ['host', 'port'])
  assert.deepEqual(nearest('xyzzy', ['host', 'port']), [])
  assert.deepEqual(nearest('a'.repeat(65), ['a'.repeat(65)]), [])
})

test('suggestions are put into words', () => {
  assert.equal(didYouMean([]), undefined)
  assert.equal(didYouMean(['a']), 'did you mean `a`?')
  assert.equal(didYouMean(['a', 'b', 'c', 'd']), 'did you mean `a`, `b` or `c`?')
})
