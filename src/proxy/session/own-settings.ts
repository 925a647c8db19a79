import {
  type Consistency,
  consistencyForms,
  parseConsistency,
  writeConsistency,
} from '../../config/consistency.ts'
import { parseRouteWish } from '../../routing/hints.ts'
import { readLsn } from '../../topology/lsn.ts'
import { writeErrorResponse } from '../../wire/messages.ts'

/** Settings that are pgherd's own: any session can set them, as PostgreSQL takes any name with a dot. */
export const ownSettings = {
  route: 'pgherd.route',
  consistency: 'pgherd.consistency',
  token: 'pgherd.token',
} as const
export type OwnSetting = (typeof ownSettings)[keyof typeof ownSettings]

const forms: Readonly<Record<string, { isValid: (value: string) => boolean; expected: string }>> = {
  [ownSettings.route]: {
    isValid: value => parseRouteWish(value) !== undefined,
    expected: '`auto`, `primary` or `replica`',
  },
  [ownSettings.consistency]: {
    isValid: value => parseConsistency(value) !== undefined,
    expected: consistencyForms,
  },
  [ownSettings.token]: {
    isValid: value => value === '' || readLsn(value) !== undefined,
    expected: 'what `SHOW pgherd.token` has given, as 0/3000148',
  },
}

const prefix = 'pgherd.'

/** Whether a statement that sets something of these names has to be looked at. */
export function setsOwn(names: readonly string[]): boolean {
  return names.some(name => name.startsWith(prefix))
}

const ownNames: readonly string[] = Object.values(ownSettings)

/** Whether a setting, in lower case, means something to pgherd alone. Others of its prefix may mean something to users. */
export function isOwn(name: string): boolean {
  return ownNames.includes(name)
}

/** The ErrorResponse for a SET of one of these settings to what it cannot be; `text` one character a byte. */
export function refusalOfSet(text: string): Buffer | undefined {
  const set =
    /^\s*set\s+(?:session\s+|local\s+)?(pgherd\.\w+)\s*(?:=|\bto\b)\s*('[^']*'|[\w.:/-]+)\s*;?\s*$/i.exec(
      text,
    )
  if (!set) return undefined
  const name = set[1]!.toLowerCase()
  const value = set[2]!.replace(/^'|'$/g, '')
  const form = Object.hasOwn(forms, name) ? forms[name] : undefined
  if (/^default$/i.test(set[2]!) || form?.isValid(value)) return undefined
  if (!form) {
    return writeErrorResponse({
      severity: 'ERROR',
      code: '42704',
      message: `unrecognized configuration parameter "${name}"`,
      hint: `pgherd knows ${Object.keys(forms).join(', ')}.`,
    })
  }
  return writeErrorResponse({
    severity: 'ERROR',
    code: '22023',
    message: `invalid value for parameter "${name}": "${value}"`,
    hint: `It must be ${form.expected}.`,
  })
}

/** Where a statement would go is only told in its place when nothing else is going on. */
export const explainsElsewhere: Buffer = writeErrorResponse({
  severity: 'ERROR',
  code: '0A000',
  message: 'pgherd cannot explain a statement here; nothing was run',
  hint: 'Send it as a simple query by itself, outside of a transaction.',
})

const longestShow = 64

/** Which of these settings `text[start, end)` asks for by `SHOW`; costs a look at two letters for any other statement. */
export function shownBy(text: Buffer, start: number, end: number): OwnSetting | undefined {
  if ((text[start]! | 0x20) !== 0x73 || (text[start + 1]! | 0x20) !== 0x68 || end - start > longestShow)
    return undefined
  const name = /^show\s+(pgherd\.\w+)\s*;?\s*$/i.exec(text.toString('latin1', start, end))?.[1]?.toLowerCase()
  return Object.values(ownSettings).find(each => each === name)
}

/**
 * What answers SHOW of one of these. PostgreSQL does not know the name before the session has set it: what counts then
 * is told, which for the consistency is that of the client's database and user.
 */
export function queryThatShows(setting: OwnSetting, consistency: Consistency): string {
  switch (setting) {
    case ownSettings.token:
      return tokenQuery
    case ownSettings.route:
      return valueOr(setting, 'auto', 'auto|primary|replica')
    case ownSettings.consistency:
      return valueOr(setting, writeConsistency(consistency), 'strong|causal|eventual|bounded:[0-9]{1,9}(ms)?')
    default:
      return setting satisfies never
  }
}

/** What the session has set, where it is one of `forms` (a regular expression); else what counts in its place. */
function valueOr(setting: OwnSetting, otherwise: string, forms: string): string {
  return `SELECT CASE WHEN value OPERATOR(pg_catalog.~*) '^[[:space:]]*(${forms})[[:space:]]*$'
  THEN value ELSE '${otherwise}' END AS "${setting}"
  FROM (SELECT pg_catalog.current_setting('${setting}', true) AS value) AS s`
}

/**
 * What answers `SHOW pgherd.token`: how far the server is, which is at least as far as whatever the session has written
 * or read. Another proxy's reads can be told to see as much. The header of an empty page does not count: `endOfRecords`.
 */
const tokenQuery = `SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
  THEN pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text
  ELSE (SELECT pg_catalog.upper(pg_catalog.to_hex(pg_catalog.div(n, 4294967296)::pg_catalog.int8) || '/' ||
      pg_catalog.to_hex(pg_catalog.mod(n, 4294967296)::pg_catalog.int8))
    FROM (SELECT b - CASE WHEN o = 40 THEN 40 WHEN pg_catalog.mod(b, 8192) = 24 THEN 24 ELSE 0 END AS n
      FROM (SELECT l - '0/0'::pg_catalog.pg_lsn AS b, (pg_catalog.pg_walfile_name_offset(l)).file_offset AS o
        FROM (SELECT pg_catalog.pg_current_wal_insert_lsn() AS l) AS p) AS q) AS r)
  END AS "pgherd.token"`
