import { statementBytesMax } from '../../sql/fingerprint.ts'
import { touchyBuiltins } from '../../sql/vocabulary.ts'
import { firstOwnOid } from './catalog-questions.ts'

/**
 * The questions behind `loadSharingFacts`, for PostgreSQL 11 to 18 and any user that may log in. Each is one simple
 * Query whose last statement gives the rows. SET LOCAL ends with the question.
 */
const prelude = `SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '1s';
SET LOCAL standard_conforming_strings = on; SET LOCAL jit = off;`

/** Names of relations, functions and the rest that a database may have besides PostgreSQL's own. */
export const ownNamesMax = 50_000
export const definitionsMax = 5000

const list = (names: readonly string[]): string => names.map(name => `'${name}'`).join(', ')

/** Relations that a statement can name, but those that only one session sees. */
const ownRelations = `pg_class WHERE oid >= ${firstOwnOid} AND relkind IN ('r', 'p', 'm', 'v', 'f', 'S')
   AND relpersistence <> 't'`

/** By what must these facts be the same while they are: by which transactions rows were written, how relations are named. */
export const sharingFingerprintQuestion = `${prelude}
SELECT concat_ws(' ', ${[
  'pg_proc',
  'pg_operator',
  'pg_aggregate',
  'pg_cast',
  'pg_amop',
  'pg_amproc',
  `pg_type WHERE oid >= ${firstOwnOid} AND typtype NOT IN ('c', 'p') AND typcategory <> 'A'`,
  `pg_depend WHERE refclassid = 'pg_type'::regclass AND refobjid >= ${firstOwnOid} AND objid >= ${firstOwnOid}`,
  'pg_rewrite WHERE oid >= ' + firstOwnOid,
  'pg_constraint WHERE contypid <> 0',
  'pg_policy',
  'pg_inherits',
  'pg_trigger WHERE NOT tgisinternal',
]
  .map(rows => `(SELECT concat(count(*), '/', sum(xmin::text::bigint)) FROM ${rows})`)
  .join(',\n ')},
 (SELECT concat(count(*), '/', sum(hashtext(concat_ws(' ', oid, relname, relnamespace, relkind, relrowsecurity))::bigint))
    FROM ${ownRelations}))`

/**
 * Of all functions, those that are volatile by their label; by rules of their own that the label does not tell; by
 * a default of an argument, or a part of an aggregate, that is.
 */
const volatileFunctions = `labelled AS (
 SELECT p.oid FROM pg_proc p
  WHERE p.provolatile = 'v' OR p.oid < ${firstOwnOid} AND p.proname IN (${list(touchyBuiltins)})),
volatile AS (
 SELECT oid FROM labelled
 UNION ${callers('oid', 'proargdefaults', 'pg_proc WHERE proargdefaults IS NOT NULL')}
 UNION ${users('aggfnoid', 'aggtransfn aggfinalfn aggcombinefn aggserialfn aggdeserialfn aggmtransfn aggminvtransfn aggmfinalfn', 'pg_aggregate')})`

/** What stores an expression that calls a labelled function. */
function callers(oid: string, tree: string, from: string): string {
  return `SELECT c.oid FROM (
   SELECT ${oid} AS oid, (regexp_matches(${tree}::text, ':(?:funcid|opfuncid) (\\d+)', 'g'))[1]::oid AS called
     FROM ${from}) c JOIN labelled l ON l.oid = c.called`
}

/** What has a labelled function in one of its columns. */
function users(oid: string, columns: string, from: string): string {
  const functions = columns.split(' ').map(column => `${column}::oid`)
  return `SELECT u.oid FROM (
   SELECT ${oid}::oid AS oid, unnest(ARRAY[${functions.join(', ')}]) AS used FROM ${from}) u
   JOIN labelled l ON l.oid = u.used`
}

/** One row: what `SystemNames` is made from. */
export const systemNamesQuestion = `${prelude}
WITH ${volatileFunctions}
SELECT string_agg(line, chr(10) ORDER BY line COLLATE "C") FROM (
 SELECT concat(CASE WHEN bool_or(v.oid IS NOT NULL) THEN 'F ' ELSE 'f ' END, p.proname) AS line
   FROM pg_proc p LEFT JOIN volatile v USING (oid) WHERE p.oid < ${firstOwnOid} GROUP BY p.proname
 UNION ALL
 SELECT concat(CASE WHEN bool_or(v.oid IS NOT NULL) THEN 'O ' ELSE 'o ' END, o.oprname)
   FROM pg_operator o LEFT JOIN volatile v ON v.oid = o.oprcode WHERE o.oid < ${firstOwnOid} GROUP BY o.oprname
 UNION ALL
 SELECT concat(CASE c.relkind WHEN 'r' THEN 'r ' ELSE 'v ' END, c.relname)
   FROM pg_class c WHERE c.oid < ${firstOwnOid} AND c.relnamespace = 'pg_catalog'::regnamespace
    AND c.relkind IN ('r', 'v')) system`

/**
 * Types of which a value cannot be made, shown or taken apart without running something volatile, and all that is
 * made from those. A domain runs its checks whenever something is cast to it, also where no cast is written.
 */
const volatileTypes = `part(of, whole) AS (
 SELECT typbasetype, oid FROM pg_type WHERE typtype = 'd'
 UNION ALL SELECT typelem, oid FROM pg_type WHERE oid >= ${firstOwnOid} AND typelem <> 0
 UNION ALL SELECT rngsubtype, rngtypid FROM pg_range WHERE rngtypid >= ${firstOwnOid}
 UNION ALL SELECT a.atttypid, c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE a.atttypid >= ${firstOwnOid} AND a.attnum > 0 AND c.reltype <> 0),
tainted(oid) AS (
 (${users(
   'oid',
   'typinput typoutput typreceive typsend typmodin typmodout',
   `pg_type WHERE oid >= ${firstOwnOid} AND typtype = 'b'`,
 )}
  UNION ${callers('contypid', 'conbin', 'pg_constraint WHERE contypid <> 0')})
 UNION SELECT p.whole FROM tainted t JOIN part p ON p.of = t.oid)`

/** What an index method calls in C is the index's own; in any other language it is what everything else is. */
const implicits = `SELECT 1 FROM pg_cast c JOIN broken b ON b.oid = c.castfunc
  WHERE c.castcontext = 'i' OR c.casttarget < ${firstOwnOid}
 UNION ALL SELECT 1 FROM pg_amproc a JOIN broken b ON b.oid = a.amproc::oid
   JOIN pg_proc p ON p.oid = b.oid JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname NOT IN ('c', 'internal')
 UNION ALL SELECT 1 FROM pg_operator o JOIN broken b ON b.oid = o.oprcode
  WHERE o.oprname IN ('=', '<>', '<', '<=', '>', '>=')
     OR o.oid IN (SELECT m.amopopr FROM pg_amop m JOIN pg_am am ON am.oid = m.amopmethod
                   WHERE am.amname IN ('btree', 'hash'))
 UNION ALL SELECT 1 FROM pg_range r JOIN tainted t ON t.oid = r.rngsubtype
 UNION ALL SELECT 1 FROM pg_range r JOIN broken b ON b.oid IN (r.rngcanonical, r.rngsubdiff)`

/** What the database itself has, but the definitions of its views and policies. */
export const ownNamesQuestion = `${prelude}
WITH RECURSIVE ${volatileFunctions},
${volatileTypes},
broken AS (
 SELECT oid FROM volatile
 UNION SELECT p.oid FROM pg_proc p
  WHERE p.oid >= ${firstOwnOid}
    AND (array_append(p.proargtypes::oid[], p.prorettype) || p.proallargtypes) && ARRAY(SELECT oid FROM tainted)),
foreign_part(oid) AS (
 SELECT c.oid FROM pg_class c WHERE c.relkind = 'f'
 UNION SELECT i.inhparent FROM pg_inherits i JOIN foreign_part f ON f.oid = i.inhrelid)
SELECT * FROM (
 SELECT 'implicit', '', '' WHERE EXISTS (${implicits})
 UNION ALL
 SELECT 'type', t.typname::text, '' FROM pg_type t
  WHERE t.oid IN (SELECT oid FROM tainted UNION ALL
                  SELECT c.casttarget FROM pg_cast c JOIN broken b ON b.oid = c.castfunc)
 UNION ALL
 SELECT 'function', p.proname::text, concat(CASE WHEN bool_or(b.oid IS NOT NULL) THEN 'v' END,
        CASE WHEN bool_or(b.oid IS NOT NULL AND t.typtype IN ('c', 'd', 'p')) THEN 'r' END)
   FROM pg_proc p LEFT JOIN broken b USING (oid) LEFT JOIN pg_type t ON t.oid = p.proargtypes[0]
  WHERE p.oid >= ${firstOwnOid} GROUP BY p.proname
 UNION ALL
 SELECT 'operator', o.oprname::text, CASE WHEN bool_or(b.oid IS NOT NULL) THEN 'v' END
   FROM pg_operator o LEFT JOIN broken b ON b.oid = o.oprcode
  WHERE o.oid >= ${firstOwnOid} GROUP BY o.oprname
 UNION ALL
 SELECT 'relation', c.relname::text, string_agg(DISTINCT concat(
        CASE c.relkind WHEN 'v' THEN 'v' WHEN 'S' THEN 's' ELSE 't' END,
        CASE WHEN c.oid IN (SELECT oid FROM foreign_part) THEN 'f' END,
        CASE WHEN c.reltype IN (SELECT oid FROM tainted) THEN 'c' END,
        CASE WHEN c.relkind <> 'r' OR c.relhasrules
              OR c.oid IN (SELECT tgrelid FROM pg_trigger WHERE NOT tgisinternal) THEN 'u' END,
        CASE WHEN c.relrowsecurity AND c.oid IN (SELECT polrelid FROM pg_policy WHERE polcmd IN ('r', '*')) THEN 'p' END), '')
   FROM (SELECT * FROM ${ownRelations}) c GROUP BY c.relname
) own LIMIT ${ownNamesMax + 1}`

/** What reading a relation runs. It waits for nobody who changes one longer than the prelude says, and fails then. */
export const definitionsQuestion = `${prelude}
SELECT 'definition', name, CASE WHEN octet_length(definition) <= ${statementBytesMax} THEN definition END FROM (
 SELECT c.relname::text AS name, pg_get_viewdef(c.oid) AS definition
   FROM pg_class c WHERE c.oid >= ${firstOwnOid} AND c.relkind = 'v' AND c.relpersistence <> 't'
 UNION ALL
 SELECT c.relname::text, concat('SELECT ', pg_get_expr(p.polqual, p.polrelid))
   FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
  WHERE c.relrowsecurity AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
 LIMIT ${definitionsMax + 1}) definitions`
