import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { durationMsMax, formatDuration, formatSize, parseDuration, parseSize } from './units.ts'

test('durations are read in every unit', () => {
  const cases: [string, number | undefined][] = [
    ['0', 0],
    ['200ms', 200],
    ['30s', 30_000],
    ['1.5s', 1500],
    ['5m', 300_000],
    ['5min', 300_000],
    ['1 h', 3_600_000],
    ['1d', 86_400_000],
    ['30', undefined],
    ['s', undefined],
    ['-1s', undefined],
    ['1h30m', undefined],
    ['1S', undefined],
    ['', undefined],
    ['9'.repeat(30).concat('s'), undefined],
    ['999999999999999d', undefined],
  ]
  for (const [text, ms] of cases) assert.equal(parseDuration(text), ms, text)
})

test('sizes are read in every unit, in powers of 1024', () => {
  const cases: [string, number | undefined][] = [
    ['0', 0],
    ['512B', 512],
    ['64kB', 65_536],
    ['16MB', 16_777_216],
    ['1.5 GB', 1_610_612_736],
    ['1TB', 1_099_511_627_776],
    ['16', undefined],
    ['16mb', undefined],
    ['MB', undefined],
  ]
  for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, text)
})

test('the shortest exact form is written', () => {
  assert.equal(formatDuration(90_000), '90s')
  assert.equal(formatDuration(60_000), '1m')
  assert.equal(formatDuration(1500), '1500ms')
  assert.equal(formatSize(16_777_216), '16MB')
  assert.equal(formatSize(1500), '1500B')
  assert.equal(formatSize(0), '0')
})

test('what was written is read as the same number', () => {
  fc.assert(
    fc.property(fc.nat(durationMsMax), fc.maxSafeNat(), (ms, bytes) => {
      assert.equal(parseDuration(formatDuration(ms)), ms)
      // 15 digits are read, and 2^53 has 16.
      const size = bytes % 10 ** 15
      assert.equal(parseSize(formatSize(size)), size)
    }),
  )
})
