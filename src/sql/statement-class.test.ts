import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { regressionSource, regressionStatements } from '../../test/support/regression-source.ts'
import { Fingerprinter } from './fingerprint.ts'
import type { Dependencies } from './parse-tree.ts'
import {
  classify,
  noDependencies,
  type Parse,
  type ShareRefusal,
  type StatementClass,
} from './statement-class.ts'
import { loadParser } from './statement-classes.ts'

let parse: Parse
before(async () => {
  parse = await loadParser()
})

const print = new Fingerprinter()

function classOf(sql: string): StatementClass | undefined {
  const bytes = Buffer.from(sql)
  if (print.read(bytes, 0, bytes.length, true) !== undefined) return undefined
  return classify(Buffer.from(print.bytes.subarray(0, print.length)), parse)
}

function namesOf(sql: string): Partial<Dependencies> {
  const { refusal, dependencies } = classOf(sql)!
  assert.equal(refusal, undefined, sql)
  const named = Object.entries(dependencies).filter(([, names]) => names.length > 0)
  return Object.fromEntries(named) as Partial<Dependencies>
}

const table = (name: string, schema?: string) => ({ schema, name })

test('why a statement may share with none', () => {
  const refused: [string, ShareRefusal, boolean?][] = [
    ['', 'not_read'],
    [';', 'not_read'],
    ['SELECT 1; SELECT 2', 'several'],
    ['SELECT 1; DROP TABLE t', 'several'],
    ...[
      'INSERT INTO t VALUES (1)',
      'UPDATE t SET a = 1',
      'DELETE FROM t',
      'EXPLAIN SELECT 1',
      'EXPLAIN ANALYZE DELETE FROM t',
      'SHOW work_mem',
      'SET a.b = 1',
      'COPY t TO STDOUT',
      'CALL p()',
      'DO $$ $$',
      'FETCH c',
      'BEGIN',
      'EXECUTE s',
      'PREPARE s AS SELECT 1',
      'DECLARE c CURSOR FOR SELECT 1',
      'LISTEN x',
      'CREATE TABLE u AS SELECT 1',
      'WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x',
      'WITH x AS (WITH y AS (DELETE FROM t RETURNING 1) SELECT * FROM y) SELECT * FROM x',
      'SELECT * FROM s TABLESAMPLE system (1), (WITH x AS (UPDATE t SET a = 1 RETURNING 1) TABLE x) y',
    ].map((sql): [string, ShareRefusal] => [sql, 'not_read']),
    ['SELECT * FROM t FOR UPDATE', 'locking'],
    ['SELECT * FROM (SELECT * FROM t FOR KEY SHARE) x', 'locking'],
    ['SELECT 1 INTO t', 'into'],
    ['SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (1)', 'sampling', true],
    ['SELECT FROM WHERE', 'unreadable'],
    ['SELECT 1 1', 'unreadable'],
    ["SELECT JSON_OBJECT('a': 1)", 'unknown_node'],
    ['SELECT a IS JSON FROM t', 'unknown_node'],
    ['WITH RECURSIVE x AS (SELECT 1 a) CYCLE a SET b USING c SELECT * FROM x', 'unknown_node'],
    ['SELECT * FROM größe', 'unusual_name', true],
    ['SELECT größe()', 'unusual_name', true],
    ['SELECT U&"gr\\00f6\\00dfe"()', 'unusual_name', true],
    ['SELECT a::größe', 'unusual_name', true],
    ['SELECT ä() FROM t FOR SHARE', 'locking'],
  ]
  for (const [sql, refusal, isRead = false] of refused) {
    const found = classOf(sql)
    assert.deepEqual([found?.refusal, found?.isRead], [refusal, isRead], sql)
  }
  assert.equal(classOf('SELECT größe FROM t')?.refusal, undefined, 'a column may have any name')
})

test('deeper than anything means: unreadable, and the parser works on', () => {
  for (const sql of [
    `SELECT ${'('.repeat(1990)}1${')'.repeat(1990)}`,
    `SELECT ${'- '.repeat(3900)}a`,
    `SELECT ${'(SELECT '.repeat(1300)}1${')'.repeat(1300)}`,
    `SELECT ${'NOT '.repeat(3900)}a`,
  ]) {
    const found = classOf(sql)
    assert.ok(found === undefined || found.refusal === undefined || found.refusal === 'unreadable')
    assert.equal(classOf('SELECT 1')?.refusal, undefined)
  }
})

test('a statement depends on what it names', () => {
  const named: [string, Partial<Dependencies>][] = [
    ['SELECT 1', {}],
    ['VALUES (1, $1)', {}],
    ['TABLE a.b', { relations: [table('b', 'a')] }],
    ['SELECT f(g(x)), s.h(1) FROM t', { functions: ['f', 'g', 'h'], relations: [table('t')] }],
    ['SELECT "F"(x), U&"\\0066"()', { functions: ['F', 'f'] }],
    [
      'SELECT count(*) FILTER (WHERE f()), sum(x) OVER w WINDOW w AS (ORDER BY g(y))',
      { functions: ['count', 'f', 'sum', 'g'] },
    ],
    ['SELECT a + b, - c, a OPERATOR(s.@@) b', { operators: ['+', '-', '@@'] }],
    ["SELECT a LIKE 'x', b ~ 'y', c NOT ILIKE 'z'", { operators: ['~~', '~', '!~~*'] }],
    ['SELECT a = ANY (b), c IN (1, 2), d <> ALL (SELECT 1), e IN (SELECT 2)', { operators: ['=', '<>'] }],
    ['SELECT a BETWEEN 1 AND 2, NULLIF(b, c)', { operators: ['<', '<=', '>', '>=', '='] }],
    ['SELECT a FROM t ORDER BY b USING <#', { operators: ['<#'], relations: [table('t')] }],
    ["SELECT a::x.y, CAST(b AS z[]), date '1-1', c::int", { types: ['y', 'z', 'date', 'int4'] }],
    [
      'SELECT t.f, (t).g, (h(t)).i[1].j, t.* FROM t',
      { functions: ['h'], relations: [table('t')], fields: ['f', 'g', 'i', 'j'] },
    ],
    [
      "SELECT extract(year FROM a), a AT TIME ZONE 'utc', trim(a)",
      { forms: ['extract', 'timezone', 'btrim'] },
    ],
    [
      'SELECT current_user, current_timestamp(3), COALESCE(a, b), GREATEST(c), CASE a WHEN 1 THEN f() END',
      { functions: ['f'] },
    ],
    [
      'SELECT * FROM f() WITH ORDINALITY, ROWS FROM (g(), h() AS (a t)), LATERAL (SELECT i()) x',
      { functions: ['f', 'g', 'h', 'i'], types: ['t'] },
    ],
    [
      "SELECT * FROM xmltable('/a' PASSING d COLUMNS b c PATH 'x' DEFAULT f())",
      { functions: ['f'], types: ['c'] },
    ],
    ['SELECT * FROM a JOIN b USING (x) NATURAL JOIN c', { relations: [table('a'), table('b'), table('c')] }],
    [
      '(SELECT 1 FROM a UNION SELECT f()) EXCEPT VALUES (1) LIMIT 1 OFFSET $1',
      { functions: ['f'], relations: [table('a')] },
    ],
    [
      'SELECT 1 GROUP BY GROUPING SETS ((a), ROLLUP (f(b))) HAVING grouping(a) = 1',
      { functions: ['f'], operators: ['='] },
    ],
    ['SELECT DISTINCT ON (f(a)) a ORDER BY f(a) FETCH FIRST 3 ROWS WITH TIES', { functions: ['f'] }],
  ]
  for (const [sql, expected] of named) assert.deepEqual(namesOf(sql), expected, sql)
})

test('names of WITH are relations only where they are not seen', () => {
  const named: [string, string[]][] = [
    ['WITH x AS (SELECT 1) SELECT * FROM x', []],
    ['WITH x AS (SELECT * FROM x) SELECT * FROM x', ['x']],
    ['WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT * FROM x) SELECT * FROM x', []],
    ['WITH y AS (SELECT * FROM x), x AS (SELECT 1) SELECT * FROM y, x', ['x']],
    ['WITH RECURSIVE y AS (SELECT * FROM x), x AS (SELECT 1) SELECT * FROM y, x', []],
    ['WITH x AS (SELECT 1) SELECT * FROM x, s.x', ['x']],
    ['SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y, x', ['x']],
    ['WITH x AS (SELECT 1) SELECT (SELECT a FROM x) UNION SELECT b FROM x', []],
    ['(WITH x AS (SELECT 1) SELECT * FROM x) UNION SELECT b FROM x', ['x']],
  ]
  for (const [sql, expected] of named) {
    assert.deepEqual(namesOf(sql).relations?.map(({ name }) => name) ?? [], expected, sql)
  }
})

test('what is not parsed has no names', () => {
  assert.deepEqual(classOf('SELECT FROM WHERE')?.dependencies, noDependencies)
})

/** A tree without constants and places; the two types that `float(n)` may mean are one here. */
function bare(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(bare)
  if (typeof node !== 'object' || node === null) return node === 'float4' ? 'float8' : node
  const fields = Object.entries(node).filter(
    ([name]) => !/^(location|.*_location|typmod|list_.*|rexpr_list_.*|stmt_len)$/.test(name),
  )
  return Object.fromEntries(
    fields.map(([name, value]) => [name, name === 'A_Const' ? 'constant' : bare(value)]),
  )
}

const { skip } = regressionSource

test("PostgreSQL's regression suite: a fingerprint means what the statement means", { skip }, async () => {
  let compared = 0
  for await (const sql of regressionStatements()) {
    const found = classOf(sql)
    if (!found || (found.refusal !== undefined && !found.isRead)) continue
    let tree: unknown
    try {
      tree = parse(Buffer.from(sql).toString('latin1'))
    } catch {
      continue
    }
    const printed = parse(found.text.toString('latin1'))
    assert.deepEqual(bare(printed), bare(tree), sql)
    compared++
  }
  assert.ok(compared > 5000, `only ${compared} were compared`)
})
