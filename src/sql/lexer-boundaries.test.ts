import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import * as fc from 'fast-check'
import { loadModule, scanSync } from 'libpg-query'
import { regressionSource, regressionStatements } from '../../test/support/regression-source.ts'
import { Lexer } from './lexer.ts'

/** PostgreSQL's own scanner is the judge of where tokens begin and end. */
before(() => loadModule())

type Range = readonly [from: number, to: number]

function ours(bytes: Uint8Array): { ranges: Range[]; isUnterminated: boolean } {
  const lexer = new Lexer(bytes, 0, bytes.length)
  const ranges: Range[] = []
  while (lexer.next()) ranges.push([lexer.from, lexer.position])
  return { ranges, isUnterminated: lexer.isUnterminated }
}

/** undefined for a text that PostgreSQL refuses to scan. */
function theirs(sql: string): Range[] | undefined {
  let tokens: ReturnType<typeof scanSync>['tokens']
  try {
    ;({ tokens } = scanSync(sql))
  } catch {
    return undefined
  }
  const bytes = Buffer.from(sql)
  const ranges: Range[] = []
  for (const { start, end, tokenName } of tokens) {
    if (tokenName === 'C_COMMENT' || tokenName === 'SQL_COMMENT') continue
    // N'..' comes in two.
    const last = ranges.at(-1)
    const isNational = last?.[1] === start && /^n'$/i.test(bytes.toString('latin1', last[0], start + 1))
    ranges.push([isNational ? ranges.pop()![0] : start, end])
  }
  return ranges
}

const continuedOverComment = /'\s*--.*[\n\r][^]*'/

/** Whether there was something to compare. */
function compare(sql: string): boolean {
  const expected = theirs(sql)
  if (!expected) return false
  const bytes = Buffer.from(sql)
  const { ranges, isUnterminated } = ours(bytes)
  // Unlike the server this scanner takes a comment for a token, and a constant for ended before it.
  if (ranges.some(([from, to]) => continuedOverComment.test(bytes.toString('latin1', from, to)))) return false
  const show = (all: readonly Range[]): string[] => all.map(([from, to]) => bytes.toString('utf8', from, to))
  assert.deepEqual(show(ranges), show(expected), sql)
  assert.deepEqual(ranges, expected, sql)
  assert.equal(isUnterminated, false, sql)
  return true
}

const corpus = [
  'SELECT a_1$, "b ""c", täglich, "Ä" FROM t',
  "'a''b' E'c\\'d' e'\\\\' B'01' x'1F' N'n' n'' U&'d\\0061t' U&\"d\\0061t\" u&'a!0061' UESCAPE '!'",
  "'a\\' || 'b'",
  "'a'\n'b' 'c'\r\n  'd'\t\n'e'",
  "'a' 'b' -- c\n -- d\n, 'e'",
  "'a' /* no */\n'b'",
  "E'a\\''\n'\\'b' x'a'\n'b' x'a''b' B'0'\n'1' U&'a'\n'b' N'a'\n'b'",
  '$$a$$ $x$b $$ c$x$ $täg$ $täg$ $a$ $b$ $$ $b$ $a$ a$$b$$ $_1$x$_1$ $1 $23',
  '$a$$ba$a$ $$ $a$ $$ $x$ $x$$y$ $y$',
  'a--x\nb/* /* y */ z */c -- end',
  'a/**/b/*/**/*/c /* -- */ d -- /* \n e',
  '1 12 1.5 1. .5 1.e5 1e5 1E-3 1e+3 .5e7 1_000 1_0.0_1e1_0 0x1F 0XaF_1 0o17 0b01 0b_1 1..2 1...5 a.b a . b a[1:2]',
  'a+b a-b a*b a/b a%b a^b a<b a>b a=b a<=b a>=b a<>b a!=b a||b a->b a->>b a#>b a@>b a~b a!~*b a@@b a?b a?|b `',
  'a=-1 a<-1 a+-+1 a@-1 a@-+ 1 - -1 a*-1 a#- b a!=-1 a<=+1 a^-1 a&- b a|+ b',
  'a*/**/b a+--c\n-d a<--x\n1 a@--\n+1 a-/*x*/-b @/* */- 1',
  'a::int a:=1 f(a=>1) a : : b a:b :a ::: :=: ; , ( ) [ ]',
  'a::int::text,b.*,c.d',
  ' \t\n\r\f\v a',
  '/**/ -- ',
]

test('where tokens begin and end: every lexical feature', () => {
  for (const sql of corpus) assert.equal(compare(sql), true, `PostgreSQL does not scan ${sql}`)
})

const pieces = [
  ...'\'"$\\;:.,()[]+-*/<>=~!@#%^&|`? \n\t\r\f\v'.split(''),
  ...'aAeEbBxXnNuU_19\u00e4'.split(''),
  ..."'' '\n' \" \"\" $$ $a$ $1 /* */ -- --\n :: := .. => <= <> != -> U&' U&\" E' B' X' N' \\' uescape 1e 0x 0b 1_ 1. .5 select".split(
    ' ',
  ),
]

test('where tokens begin and end: any soup of pieces', () => {
  let scanned = 0
  const soup = fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map(parts => parts.join(''))
  fc.assert(
    fc.property(soup, sql => {
      if (compare(sql)) scanned++
    }),
    { numRuns: 20_000 },
  )
  assert.ok(scanned > 5000, `only ${scanned} were scanned`)
})

test('where tokens begin and end: statements cut and joined', () => {
  const cut = fc
    .tuple(fc.constantFrom(...corpus), fc.nat(120), fc.constantFrom(...corpus), fc.nat(120))
    .map(([one, to, other, from]) => one.slice(0, to) + other.slice(from))
  fc.assert(
    fc.property(cut, sql => void compare(sql)),
    { numRuns: 5000 },
  )
})

const { skip } = regressionSource

test("where tokens begin and end: PostgreSQL's regression suite", { skip }, async () => {
  let compared = 0
  for await (const statement of regressionStatements()) if (compare(statement)) compared++
  assert.ok(compared > 10_000, `only ${compared} statements were compared`)
})
