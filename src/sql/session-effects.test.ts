import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { noEffects, sessionEffects } from './session-effects.ts'

const facts = { everything: false, suspects: new Set(['log_in']) }
const effectsOf = (sql: string) => {
  const bytes = Buffer.from(sql)
  return sessionEffects(bytes, 0, bytes.length, facts)
}

test('ordinary statements leave nothing behind', () => {
  for (const sql of [
    'SELECT abalance FROM pgbench_accounts WHERE aid = 1',
    "UPDATE t SET a = 'set x = 1', b = 2 WHERE c",
    'BEGIN; INSERT INTO t VALUES (1); COMMIT',
    'SET LOCAL work_mem = 1; set transaction read only; SET SESSION TRANSACTION x',
    'SET CONSTRAINTS ALL DEFERRED',
    "SELECT set_config('app.tenant', '7', true)",
    "select set_config('a' , f(1, 2), TRUE), 2",
    'SELECT pg_advisory_xact_lock(1)',
    '-- set x = 1\nSELECT 1 /* listen y */',
    "SELECT 'discard all', $$set x = 1$$",
    'ALTER ROLE a SET search_path = b',
    'CREATE TABLE close (declare int)',
    '',
  ]) {
    assert.equal(effectsOf(sql), noEffects, sql)
  }
})

test('statements that may change the session are told', () => {
  for (const sql of [
    'SET search_path = a',
    'set session time zone utc',
    'RESET ALL',
    'select 1; RESET x',
    'LISTEN a',
    'UNLISTEN *',
    'PREPARE a AS SELECT 1',
    'DEALLOCATE a',
    'DISCARD ALL',
    'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
    'CLOSE c',
    'DO $$begin set x = 1; end$$',
    'CALL p()',
    'CREATE TEMP TABLE a ()',
    'create temporary view a as select 1',
    'SELECT 1 INTO TEMP a',
    'drop table pg_temp.a',
    'select pg_advisory_lock(1)',
    'select pg_try_advisory_lock_shared(1)',
    'select pg_advisory_unlock_all()',
    'SELECT log_in()',
    'SELECT "log_in"()',
    '/* c */ SET ROLE a',
    "SELECT set_config('search_path', 'a', false)",
    "SELECT set_config('search_path', 'a', $1)",
  ]) {
    assert.equal(effectsOf(sql).mayChange, true, sql)
  }
})

test('names of made-up settings are found, and names that cannot be seen are an obstacle', () => {
  assert.deepEqual(effectsOf("SET app.tenant = '7'").customSettings, ['app.tenant'])
  assert.deepEqual(effectsOf('set session App . "User" to 1; SET b.c = d.e').customSettings, [
    'app.User',
    'b.c',
  ])
  assert.deepEqual(effectsOf("select pg_catalog.set_config('App.Tenant', $1, false)").customSettings, [
    'app.tenant',
  ])
  assert.equal(effectsOf('select set_config($1, $2, false)').unknownCustom, true)
  assert.equal(effectsOf("select set_config('a' || 'b', $2, false)").unknownCustom, true)
  assert.equal(effectsOf('select set_config($1, $2, true)').unknownCustom, false)
})

test('LOAD cannot be undone, currval and lastval look back', () => {
  assert.match(effectsOf("LOAD 'auto_explain'").obstacle ?? '', /LOAD/)
  assert.equal(effectsOf("select currval('s')").readsSequenceState, true)
  assert.equal(effectsOf('insert into t values (lastval())').readsSequenceState, true)
})

test('a statement that changes the session is found after any other statement', () => {
  const harmless = fc.constantFrom(
    'select 1',
    "insert into t values ('a;b')",
    'update t set a = 1',
    '',
    '/* ; */',
    'select $$;$$',
  )
  fc.assert(
    fc.property(fc.array(harmless, { maxLength: 5 }), before => {
      assert.equal(effectsOf([...before, 'set work_mem = 1'].join(';')).mayChange, true)
      assert.equal(effectsOf(before.join(';')).mayChange, false)
    }),
  )
})
