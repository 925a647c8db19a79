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
