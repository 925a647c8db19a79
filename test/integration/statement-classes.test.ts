import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Client } from 'pg'
import type { Database } from '../../src/proxy/catalog/database.ts'
import { Databases } from '../../src/proxy/catalog/database.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import type { ShareRefusal } from '../../src/sql/statement-class.ts'
import { StatementClasses } from '../../src/sql/statement-classes.ts'
import { askable } from '../support/askable.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * A real server is the judge: everything volatile here draws from a sequence, so that what may share a connection
 * and moves it nevertheless is found out. What no statement names (operators, casts, checks, policies) does not:
 * that it reaches the session would be a reason of its own to share nothing.
 */
let cluster: TestCluster
let port: number
const classes = new StatementClasses(systemClock, { parseMsPerSecond: 1e6 })
const databases = new Databases(systemClock, () => {})

const volatileSetup = `
CREATE SEQUENCE touched;
CREATE FUNCTION touch() RETURNS int LANGUAGE sql AS $$SELECT nextval('touched')::int$$;
CREATE FUNCTION touch(int) RETURNS boolean LANGUAGE sql AS $$SELECT nextval('touched') > $1$$;
CREATE FUNCTION ticks(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + extract(epoch FROM clock_timestamp())::int';
CREATE FUNCTION pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE TABLE plain (id int PRIMARY KEY, a int, b text, c timestamptz DEFAULT now());
INSERT INTO plain SELECT i, i, 'x' FROM generate_series(1, 10) i;
CREATE FUNCTION steady() RETURNS int LANGUAGE sql STABLE AS 'SELECT count(*)::int FROM plain';
CREATE MATERIALIZED VIEW kept AS SELECT id, ticks(id) AS t FROM plain;`

const setup = `${volatileSetup}
CREATE FUNCTION twin(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION twin(text) RETURNS int LANGUAGE sql AS 'SELECT touch()';
CREATE FUNCTION defaulted(a int DEFAULT touch()) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION timed(a timestamptz DEFAULT clock_timestamp()) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION row_touch(plain) RETURNS int LANGUAGE sql AS 'SELECT touch()';
CREATE FUNCTION row_pure(plain) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION sets(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT set_config('app.x', $1, false)$$;
CREATE SCHEMA other;
CREATE FUNCTION other.upper(text) RETURNS text LANGUAGE sql AS $$SELECT 'X' || touch()$$;
CREATE FUNCTION other.timezone(text, text) RETURNS text LANGUAGE sql AS $$SELECT 'X' || touch()$$;
CREATE OPERATOR <%%> (FUNCTION = ticks, RIGHTARG = int);
CREATE OPERATOR <@@> (FUNCTION = pure, RIGHTARG = int);
CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2 + touch()';
CREATE AGGREGATE touch_sum(int) (sfunc = step, stype = int, initcond = '0');
CREATE AGGREGATE pure_sum(int) (sfunc = int4pl, stype = int, initcond = '0');

CREATE DOMAIN checked AS int CHECK (ticks(VALUE) > 0);
CREATE DOMAIN timed_domain AS int CHECK (clock_timestamp() > 'epoch');
CREATE DOMAIN over_checked AS checked;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE has_checked AS (a int, b checked);
CREATE TABLE with_checked (id int, d checked);
CREATE TABLE with_checked_array (id int, d has_checked[]);
CREATE TABLE with_positive (id int, d positive);
CREATE FUNCTION takes_checked(checked) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION gives_checked(int) RETURNS checked LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION table_checked() RETURNS TABLE (x checked) LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OPERATOR <#> (FUNCTION = takes_checked, RIGHTARG = checked);
CREATE TYPE pair AS (a int);
CREATE FUNCTION to_pair(int) RETURNS pair LANGUAGE sql AS 'SELECT row(ticks($1))::pair';
CREATE CAST (int AS pair) WITH FUNCTION to_pair;

CREATE VIEW v_plain AS SELECT p.*, pure(a) AS e, extract(year FROM c) AS y, 'it''s \\' AS s FROM plain p WHERE b LIKE 'x%';
CREATE VIEW v_over AS SELECT * FROM v_plain WHERE id IN (SELECT id FROM kept);
CREATE VIEW v_touch AS SELECT touch() AS t FROM plain;
CREATE VIEW v_over_touch AS SELECT count(*) FROM v_over, v_touch;
CREATE VIEW v_operator AS SELECT <%%> a AS o FROM plain;
CREATE VIEW v_random AS SELECT random() AS r;
CREATE VIEW v_lock AS SELECT * FROM plain FOR UPDATE;
CREATE VIEW v_checked AS SELECT a::checked FROM plain;
CREATE VIEW v_sample AS SELECT * FROM plain TABLESAMPLE system (50);
CREATE VIEW v_settings AS SELECT * FROM pg_settings;
CREATE VIEW other.v_twice AS SELECT touch() AS t;
CREATE VIEW v_twice AS SELECT 1 AS t;

CREATE TABLE guarded (id int);
CREATE POLICY own ON guarded USING (ticks(id) > 0);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE TABLE guarded_well (id int, owner text);
CREATE POLICY own ON guarded_well USING (owner = current_user AND id IN (SELECT id FROM plain));
ALTER TABLE guarded_well ENABLE ROW LEVEL SECURITY;
CREATE TABLE guarded_writes (id int);
CREATE POLICY reads ON guarded_writes FOR SELECT USING (true);
CREATE POLICY writes ON guarded_writes FOR UPDATE USING (ticks(id) > 0);
ALTER TABLE guarded_writes ENABLE ROW LEVEL SECURITY;
CREATE TABLE guarded_view (id int);
CREATE POLICY own ON guarded_view USING (EXISTS (SELECT 1 FROM v_touch));
ALTER TABLE guarded_view ENABLE ROW LEVEL SECURITY;
CREATE TABLE unguarded (id int);
CREATE POLICY own ON unguarded USING (ticks(id) > 0);

CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE far (id int) SERVER nowhere;
CREATE TABLE parted_far (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_middle PARTITION OF parted_far FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE parted_far_1 PARTITION OF parted_middle FOR VALUES FROM (0) TO (10) SERVER nowhere;
CREATE TABLE columns (a int);
GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
GRANT ALL ON SCHEMA other TO app; GRANT ALL ON ALL TABLES IN SCHEMA other TO app`

const admitted = [
  'SELECT 1',
  'SELECT id, a FROM plain WHERE id = 5',
  "SELECT * FROM public.plain p WHERE b LIKE 'x%' AND c > now() - interval '1 day' ORDER BY a DESC LIMIT 3",
  'TABLE plain',
  'VALUES (1, 2), (3, 4)',
  'SELECT current_user, current_date, current_timestamp(3), current_catalog',
  'SELECT count(*), sum(a) FILTER (WHERE a > 1), string_agg(b, $$,$$ ORDER BY id), pure_sum(a) FROM plain',
  'SELECT rank() OVER (PARTITION BY b ORDER BY a), lag(a, 1) OVER w FROM plain WINDOW w AS (ORDER BY id)',
  "SELECT coalesce(a, 1), greatest(a, 2), nullif(a, 3), CASE a WHEN 1 THEN 'x' END, a IS NULL, a BETWEEN 1 AND 2 FROM plain",
  "SELECT '{\"a\": 1}'::jsonb -> 'a', ARRAY[1, 2] || 3, (ARRAY[1])[1], row(1, 2), 5::positive, '1'::text::int",
  `SELECT to_char(c, 'YYYY'), extract(year FROM c), substring(b FROM 1 FOR 2), trim(b), lower(b) COLLATE "C" FROM plain`,
  'SELECT p.a, p.row_pure, (p).b, p.* FROM plain p',
  'SELECT * FROM plain x JOIN plain y USING (id) LEFT JOIN LATERAL (SELECT x.a + y.a) z ON true',
  'WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r',
  'WITH touched AS (SELECT 1 AS x) SELECT * FROM touched',
  'SELECT * FROM generate_series(1, 3) WITH ORDINALITY g (a, b), unnest(ARRAY[1]) u (c)',
  'SELECT pure(1), pure(2), steady(), <@@> 3',
  'SELECT * FROM kept',
  'SELECT * FROM v_plain',
  'SELECT * FROM v_over',
  'SELECT * FROM guarded_well',
  'SELECT * FROM guarded_writes',
  'SELECT * FROM unguarded',
  'SELECT * FROM parted',
  'SELECT * FROM with_positive',
  'SELECT * FROM columns',
  'SELECT oid, relname FROM pg_class LIMIT 1',
  'SELECT proname FROM pg_catalog.pg_proc LIMIT 1',
  "SELECT pg_get_viewdef('v_plain'::regclass), has_table_privilege('plain', 'select'), format_type(23, NULL)",
  'SELECT DISTINCT ON (b) b, a FROM plain GROUP BY b, a HAVING count(*) > 0 ORDER BY b, 2 FETCH FIRST 2 ROWS ONLY',
]

const refused: readonly [sql: string, refusal: ShareRefusal][] = [
  ['SELECT touch()', 'function_volatile'],
  ['SELECT * FROM touch()', 'function_volatile'],
  ['SELECT id FROM plain ORDER BY (SELECT touch())', 'function_volatile'],
  ['SELECT a FROM plain LIMIT (SELECT touch())', 'function_volatile'],
  ["SELECT twin('1')", 'function_volatile'],
  ['SELECT twin(1)', 'function_volatile'],
  ["SELECT upper('x')", 'function_volatile'],
  ["SELECT 'a' AT TIME ZONE 'b' FROM plain", 'function_volatile'],
  ['SELECT defaulted()', 'function_volatile'],
  ['SELECT timed()', 'function_volatile'],
  ['SELECT random()', 'function_volatile'],
  ['SELECT clock_timestamp()', 'function_volatile'],
  ["SELECT nextval('touched')", 'function_volatile'],
  ["SELECT pg_notify('a', 'b')", 'function_volatile'],
  ['SELECT pg_try_advisory_lock(1)', 'function_volatile'],
  ["SELECT set_config('a.b', 'c', false)", 'function_volatile'],
  ["SELECT query_to_xml('SELECT touch()', true, true, '')", 'function_volatile'],
  ["SELECT table_to_xml('v_touch', true, true, '')", 'function_volatile'],
  ['SELECT touch_sum(a) FROM plain', 'function_volatile'],
  ['SELECT touch_sum(a) OVER () FROM plain', 'function_volatile'],
  ['SELECT p.row_touch FROM plain p', 'function_volatile'],
  ['SELECT (p).row_touch FROM plain p', 'function_volatile'],
  ['SELECT row_touch(p) FROM plain p', 'function_volatile'],
  ['SELECT takes_checked(1)', 'function_volatile'],
  ['SELECT coalesce(gives_checked(1), 2)', 'function_volatile'],
  ['SELECT coalesce(x, 2) FROM table_checked()', 'function_volatile'],
  ['SELECT nothing(1)', 'function_unknown'],
  ['SELECT a(p) FROM plain p', 'function_unknown'],
  ['SELECT <%%> 1', 'operator_volatile'],
  ['SELECT 1 OPERATOR(public.<%%>) 2', 'operator_volatile'],
  ['SELECT <#> 1::int', 'operator_volatile'],
  ['SELECT 1 <%%%> 2', 'operator_unknown'],
  ['SELECT 1::checked', 'type_volatile'],
  ['SELECT CAST(a AS over_checked) FROM plain', 'type_volatile'],
  ['SELECT 1::timed_domain', 'type_volatile'],
  ["SELECT '{1}'::checked[]", 'type_volatile'],
  ["SELECT '(1,2)'::has_checked", 'type_volatile'],
  ['SELECT checked(1)', 'function_unknown'],
  ['SELECT 1::pair', 'type_volatile'],
  ['SELECT coalesce(d, 3) FROM with_checked', 'relation_volatile'],
  ['SELECT * FROM with_checked_array', 'relation_volatile'],
  ['SELECT * FROM v_touch', 'view_volatile'],
  ['SELECT * FROM v_over_touch', 'view_volatile'],
  ['SELECT * FROM v_operator', 'view_volatile'],
  ['SELECT * FROM v_random', 'view_volatile'],
  ['SELECT * FROM v_lock', 'view_volatile'],
  ['SELECT * FROM v_checked', 'relation_volatile'],
  ['SELECT * FROM v_sample', 'view_volatile'],
  ['SELECT * FROM v_settings', 'view_volatile'],
  ['SELECT * FROM v_twice', 'view_volatile'],
  ['SELECT * FROM guarded', 'policy_volatile'],
  ['SELECT * FROM guarded_view', 'policy_volatile'],
  ['SELECT * FROM far', 'foreign_table'],
  ['SELECT * FROM parted_far', 'foreign_table'],
  ['SELECT * FROM parted_middle', 'foreign_table'],
  ['SELECT last_value FROM touched', 'sequence'],
  ['SELECT * FROM pg_locks', 'system_view'],
  ['SELECT * FROM pg_catalog.pg_settings', 'system_view'],
  ['SELECT * FROM information_schema.columns', 'system_view'],
  ['SELECT * FROM nothing', 'relation_unknown'],
  ['SELECT * FROM scratch', 'relation_unknown'],
  ['SELECT * FROM pg_temp.plain', 'session_effects'],
  ["SELECT sets('x')", 'session_effects'],
  ['WITH x AS (INSERT INTO plain VALUES (100) RETURNING *) SELECT * FROM x', 'not_read'],
  ['SELECT * FROM plain FOR SHARE', 'locking'],
]

before(async () => {
  cluster = await startTestCluster()
  port = cluster.primary.port
  await classes.load()
  await query(port, 'CREATE ROLE app LOGIN')
  for (const [name, sql] of [
    ['named', setup],
    ['changing', volatileSetup],
    ['implicit', volatileSetup],
  ] as const) {
    await query(port, `CREATE DATABASE ${name}`)
    await query(port, sql, { database: name })
  }
})

after(() => cluster?.stop())

/** Reads the catalog as the proxy does: as an ordinary user, whatever the search_path is. */
async function read(name: string): Promise<Database> {
  const database = databases.of(name)
  // Nothing is read before somebody has asked.
  refusalIn(database, 'SELECT 1')
  const client = await WireClient.open(port, {
    user: 'app',
    database: name,
    options: '-c search_path=other,public',
  })
  try {
    await new Promise<void>((resolve, reject) => {
      const done = (isLoaded: boolean): void =>
        isLoaded ? resolve() : reject(new Error(`${name} was not read`))
      database.load(askable(client, reject), done)
    })
  } finally {
    client.close()
  }
  return database
}

function refusalIn(database: Database, sql: string): ShareRefusal | undefined {
  const bytes = Buffer.from(sql)
  classes.of(bytes, 0, bytes.length, true)
  const found = classes.of(bytes, 0, bytes.length, true)
  assert.ok(found, sql)
  return database.sharing(found, classes)
}

async function touches(client: Client, sql: string): Promise<boolean> {
  const last = async (): Promise<unknown> =>
    (await client.query<{ touched: string }>('SELECT concat(last_value, is_called) AS touched FROM touched'))
      .rows[0]!.touched
  const before = await last()
  await client.query(sql).catch(() => {})
  return (await last()) !== before
}

test('plain statements may share, and touch nothing', async () => {
  const database = await read('named')
  const client = await connect(port, { database: 'named', user: 'app' })
  try {
    for (const sql of admitted) {
      assert.equal(refusalIn(database, sql), undefined, sql)
      await client.query(sql)
      assert.equal(await touches(client, sql), false, sql)
    }
  } finally {
    await client.end()
  }
})

test('whatever may be volatile is refused, with its reason', async () => {
  const database = await read('named')
  const client = await connect(port, { database: 'named', options: '-c search_path=other,public' })
  let touching = 0
  try {
    await client.query('CREATE TEMP TABLE scratch (a int)')
    await client.query('CREATE TEMP VIEW v_scratch AS SELECT touch()')
    for (const [sql, refusal] of refused) {
      assert.equal(refusalIn(database, sql), refusal, sql)
      if (await touches(client, sql)) touching++
    }
    assert.ok(touching >= 15, `only ${touching} drew from the sequence`)
    assert.equal(refusalIn(await read('named'), 'SELECT * FROM v_scratch'), 'relation_unknown')
  } finally {
    await client.end()
  }
})

test('a change is noticed when the catalog is read again', async () => {
  const name = 'changing'
  const changed: readonly [ddl: string, sql: string, refusal: ShareRefusal | undefined][] = [
    [
      'CREATE OR REPLACE FUNCTION pure(int) RETURNS int LANGUAGE sql AS $$SELECT ticks($1)$$',
      'SELECT pure(1)',
      'function_volatile',
    ],
    ['ALTER FUNCTION pure IMMUTABLE', 'SELECT pure(1)', undefined],
    [
      'CREATE FUNCTION pure(text) RETURNS int LANGUAGE sql AS $$SELECT touch()$$',
      'SELECT pure(1)',
      'function_volatile',
    ],
    ['DROP FUNCTION pure(text)', 'SELECT pure(1)', undefined],
    ['CREATE VIEW v AS SELECT pure(a) FROM plain', 'TABLE v', undefined],
    ['CREATE OR REPLACE VIEW v AS SELECT touch() AS pure FROM plain', 'TABLE v', 'view_volatile'],
    ['DROP VIEW v; CREATE TABLE v (a int)', 'TABLE v', undefined],
    ['ALTER TABLE v RENAME TO w', 'TABLE v', 'relation_unknown'],
    ['CREATE POLICY p ON w USING (ticks(a) > 0)', 'TABLE w', undefined],
    ['ALTER TABLE w ENABLE ROW LEVEL SECURITY', 'TABLE w', 'policy_volatile'],
    ['ALTER POLICY p ON w USING (a > 1)', 'TABLE w', undefined],
    ['DROP POLICY p ON w', 'TABLE w', undefined],
    ['CREATE DOMAIN d AS int CHECK (VALUE > 0)', 'SELECT 1::d', undefined],
    ['ALTER TABLE w ALTER a TYPE d', 'TABLE w', undefined],
    ['ALTER DOMAIN d ADD CONSTRAINT t CHECK (ticks(VALUE) > 0)', 'TABLE w', 'relation_volatile'],
    ['ALTER TABLE w ALTER a TYPE int', 'TABLE w', undefined],
    ['ALTER TABLE w ADD b d', 'TABLE w', 'relation_volatile'],
    ['ALTER TABLE w DROP b', 'TABLE w', undefined],
    ['CREATE OPERATOR @@@ (FUNCTION = pure, RIGHTARG = int)', 'SELECT @@@ 1', undefined],
    [
      'CREATE FUNCTION ticks(int, int) RETURNS int LANGUAGE sql AS $$SELECT ticks($1)$$',
      'SELECT @@@ 1',
      undefined,
    ],
    [
      'CREATE OPERATOR @@@ (FUNCTION = ticks, LEFTARG = int, RIGHTARG = int)',
      'SELECT @@@ 1',
      'operator_volatile',
    ],
    ['ALTER FUNCTION pg_catalog.lower(text) VOLATILE', "SELECT lower('a')", 'function_volatile'],
    ['ALTER FUNCTION pg_catalog.lower(text) IMMUTABLE', "SELECT lower('a')", undefined],
    [
      'CREATE FOREIGN DATA WRAPPER x; CREATE SERVER x FOREIGN DATA WRAPPER x; CREATE TABLE p (a int); CREATE FOREIGN TABLE f (a int) SERVER x',
      'TABLE p',
      undefined,
    ],
    ['ALTER TABLE f INHERIT p', 'TABLE p', 'foreign_table'],
  ]
  const admin = await connect(port, { database: name })
  try {
    let database = await read(name)
    for (const [ddl, sql, refusal] of changed) {
      await admin.query(ddl)
      database = await read(name)
      assert.equal(refusalIn(database, sql), refusal, `${ddl}: ${sql}`)
    }
    database.expire()
    assert.equal(refusalIn(database, 'TABLE plain'), 'facts_missing')
    assert.equal(refusalIn(await read(name), 'TABLE plain'), undefined)
  } finally {
    await admin.end()
  }
})

test('what no statement names: nothing of that database may share', async () => {
  const name = 'implicit'
  const steps: readonly [make: string, drop: string][] = [
    [
      `CREATE TYPE pair AS (a int); CREATE FUNCTION to_pair(int) RETURNS pair LANGUAGE sql AS 'SELECT row(ticks($1))::pair';
       CREATE CAST (int AS pair) WITH FUNCTION to_pair AS IMPLICIT`,
      'DROP TYPE pair CASCADE',
    ],
    [
      `CREATE TYPE pair AS (a int); CREATE FUNCTION to_text(pair) RETURNS text LANGUAGE sql AS 'SELECT ticks(1)::text';
       CREATE CAST (pair AS text) WITH FUNCTION to_text`,
      'DROP TYPE pair CASCADE',
    ],
    [
      `CREATE TYPE pair AS (a int); CREATE FUNCTION same(pair, pair) RETURNS boolean LANGUAGE sql AS 'SELECT ticks(0) > 0';
       CREATE OPERATOR = (FUNCTION = same, LEFTARG = pair, RIGHTARG = pair)`,
      'DROP TYPE pair CASCADE',
    ],
    [
      `CREATE FUNCTION less(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
       CREATE FUNCTION compare(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM ticks(1); RETURN $1 - $2; END';
       CREATE OPERATOR <~ (FUNCTION = less, LEFTARG = int, RIGHTARG = int);
       CREATE OPERATOR CLASS odd FOR TYPE int USING btree AS OPERATOR 1 <~, FUNCTION 1 compare(int, int)`,
      'DROP OPERATOR FAMILY odd USING btree',
    ],
    [
      `CREATE FUNCTION less_odd(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN ticks($1) > 0 AND $1 < $2; END';
       CREATE OPERATOR <~~ (FUNCTION = less_odd, LEFTARG = int, RIGHTARG = int);
       CREATE OPERATOR CLASS odd FOR TYPE int USING btree AS OPERATOR 1 <~~, FUNCTION 1 btint4cmp(int, int)`,
      'DROP OPERATOR FAMILY odd USING btree',
    ],
    [
      `CREATE DOMAIN checked AS int CHECK (ticks(VALUE) > 0); CREATE TYPE spread AS RANGE (subtype = checked, subtype_opclass = int4_ops)`,
      'DROP TYPE spread; DROP DOMAIN checked',
    ],
  ]
  const admin = await connect(port, { database: name })
  try {
    assert.equal(refusalIn(await read(name), 'SELECT 1'), undefined)
    for (const [make, drop] of steps) {
      await admin.query(make)
      assert.equal(refusalIn(await read(name), 'SELECT 1'), 'volatile_implicit', make)
      await admin.query(drop)
      assert.equal(refusalIn(await read(name), 'SELECT 1'), undefined, drop)
    }
  } finally {
    await admin.end()
  }
})

test('while somebody has a table locked its views are unknown, and nothing else is', async () => {
  const admin = await connect(port, { database: 'named' })
  try {
    await admin.query('CREATE TABLE newest (a int)')
    await admin.query('BEGIN; LOCK TABLE plain')
    const locked = await read('named')
    assert.equal(refusalIn(locked, 'TABLE newest'), undefined)
    assert.equal(refusalIn(locked, 'TABLE v_plain'), 'view_volatile')
    await admin.query('COMMIT')
    assert.equal(refusalIn(await read('named'), 'TABLE v_plain'), undefined)
  } finally {
    await admin.end()
  }
})

test('the views of information_schema run nothing volatile: their names need no look at the search_path', async () => {
  const database = await read('changing')
  const rows = await query<{ name: string; definition: string }>(
    port,
    `SELECT relname AS name, pg_get_viewdef(oid) AS definition FROM pg_class
      WHERE relnamespace = 'information_schema'::regnamespace AND relkind = 'v'`,
    { database: 'changing' },
  )
  assert.ok(rows.length > 50)
  for (const { name, definition } of rows) {
    const found = classes.ofDefinition(definition)
    const refusal = found.refusal ?? database.sharing(found, classes)
    assert.ok(refusal === undefined || refusal === 'system_view', `${name}: ${refusal}`)
  }
})

test('a constant goes on over a comment, unlike in the scanner that the lexer is compared with', async () => {
  const client = await connect(port)
  try {
    const { rows } = await client.query<{ s: string }>(
      "SELECT 'a' -- 'x\n -- y'\n 'b' AS s, E'c' -- d\n '\\'' AS t",
    )
    assert.deepEqual(rows, [{ s: 'ab', t: "c'" }])
  } finally {
    await client.end()
  }
})
