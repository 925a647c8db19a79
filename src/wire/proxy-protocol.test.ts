import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { beginsProxyHeader, type ProxyHeaderRead, readProxyHeader } from './proxy-protocol.ts'

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

function binary(command: number, family: number, body: Buffer, length = body.length): Buffer {
  const head = Buffer.from([command, family, length >> 8, length & 0xff])
  return Buffer.concat([signature, head, body])
}

const tcp4 = Buffer.from([192, 0, 2, 7, 192, 0, 2, 1, 0xdc, 0x04, 0x19, 0x20])
const tcp6 = (source: string): Buffer =>
  Buffer.concat([Buffer.from(source, 'hex'), Buffer.alloc(16, 1), Buffer.from([0xdc, 0x04, 0x19, 0x20])])
const tlv = Buffer.from([0x04, 0, 3, 1, 2, 3])

const good: [string, Buffer, { address: string; port: number } | undefined][] = [
  [
    'a line with IPv4',
    Buffer.from('PROXY TCP4 192.0.2.7 192.0.2.1 56324 6432\r\n'),
    { address: '192.0.2.7', port: 56324 },
  ],
  [
    'a line with IPv6',
    Buffer.from('PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n'),
    { address: '2001:db8::7', port: 1 },
  ],
  ['a line without addresses', Buffer.from('PROXY UNKNOWN\r\n'), undefined],
  [
    'a line with addresses that do not count',
    Buffer.from('PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n'),
    undefined,
  ],
  ['binary with IPv4', binary(0x21, 0x11, tcp4), { address: '192.0.2.7', port: 56324 }],
  [
    'binary with IPv4 and TLVs',
    binary(0x21, 0x11, Buffer.concat([tcp4, tlv])),
    { address: '192.0.2.7', port: 56324 },
  ],
  [
    'binary with IPv6',
    binary(0x21, 0x21, tcp6('20010db8000000000001000000000007')),
    { address: '2001:db8::1:0:0:7', port: 56324 },
  ],
  [
    'binary with an IPv6 without zeros',
    binary(0x21, 0x21, tcp6('20010db8000100020003000400050006')),
    { address: '2001:db8:1:2:3:4:5:6', port: 56324 },
  ],
  [
    'binary with the loopback of IPv6',
    binary(0x21, 0x21, tcp6('00000000000000000000000000000001')),
    { address: '::1', port: 56324 },
  ],
  ['binary from a Unix socket', binary(0x21, 0x31, Buffer.alloc(216)), undefined],
  ['binary of no family', binary(0x21, 0x00, tlv), undefined],
  ['binary, local: a health check', binary(0x20, 0x11, tcp4), undefined],
]

for (const [what, header, source] of good) {
  test(`reads ${what}, whatever follows and wherever it is split`, () => {
    for (const rest of [Buffer.alloc(0), Buffer.from([0, 0, 0, 8]), header]) {
      const read = readProxyHeader(Buffer.concat([header, rest]))
      assert.deepEqual(read, { done: true, source, bytes: header.length })
    }
    for (let length = 0; length < header.length; length++) {
      const part = header.subarray(0, length)
      assert.deepEqual(readProxyHeader(part), { done: false }, `${length} bytes`)
      assert.equal(beginsProxyHeader(part), true)
    }
  })
}

function problemOf(read: ProxyHeaderRead): string {
  assert.equal(read.done, 'invalid')
  return read.done === 'invalid' ? read.problem : ''
}

test('tells what is wrong', () => {
  const line = (text: string) => problemOf(readProxyHeader(Buffer.from(`PROXY ${text}\r\n`)))
  assert.match(line('TCP4 192.0.2.7 192.0.2.1 56324'), /form/)
  assert.match(line('TCP4 192.0.2.7 192.0.2.1 56324 6432 1'), /form/)
  assert.match(line('UDP4 192.0.2.7 192.0.2.1 56324 6432'), /form/)
  assert.match(line('TCP4 box.example 192.0.2.1 56324 6432'), /address/)
  assert.match(line('TCP4 2001:db8::7 192.0.2.1 56324 6432'), /address/)
  assert.match(line('TCP4 192.0.2.7 192.0.2.1 65536 6432'), /port/)
  assert.match(line('TCP4 192.0.2.7 192.0.2.1 -1 6432'), /port/)
  assert.match(problemOf(readProxyHeader(Buffer.from(`PROXY ${'x'.repeat(101)}`))), /within 107 bytes/)
  assert.match(problemOf(readProxyHeader(binary(0x11, 0x11, tcp4))), /version is 1/)
  assert.match(problemOf(readProxyHeader(binary(0x22, 0x11, tcp4))), /command is 2/)
  assert.match(problemOf(readProxyHeader(binary(0x21, 0x12, tcp4))), /0x12/)
  assert.match(problemOf(readProxyHeader(binary(0x21, 0x11, tcp4.subarray(0, 11)))), /too short/)
  assert.match(
    problemOf(readProxyHeader(binary(0x21, 0x21, tcp6('00'.repeat(16)).subarray(0, 35)))),
    /too short/,
  )
  assert.match(problemOf(readProxyHeader(binary(0x21, 0x11, tcp4, 65_535))), /65535 bytes/)
})

test('takes nothing else for a header', () => {
  const startup = Buffer.from([0, 0, 0, 9, 0, 3, 0, 0, 0])
  const hello = Buffer.from([0x16, 3, 1, 0, 200])
  for (const bytes of [startup, hello, Buffer.from('PROPFIND /'), Buffer.from('\r\n\r\nGET')]) {
    assert.deepEqual(readProxyHeader(bytes), { done: 'none' })
    assert.equal(beginsProxyHeader(bytes), false)
  }
})

test('never throws and never claims more bytes than came', () => {
  const start = fc.constantFrom(Buffer.from('PROXY '), Buffer.concat([signature, Buffer.from([0x21])]))
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 120 }), (head, bytes) => {
      const buffer = Buffer.concat([head, bytes])
      const read = readProxyHeader(buffer)
      if (read.done === true) assert.ok(read.bytes <= buffer.length)
    }),
  )
})
