import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { median, percentile, ratiosOf, spreadOf, verdictOf } from './statistics.ts'

test('the median of an even number of values is between the middle two', () => {
  assert.equal(median([4, 1, 3]), 3)
  assert.equal(median([4, 1, 3, 2]), 2.5)
  assert.deepEqual(spreadOf([4, 1, 3]), { median: 3, min: 1, max: 4 })
})

test('a percentile is the value that this share does not exceed', () => {
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1)
  assert.equal(percentile(hundred, 0.5), 50)
  assert.equal(percentile(hundred, 0.99), 99)
  assert.equal(percentile([7], 0.99), 7)
  assert.equal(percentile([7, 8], 0), 7)
  assert.ok(Number.isNaN(percentile([], 0.5)))
})

test('a percentile is one of the values, and so many are not above it', () => {
  const values = fc.array(fc.integer(), { minLength: 1 }).map(all => all.toSorted((a, b) => a - b))
  fc.assert(
    fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (sorted, share) => {
      const value = percentile(sorted, share)
      assert.ok(sorted.includes(value))
      assert.ok(sorted.filter(each => each <= value).length >= share * sorted.length - 1e-9)
    }),
  )
})

test('ratios are made round by round, as far as both have rounds', () => {
  assert.deepEqual(ratiosOf([10, 30, 50], [5, 10]), [2, 3])
})

test('a verdict needs rounds that agree', () => {
  assert.equal(verdictOf([2]), 'single')
  assert.equal(verdictOf([1.4, 1.5, 1.6]), 'more')
  assert.equal(verdictOf([0.5, 0.52]), 'less')
  assert.equal(verdictOf([0.97, 1, 1.04]), 'even')
  // Equal within the spread.
  assert.equal(verdictOf([0.93, 1.02, 1.03]), 'noise')
  // More than 15 % from the median, to either side.
  assert.equal(verdictOf([1.5, 1.5, 1.8]), 'noise')
  assert.equal(verdictOf([1.2, 1.5, 1.5]), 'noise')
})
