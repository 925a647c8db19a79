import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { inRange, parseAddress, parseMaskedRange, parseRange } from './addresses.ts'

test('addresses are read as node reads them', () => {
  const anything = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc
      .array(fc.constantFrom('0', '1', 'ff', '::', ':', '.', 'fe80', '10', '256', '01', 'g', '1.2.3.4'), {
        maxLength: 16,
      })
      .map(parts => parts.join('')),
  )
  fc.assert(
    fc.property(anything, text => {
      const address = parseAddress(text)
      const kind = isIP(text)
      assert.equal(address === undefined, kind === 0, text)
      if (kind === 4) assert.equal(address?.bits, 32)
    }),
    { numRuns: 1000 },
  )
})

test('IPv6 has the value that it is written with', () => {
  const values: [string, bigint][] = [
    ['::', 0n],
    ['::1', 1n],
    ['1::', 1n << 112n],
    ['2001:db8::8:800:200c:417a', 0x20010db80000000000080800200c417an],
    ['64:ff9b::1.2.3.4', (0x64ff9bn << 96n) | 0x01020304n],
    ['fe80::1%eth0', (0xfe80n << 112n) | 1n],
  ]
  for (const [text, value] of values) assert.deepEqual(parseAddress(text), { bits: 128, value }, text)
})

test('IPv4 within IPv6 is IPv4', () => {
  assert.deepEqual(parseAddress('::ffff:10.1.2.3'), parseAddress('10.1.2.3'))
  assert.deepEqual(parseAddress('::ffff:a01:203'), parseAddress('10.1.2.3'))
  assert.deepEqual(parseRange('::ffff:10.0.0.0/104'), parseRange('10.0.0.0/8'))
  assert.equal(parseRange('::ffff:10.0.0.0/8'), undefined)
})

const within = (range: string, address: string) => inRange(parseRange(range)!, parseAddress(address)!)

test('a range holds its ends and nothing beside them', () => {
  assert.ok(within('10.0.0.0/8', '10.0.0.0') && within('10.0.0.0/8', '10.255.255.255'))
  assert.ok(!within('10.0.0.0/8', '9.255.255.255') && !within('10.0.0.0/8', '11.0.0.0'))
  assert.ok(within('10.9.8.7/8', '10.1.1.1'), 'bits beyond the prefix do not count')
  assert.ok(within('0.0.0.0/0', '255.255.255.255') && within('1.2.3.4/32', '1.2.3.4'))
  assert.ok(!within('1.2.3.4/32', '1.2.3.5'))
  assert.ok(within('2001:db8::/33', '2001:db8:7fff::1') && !within('2001:db8::/33', '2001:db8:8000::'))
  assert.ok(within('::/0', '::1') && !within('::/0', '1.2.3.4') && !within('0.0.0.0/0', '::1'))
})

test('a prefix and the mask it stands for are the same range', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), (address, prefix) => {
      const value = prefix === 0 ? 0 : (-1 << (32 - prefix)) >>> 0
      const mask = [24, 16, 8, 0].map(shift => (value >>> shift) & 255).join('.')
      assert.deepEqual(parseMaskedRange(address, mask), parseRange(`${address}/${prefix}`))
    }),
  )
  assert.deepEqual(parseMaskedRange('fe80::1', 'ffff:ffff::'), parseRange('fe80::1/32'))
})

test('what is not a range is none', () => {
  for (const text of [
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '::/129',
    'x/8',
    '/8',
  ]) {
    assert.equal(parseRange(text), undefined, text)
  }
  assert.equal(parseMaskedRange('10.0.0.0', '255.0.255.0'), undefined)
  assert.equal(parseMaskedRange('10.0.0.0', 'ffff::'), undefined)
  assert.equal(parseMaskedRange('10.0.0.0', 'trust'), undefined)
})
