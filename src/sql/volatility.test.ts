import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { systemClock } from '../runtime/clock.ts'
import { classify, type Parse, type ShareRefusal } from './statement-class.ts'
import { loadParser, StatementClasses } from './statement-classes.ts'
import { SharingFacts, type SharingRow, SystemNames, SystemNamesCache } from './volatility.ts'

const classes = new StatementClasses(systemClock)
let parse: Parse
before(async () => {
  await classes.load()
  parse = await loadParser()
})

const lines = [
  ...['f now', 'f lower', 'F random', 'f extract', 'o =', 'o +', 'o >', 'r pg_class', 'v pg_locks', 'r same'],
].join('\n')

function factsOf(...rows: SharingRow[]): SharingFacts {
  const facts = new SharingFacts(new SystemNames(lines), 'print')
  for (const row of rows) facts.add(row)
  return facts
}

function refusalOf(facts: SharingFacts, sql: string): ShareRefusal | undefined {
  const { refusal, dependencies } = classify(Buffer.from(sql), parse)
  assert.equal(refusal, undefined, sql)
  return facts.refusal(dependencies, classes)
}

function check(
  facts: SharingFacts,
  expected: readonly [sql: string, refusal: ShareRefusal | undefined][],
): void {
  for (const [sql, refusal] of expected) assert.equal(refusalOf(facts, sql), refusal, sql)
}

test('functions and operators: what is volatile or in no catalog is refused', () => {
  const facts = factsOf(
    ['function', 'own', ''],
    ['function', 'bad', 'v'],
    ['function', 'now', 'v'],
    ['function', 'row_bad', 'vr'],
    ['operator', '@@', ''],
    ['operator', '+', 'v'],
    ['type', 'strange'],
  )
  check(facts, [
    ['SELECT lower(a), own(b)', undefined],
    ['SELECT random()', 'function_volatile'],
    ['SELECT bad(1)', 'function_volatile'],
    ['SELECT pg_catalog.now()', 'function_volatile'],
    ['SELECT no(1)', 'function_unknown'],
    ['SELECT a @@ b, a = c', undefined],
    ['SELECT a + 1', 'operator_volatile'],
    ['SELECT a ### b', 'operator_unknown'],
    ["SELECT extract(year FROM a), a AT TIME ZONE 'x'", undefined],
    ['SELECT t.bad, t.own, row_bad', undefined],
    ['SELECT t.row_bad', 'function_volatile'],
    ['SELECT (f).row_bad', 'function_volatile'],
    ['SELECT 1::strange', 'type_volatile'],
    ['SELECT 1::s.strange[]', 'type_volatile'],
    ['SELECT 1::unknown_type', undefined],
  ])
  check(factsOf(['function', 'strange', ''], ['type', 'strange']), [
    ['SELECT strange(1)', 'function_volatile'],
  ])
  check(factsOf(['function', 'timezone', 'v']), [["SELECT a AT TIME ZONE 'x'", 'function_volatile']])
})

test('relations, by their name in all schemas', () => {
  const facts = factsOf(
    ['relation', 'plain', 't'],
    ['relation', 'far', 'tf'],
    ['relation', 'counter', 's'],
    ['relation', 'odd', 'tc'],
    ['relation', 'same', 'f'],
    ['relation', 'columns', 't'],
  )
  check(facts, [
    ['TABLE plain', undefined],
    ['TABLE s.plain', undefined],
    ['TABLE far', 'foreign_table'],
    ['TABLE counter', 'sequence'],
    ['TABLE odd', 'relation_volatile'],
    ['TABLE nowhere', 'relation_unknown'],
    ['TABLE pg_class', undefined],
    ['TABLE pg_catalog.pg_class', undefined],
    ['TABLE pg_locks', 'system_view'],
    ['TABLE pg_catalog.pg_locks', 'system_view'],
    ['TABLE pg_catalog.plain', 'relation_unknown'],
    ['TABLE same', 'foreign_table'],
    ['TABLE pg_catalog.same', undefined],
    ['TABLE columns', undefined],
    ['TABLE information_schema.columns', 'system_view'],
  ])
})

test('views and policies run what they say', () => {
  const facts = factsOf(
    ['function', 'bad', 'v'],
    ['relation', 'plain', 't'],
    ['relation', 'fine', 'v'],
    ['relation', 'over', 'v'],
    ['relation', 'wrong', 'v'],
    ['relation', 'wrong_over', 'v'],
    ['relation', 'locks', 'v'],
    ['relation', 'twice', 'v'],
    ['relation', 'turn', 'v'],
    ['relation', 'empty', 'v'],
    ['relation', 'hidden', 'v'],
    ['relation', 'guarded', 'tp'],
    ['relation', 'ill_guarded', 'tp'],
    ['relation', 'unguarded', 'tp'],
    ['definition', 'fine', 'SELECT lower(a) FROM plain'],
    ['definition', 'over', 'SELECT * FROM s.fine'],
    ['definition', 'wrong', 'SELECT bad(a) FROM plain'],
    ['definition', 'wrong_over', 'SELECT * FROM fine, wrong'],
    ['definition', 'locks', 'SELECT * FROM plain FOR UPDATE'],
    ['definition', 'twice', 'SELECT 1'],
    ['definition', 'twice', 'SELECT random()'],
    ['definition', 'turn', 'SELECT * FROM other.turn'],
    ['definition', 'hidden', undefined],
    ['definition', 'guarded', 'SELECT a = lower(b)'],
    ['definition', 'ill_guarded', 'SELECT true'],
    ['definition', 'ill_guarded', 'SELECT EXISTS (SELECT 1 FROM wrong)'],
    ['definition', 'dropped', 'SELECT 1'],
  )
  check(facts, [
    ['TABLE fine', undefined],
    ['TABLE over', undefined],
    ['TABLE wrong', 'view_volatile'],
    ['TABLE wrong_over', 'view_volatile'],
    ['TABLE locks', 'view_volatile'],
    ['TABLE twice', 'view_volatile'],
    ['TABLE turn', 'view_volatile'],
    ['TABLE empty', 'view_volatile'],
    ['TABLE hidden', 'view_volatile'],
    ['TABLE guarded', undefined],
    ['TABLE ill_guarded', 'policy_volatile'],
    ['TABLE unguarded', 'policy_volatile'],
    ['TABLE dropped', 'relation_unknown'],
  ])
})

test('without definitions, or with too long ones, only plain tables are left', () => {
  const rows: SharingRow[] = [
    ['relation', 'plain', 't'],
    ['relation', 'v', 'v'],
    ['relation', 'w', 'v'],
  ]
  const unknown = factsOf(...rows, ['definition', 'v', 'SELECT 1'])
  unknown.addUnknownDefinitions()
  const long = factsOf(
    ...rows,
    ['definition', 'w', 'SELECT 1'],
    ['definition', 'v', `SELECT '${'x'.repeat(4 * 1024 * 1024)}'`],
  )
  for (const facts of [unknown, long])
    check(facts, [
      ['TABLE plain', undefined],
      ['TABLE v', 'view_volatile'],
    ])
  check(unknown, [['TABLE w', 'view_volatile']])
  check(long, [['TABLE w', undefined]])
})

test('what no statement names, and too much to know', () => {
  check(factsOf(['implicit']), [['SELECT 1', 'volatile_implicit']])
  const facts = factsOf()
  facts.addTooMuch()
  check(facts, [['SELECT 1', 'facts_missing']])
  assert.throws(() => factsOf(['other', 'x']), /row of kind other/)
})

test('databases have the names of one system in common', () => {
  const cache = new SystemNamesCache()
  const first = cache.of(lines)
  assert.equal(cache.of(lines), first)
  for (let version = 0; version < 20; version++) cache.of(`f version_${version}`)
  assert.notEqual(cache.of(lines), first)
})
