import { extensionsWithState } from '../../sql/foreign-code.ts'
import { touchyBuiltins } from '../../sql/vocabulary.ts'

/**
 * The questions behind `loadSessionFacts`, for PostgreSQL 11 to 18 and any user that may log in. Each is one simple
 * Query whose last statement gives rows as `FactsRow` describes them. SET LOCAL ends with the question: operators
 * and functions are PostgreSQL's own, whatever search_path the session has.
 */
// A lock that somebody holds is not waited for as long as the client would.
const prelude = "SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '1s';"

export const namesMax = 60_000
export const expressionsMax = 2000
export const edgesMax = 100_000
/** Small enough that reading a page holds nobody up. */
export const bodiesPageRows = 50

const bodyCharactersMax = 64 * 1024
/** Where the objects begin that initdb did not make. */
export const firstOwnOid = 16384

const list = (names: readonly string[]): string => names.map(name => `'${name}'`).join(', ')

/**
 * Names of functions. Those of PostgreSQL itself that cannot be called by hand (they take or give internal values)
 * or hardly are (they read and write a type's text) are left out: calling one counts as calling an unknown function.
 */
export const namesQuestion = `${prelude}
SELECT 'builtin', p.proname::text FROM pg_catalog.pg_proc p
 WHERE p.oid < ${firstOwnOid}
   AND p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype, 'event_trigger'::regtype, 'cstring'::regtype)
   AND 'internal'::regtype <> ALL (p.proargtypes::oid[])
   AND 'cstring'::regtype <> ALL (p.proargtypes::oid[])
 GROUP BY p.proname
UNION ALL
SELECT * FROM (SELECT 'function', p.proname::text FROM pg_catalog.pg_proc p
                WHERE p.oid >= ${firstOwnOid} GROUP BY p.proname LIMIT ${namesMax}) own`

/** The tree of an expression tells what it calls by oid: `text` is asked for only where `tree` has a touchy one. */
function expression(
  kind: string,
  name: string,
  text: string,
  tree: string,
  from: string,
  holder: string,
): string {
  return `SELECT 'expression', '${kind}', ${name}::text, ${text}, ${holder}
 FROM ${from}, touchy WHERE ${tree} ~ touchy.pattern`
}

const relationHolder = (oid: string): string => `'pg_class', ${oid}::text`
const typeHolder = (oid: string): string => `'pg_type', ${oid}::text`

/** What calls PostgreSQL's own touchy functions, which leaves no trace among the dependencies. */
export const expressionsQuestion = `${prelude}
WITH touchy AS (
 SELECT ':(funcid (' || string_agg(p.oid::text, '|') || ')|relid ' || 'pg_catalog.pg_settings'::regclass::oid || ') '
     AS pattern
   FROM pg_catalog.pg_proc p WHERE p.oid < ${firstOwnOid} AND p.proname IN (${list(touchyBuiltins)}))
SELECT * FROM (
${[
  expression(
    'relation',
    'c.relname',
    `CASE WHEN r.rulename = '_RETURN' THEN pg_get_viewdef(c.oid) ELSE pg_get_ruledef(r.oid) END`,
    `concat(r.ev_action::text, r.ev_qual::text)`,
    `pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND r.oid >= ${firstOwnOid}`,
    relationHolder('c.oid'),
  ),
  expression(
    'relation',
    'c.relname',
    'pg_get_expr(d.adbin, d.adrelid)',
    'd.adbin::text',
    `pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c ON c.oid = d.adrelid AND d.oid >= ${firstOwnOid}`,
    relationHolder('c.oid'),
  ),
  expression(
    'relation',
    'c.relname',
    'pg_get_constraintdef(k.oid)',
    'k.conbin::text',
    'pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid',
    relationHolder('c.oid'),
  ),
  expression(
    'relation',
    't.typname',
    'pg_get_constraintdef(k.oid)',
    'k.conbin::text',
    'pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid',
    typeHolder('t.oid'),
  ),
  expression(
    'relation',
    'c.relname',
    `concat_ws(' , ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))`,
    'concat(p.polqual::text, p.polwithcheck::text)',
    'pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid',
    relationHolder('c.oid'),
  ),
  expression(
    'relation',
    'c.relname',
    'pg_get_triggerdef(t.oid)',
    't.tgqual::text',
    'pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid',
    relationHolder('c.oid'),
  ),
  expression(
    'relation',
    'c.relname',
    'pg_get_indexdef(i.indexrelid)',
    'concat(i.indexprs::text, i.indpred::text)',
    'pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid',
    relationHolder('c.oid'),
  ),
  expression(
    'relation',
    't.typname',
    'pg_get_expr(t.typdefaultbin, 0)',
    't.typdefaultbin::text',
    'pg_catalog.pg_type t',
    typeHolder('t.oid'),
  ),
  expression(
    'function',
    'p.proname',
    'pg_get_function_arguments(p.oid)',
    'p.proargdefaults::text',
    `(SELECT * FROM pg_catalog.pg_proc WHERE oid >= ${firstOwnOid}) p`,
    `'pg_proc', p.oid::text`,
  ),
].join('\nUNION ALL\n')}) expressions LIMIT ${expressionsMax + 1}`

/** Functions whose code is looked at; C functions are, where their extension keeps state or they have none. */
const ownFunctions = `SELECT p.oid, p.proname, p.prosrc, p.prokind, l.lanname, e.extname
   FROM pg_catalog.pg_proc p
   JOIN pg_catalog.pg_language l ON l.oid = p.prolang
   LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
   LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
  WHERE p.oid >= ${firstOwnOid}
    AND (l.lanname <> 'c' OR e.extname IS NULL OR e.extname IN (${list(extensionsWithState)}))`

/** One page of sources, in the order of oids, of which the last is given to ask for the next page. */
export function bodiesQuestion(after: string): string {
  return `${prelude}
SELECT 'body', f.proname::text, f.lanname::text, coalesce(f.extname::text, ''),
       CASE WHEN f.lanname = 'sql' AND f.prosrc = '' THEN pg_get_functiondef(f.oid)
            WHEN length(f.prosrc) <= ${bodyCharactersMax} THEN f.prosrc END,
       f.oid::text
  FROM (${ownFunctions}) f
 WHERE f.oid > ${after} AND f.prokind <> 'a' ORDER BY f.oid LIMIT ${bodiesPageRows}`
}

/** An object by its catalog and oid. */
export interface CatalogObject {
  catalog: string
  oid: string
}

/** What must be the same while the facts are: how many rows there are, and by which transactions they were written. */
export const fingerprintQuestion = `${prelude}
SELECT concat_ws(' ', ${[
  `pg_proc WHERE oid >= ${firstOwnOid}`,
  `pg_depend WHERE objid >= ${firstOwnOid} AND refobjid >= ${firstOwnOid}
      AND (refclassid IN ('pg_proc'::regclass, 'pg_type'::regclass)
        OR refclassid = 'pg_class'::regclass AND classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass))`,
  `pg_rewrite WHERE oid >= ${firstOwnOid}`,
  `pg_attrdef`,
  `pg_constraint WHERE contype = 'f' OR conbin IS NOT NULL`,
  `pg_policy`,
  `pg_trigger WHERE NOT tgisinternal`,
  `pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL`,
  `pg_inherits`,
  `pg_event_trigger`,
  `pg_extension`,
]
  .map(rows => `(SELECT concat(count(*), '/', sum(xmin::text::bigint)) FROM pg_catalog.${rows})`)
  .join(',\n ')})`

/**
 * What depends on the database's own functions and on `holders`, directly or through others. A table is taken to
 * depend on its triggers, policies, defaults, constraints, indexes and column types; a view on what it selects
 * from; a table on those that refer to it or
 * inherit from it; a row type on its columns.
 */
export function edgesQuestion(holders: readonly CatalogObject[]): string {
  const touched = holders.map(({ catalog, oid }) => `('${catalog}'::regclass::oid, ${oid}::oid)`)
  return `${prelude}
WITH RECURSIVE dep AS (
 SELECT DISTINCT d.classid, d.objid, d.refclassid AS pc, d.refobjid AS po
   FROM pg_catalog.pg_depend d
  WHERE d.objid >= ${firstOwnOid} AND d.refobjid >= ${firstOwnOid}
    AND (d.refclassid IN ('pg_proc'::regclass, 'pg_type'::regclass)
      OR d.refclassid = 'pg_class'::regclass AND d.classid IN
         ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass))),
edge AS (
 SELECT 'pg_class'::regclass::oid AS hc, r.ev_class AS ho, pc, po
   FROM dep JOIN pg_catalog.pg_rewrite r ON classid = 'pg_rewrite'::regclass AND objid = r.oid
 UNION SELECT 'pg_class'::regclass::oid, t.tgrelid, pc, po
   FROM dep JOIN pg_catalog.pg_trigger t ON classid = 'pg_trigger'::regclass AND objid = t.oid
 UNION SELECT 'pg_class'::regclass::oid, a.adrelid, pc, po
   FROM dep JOIN pg_catalog.pg_attrdef a ON classid = 'pg_attrdef'::regclass AND objid = a.oid
 UNION SELECT 'pg_class'::regclass::oid, p.polrelid, pc, po
   FROM dep JOIN pg_catalog.pg_policy p ON classid = 'pg_policy'::regclass AND objid = p.oid
 UNION SELECT CASE WHEN k.conrelid <> 0 THEN 'pg_class'::regclass::oid ELSE 'pg_type'::regclass::oid END,
              CASE WHEN k.conrelid <> 0 THEN k.conrelid ELSE k.contypid END, pc, po
   FROM dep JOIN pg_catalog.pg_constraint k ON classid = 'pg_constraint'::regclass AND objid = k.oid
 UNION SELECT classid, coalesce(i.indrelid, objid), pc, po
   FROM dep LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = objid
  WHERE classid = 'pg_class'::regclass
 UNION SELECT classid, objid, pc, po FROM dep WHERE classid IN ('pg_proc'::regclass, 'pg_type'::regclass)
 UNION SELECT 'pg_event_trigger'::regclass::oid, 0::oid, pc, po FROM dep WHERE classid = 'pg_event_trigger'::regclass
 UNION SELECT 0::oid, 0::oid, pc, po FROM dep
  WHERE classid IN ('pg_operator'::regclass, 'pg_cast'::regclass, 'pg_amproc'::regclass, 'pg_amop'::regclass,
                    'pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_conversion'::regclass)
 UNION SELECT 'pg_class'::regclass::oid, k.confrelid, 'pg_class'::regclass::oid, k.conrelid
   FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'
 UNION SELECT 'pg_class'::regclass::oid, i.inhparent, 'pg_class'::regclass::oid, i.inhrelid
   FROM pg_catalog.pg_inherits i
 UNION SELECT 'pg_type'::regclass::oid, t.oid, 'pg_class'::regclass::oid, t.typrelid
   FROM pg_catalog.pg_type t WHERE t.typrelid >= ${firstOwnOid}),
reached AS (
 SELECT 'pg_proc'::regclass::oid AS class, f.oid AS object FROM (${ownFunctions}) f
 ${touched.length > 0 ? `UNION SELECT * FROM (VALUES ${touched.join(', ')}) touched` : ''}
 UNION SELECT e.hc, e.ho FROM reached JOIN edge e ON e.pc = reached.class AND e.po = reached.object)
SELECT * FROM (
 SELECT DISTINCT 'edge', ${kindOf('e.hc')}, coalesce(${nameOf('e.hc', 'e.ho')}, ''),
        ${kindOf('e.pc')}, coalesce(${nameOf('e.pc', 'e.po')}, '')
   FROM reached JOIN edge e ON e.pc = reached.class AND e.po = reached.object
  WHERE (e.hc, e.ho) <> (e.pc, e.po)) edges LIMIT ${edgesMax + 1}`
}

function kindOf(catalog: string): string {
  return `CASE ${catalog} WHEN 'pg_proc'::regclass THEN 'function' WHEN 0 THEN 'unnamed'
             WHEN 'pg_event_trigger'::regclass THEN 'definition' ELSE 'relation' END`
}

function nameOf(catalog: string, oid: string): string {
  return `CASE ${catalog}
             WHEN 'pg_proc'::regclass THEN (SELECT p.proname::text FROM pg_catalog.pg_proc p WHERE p.oid = ${oid})
             WHEN 'pg_class'::regclass THEN (SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.oid = ${oid})
             WHEN 'pg_type'::regclass THEN (SELECT t.typname::text FROM pg_catalog.pg_type t WHERE t.oid = ${oid})
        END`
}
