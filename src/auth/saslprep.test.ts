import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { saslPrep } from './saslprep.ts'
import {
  type CodePoints,
  contains,
  leftToRight,
  mappedToNothing,
  nonAsciiSpace,
  prohibitedOutput,
  rightToLeft,
  unassigned,
} from './saslprep-tables.ts'

const prepared = (text: string) => saslPrep(text).toString('utf8')

test('the examples of RFC 4013, section 3', () => {
  assert.equal(prepared('I\u00adX'), 'IX')
  assert.equal(prepared('user'), 'user')
  assert.equal(prepared('USER'), 'USER')
  assert.equal(prepared('\u00aa'), 'a')
  assert.equal(prepared('\u2168'), 'IX')
  // The two that the RFC refuses are used as they are.
  assert.equal(prepared('\u0007'), '\u0007')
  assert.equal(prepared('\u0627\u0031'), '\u0627\u0031')
})

test('spaces become a space, and composed and decomposed letters are one', () => {
  assert.equal(prepared('a\u00a0b\u3000c\u200bd'), 'a b c d')
  assert.deepEqual(saslPrep('e\u0301'), saslPrep('\u00e9'))
  assert.equal(prepared('\ufb01'), 'fi')
})

test('a prohibited character leaves the whole password as it is', () => {
  for (const prohibited of ['\u0085', '\ue000', '\ufffd', '\u2060\u{e0001}', '\u0340', '\u202a', '\ufdd0']) {
    const password = `\u2168${prohibited}`
    assert.equal(prepared(password), password, JSON.stringify(prohibited))
  }
})

test('a character that Unicode 3.2 did not have leaves the password as it is', () => {
  assert.equal(prepared('\u2168\u{1f600}'), '\u2168\u{1f600}')
  assert.equal(prepared('\u0221'), '\u0221')
})

test('a password that would vanish is used as it is', () => {
  assert.equal(prepared('\u00ad\u200d'), '\u00ad\u200d')
})

test('text from right to left must be so at both ends and unmixed', () => {
  assert.equal(prepared('\u0627\u00ad1\u0628'), '\u06271\u0628')
  for (const refused of ['\u06271\u00ad', '1\u00ad\u0628', '\u0627\u00adx\u0628']) {
    assert.equal(prepared(refused), refused)
  }
})

test('bytes that are not UTF-8 are used as they are', () => {
  for (const bytes of [[0xff], [0xc2], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80, 0x41]]) {
    assert.deepEqual(saslPrep(Buffer.from(bytes)), Buffer.from(bytes))
  }
})

test('a byte order mark is a character that vanishes, not a mark that the decoder eats', () => {
  assert.equal(prepared('\ufeff\u00e9'), '\u00e9')
})

test('any bytes give bytes, and ASCII stays itself', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
      const result = saslPrep(bytes)
      if (bytes.every(byte => byte < 0x80)) assert.deepEqual(result, Buffer.from(bytes))
      assert.equal(result.length === 0, bytes.length === 0)
    }),
  )
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 20 }), text => {
      assert.deepEqual(saslPrep(Buffer.from(text)), saslPrep(text))
    }),
  )
})

test('the tables are sorted and hold as many code points as RFC 3454 lists', () => {
  const sizes: [CodePoints, number][] = [
    [nonAsciiSpace, 17],
    [mappedToNothing, 27],
    [prohibitedOutput, 139_813],
    [unassigned, 879_309],
    [rightToLeft, 1_044],
    [leftToRight, 229_973],
  ]
  for (const [table, size] of sizes) {
    let held = 0
    for (let at = 0; at < table.length; at += 2) {
      assert.ok(table[at]! <= table[at + 1]! && (at === 0 || table[at - 1]! < table[at]!))
      held += table[at + 1]! - table[at]! + 1
    }
    assert.equal(held, size)
  }
})

test('a range holds its ends and nothing beside them', () => {
  for (const [codePoint, expected] of [
    [0x0220, false],
    [0x0221, true],
    [0x0222, false],
    [0x0233, false],
    [0x0234, true],
    [0x024f, true],
    [0x0250, false],
    [0x10ffff, false],
  ] as const) {
    assert.equal(contains(unassigned, codePoint), expected, codePoint.toString(16))
  }
})
