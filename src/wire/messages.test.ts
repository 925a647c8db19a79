import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  frame,
  readDataRow,
  readErrorFields,
  readParameterStatus,
  readyForQueryIdle,
  writeErrorResponse,
  writeNegotiateProtocolVersion,
  writeParameterStatus,
  writeParse,
} from './messages.ts'
import { MessageReader } from './reader.ts'

const text = fc.stringMatching(/^[^\0]{0,30}$/)

function bodyOf(message: Buffer): Buffer {
  assert.equal(message.readUInt32BE(1), message.length - 1)
  return message.subarray(5)
}

test('an ErrorResponse carries its fields in both severity forms', () => {
  fc.assert(
    fc.property(text, text, (message, hint) => {
      const written = writeErrorResponse({ severity: 'FATAL', code: '57P01', message, hint })
      const fields = readErrorFields(bodyOf(written))
      assert.deepEqual(
        [...fields],
        [
          ['S', 'FATAL'],
          ['V', 'FATAL'],
          ['C', '57P01'],
          ['M', message],
          ['H', hint],
        ],
      )
    }),
  )
})

test('ParameterStatus is read back; a broken one is not', () => {
  fc.assert(
    fc.property(text, text, (name, value) => {
      assert.deepEqual(readParameterStatus(bodyOf(writeParameterStatus(name, value))), { name, value })
    }),
  )
  assert.equal(readParameterStatus(Buffer.from('name\0value without end')), undefined)
})

test('Parse has the layout of the protocol', () => {
  assert.deepEqual(
    bodyOf(writeParse('s1', 'SELECT $1', [23])),
    Buffer.from([...Buffer.from('s1\0SELECT $1\0'), 0, 1, 0, 0, 0, 23]),
  )
})

test('NegotiateProtocolVersion names the whole version and the options', () => {
  assert.equal(bodyOf(writeNegotiateProtocolVersion(2, [])).readUInt32BE(0), 196610)
  const body = bodyOf(writeNegotiateProtocolVersion(0, ['_pq_.x']))
  assert.equal(body.readUInt32BE(0), 196608)
  assert.equal(body.readUInt32BE(4), 1)
  assert.equal(body.toString('utf8', 8), '_pq_.x\0')
})

test('a DataRow is read with its NULLs', () => {
  const row = Buffer.from([0, 2, 0, 0, 0, 2, 0x34, 0x32, 0xff, 0xff, 0xff, 0xff])
  assert.deepEqual(readDataRow(row), ['42', undefined])
})

test('the reader hands on the same messages however they are cut, and what follows the last one wanted', () => {
  const stream = Buffer.concat([
    frame(0x53, Buffer.from('a\0b\0')),
    frame(0x4b, Buffer.alloc(8)),
    readyForQueryIdle,
  ])
  const after = Buffer.from([1, 2, 3])
  for (let place = 0; place <= stream.length; place++) {
    const reader = new MessageReader(100)
    const seen: [number, string][] = []
    const take = (code: number, body: Buffer): boolean => {
      seen.push([code, body.toString('hex')])
      return code !== 0x5a
    }
    const early = reader.push(stream.subarray(0, place), take)
    const rest = seen.length === 3 ? early : reader.push(Buffer.concat([stream.subarray(place), after]), take)
    assert.deepEqual(seen, [
      [0x53, '61006200'],
      [0x4b, '0000000000000000'],
      [0x5a, '49'],
    ])
    if (place < stream.length) assert.deepEqual(rest, after)
  }
})

test('the reader refuses a message over its bound before it is there', () => {
  const reader = new MessageReader(10)
  reader.push(frame(0x52, Buffer.alloc(11)).subarray(0, 5), () => true)
  assert.match(reader.problem ?? '', /11 bytes is over the limit of 10/)
})
