import assert from 'node:assert/strict'
import { test } from 'node:test'
import { preparedVerb } from './prepared-verb.ts'

test('tells statements with a plan from others, and those that give no rows', () => {
  const verb = (sql: string): string | undefined => preparedVerb(Buffer.from(`${sql}\0`), sql.length)
  for (const sql of [
    'select 1',
    ' /* x */ ((SELECT 1))',
    'values (1)',
    'with a as (select 1) table a',
    '-- x\ntable t',
  ])
    assert.equal(verb(sql), 'reads', sql)
  for (const sql of [
    'INSERT into t values (1)',
    'update t set "returning" = 1',
    "delete from t where x = 'returning'",
  ])
    assert.equal(verb(sql), 'writes', sql)
  for (const sql of ['insert into t values (1) RETURNING i', 'delete from t returning *'])
    assert.equal(verb(sql), 'reads', sql)
  for (const sql of [
    '',
    ';',
    'begin',
    'set x = 1',
    'show x',
    'explain select 1',
    'create table t ()',
    '"select"',
    '1',
  ])
    assert.equal(verb(sql), undefined, sql)
})
