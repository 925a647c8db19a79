import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Lexer, Token } from './lexer.ts'

const kinds = Object.fromEntries(Object.entries(Token).map(([name, value]) => [value, name]))

function tokensOf(sql: string, standardStrings = true): string[] {
  const bytes = Buffer.from(sql)
  const lexer = new Lexer(bytes, 0, bytes.length, standardStrings)
  const tokens: string[] = []
  while (lexer.next()) tokens.push(`${kinds[lexer.kind]} ${bytes.toString('utf8', lexer.start, lexer.end)}`)
  return tokens
}

test('words, quoted identifiers, numbers, parameters and single characters', () => {
  assert.deepEqual(tokensOf('SELECT a_1$, "b ""c", 1.5e-3, $12 FROM täglich;'), [
    'Word SELECT',
    'Word a_1$',
    'Other ,',
    'Quoted b ""c',
    'Other ,',
    'Number 1.5e-3',
    'Other ,',
    'Parameter $12',
    'Word FROM',
    'Word täglich',
    'Other ;',
  ])
})

test('string constants in every form', () => {
  assert.deepEqual(tokensOf(`'a''b' E'c\\'d' e'\\\\' B'01' x'1F' N'n' U&'\\0061' U&"\\0061" 'e\\'`), [
    "String a''b",
    "String c\\'d",
    'String \\\\',
    'String 01',
    'String 1F',
    'String n',
    'String \\0061',
    'Quoted \\0061',
    'String e\\',
  ])
})

test('without standard strings a backslash escapes in plain constants too', () => {
  assert.deepEqual(tokensOf("'a\\'b' c", false), ["String a\\'b", 'Word c'])
  assert.deepEqual(tokensOf("'a\\' b"), ['String a\\', 'Word b'])
})

test('dollar quotes, nested tags, and dollars that are none', () => {
  assert.deepEqual(tokensOf('$$a$$ $x$b $$ c$x$ $y d$y$ e'), [
    'String a',
    'String b $$ c',
    'Other $',
    'Word y',
    'Word d$y$',
    'Word e',
  ])
})

test('comments, nested too, separate and are not seen', () => {
  assert.deepEqual(tokensOf('a--x\nb/* /* y */ z */c -- end'), ['Word a', 'Word b', 'Word c'])
})

test('a constant goes on after a line break, with escapes if it began with them', () => {
  assert.deepEqual(tokensOf("E'a'\n'\\'b' c"), ["String a'\n'\\'b", 'Word c'])
  assert.deepEqual(tokensOf("E'a' -- x\n  '\\'b' c"), ["String a' -- x\n  '\\'b", 'Word c'])
  assert.deepEqual(tokensOf("E'a' '\\' c"), ['String a', 'String \\', 'Word c'])
  assert.deepEqual(tokensOf("'a'\n'\\' c"), ["String a'\n'\\", 'Word c'])
  assert.deepEqual(tokensOf("X'a' -- x\n 'b' 'c'"), ["String a' -- x\n 'b", 'String c'])
  assert.deepEqual(tokensOf("'a'\n'\\'b' c", false), ["String a'\n'\\'b", 'Word c'])
  assert.deepEqual(tokensOf("N'\\'b' c", false), ["String \\'b", 'Word c'])
})

test('a number ends where no exponent follows', () => {
  assert.deepEqual(tokensOf("1e5 1e'\\'' 1E-3 1e- 1_000.5e+2x"), [
    'Number 1e5',
    'Number 1',
    "String \\'",
    'Number 1E-3',
    'Number 1',
    'Word e',
    'Other -',
    'Number 1_000.5e+2',
    'Word x',
  ])
})

test('the text of tokens: folded words, single quotes for doubled ones, simple escapes', () => {
  const read = (sql: string) => {
    const bytes = Buffer.from(sql)
    const lexer = new Lexer(bytes, 0, bytes.length)
    lexer.next()
    return lexer
  }
  const decoded = (sql: string): string | undefined => {
    const bytes = read(sql).decoded()
    return bytes && Buffer.from(bytes).toString()
  }
  assert.equal(read('SeLeCt').text(), 'select')
  assert.equal(read('"A""b"').text(), 'A"b')
  assert.equal(read('U&"a"').isUnicode, true)
  assert.equal(read('"a""b"').isUnicode, false)
  assert.equal(decoded("'a''b\\n'"), "a'b\\n")
  assert.equal(decoded("E'a''b\\n\\\\\\''"), "a'b\n\\'")
  assert.equal(decoded("$x$a''b\\n$x$"), "a''b\\n")
  for (const sql of ["E'\\x41'", "E'\\u0041'", "E'a'\n'b'", "X'41'", "U&'a'"]) {
    assert.equal(decoded(sql), undefined, sql)
  }
})

test('what never ends, ends with the text', () => {
  for (const sql of ["'a", '"a', '$$a', '$t$a $t', '/* a', "E'a\\", '-- a']) {
    assert.ok(tokensOf(sql).length <= 1, sql)
  }
})

test('any bytes at all: tokens stand in order, inside the range, and the lexer comes to its end', () => {
  const pieces = fc.constantFrom(
    "'",
    '"',
    '$',
    '$$',
    '$a$',
    '/*',
    '*/',
    '--',
    '\n',
    '\\',
    "E'",
    'set',
    ' ',
    ';',
    '1',
    'é',
    '(',
  )
  fc.assert(
    fc.property(
      fc.array(fc.oneof(pieces, fc.string()), { maxLength: 30 }),
      fc.nat(5),
      fc.nat(5),
      (parts, before, after) => {
        const bytes = Buffer.from(parts.join(''))
        const from = Math.min(before, bytes.length)
        const to = Math.max(from, bytes.length - after)
        const lexer = new Lexer(bytes, from, to)
        let last = from
        let count = 0
        while (lexer.next()) {
          assert.ok(lexer.start >= last && lexer.end >= lexer.start && lexer.end <= to)
          last = lexer.end
          assert.ok(++count <= bytes.length + 1)
        }
      },
    ),
  )
})
