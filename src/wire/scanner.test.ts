import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { frame } from './messages.ts'
import { Scanner } from './scanner.ts'

interface Message {
  code: number
  bytes: number
}

const messages = fc.array(
  fc.record(
    { code: fc.integer({ min: 0x21, max: 0x7e }), bytes: fc.integer({ min: 0, max: 40 }) },
    { noNullPrototype: true },
  ),
  { maxLength: 20 },
)

function encodeAll(list: Message[]): Buffer {
  return Buffer.concat(list.map(({ code, bytes }) => frame(code, Buffer.alloc(bytes, 7))))
}

/** Scans a stream that arrives in the given pieces. */
function scanPieces(pieces: Buffer[]): { seen: Message[]; scanner: Scanner } {
  const scanner = new Scanner()
  const seen: Message[] = []
  for (const piece of pieces) {
    let at = 0
    while ((at = scanner.next(piece, at, piece.length)) >= 0)
      seen.push({ code: scanner.code, bytes: scanner.bodyBytes })
  }
  return { seen, scanner }
}

function cut(stream: Buffer, at: number[]): Buffer[] {
  const places = [...new Set([0, ...at.map(place => place % (stream.length + 1)), stream.length])].sort(
    (a, b) => a - b,
  )
  return places.slice(1).map((end, index) => stream.subarray(places[index], end))
}

test('finds the same messages however the stream is cut', () => {
  fc.assert(
    fc.property(messages, fc.array(fc.nat(), { maxLength: 10 }), (list, places) => {
      const { seen, scanner } = scanPieces(cut(encodeAll(list), places))
      assert.deepEqual(seen, list)
      assert.equal(scanner.atBoundary, true)
    }),
  )
})

test('finds the same messages byte by byte, and when split at every offset', () => {
  const list = [
    { code: 0x51, bytes: 0 },
    { code: 0x5a, bytes: 1 },
    { code: 0x44, bytes: 300 },
    { code: 0x53, bytes: 5 },
  ]
  const stream = encodeAll(list)
  assert.deepEqual(scanPieces([...stream].map(byte => Buffer.from([byte]))).seen, list)
  for (let place = 0; place <= stream.length; place++) {
    assert.deepEqual(scanPieces([stream.subarray(0, place), stream.subarray(place)]).seen, list)
  }
})

test('knows whether it stands between two messages', () => {
  const stream = encodeAll([
    { code: 0x51, bytes: 3 },
    { code: 0x51, bytes: 0 },
  ])
  const boundaries = Array.from({ length: stream.length + 1 }, (_, place) => {
    return scanPieces([stream.subarray(0, place)]).scanner.atBoundary
  })
  const expected = boundaries.map((_, place) => place === 0 || place === 8 || place === stream.length)
  assert.deepEqual(boundaries, expected)
})

test('gives up a header that is not complete, and reads it from the start with the next piece', () => {
  const stream = encodeAll([{ code: 0x58, bytes: 0 }])
  const scanner = new Scanner()
  assert.equal(scanner.next(stream, 0, 3), -1)
  assert.equal(scanner.takePartialHeader(), 3)
  assert.equal(scanner.atBoundary, true)
  assert.equal(scanner.next(stream, 0, stream.length), 5)
  assert.equal(scanner.code, 0x58)
})

test('refuses lengths that no message can have', () => {
  for (const length of [0, 1, 2, 3, 0x40000004, 0x7fffffff, 0x80000000, 0xffffffff]) {
    const header = Buffer.alloc(5)
    header[0] = 0x51
    header.writeUInt32BE(length, 1)
    const scanner = new Scanner()
    assert.equal(scanner.next(header, 0, 5), -1)
    assert.equal(scanner.violation, true, `length ${length}`)
  }
})

test('takes the longest message there may be', () => {
  const header = Buffer.alloc(5)
  header[0] = 0x64
  header.writeUInt32BE(0x3fffffff + 4, 1)
  const scanner = new Scanner()
  assert.equal(scanner.next(header, 0, 5), 5)
  assert.equal(scanner.bodyBytes, 0x3fffffff)
})
