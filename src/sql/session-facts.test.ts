import assert from 'node:assert/strict'
import { test } from 'node:test'
import { laterEffects, noEffects, type SessionEffects, sessionEffects } from './session-effects.ts'
import { buildSessionFacts, type FactsRow } from './session-facts.ts'

/** What calling `f` may leave behind, when it has this body. */
function effectsOf(
  body: string | undefined,
  language = 'plpgsql',
  extension = '',
  name = 'f',
): SessionEffects {
  return callIn([['body', name, language, extension, body]], name)
}

function callIn(rows: readonly FactsRow[], name = 'f'): SessionEffects {
  const bytes = Buffer.from(`SELECT ${name}()`)
  return sessionEffects(bytes, 0, bytes.length, buildSessionFacts(rows))
}

test('bodies that leave nothing behind', () => {
  for (const body of [
    'BEGIN RETURN 1; END',
    'DECLARE a int; c CURSOR FOR SELECT 1; BEGIN OPEN c; FETCH c INTO a; CLOSE c; MOVE NEXT IN c; END',
    'BEGIN UPDATE t\nSET a = 1; SET LOCAL work_mem = 1; END',
    'BEGIN IF a THEN INSERT INTO t (x) SELECT a INTO b; ELSE PERFORM pg_advisory_xact_lock(1); END IF; END',
    "BEGIN RAISE NOTICE 'set x = 1; %', a USING ERRCODE = 'listen'; END",
    "BEGIN EXECUTE 'UPDATE t SET a = $1' USING b; EXECUTE 'SELECT 1' INTO a; EXECUTE 'ANALYZE t'; END",
    "BEGIN EXECUTE format('INSERT INTO %I VALUES ($1.*)', a) USING NEW; END",
    "BEGIN FOR r IN EXECUTE 'SELECT 1' LOOP NULL; END LOOP; END",
    'BEGIN CREATE_TABLE(); END',
    'BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; END',
    'BEGIN GRANT EXECUTE ON FUNCTION f() TO a; END',
  ]) {
    assert.equal(effectsOf(body).mayChange, false, body)
  }
})

test('bodies that may change the session', () => {
  for (const body of [
    'BEGIN SET x = 1; END',
    'begin if a then set x = 1; end if; end',
    'BEGIN LOOP SET x = 1; END LOOP; END',
    'BEGIN NULL; EXCEPTION WHEN others THEN RESET x; END',
    '<<l>> BEGIN LISTEN a; END',
    'BEGIN DISCARD TEMP; END',
    'BEGIN CREATE TEMP TABLE a (); END',
    'BEGIN CREATE TABLE a (); END',
    'BEGIN INSERT INTO pg_temp.a VALUES (1); END',
    "BEGIN PERFORM set_config('a', 'b', false); END",
    'BEGIN a := pg_try_advisory_lock(1); END',
    "BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END",
    "BEGIN a := 'SET x = 1'; EXECUTE a; END",
    "BEGIN EXECUTE $q$ DO 'begin set x = 1; end' $q$; END",
    "BEGIN EXECUTE 'SELECT ' || a; END",
    "BEGIN EXECUTE format('SELECT %s', a); END",
    "BEGIN EXECUTE format('SELECT %I()', a); END",
    'BEGIN EXECUTE (a); END',
    'BEGIN UPDATE pg_settings SET setting = 1; END',
    "BEGIN SELECT x FROM query_to_xml(a, true, true, ''); END",
  ]) {
    assert.equal(effectsOf(body).mayChange, true, body)
  }
  assert.equal(effectsOf(undefined).unknownCustom, true)
})

test('dynamic SQL: names of settings are told, or that they cannot be seen', () => {
  assert.deepEqual(effectsOf("BEGIN a := 'SET b.c = 1'; EXECUTE a || ''; END").customSettings, ['b.c'])
  assert.equal(effectsOf("BEGIN EXECUTE 'SELECT ' || a; END").unknownCustom, false)
  assert.equal(effectsOf("BEGIN EXECUTE 'SET ' || a; END").unknownCustom, true)
  assert.equal(effectsOf('BEGIN EXECUTE a; END').unknownCustom, true)
  assert.equal(effectsOf("BEGIN EXECUTE format('SET b.%I = 1', a); END").unknownCustom, true)
  // It may call anything that the database has.
  const rows = [
    ['body', 'g', 'sql', '', "SELECT set_config('b.c', '1', false)"],
    ['body', 'f', 'plpgsql', '', "BEGIN EXECUTE 'SELECT ' || a || '()'; END"],
  ]
  assert.deepEqual(callIn(rows).customSettings, ['b.c'])
})

test('what comes with a name goes on to all that use it, in circles too', () => {
  const rows: FactsRow[] = [
    ['edge', 'relation', 'v', 'relation', 't'],
    ['edge', 'relation', 't', 'function', 'f'],
    ['body', 'f', 'sql', '', 'SELECT g() FROM unrelated'],
    ['body', 'g', 'sql', '', 'SELECT f(), h()'],
    ['body', 'h', 'plpgsql', '', 'BEGIN SET a.b = 1; END'],
    ['body', 'k', 'sql', '', 'SELECT 1'],
    ['body', 'writer', 'sql', '', 'INSERT INTO t VALUES (1)'],
  ]
  const facts = buildSessionFacts(rows)
  const effects = (sql: string): SessionEffects => sessionEffects(Buffer.from(sql), 0, sql.length, facts)
  for (const sql of ['SELECT f()', 'SELECT g()', 'TABLE t', 'SELECT * FROM v', 'SELECT writer()']) {
    assert.deepEqual(effects(sql).customSettings, ['a.b'], sql)
  }
  assert.equal(effects('SELECT k() FROM unrelated'), noEffects)
  assert.deepEqual(laterEffects(facts).customSettings, ['a.b'])
  assert.equal(laterEffects(buildSessionFacts([])), noEffects)
})

test('names that are rules or keywords already keep them', () => {
  const rows: FactsRow[] = [
    ['body', 'set_config', 'plpgsql', '', 'BEGIN LISTEN a; END'],
    ['edge', 'relation', 'set_config', 'function', 'set_config'],
    ['body', 'values', 'plpgsql', '', 'BEGIN LISTEN a; END'],
  ]
  const facts = buildSessionFacts(rows)
  const mayChange = (sql: string): boolean => sessionEffects(Buffer.from(sql), 0, sql.length, facts).mayChange
  assert.equal(mayChange("SELECT set_config('a', 'b', true)"), true)
  assert.equal(mayChange('SELECT "values"()'), true)
  assert.equal(mayChange('SELECT 1'), false)
})

test('functions in other languages', () => {
  assert.equal(effectsOf('my_function', 'c', 'postgis'), noEffects)
  assert.equal(effectsOf('my_function', 'c').unknownCustom, true)
  assert.match(effectsOf('x', 'c', 'dblink', 'dblink_connect').obstacle ?? '', /dblink/)
  assert.equal(effectsOf('x', 'c', 'dblink', 'dblink_get_pkey'), noEffects)
  assert.equal(effectsOf('x', 'c', 'pg_trgm', 'set_limit').mayChange, true)
  assert.equal(effectsOf('int4pl', 'internal'), noEffects)
  assert.equal(effectsOf('set_config_by_name', 'internal').mayChange, true)
  assert.equal(effectsOf('return a + 1', 'plpython3u'), noEffects)
  assert.equal(effectsOf('plpy.execute(a)', 'plpython3u').unknownCustom, true)
  assert.match(effectsOf("GD['a'] = 1", 'plpython3u').obstacle ?? '', /plpython3u/)
  assert.match(effectsOf('$_SHARED{a} = 1', 'plperl').obstacle ?? '', /plperl/)
  assert.equal(effectsOf('whatever', 'unheard_of').unknownCustom, true)
})

test('a row of another kind is a mistake of the caller', () => {
  assert.throws(() => buildSessionFacts([['other', 'x']]), /kind other/)
})
