import {
  readDataRowBytes,
  sync,
  writeBindText,
  writeCloseStatement,
  writeExecute,
  writeParse,
} from '../../wire/messages.ts'
import type { Answer } from '../relay/conversations.ts'
import { Settings } from './settings.ts'

/**
 * Why a client keeps its server connection between two transactions: the session holds something there that no
 * other connection has.
 */
export const pinReasons = {
  listen: 'it listens on a channel (LISTEN)',
  held_cursor: 'it has an open cursor WITH HOLD',
  temporary_object: 'it has temporary tables or other temporary objects',
  advisory_lock: 'it holds a session-level advisory lock',
  session_authorization: 'it has changed its session_user (SET SESSION AUTHORIZATION)',
  sql_prepare: 'it has a statement prepared by SQL (PREPARE)',
  privileged_setting: 'it has a setting that its user may neither set nor reset',
  unseen_setting: 'it has set something under a name that could not be seen (set_config)',
  other_state:
    'it has something that cannot be asked for (LOAD, setseed, temporary replication slots and the like)',
  long_statement: 'a statement was too long to be looked through',
  unread_state: 'its state could not be read from the server',
  sequence: 'it may ask for the last value that it took from a sequence (currval, lastval)',
} as const
export type PinReason = keyof typeof pinReasons

/** Conditions in SQL for what only the connection itself has. `pg_catalog` is named: search_path does not matter. */
export const sharedConditions = {
  listens: 'EXISTS (SELECT FROM pg_catalog.pg_listening_channels())',
  holdsCursor: 'EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)',
  hasTemporary: `pg_catalog.pg_my_temp_schema() <> 0 AND EXISTS (SELECT FROM pg_catalog.pg_depend
    WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
      AND refobjid = pg_catalog.pg_my_temp_schema())`,
  holdsLock: `EXISTS (SELECT FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())`,
} as const

const sql = `SELECT
 ${sharedConditions.listens},
 ${sharedConditions.holdsCursor},
 ${sharedConditions.hasTemporary},
 ${sharedConditions.holdsLock},
 session_user,
 pg_catalog.current_setting('role'),
 EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql),
 pg_catalog.current_setting('is_superuser') = 'off' AND EXISTS (SELECT FROM pg_catalog.pg_settings
   WHERE source = 'session' AND context = 'superuser'),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(name, setting)) FROM pg_catalog.pg_settings
   WHERE source = 'session' AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(name, pg_catalog.current_setting(name, true)))
   FROM pg_catalog.unnest($1::pg_catalog.text[]) AS name)`

const shortSql = `SELECT pg_catalog.current_setting($1, true),
 (SELECT source FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) = $1)`

const textOid = 25
const textArrayOid = 1009
const parse = writeParse('', sql, [textArrayOid])
const parseShort = writeParse('', shortSql, [textOid])
// Closed again: a client that has no unnamed statement must find none.
const execute = Buffer.concat([writeExecute(''), writeCloseStatement(''), sync])

/** The whole question. It leaves no statement behind that `pg_prepared_statements` would show. */
export function writeSessionQuestion(customNames: Iterable<string>): Buffer {
  const names = [...customNames].map(each => `"${each.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`)
  return Buffer.concat([parse, writeBindText('', '', [`{${names.join(',')}}`]), execute])
}

/** What one setting is, when a statement has done nothing but set or reset it. */
export function writeSettingQuestion(name: string): Buffer {
  return Buffer.concat([parseShort, writeBindText('', '', [name]), execute])
}

/** The value, null when the session has not set it; undefined when the answer is not what was asked for. */
export function readSettingAnswer(answer: Answer, name: string): string | null | undefined {
  const row = answer.replies[0]?.rows[0]
  if (answer.failed || !row) return undefined
  const [value, source] = readDataRowBytes(row)
  // Of a made-up class: whoever has ever set it has it.
  if (name.includes('.')) return value ?? null
  return source === 'session' ? (value ?? null) : null
}

/** What a server says about the session on it. */
export interface SessionAnswer {
  pins: PinReason[]
  /** What the session has set itself; settings of a made-up class only as far as they were asked for. */
  settings: ReadonlyMap<string, string>
}

/** Undefined when the answer is not what was asked for. `user` is whom the connection was opened for. */
export function readSessionAnswer(answer: Answer, user: string): SessionAnswer | undefined {
  const row = answer.replies[0]?.rows[0]
  if (answer.failed || !row) return undefined
  const [listens, cursor, temporary, lock, sessionUser, role, prepared, privileged, settings, custom] =
    readDataRowBytes(row)
  const pins: PinReason[] = []
  if (listens !== 'f') pins.push('listen')
  if (cursor !== 'f') pins.push('held_cursor')
  if (temporary !== 'f') pins.push('temporary_object')
  if (lock !== 'f') pins.push('advisory_lock')
  if (sessionUser !== user) pins.push('session_authorization')
  if (prepared !== 'f') pins.push('sql_prepare')
  if (privileged !== 'f') pins.push('privileged_setting')
  try {
    const values = new Map<string, string>()
    for (const [each, value] of readPairs(settings)) values.set(each.toLowerCase(), value ?? '')
    for (const [each, value] of readPairs(custom)) if (value !== null) values.set(each, value)
    if (role !== undefined && role !== 'none') values.set('role', role)
    return { pins, settings: values }
  } catch {
    // Not the JSON that was asked for: an encoding or a server that is not understood.
    return undefined
  }
}

function readPairs(json: string | undefined): [string, string | null][] {
  return json === undefined ? [] : (JSON.parse(json) as [string, string | null][])
}

/** The client's settings: what it asked for when it connected, and what it has set since. */
export function settingsOf(base: Settings, answer: SessionAnswer): Settings {
  const values = new Map([...base.values, ...answer.settings])
  // A RESET leaves a setting of a made-up class empty, not as it was at the start.
  for (const [name, value] of base.values)
    if (values.get(name) === '' && name.includes('.')) values.set(name, value)
  return Settings.of(values)
}
