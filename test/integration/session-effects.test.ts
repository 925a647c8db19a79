import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import * as fc from 'fast-check'
import type { Client } from 'pg'
import { loadSessionFacts } from '../../src/proxy/catalog/catalog.ts'
import { noEffects, type SessionEffects, sessionEffects } from '../../src/sql/session-effects.ts'
import type { SessionFacts } from '../../src/sql/session-facts.ts'
import { askable } from '../support/askable.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * A real server is the judge: whatever a statement really changes in its session, the look at its words must have
 * told so before.
 */
let cluster: TestCluster
let port: number
let facts: SessionFacts

const user = 'app'

const namedSetup = `
CREATE EXTENSION pg_trgm; CREATE EXTENSION tablefunc;
CREATE TABLE plain (id serial PRIMARY KEY, a int, b text);
INSERT INTO plain (a, b) VALUES (1, 'x'), (2, 'y');
CREATE TABLE people (id int PRIMARY KEY, name varchar(20) DEFAULT lower('X'), made timestamptz DEFAULT now());

CREATE FUNCTION f_plain(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
CREATE FUNCTION f_update() RETURNS void LANGUAGE plpgsql AS
  $f$DECLARE n int; BEGIN UPDATE plain SET a = 1 WHERE id = 1; SET LOCAL work_mem = '5MB';
     SELECT count(*) INTO n FROM plain; IF n > 0 THEN PERFORM set_config('app.local', 'x', true); END IF; END$f$;
CREATE FUNCTION f_static() RETURNS int LANGUAGE plpgsql AS
  $f$DECLARE n int; BEGIN EXECUTE 'SELECT count(*) FROM plain WHERE a > $1' INTO n USING 0; RETURN n; END$f$;
CREATE FUNCTION f_bound() RETURNS int LANGUAGE plpgsql SET work_mem = '5MB' AS 'BEGIN RETURN 1; END';

CREATE FUNCTION f_set() RETURNS int LANGUAGE plpgsql AS $f$BEGIN SET work_mem = '5MB'; RETURN 1; END$f$;
CREATE FUNCTION f_set_else(int) RETURNS int LANGUAGE plpgsql AS
  $f$BEGIN IF $1 > 5 THEN RETURN 1; ELSE /* x */ set work_mem to '5MB'; END IF; RETURN 2; END$f$;
CREATE FUNCTION f_config() RETURNS text LANGUAGE sql AS $f$SELECT pg_catalog.set_config('work_mem', '5MB', false)$f$;
CREATE FUNCTION f_custom() RETURNS text LANGUAGE sql AS $f$SELECT set_config('app.tenant', '7', false)$f$;
CREATE FUNCTION f_atomic() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT f_custom(); END;
CREATE FUNCTION f_atomic_config() RETURNS text LANGUAGE sql RETURN set_config('app.tenant', '7', false);
CREATE FUNCTION f_custom_set() RETURNS int LANGUAGE plpgsql AS $f$BEGIN SET app.tenant = '7'; RETURN 1; END$f$;
CREATE FUNCTION f_custom_dynamic(text) RETURNS int LANGUAGE plpgsql AS
  $f$BEGIN EXECUTE format('SET app.%I = %L', $1, 'x'); RETURN 1; END$f$;
CREATE FUNCTION f_custom_variable() RETURNS int LANGUAGE plpgsql AS
  $f$DECLARE command text := 'SET app.' || 'tenant = 7'; BEGIN EXECUTE command; RETURN 1; END$f$;
CREATE FUNCTION f_nested() RETURNS int LANGUAGE plpgsql AS $f$BEGIN RETURN (SELECT length(f_custom())); END$f$;
CREATE FUNCTION f_listen() RETURNS int LANGUAGE plpgsql AS $f$BEGIN LISTEN here; RETURN 1; END$f$;
CREATE FUNCTION f_lock(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  $f$BEGIN RETURN pg_try_advisory_lock($1); END$f$;
CREATE FUNCTION f_temp() RETURNS int LANGUAGE plpgsql AS
  $f$BEGIN CREATE TEMP TABLE scratch (x int) ON COMMIT PRESERVE ROWS; RETURN 1; END$f$;
CREATE FUNCTION f_temp_path() RETURNS int LANGUAGE plpgsql SET search_path = pg_temp AS
  $f$BEGIN CREATE TABLE scratch (x int); RETURN 1; END$f$;
CREATE FUNCTION f_prepare() RETURNS int LANGUAGE plpgsql AS
  $f$BEGIN EXECUTE 'PREPARE kept AS SELECT 1'; RETURN 1; END$f$;
CREATE FUNCTION f_run(text) RETURNS int LANGUAGE plpgsql AS $f$BEGIN EXECUTE $1; RETURN 1; END$f$;
CREATE FUNCTION f_call(text) RETURNS int LANGUAGE plpgsql AS
  $f$DECLARE n text; BEGIN EXECUTE 'SELECT ' || $1 || '()' INTO n; RETURN 1; END$f$;
CREATE FUNCTION f_do() RETURNS int LANGUAGE plpgsql AS
  $f$BEGIN DO $d$ BEGIN PERFORM set_config('app.tenant', '7', false); END $d$; RETURN 1; END$f$;
CREATE FUNCTION f_argument(text DEFAULT set_config('app.tenant', '7', false)) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_row(plain) RETURNS text LANGUAGE sql AS $f$SELECT set_config('app.tenant', '7', false)$f$;
CREATE FUNCTION f_renamed(text, text, boolean) RETURNS text LANGUAGE internal AS 'set_config_by_name';
CREATE FUNCTION "Do It"() RETURNS int LANGUAGE plpgsql AS $f$BEGIN SET app.tenant = 7; RETURN 1; END$f$;
CREATE FUNCTION tue_größe() RETURNS int LANGUAGE plpgsql AS $f$BEGIN SET app.tenant = 7; RETURN 1; END$f$;
CREATE PROCEDURE p_set() LANGUAGE plpgsql AS $f$BEGIN SET app.tenant = '7'; COMMIT; END$f$;
CREATE PROCEDURE p_plain() LANGUAGE plpgsql AS $f$BEGIN INSERT INTO plain (a) VALUES (5); COMMIT; END$f$;
CREATE FUNCTION f_step(int, int) RETURNS int LANGUAGE sql AS
  $f$SELECT $2 FROM set_config('app.tenant', '7', false)$f$;
CREATE AGGREGATE f_total(int) (sfunc = f_step, stype = int);
CREATE AGGREGATE f_sum(int) (sfunc = int4pl, stype = int, initcond = '0');

CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
  $f$BEGIN PERFORM set_config('app.tenant', '7', false); RETURN coalesce(NEW, OLD); END$f$;
CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN NEW.b := upper(NEW.b); RETURN NEW; END$f$;
CREATE FUNCTION lookup(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2';
CREATE TABLE t_quiet (LIKE plain);
CREATE TRIGGER quiet BEFORE INSERT ON t_quiet FOR EACH ROW EXECUTE FUNCTION quiet();
CREATE TABLE t_trigger (a int);
CREATE TRIGGER fire AFTER INSERT OR UPDATE OR DELETE ON t_trigger FOR EACH ROW EXECUTE FUNCTION fire();
CREATE FUNCTION f_insert() RETURNS void LANGUAGE sql AS 'INSERT INTO t_trigger (a) VALUES (1)';
CREATE TABLE t_deferred (a int);
CREATE CONSTRAINT TRIGGER fire AFTER INSERT ON t_deferred DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TABLE t_when (a int, b text);
CREATE TRIGGER whenever BEFORE INSERT ON t_when FOR EACH ROW
  WHEN (set_config('app.tenant', '7', false) = 'never') EXECUTE FUNCTION quiet();
CREATE TABLE t_parent (id int PRIMARY KEY);
CREATE TABLE t_child (id int REFERENCES t_parent ON DELETE CASCADE);
INSERT INTO t_parent VALUES (1);
INSERT INTO t_child VALUES (1);
CREATE TRIGGER fire AFTER DELETE ON t_child FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TABLE t_root (id int) PARTITION BY RANGE (id);
CREATE TABLE t_root_1 PARTITION OF t_root FOR VALUES FROM (0) TO (100);
CREATE TRIGGER fire AFTER INSERT ON t_root_1 FOR EACH ROW EXECUTE FUNCTION fire();
CREATE VIEW v_writes AS SELECT * FROM t_trigger;
CREATE VIEW v_config AS SELECT set_config('app.tenant', '7', false) AS x;
CREATE VIEW v_above AS SELECT x FROM v_config;
CREATE VIEW v_lock AS SELECT f_lock(id) AS x FROM plain;
CREATE VIEW v_local AS SELECT set_config('app.local', '7', true) AS x;
CREATE VIEW v_plain AS SELECT id, lower(b) AS b FROM plain WHERE f_plain(a) > 0;
CREATE VIEW v_settings AS SELECT * FROM pg_settings;
CREATE MATERIALIZED VIEW m_lock AS SELECT f_lock(id) AS x FROM plain WITH NO DATA;
ALTER MATERIALIZED VIEW m_lock OWNER TO ${user};
CREATE TABLE t_rule (a int);
CREATE RULE also AS ON INSERT TO t_rule DO ALSO SELECT set_config('app.tenant', '7', false);
CREATE TABLE t_policy (a int);
INSERT INTO t_policy VALUES (1);
ALTER TABLE t_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t_policy USING (set_config('app.tenant', a::text, false) <> '');
CREATE TABLE t_policy_plain (a text);
ALTER TABLE t_policy_plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t_policy_plain USING (lookup(a, current_setting('app.tenant', true)));
CREATE TABLE t_default (a int, b boolean DEFAULT f_lock(5));
CREATE TABLE t_default_config (a int, b text DEFAULT set_config('app.tenant', '7', false));
CREATE TABLE t_check (a int CHECK (f_lock(a)));
CREATE TABLE t_generated (a int, b boolean GENERATED ALWAYS AS (f_lock(a)) STORED);
CREATE TABLE t_child_of () INHERITS (t_generated);
CREATE TABLE t_index (a int);
CREATE INDEX ON t_index (f_lock(a));
CREATE DOMAIN locked AS int CHECK (f_lock(VALUE));
CREATE TABLE t_domain (a locked);
CREATE TYPE pair AS (x locked, y int);
CREATE TABLE t_pair (p pair)`

const unnamedSetup = `
CREATE FUNCTION f_equal(point, int) RETURNS boolean LANGUAGE sql AS
  $f$SELECT set_config('app.tenant', '7', false) = ''$f$;
CREATE OPERATOR ### (FUNCTION = f_equal, LEFTARG = point, RIGHTARG = int);
CREATE TABLE plain (a int);
INSERT INTO plain VALUES (1)`

const definitionsSetup = `
CREATE FUNCTION defined() RETURNS event_trigger LANGUAGE plpgsql AS
  $f$BEGIN PERFORM set_config('app.tenant', '7', false); END$f$;
CREATE TABLE plain (a int);
ALTER TABLE plain OWNER TO ${user};
CREATE EVENT TRIGGER defined ON ddl_command_end EXECUTE FUNCTION defined()`

const grants = `GRANT ALL ON SCHEMA public TO ${user};
GRANT ALL ON ALL TABLES IN SCHEMA public TO ${user};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${user}`

/** They change the session, and that is known from their words and the catalog. */
const changing = [
  "SET work_mem = '5MB'",
  "SET local.x = '1'",
  'SET ROLE other',
  "SELECT 1; SET work_mem = '5MB'; SELECT 2",
  "BEGIN; SET work_mem = '5MB'; COMMIT",
  'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
  "SELECT E'a'\n'\\''; SET work_mem = '5MB' --'",
  "SELECT E'a' -- it goes on\n '\\''; SET work_mem = '5MB' --'",
  "SELECT 'a\\'; SET work_mem = '5MB' --'",
  "SELECT $a$ $b$ $a$; SET work_mem = '5MB'",
  "SELECT 1 /* /* */ ' */; SET work_mem = '5MB' --'",
  `SELECT U&"\\0073et_config"('work_mem', '5MB', false)`,
  `SELECT U&"!0073et_config" UESCAPE '!' ('work_mem', '5MB', false)`,
  "SELECT set_config('work_mem', '5MB', 1 = 2)",
  'LISTEN here',
  'PREPARE kept AS SELECT 1',
  'BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT',
  'CREATE TEMP TABLE scratch (x int)',
  'CREATE TABLE pg_temp.scratch (x int)',
  'SELECT 1 AS x INTO TEMPORARY scratch',
  "SET LOCAL search_path = 'pg_temp'; CREATE TABLE scratch (x int)",
  "BEGIN; SET LOCAL search_path = 'pg_temp'; SELECT 1 AS x INTO scratch; COMMIT",
  "DO 'BEGIN SET app.tenant = 7; END'",
  "DO $$ BEGIN EXECUTE 'SET app.' || 'tenant = 7'; END $$",
  'SELECT pg_advisory_lock(1)',
  'EXPLAIN ANALYZE SELECT pg_advisory_lock(1)',
  "UPDATE pg_settings SET setting = '5120' WHERE name = 'work_mem'",
  "UPDATE v_settings SET setting = '5120' WHERE name = 'work_mem'",
  "SELECT query_to_xml('SELECT set_config(''app.tenant'', ''7'', false)', true, true, '')",
  "SELECT ts_stat($$SELECT to_tsvector(set_config('app.tenant', '7', false))$$)",
  'SELECT f_set()',
  'SELECT f_set_else(1)',
  'SELECT f_config()',
  'SELECT f_custom()',
  'SELECT f_atomic()',
  'SELECT f_atomic_config()',
  'SELECT f_custom_set()',
  "SELECT f_custom_dynamic('tenant')",
  'SELECT f_custom_variable()',
  'SELECT f_nested()',
  'SELECT f_listen()',
  'SELECT f_lock(1)',
  'SELECT f_temp()',
  'SELECT f_temp_path()',
  'SELECT f_prepare()',
  "SELECT f_run('SET app.tenant = 7')",
  "SELECT f_call('f_custom')",
  'SELECT f_do()',
  'SELECT f_argument()',
  'SELECT f_row(p) FROM plain p',
  'SELECT p.f_row FROM plain p',
  'SELECT (p).f_row FROM plain p',
  'SELECT f_insert()',
  "SELECT f_renamed('app.tenant', '7', false)",
  'SELECT "Do It"()',
  'SELECT tue_größe()',
  'CALL p_set()',
  'SELECT f_total(a) FROM plain',
  'SELECT set_limit(0.5)',
  "SELECT * FROM crosstab('SELECT 1, 2, length(set_config(''app.tenant'', ''7'', false))') AS t(a int, b int)",
  'INSERT INTO t_trigger VALUES (1)',
  'INSERT INTO "t_trigger" (a) SELECT a FROM plain',
  'INSERT INTO t_deferred VALUES (1)',
  'INSERT INTO t_when VALUES (1)',
  'DELETE FROM t_parent',
  'INSERT INTO t_root VALUES (1)',
  'INSERT INTO v_writes VALUES (1)',
  'SELECT * FROM v_config',
  'TABLE v_above',
  'SELECT * FROM v_lock',
  'REFRESH MATERIALIZED VIEW m_lock',
  'INSERT INTO t_rule VALUES (1)',
  'SELECT * FROM t_policy',
  'INSERT INTO t_default (a) VALUES (1)',
  'INSERT INTO t_default_config (a) VALUES (1)',
  'INSERT INTO t_check VALUES (1)',
  'INSERT INTO t_generated VALUES (1)',
  'INSERT INTO t_child_of VALUES (1)',
  'INSERT INTO t_index VALUES (1)',
  'SELECT 1::locked',
  'INSERT INTO t_domain VALUES (1)',
  'SELECT json_populate_record(NULL::pair, \'{"x": 1}\')',
  'SELECT json_populate_record(NULL::t_pair, \'{"p": {"x": 1}}\')',
]

/** They change nothing, and must not cost a question either. */
const harmless = [
  'SELECT * FROM plain',
  'INSERT INTO plain (a, b) VALUES (1, lower($$X$$)) RETURNING id',
  'UPDATE plain SET a = a + 1 WHERE id = 1',
  'BEGIN; INSERT INTO people (id) VALUES (1); SAVEPOINT s; ROLLBACK TO s; COMMIT',
  'SELECT p.id, p.a, p.b, count(*) OVER (PARTITION BY (a)) FROM plain p',
  'SELECT f_plain(1)',
  'SELECT f_update()',
  'SELECT f_static()',
  'SELECT f_bound()',
  'SELECT f_sum(a) FROM plain',
  'SELECT * FROM v_plain',
  'SELECT * FROM v_local',
  'SELECT * FROM t_policy_plain',
  'INSERT INTO t_quiet (id, a, b) VALUES (1, 2, $$x$$)',
  'CALL p_plain()',
  "SELECT 'x' % 'y', similarity('x', 'y')",
  "SELECT set_config('app.local', 'x', true)",
  'SELECT pg_advisory_xact_lock(1)',
  "SET LOCAL work_mem = '5MB'",
  "BEGIN; INSERT INTO plain (a) VALUES (1); PREPARE TRANSACTION 'x'",
  "ROLLBACK PREPARED 'x'",
]

const settings = ['app.tenant', 'local.x']

/** All that other statements of the same session would notice. */
const stateQuestion = `SELECT json_build_object(
  'settings', (SELECT json_object_agg(name, setting) FROM pg_settings
                WHERE source = 'session' AND name NOT LIKE 'transaction%'),
  'custom', json_build_array(${settings.map(name => `nullif(current_setting('${name}', true), '')`).join(', ')}),
  'user', json_build_array(session_user, current_user),
  'locks', (SELECT json_agg(json_build_array(classid, objid, mode) ORDER BY classid, objid) FROM pg_locks
             WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
  'channels', (SELECT json_agg(x) FROM pg_listening_channels() x),
  'temporary', (SELECT json_agg(relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
  'prepared', (SELECT json_agg(name) FROM pg_prepared_statements),
  'cursors', (SELECT json_agg(name) FROM pg_cursors WHERE is_holdable)) AS state`

interface State {
  custom: (string | null)[]
}

before(async () => {
  cluster = await startTestCluster({ settings: { max_prepared_transactions: '2' } })
  port = cluster.primary.port
  await query(port, `CREATE ROLE ${user} LOGIN; CREATE ROLE other; GRANT other TO ${user}`)
  const setups = { named: namedSetup, unnamed: unnamedSetup, definitions: definitionsSetup }
  for (const [database, setup] of Object.entries(setups)) {
    await query(port, `CREATE DATABASE ${database}`)
    await query(port, `${grants};${setup};${database === 'definitions' ? '' : grants}`, { database })
  }
  facts = await factsOf('named')
})

after(() => cluster?.stop())

/** Loaded as the proxy does it: as an ordinary user, whatever the search_path is. */
async function factsOf(database: string, known?: SessionFacts): Promise<SessionFacts> {
  const client = await WireClient.open(port, { user, database, options: '-c search_path=nowhere,pg_catalog' })
  try {
    return await new Promise<SessionFacts>((resolve, reject) => {
      const done = (loaded: SessionFacts | undefined): void =>
        loaded ? resolve(loaded) : reject(new Error(`the facts of ${database} were not told`))
      loadSessionFacts(askable(client, reject), done, known)
    })
  } finally {
    client.close()
  }
}

function effectsOf(sql: string, known: SessionFacts): SessionEffects {
  const bytes = Buffer.from(sql)
  return sessionEffects(bytes, 0, bytes.length, known)
}

const stateOf = async (client: Client): Promise<State> =>
  (await client.query<{ state: State }>(stateQuestion)).rows[0]!.state

/** Runs `sql` in a session of its own: whether that has changed, which `effects` must have told. */
async function run(database: string, sql: string, effects: SessionEffects): Promise<boolean> {
  const client = await connect(port, { user, database })
  try {
    const before = await stateOf(client)
    await client.query(sql).catch((cause: unknown) => {
      throw new Error(`${sql} failed`, { cause })
    })
    const after = await stateOf(client)
    const hasChanged = JSON.stringify(before) !== JSON.stringify(after)
    if (hasChanged) assert.equal(effects.mayChange, true, `${sql}: ${JSON.stringify(after)}`)
    for (const [index, name] of settings.entries()) {
      if (before.custom[index] === after.custom[index]) continue
      assert.ok(effects.customSettings.includes(name) || effects.unknownCustom, `${sql}: ${name} has changed`)
    }
    return hasChanged
  } finally {
    await client.end()
  }
}

test('what changes a session is told before', async () => {
  for (const sql of changing) {
    const hasChanged = await run('named', sql, effectsOf(sql, facts))
    assert.ok(hasChanged, `${sql} was meant to change its session`)
  }
})

test('what changes nothing is not asked about', async () => {
  for (const sql of harmless) {
    const effects = effectsOf(sql, facts)
    assert.equal(effects.mayChange, false, `${sql}: ${JSON.stringify(effects)}`)
    assert.equal(await run('named', sql, effects), false, sql)
  }
  assert.equal(facts.everything, false)
})

test('quotes, comments and strings of any make: what PostgreSQL sees outside of them is seen here', async () => {
  const piece = fc.constantFrom(
    ...[
      "'",
      "''",
      "E'",
      "N'",
      "x'",
      "U&'",
      '"',
      'U&"',
      '\\',
      "\\'",
      '$$',
      '$a$',
      '$1',
      '/*',
      '*/',
      '--',
      '\n',
      ' ',
    ],
    ...['a', '1e', '1.', ',', '||', 'AS', 'é', "; SET work_mem = '5MB' --", "; SET work_mem = '5MB' --'"],
  )
  const client = await connect(port, { user, database: 'named' })
  let changed = 0
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        async (pieces, standard) => {
          const sql = `SELECT ${pieces.join('')}`
          await client.query(
            `RESET ALL; SET standard_conforming_strings = ${standard}; SET escape_string_warning = off`,
          )
          // Most are no SQL at all, and then nothing happens.
          await client.query(sql).catch(() => {})
          const { rows } = await client.query<{ work_mem: string }>('SHOW work_mem')
          if (rows[0]?.work_mem !== '5MB') return
          changed++
          const bytes = Buffer.from(sql)
          assert.equal(sessionEffects(bytes, 0, bytes.length, facts, standard).mayChange, true)
        },
      ),
      { numRuns: 3000 },
    )
  } finally {
    await client.end()
  }
  assert.ok(changed > 50, `only ${changed} texts changed anything`)
})

test('an operator has no name to tell by: every statement of its database counts', async () => {
  const unnamed = await factsOf('unnamed')
  assert.equal(unnamed.everything, true)
  const sql = "SELECT '(1,2)'::point ### 1"
  assert.ok(await run('unnamed', sql, effectsOf(sql, unnamed)))
  assert.deepEqual(effectsOf('SELECT 1', unnamed).customSettings, ['app.tenant'])
  assert.equal(effectsOf('BEGIN', unnamed), noEffects)
})

test('event triggers count for definitions alone', async () => {
  const known = await factsOf('definitions')
  assert.equal(known.everything, false)
  for (const sql of [
    "COMMENT ON TABLE plain IS 'x'",
    'ALTER TABLE plain ADD COLUMN b int',
    'GRANT SELECT ON plain TO other',
  ]) {
    assert.ok(await run('definitions', sql, effectsOf(sql, known)), sql)
  }
  assert.equal(effectsOf('SELECT * FROM plain', known), noEffects)
})

test('a function that is defined later is unknown first, then known', async () => {
  const body = "$f$SELECT set_config('app.tenant', '7', false)$f$"
  const definition = `CREATE FUNCTION f_new() RETURNS text LANGUAGE sql AS ${body}`
  assert.equal(effectsOf(definition, facts).changesCatalog, true)
  await query(port, definition, { database: 'named' })
  const sql = 'SELECT f_new()'
  assert.deepEqual(effectsOf(sql, facts).unknownCalls, ['f_new'])
  const later = effectsOf(sql, await factsOf('named'))
  assert.deepEqual(later.unknownCalls, [])
  assert.ok(await run('named', sql, later))
})

test('facts are read again when the catalog has changed, and only then', async () => {
  const database = 'definitions'
  let known = await factsOf(database)
  await query(port, 'CREATE TEMP TABLE scratch (a int); INSERT INTO plain VALUES (1); ANALYZE', { database })
  assert.equal(await factsOf(database, known), known)
  for (const sql of [
    'CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN RETURN NEW; END$f$',
    'CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN SET a.b = 1; RETURN NEW; END$f$',
    'CREATE TRIGGER t AFTER INSERT ON plain EXECUTE FUNCTION f()',
    'CREATE VIEW v AS SELECT * FROM plain',
    "CREATE OR REPLACE VIEW v AS SELECT *, set_config('a.b', '1', false) AS x FROM plain",
    'CREATE TABLE child () INHERITS (plain)',
    'CREATE DOMAIN positive AS int CHECK (VALUE > 0)',
    'ALTER TABLE child ADD COLUMN p positive',
    "ALTER TABLE child ALTER COLUMN a SET DEFAULT length(set_config('a.b', '1', false))",
    'CREATE POLICY p ON child USING (a > 0)',
    'DROP EVENT TRIGGER defined',
  ]) {
    await query(port, sql, { database })
    const later = await factsOf(database, known)
    assert.notEqual(later, known, sql)
    known = later
  }
  assert.equal(effectsOf('SELECT a FROM plain', known).mayChange, true)
})
