import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readStartup, type StartupRead, writeCancelRequest, writeStartup } from './startup.ts'

function packet(length: number, code: number, rest = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(length, 0)
  head.writeUInt32BE(code, 4)
  return Buffer.concat([head, rest])
}

function problemOf(read: StartupRead): string {
  assert.equal(read.done, 'invalid')
  return read.done === 'invalid' ? read.problem : ''
}

const text = fc.stringMatching(/^[^\0]{1,20}$/)

test('reads back the parameters that were written, whatever follows', () => {
  fc.assert(
    fc.property(
      fc.dictionary(text, text, { maxKeys: 8, noNullPrototype: true }),
      fc.uint8Array({ maxLength: 20 }),
      (given, rest) => {
        const parameters = new Map(Object.entries(given))
        const written = writeStartup(parameters)
        const read = readStartup(Buffer.concat([written, rest]))
        assert.ok(read.done === true && read.packet.kind === 'startup')
        assert.deepEqual(read.packet.parameters, parameters)
        assert.equal(read.bytes, written.length)
      },
    ),
  )
})

test('asks for more as long as the packet is not complete, at every offset', () => {
  const whole = writeStartup(new Map([['user', 'alice']]))
  for (let length = 0; length < whole.length; length++) {
    const read = readStartup(whole.subarray(0, length))
    assert.equal(read.done, false)
    assert.ok('need' in read && read.need > 0 && length + read.need <= whole.length)
  }
})

test('reads the requests that are no startup', () => {
  assert.deepEqual(readStartup(packet(8, 80877103)), { done: true, packet: { kind: 'ssl' }, bytes: 8 })
  assert.deepEqual(readStartup(packet(8, 80877104)), { done: true, packet: { kind: 'gss' }, bytes: 8 })
  const secret = Buffer.from([1, 2, 3, 4])
  assert.deepEqual(readStartup(writeCancelRequest(-7, secret)), {
    done: true,
    packet: { kind: 'cancel', processId: -7, secret },
    bytes: 16,
  })
})

test('tells what is wrong, and as early as it can', () => {
  assert.match(problemOf(readStartup(packet(7, 196608))), /invalid length/)
  assert.match(problemOf(readStartup(packet(10_001, 196608))), /invalid length of startup packet: 10001/)
  assert.match(problemOf(readStartup(packet(0x40000000, 196608))), /invalid length/)
  assert.match(problemOf(readStartup(packet(100, 131072))), /unsupported frontend protocol 2.0/)
  assert.match(problemOf(readStartup(packet(100, 0x00040000))), /unsupported frontend protocol 4.0/)
  assert.match(problemOf(readStartup(Buffer.from('GET / HTTP/1.1\r\n'))), /invalid length/)
  assert.match(problemOf(readStartup(packet(13, 196608, Buffer.from('user\0')))), /layout/)
  assert.match(problemOf(readStartup(packet(12, 80877102, Buffer.alloc(4)))), /cancel request/)
})

test('never throws, whatever the bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
      readStartup(Buffer.from(bytes))
    }),
  )
})
