import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Fingerprinter, statementBytesMax, type Unprintable } from './fingerprint.ts'

const print = new Fingerprinter()

function read(sql: string, standardStrings = true): Unprintable | undefined {
  const bytes = Buffer.from(`(${sql})`)
  return print.read(bytes, 1, bytes.length - 1, standardStrings)
}

function printOf(sql: string, standardStrings = true): string {
  assert.equal(read(sql, standardStrings), undefined, sql)
  return print.bytes.toString('utf8', 0, print.length)
}

test('constants, comments, blanks, the case of words and semicolons at the end are dropped', () => {
  const expected = 'select a , \'\' from t where b = 1 and c = "C"'
  for (const sql of [
    'SELECT a,\'x\' FROM t WHERE b=1 AND c="C"',
    "select A , E'it\\'s' from T where B = 1.5e7 and C = \"C\";",
    'select/* x /* y */ */ a -- z\n, $x$ \' $x$ from t where b=0x1F and c="C" ; ;',
    "select a, 'x'\n  'y' from t where b = .5 and c = \"C\"\n",
  ]) {
    assert.equal(printOf(sql), expected, sql)
  }
})

test('what may matter stays', () => {
  const same: [string, string][] = [
    ['SELECT $1, $12', 'select $1 , $12'],
    ['a.b::int[] - -1 <-> +1', 'a . b :: int [ ] - - 1 <-> + 1'],
    [`"A""b" "a" U&"d\\0061t" U&'d!0061' UESCAPE '!'`, `"A""b" "a" U&"d\\0061t" U&'d!0061' uescape '!'`],
    [`B'01' X'1F' N'n' b'0'`, `b'' x'' n'' b''`],
    ["SELECT 1; SELECT 'x';", "select 1 ; select ''"],
    ['SELECT täglich FROM "Ä"', 'select täglich from "Ä"'],
  ]
  for (const [sql, expected] of same) assert.equal(printOf(sql), expected)
  assert.notEqual(printOf('SELECT a'), printOf('SELECT "a"'))
  assert.notEqual(printOf('SELECT a - b'), printOf('SELECT a -- b'))
  assert.notEqual(printOf("SELECT 'a' 'b'"), printOf("SELECT 'a'\n'b'"))
})

test('backslashes are read as the session reads them', () => {
  const sql = "SELECT 'a\\' OR drop_all() --'"
  assert.equal(printOf(sql), "select '' or drop_all ( )")
  assert.equal(printOf(sql, false), "select ''")
})

test('a fingerprint of a fingerprint is the same', () => {
  const words = fc.constantFrom(
    'SELECT',
    'a',
    '"B"',
    "'x'",
    '1',
    '$1',
    '(',
    ')',
    ',',
    '<=',
    '-',
    '::',
    "E'\\''",
    ';',
  )
  fc.assert(
    fc.property(fc.array(words, { maxLength: 20 }), parts => {
      const once = printOf(parts.join(' '))
      assert.equal(printOf(once), once)
    }),
  )
})

test('constants and blanks of any kind change nothing', () => {
  const text = fc.string().map(value => `'${value.replaceAll("'", "''")}'`)
  const constant = fc.oneof(
    text,
    text.map(value => `E${value.replaceAll('\\', '\\\\')}`),
    fc.string().map(value => `$tag$${value.replaceAll('$', '')}$tag$`),
  )
  const number = fc.oneof(
    fc.nat().map(String),
    fc.constantFrom('1.5', '.5', '1e9', '0x1F', '1_000', '99999999999'),
  )
  const blank = fc.constantFrom(' ', '\n', '\t ', ' /* x */ ', ' -- y\n', '/**/')
  fc.assert(
    fc.property(constant, number, blank, blank, (value, count, one, other) => {
      const sql = `SELECT${one}a${other}FROM t WHERE b=${value}${one}LIMIT ${count}${other}`
      assert.equal(printOf(sql), "select a from t where b = '' limit 1")
    }),
  )
})

test('what never ends and what is long have none', () => {
  for (const sql of ["'a", '"a', '$$a', '/* a', "E'a\\'", "U&'a"]) assert.equal(read(sql), 'unreadable', sql)
  assert.equal(read(`SELECT '${'x'.repeat(statementBytesMax)}'`), 'too_long')
  assert.equal(read(`SELECT 1${'+1'.repeat(2500)}`), 'too_long')
  assert.equal(read(`SELECT '${'x'.repeat(statementBytesMax - 9)}'`), undefined)
  assert.equal(read(`${'a,'.repeat(1999)}a`), undefined)
})
