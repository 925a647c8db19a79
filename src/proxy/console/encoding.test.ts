import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readDataRow } from '../../wire/messages.ts'
import type { Column } from './columns.ts'
import { writeDataRows, writeRowDescription } from './encoding.ts'

const columns: Column[] = [
  { name: 'name', type: 'text' },
  { name: 'small', type: 'int4' },
  { name: 'large', type: 'int8' },
  { name: 'exact', type: 'numeric' },
]

/** The values of a DataRow as bytes. */
function valuesOf(message: Buffer): (Buffer | undefined)[] {
  const values: (Buffer | undefined)[] = []
  let at = 7
  for (let left = message.readUInt16BE(5); left > 0; left--) {
    const length = message.readInt32BE(at)
    at += 4
    values.push(length < 0 ? undefined : message.subarray(at, at + length))
    at += Math.max(0, length)
  }
  assert.equal(at, message.length)
  return values
}

/** As PostgreSQL reads it: digits to the base of 10000 and the weight of the first. */
function numericOf(bytes: Buffer): bigint {
  const count = bytes.readUInt16BE(0)
  const weight = bytes.readInt16BE(2)
  assert.deepEqual([bytes.readUInt16BE(4), bytes.readUInt16BE(6)], [0, 0])
  assert.equal(bytes.length, 8 + 2 * count)
  let value = 0n
  for (let index = 0; index < count; index++) {
    value += BigInt(bytes.readUInt16BE(8 + 2 * index)) * 10_000n ** BigInt(weight - index)
  }
  return value
}

test('rows go as text by default, and NULL as such', () => {
  const message = writeDataRows(columns, [['é', 1, null, 12_345_678]])
  assert.deepEqual(readDataRow(message.subarray(5)), ['é', '1', undefined, '12345678'])
})

test('the binary forms hold the same numbers', () => {
  const row = fc.tuple(fc.string(), fc.integer(), fc.maxSafeInteger(), fc.maxSafeNat())
  fc.assert(
    fc.property(row, cells => {
      const [name, small, large, exact] = valuesOf(writeDataRows(columns, [cells], [1, 1, 1, 1]))
      assert.equal(name?.toString('utf8'), Buffer.from(cells[0], 'utf8').toString('utf8'))
      assert.equal(small?.readInt32BE(0), cells[1])
      assert.equal(large?.readBigInt64BE(0), BigInt(cells[2]))
      assert.equal(numericOf(exact!), BigInt(cells[3]))
    }),
  )
})

test('a description names each column with its type and its format', () => {
  const message = writeRowDescription(columns, [0, 1, 0, 1])
  const read: unknown[] = []
  let at = 7
  while (at < message.length) {
    const end = message.indexOf(0, at)
    read.push([
      message.toString('utf8', at, end),
      message.readUInt32BE(end + 7),
      message.readInt16BE(end + 11),
      message.readInt16BE(end + 17),
    ])
    at = end + 19
  }
  assert.deepEqual(read, [
    ['name', 25, -1, 0],
    ['small', 23, 4, 1],
    ['large', 20, 8, 0],
    ['exact', 1700, -1, 1],
  ])
})
