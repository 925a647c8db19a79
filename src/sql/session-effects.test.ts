import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  callEffects,
  isReadable,
  noEffects,
  type SessionEffects,
  sessionEffects,
  unreadEffects,
} from './session-effects.ts'
import { buildSessionFacts, type SessionFacts, unloadedFacts } from './session-facts.ts'

const builtins = `count sum max min avg now lower upper length concat date_trunc to_char json_agg jsonb_build_object
  row_number rank lag generate_series unnest array_agg string_agg current_setting pg_notify pg_backend_pid random
  version format_type pg_get_expr obj_description to_regclass jsonb_to_recordset replace left md5 gen_random_uuid
  has_table_privilege array_position pg_sleep timestamptz pg_table_is_visible pg_advisory_xact_lock
  pg_try_advisory_xact_lock current_database current_schema abs floor exp nextval`

const facts = buildSessionFacts([
  ...builtins.split(/\s+/).map(name => ['builtin', name]),
  ['function', 'log_in'],
  ['body', 'log_in', 'plpgsql', '', "begin perform set_config('app.user', 'x', false); end"],
  ['function', 'plain'],
  ['body', 'plain', 'sql', '', 'select 1'],
  ['edge', 'relation', 'guarded', 'function', 'log_in'],
  ['edge', 'relation', 'täglich', 'function', 'log_in'],
])

function effectsOf(sql: string, from: SessionFacts = facts, standardStrings?: boolean): SessionEffects {
  // Bytes around the range must not matter.
  const bytes = Buffer.from(`set x;${sql}"'$$ set x`)
  const start = 6
  return sessionEffects(bytes, start, start + Buffer.byteLength(sql), from, standardStrings)
}

const everyday = [
  'SELECT abalance FROM pgbench_accounts WHERE aid = 12345;',
  'SELECT 1',
  '',
  ';',
  'BEGIN',
  'begin isolation level serializable read only',
  'START TRANSACTION READ WRITE',
  'SAVEPOINT a',
  'RELEASE SAVEPOINT a',
  'SHOW server_version',
  'SHOW TRANSACTION ISOLATION LEVEL',
  'SELECT version()',
  "SELECT pg_catalog.version(), current_setting('server_version_num')",
  'SELECT current_schema(), current_database(), current_user, CURRENT_TIMESTAMP(3)',
  'SELECT count(*) FROM users WHERE deleted_at IS NULL',
  'SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC',
  'SELECT u.id, u.name FROM users u INNER JOIN orders o ON (o.user_id = u.id) WHERE u.id IN ($1, $2) LIMIT $3 OFFSET $4',
  'SELECT "public"."User"."id", "public"."User"."email" FROM "public"."User" WHERE ("public"."User"."email" = $1 AND 1=1) LIMIT $2 OFFSET $3',
  'SELECT "t0"."id" AS "t0_id", COUNT("t0"."id") AS "cnt" FROM "users" "t0" GROUP BY "t0"."id" HAVING (COUNT(*) > 1)',
  "select set_config('a' , plain(1, 2), TRUE), 2",
  "SELECT pg_catalog.set_config('search_path'::text, 'a', true)",
  'SELECT pg_advisory_xact_lock(1)',
  'SELECT pg_try_advisory_xact_lock($1, $2)',
  "SELECT pg_notify('a', 'b')",
  "NOTIFY a, 'b'",
  'SELECT * FROM a WHERE (x, y) IN (SELECT x, y FROM b)',
  'SELECT * FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.id = a.id)',
  'SELECT CASE WHEN (a > 1) THEN (b) ELSE (c) END FROM t',
  'SELECT CAST(a AS numeric(10, 2)), b::varchar(20), c::timestamp(3), d::char(2) FROM t',
  "SELECT a FROM t WHERE a BETWEEN (1) AND (2) AND b LIKE ('x%') AND c IS NOT NULL",
  "SELECT extract(epoch FROM now()), position('a' in b), substring(c from 1 for 2), trim(both ' ' from d) FROM t",
  'SELECT row_number() OVER (PARTITION BY a ORDER BY b), sum(x) FILTER (WHERE y) FROM t WINDOW w AS (PARTITION BY a)',
  'SELECT a, b FROM t GROUP BY ROLLUP (a, b), GROUPING SETS ((a), (b))',
  'SELECT * FROM (VALUES (1, 2), (3, 4)) AS v (a, b)',
  'SELECT * FROM (VALUES (1, 2), (3, 4)) v(a, b)',
  'SELECT * FROM generate_series(1, 10) g(i)',
  'SELECT * FROM unnest($1::int[], $2::text[]) WITH ORDINALITY AS t(a, b, n)',
  'SELECT * FROM a LEFT JOIN LATERAL (SELECT 1) x ON (true)',
  'SELECT * FROM jsonb_to_recordset($1) AS x(a int, b varchar(3))',
  'SELECT ARRAY(SELECT 1), ARRAY[1, 2], ROW(1, 2), (a).b, NULLIF(a, 1), GREATEST(a, b) FROM t',
  'SELECT a FROM t WHERE b = ANY ($1) OR c = ALL ($2)',
  'SELECT a FROM t TABLESAMPLE SYSTEM (10)',
  'WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t',
  'WITH a AS (SELECT 1), b AS MATERIALIZED (SELECT 2) SELECT * FROM a, b',
  'SELECT * FROM a JOIN b USING (id)',
  'SELECT temp, temporary FROM readings WHERE temp > 3',
  'SELECT "temp" FROM "set"."listen" AS "load"',
  'SELECT log_in, status FROM a',
  "SELECT 'discard all', $$set x = 1$$, $a$listen b$a$, E'\\'; set x = 1'",
  '-- set x = 1\nSELECT 1 /* listen y /* set */ */',
  'SELECT 1 UNION ALL (SELECT 2) EXCEPT (SELECT 3)',
  '(SELECT 1) UNION (SELECT 2)',
  'TABLE a',
  'VALUES (1), (2)',
  'FETCH 10 FROM c',
  'MOVE FORWARD 10 IN c',
  'DECLARE c CURSOR FOR SELECT 1',
  'DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1',
  'LOCK TABLE a IN EXCLUSIVE MODE',
  'EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM t WHERE id = 1',
  'EXPLAIN ANALYZE VERBOSE SELECT 1',
  'SELECT a FROM t FOR UPDATE SKIP LOCKED',
  'SELECT a FROM t FOR NO KEY UPDATE OF t NOWAIT',
  'SET LOCAL work_mem = 1; set transaction read only; SET SESSION TRANSACTION READ ONLY',
  'SET CONSTRAINTS ALL DEFERRED',
  'SELECT name, setting FROM pg_settings',
  'SELECT c.relname FROM pg_catalog.pg_class c WHERE pg_catalog.pg_table_is_visible(c.oid)',
]

const everydayWrites = [
  'INSERT INTO t (a, b) VALUES ($1, $2) RETURNING (id)',
  'INSERT INTO public.t (a, b) SELECT a, b FROM u ON CONFLICT (a) DO UPDATE SET (a, b) = (excluded.a, 2)',
  'INSERT INTO "public"."t" ("a") VALUES (DEFAULT)',
  "UPDATE t SET a = 'set x = 1', b = 2 WHERE c",
  'UPDATE pgbench_accounts SET abalance = abalance + 5 WHERE aid = 1',
  'UPDATE ONLY t SET a = coalesce(a, 1) FROM u WHERE (t.id = u.id)',
  'DELETE FROM t USING u WHERE (t.id = u.id)',
  'MERGE INTO t USING u ON (t.id = u.id) WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (a) VALUES (1)',
  'COPY t (a, b) FROM STDIN (FORMAT csv)',
  'COPY (SELECT 1) TO STDOUT WITH (FORMAT binary)',
  'TRUNCATE t CASCADE',
  'WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x',
  "SELECT nextval('s')",
  'EXPLAIN ANALYZE INSERT INTO t (a) VALUES (1)',
]

test('everyday statements leave nothing behind', () => {
  for (const sql of everyday) assert.deepEqual({ ...effectsOf(sql), setsLocally: false }, noEffects, sql)
})

test('a custom setting of a transaction leaves its name behind, and nothing else', () => {
  for (const sql of ["SELECT set_config('app.tenant', '7', true)", 'SET LOCAL app.tenant = 7']) {
    assert.deepEqual(effectsOf(sql), { ...noEffects, customSettings: ['app.tenant'], setsLocally: true }, sql)
  }
})

test('everyday writes leave nothing behind but a drawn sequence', () => {
  for (const sql of everydayWrites) {
    assert.deepEqual(effectsOf(sql), { ...noEffects, writesSequenceState: true }, sql)
  }
  for (const sql of [
    'COMMIT',
    'ROLLBACK',
    'END',
    'ABORT',
    'ROLLBACK TO a',
    'COMMIT PREPARED $$a$$',
    'CLOSE c',
  ]) {
    assert.deepEqual(effectsOf(sql), { ...noEffects, endsState: true }, sql)
  }
  assert.equal(effectsOf('BEGIN; INSERT INTO t VALUES (1); COMMIT').mayChange, false)
  assert.equal(effectsOf("PREPARE TRANSACTION 'a'").mayChange, false)
  assert.equal(effectsOf('ALTER ROLE a SET search_path = b').mayChange, false)
  assert.equal(effectsOf('GRANT SELECT (a, b), UPDATE (c) ON t TO u').mayChange, false)
})

const changing = [
  'SET search_path = a',
  'set session time zone utc',
  'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
  'SET SESSION SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
  'SET local.x = 1',
  'SET session.x = 1',
  'SET transaction.x = 1',
  'SET constraints.x TO 1',
  'SET NAMES utf8',
  'SET TIME ZONE LOCAL',
  '/* c */ SET ROLE a',
  'SET SESSION AUTHORIZATION a',
  'RESET ALL',
  'RESET ROLE',
  'select 1; RESET x',
  'BEGIN; SET x = 1; COMMIT',
  ';;set x = 1',
  'SELECT 1;-- c\n/**/set\tx = 1',
  'LISTEN a',
  'UNLISTEN *',
  'PREPARE a AS SELECT 1',
  'PREPARE a (int) AS SELECT $1',
  'PREPARE transaction AS SELECT 1',
  'EXECUTE a',
  'EXECUTE a(1, 2)',
  'EXPLAIN ANALYZE EXECUTE a',
  'EXPLAIN (ANALYZE) EXECUTE a(1)',
  'EXPLAIN ANALYZE CREATE TABLE a AS SELECT 1',
  'DEALLOCATE a',
  'DEALLOCATE ALL',
  'DISCARD ALL',
  'DISCARD TEMP',
  'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
  'DECLARE "c" BINARY INSENSITIVE SCROLL CURSOR WITH\nHOLD FOR SELECT 1',
  'DO $$begin set x = 1; end$$',
  "LOAD 'auto_explain'",
  'CALL p()',
  'CREATE TEMP TABLE a ()',
  'create temporary view a as select 1',
  'CREATE OR REPLACE TEMP VIEW a AS SELECT 1',
  'CREATE LOCAL TEMPORARY TABLE a ()',
  'CREATE TABLE a (declare int)',
  'CREATE TABLE pg_temp.a (x int)',
  'CREATE TABLE "pg_temp".a (x int)',
  'drop table PG_TEMP.a',
  'drop table pg_temp_3.a',
  'SELECT pg_temp.f()',
  'SELECT 1 INTO TEMP a',
  'SELECT 1 AS x INTO TEMPORARY TABLE a',
  'SELECT 1 INTO a',
  'WITH x AS (SELECT 1) SELECT * INTO a FROM x',
  'select pg_advisory_lock(1)',
  'select pg_try_advisory_lock_shared(1)',
  'select pg_advisory_unlock_all()',
  'SELECT "pg_advisory_lock"(1)',
  'SELECT pg_catalog . /* c */ pg_advisory_lock -- d\n (1)',
  'COPY (SELECT pg_advisory_lock(1)) TO STDOUT',
  'EXPLAIN ANALYZE SELECT pg_advisory_lock(1)',
  'WITH x AS (SELECT pg_advisory_lock(1)) SELECT 1',
  'SELECT 1 WHERE (pg_try_advisory_lock(1))',
  'VALUES (pg_advisory_lock(1))',
  'INSERT INTO t VALUES (pg_advisory_lock(1))',
  'SELECT DISTINCT ON (a) unknown_one(b) FROM t',
  'SELECT 1 OPERATOR(pg_catalog.+) unknown_one(1)',
  'SELECT * FROM a JOIN b ON unknown_one(a)',
  'MERGE INTO t USING unknown_one(1) x ON true WHEN MATCHED THEN DELETE',
  'SELECT log_in()',
  'SELECT "log_in"()',
  'SELECT t.log_in FROM t',
  'SELECT public.log_in(1)',
  'SELECT LOG_IN ()',
  'SELECT * FROM guarded',
  'SELECT * FROM "guarded"',
  'DELETE FROM public.guarded',
  'SELECT "Log_In"()',
  "SELECT set_config('search_path', 'a', false)",
  "SELECT set_config('search_path', 'a', $1)",
  "SELECT set_config('search_path', set_config('x', 'y', false), true)",
  "SELECT set_config('search_path', 'a', not true)",
  "SELECT set_config('search_path', 'a', \"true\") FROM t",
  `SELECT "set_config"('search_path', 'a', false)`,
  `SELECT U&"\\0073et_config"('search_path', 'a', false)`,
  `SELECT U&"!0073et_config" UESCAPE '!' ('search_path', 'a', false)`,
  "SELECT query_to_xml('select 1', true, true, '')",
  "UPDATE pg_settings SET setting = '1' WHERE name = 'x'",
  "UPDATE pg_catalog.pg_settings SET setting = '1'",
  'SELECT setseed(0.5)',
  'SELECT 1 WHERE täglich()',
  'SELECT * FROM täglich',
  'SELECT * FROM "t\u00e4glich"',
  'SELECT public.treat(1)',
  `SELECT E'a\\'' ; SET x = 1 --'`,
  "SELECT E'a'\n'\\''; SET x = 1 --'",
  "SELECT E'a' -- c\n '\\''; SET x = 1 --'",
  "SELECT 'a\\'; SET x = 1 --'",
  'SELECT $a$ $b$ $a$; SET x = 1',
  'SELECT a$$b; SET x = 1',
  "SELECT 1e'\\''; SET x = 1 --'",
  'BEGIN WORK; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT',
  'CREATE SCHEMA a CREATE VIEW b AS SELECT 1',
  'SELECT pg_create_logical_replication_slot($1, $2, true)',
  'nonsense',
]

test('what may change the session is found, however it is written', () => {
  for (const sql of changing) assert.equal(effectsOf(sql).mayChange, true, sql)
})

test('a text that standard_conforming_strings gives two meanings is read both ways', () => {
  const hidden = "SELECT 'a\\', '; SET x = 1 --'"
  assert.equal(effectsOf(hidden, facts, true), noEffects)
  assert.equal(effectsOf(hidden, facts, false).mayChange, true)
  assert.equal(effectsOf(hidden).mayChange, true)
  assert.equal(effectsOf("SELECT 'C:\\a' WHERE b LIKE '%\\_x'"), noEffects)
  assert.equal(effectsOf("SET x = 'a\\b'").onlySet, 'x')
})

test('encodings whose characters end in bytes that look like ASCII cannot be read', () => {
  for (const name of ['SJIS', 'Shift_JIS_2004', 'big5', 'GBK', 'UHC', 'JOHAB', 'GB18030']) {
    assert.equal(isReadable(name), false, name)
  }
  for (const name of ['UTF8', 'utf-8', 'LATIN1', 'SQL_ASCII', 'EUC_JP', 'WIN1252']) {
    assert.equal(isReadable(name), true, name)
  }
})

test('without standard strings a backslash hides a quote', () => {
  assert.equal(effectsOf("SELECT 'a\\'; SET x = 1 --'", facts, false), noEffects)
  assert.equal(effectsOf("SELECT 'a\\''; SET x = 1 --'", facts, false).mayChange, true)
  assert.equal(effectsOf("SELECT N'a\\''; SET x = 1 --'", facts, false).mayChange, true)
  assert.equal(effectsOf("SELECT x'a\\'; SET x = 1 --'", facts, false).mayChange, true)
})

test('names of made-up settings are found, or it is told that they cannot be seen', () => {
  const customs = (sql: string): readonly string[] => effectsOf(sql).customSettings
  assert.deepEqual(customs("SET app.tenant = '7'"), ['app.tenant'])
  assert.deepEqual(customs('set session App . "User" to 1; SET b.c.d = d.e'), ['app.user', 'b.c.d'])
  assert.deepEqual(customs('RESET local.x'), ['local.x'])
  assert.deepEqual(customs("select pg_catalog.set_config('App.Tenant'::text, $1, false)"), ['app.tenant'])
  assert.deepEqual(customs("select set_config(E'a.b', set_config('c.d', 'x', false), false)"), ['a.b', 'c.d'])
  assert.deepEqual(customs('SELECT log_in()'), ['app.user'])
  assert.deepEqual(customs('TABLE guarded'), ['app.user'])
  assert.deepEqual(customs("DO $$ begin set a.b = 1; execute 'set c.d = 2'; end $$"), ['a.b', 'c.d'])
  for (const sql of [
    'select set_config($1, $2, false)',
    "select set_config('a' || 'b', $2, false)",
    "select set_config('a.'\n'b', $2, false)",
    "select set_config(U&'a.\\0062', $2, false)",
    `select U&"\\0073et_config"('a.b', 'c', false)`,
    'SET U&"a\\002eb" = 1',
    "DO $$ begin execute 'set ' || name; end $$",
    'DO $$ begin execute command; end $$',
    `DO E'\\x20 begin end'`,
  ]) {
    assert.equal(effectsOf(sql).unknownCustom, true, sql)
  }
  assert.equal(effectsOf('select set_config($1, $2, true)').unknownCustom, false)
  assert.equal(effectsOf("DO $$ begin execute 'drop table ' || name; end $$").unknownCustom, false)
})

test('what cannot be asked for has a sentence', () => {
  assert.match(effectsOf("LOAD 'auto_explain'").obstacle ?? '', /LOAD/)
  assert.match(effectsOf('SELECT setseed(0.5)').obstacle ?? '', /random/)
  assert.match(effectsOf('SET seed = 0.5').obstacle ?? '', /random/)
})

test('sequences: what looks back, and what draws', () => {
  assert.deepEqual(effectsOf("select currval('s')"), { ...noEffects, readsSequenceState: true })
  const both = effectsOf('insert into t values (lastval())')
  assert.equal(both.readsSequenceState && both.writesSequenceState && !both.mayChange, true)
})

test('statements that stand alone are told apart', () => {
  assert.equal(effectsOf(' SET Work_Mem = 1 ; ').onlySet, 'work_mem')
  assert.equal(effectsOf('SET SESSION TIME ZONE utc').onlySet, 'timezone')
  assert.equal(effectsOf('SET NAMES a').onlySet, 'client_encoding')
  assert.equal(effectsOf('SET SCHEMA $$a$$').onlySet, 'search_path')
  assert.equal(effectsOf('SET SESSION AUTHORIZATION a').onlySet, 'session_authorization')
  assert.equal(effectsOf('RESET a."B"').onlySet, 'a.b')
  assert.equal(effectsOf('SET time = 1').onlySet, 'time')
  for (const sql of [
    'RESET ALL',
    'SET x = 1; SELECT 1',
    'SELECT 1; SET x = 1',
    "DO 'set x = 1'",
    'SET LOCAL x = 1',
  ]) {
    assert.equal(effectsOf(sql).onlySet, undefined, sql)
  }
  const named = (sql: string): unknown => {
    const { deallocates } = effectsOf(sql)
    // `effectsOf` puts six bytes before the text.
    return deallocates && { ...deallocates, text: sql.slice(deallocates.start - 6, deallocates.end - 6) }
  }
  const at = (start: number, text: string) => ({ start: start + 6, end: start + 6 + text.length, text })
  assert.deepEqual(named('DEALLOCATE Abc'), { all: false, name: 'abc', ...at(11, 'Abc') })
  assert.deepEqual(named('deallocate prepare "A""b";'), { all: false, name: 'A"b', ...at(19, '"A""b"') })
  assert.deepEqual(named('DEALLOCATE prepare'), { all: false, name: 'prepare', ...at(11, 'prepare') })
  assert.deepEqual(named('DEALLOCATE PREPARE ALL'), { all: true, name: '', ...at(19, 'ALL') })
  assert.deepEqual(named('DEALLOCATE "all"'), { all: false, name: 'all', ...at(11, '"all"') })
  assert.equal(named('DEALLOCATE a; SELECT 1'), undefined)
  assert.equal(effectsOf('DISCARD ALL').discardsAll, true)
  assert.equal(effectsOf('DISCARD PLANS').discardsAll, false)
})

test('definitions change the catalog, temporary ones do not', () => {
  for (const sql of [
    'CREATE FUNCTION f() RETURNS int',
    'CREATE TRIGGER a',
    'ALTER TABLE a',
    'CREATE OR REPLACE VIEW v',
  ]) {
    assert.equal(effectsOf(sql).changesCatalog, true, sql)
  }
  for (const sql of [
    'CREATE TEMP TABLE a ()',
    'create or replace temporary view a',
    'DROP TABLE a',
    'SELECT 1',
  ]) {
    assert.equal(effectsOf(sql).changesCatalog, false, sql)
  }
})

test('a call of a function that is not known is told by name, and judged when it is', () => {
  const effects = effectsOf('SELECT plain(1), public.Newer (2), "Other"(3), newer(4)')
  assert.deepEqual([...new Set(effects.unknownCalls)], ['newer', 'Other'])
  assert.equal(effects.mayChange, true)
  assert.equal(effects.unknownCustom, false)
  assert.equal(callEffects(['newer', 'plain'], facts), noEffects)
  assert.deepEqual(callEffects(['log_in'], facts).customSettings, ['app.user'])
})

test('before a database is known everything but the frame of a transaction may change the session', () => {
  for (const sql of ['BEGIN', 'SHOW x', 'SET LOCAL x = 1', '']) {
    assert.deepEqual({ ...effectsOf(sql, unloadedFacts), setsLocally: false }, noEffects, sql)
  }
  assert.equal(effectsOf('SELECT 1', unloadedFacts).mayChange, true)
  assert.equal(effectsOf('SELECT 1', unloadedFacts).unknownCustom, true)
  assert.equal(unreadEffects.mayChange && unreadEffects.unknownCustom, true)
})

test('a statement that changes the session is found after any other statement', () => {
  const harmless = fc.constantFrom(...everyday, ...everydayWrites)
  fc.assert(
    fc.property(fc.array(harmless, { maxLength: 5 }), before => {
      const texts = before.map(sql => sql.replace(/--.*\n/g, ''))
      assert.equal(effectsOf([...texts, 'set work_mem = 1'].join(';')).mayChange, true)
      assert.equal(effectsOf(texts.join(';')).mayChange, false)
    }),
  )
})

test('quotes and comments of any nesting hide what stands in them, and nothing behind them', () => {
  const plain = buildSessionFacts([])
  const wrap = fc.constantFrom(
    (text: string) => `'${text.replaceAll("'", "''")}'`,
    (text: string) => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`,
    (text: string) => `"${text.replaceAll('"', '""')}"`,
    (text: string) => `/* ${text.replaceAll('/*', '').replaceAll('*/', '')} */`,
    (text: string) => `$q$${text.replaceAll('$', '')}$q$`,
  )
  fc.assert(
    fc.property(fc.array(wrap, { minLength: 1, maxLength: 5 }), wraps => {
      const hidden = wraps.reduce((text, wrapOnce) => wrapOnce(text), "; set x = 1; listen a '' \\' ")
      assert.equal(effectsOf(`select ${hidden}`, plain, true).mayChange, false)
      assert.equal(effectsOf(`select ${hidden}; set x = 1`, plain, true).mayChange, true)
    }),
  )
})

test('a database that must be free of connections is named', () => {
  const needed = (sql: string): string | undefined => effectsOf(sql).needsDatabase
  const cases: [string, string | undefined][] = [
    ['drop database shop', 'shop'],
    ['DROP /* it */ DATABASE IF EXISTS Shop WITH (FORCE);', 'shop'],
    ['drop database "The ""Shop"""', 'The "Shop"'],
    ['alter database shop rename to store', 'shop'],
    ['alter database shop set tablespace fast', 'shop'],
    ['create database copy template shop', 'shop'],
    ['create database copy with owner = ada template = "Shop" encoding utf8', 'Shop'],
    ['create database fresh', 'template1'],
    ['create database fresh template default; select 1', 'template1'],
    ['drop table database', undefined],
    ['create table t (database text)', undefined],
    ["select 'drop database shop'", undefined],
    ['drop database', undefined],
  ]
  for (const [sql, name] of cases) assert.equal(needed(sql), name, sql)
})
