import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endOfRecords, readLsn } from './lsn.ts'

test('positions are read as numbers', () => {
  assert.equal(readLsn('0/0'), 0)
  assert.equal(readLsn('0/3000060'), 0x3000060)
  assert.equal(readLsn('16/B374D848'), 0x16_b374d848)
  for (const text of ['', '0', '/1', 'x/1', '1/123456789', "0/1'"])
    assert.equal(readLsn(text), undefined, text)
})

test('behind the header of an empty page nothing has been written', () => {
  const segment = 16 * 1024 * 1024
  assert.equal(endOfRecords(3 * segment + 40, segment), 3 * segment)
  assert.equal(endOfRecords(3 * segment + 8192 + 24, segment), 3 * segment + 8192)
  // In the first page of a segment the header is longer; elsewhere a record may end there.
  assert.equal(endOfRecords(3 * segment + 8192 + 40, segment), 3 * segment + 8192 + 40)
  assert.equal(endOfRecords(3 * segment + 48, segment), 3 * segment + 48)
})
