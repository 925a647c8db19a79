import type { Timer, Timers } from '../../runtime/timers.ts'
import { Lexer, Token } from '../../sql/lexer.ts'
import { TransactionStatus } from '../../wire/codes.ts'
import {
  readDataRow,
  sync,
  writeBind,
  writeCloseStatement,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../wire/messages.ts'
import type { Client } from '../client/client.ts'
import { ClientRelay } from '../relay/client-relay.ts'
import type { Answer, LoginFailure } from '../relay/conversations.ts'
import type { ServerConnection, ServerUser } from '../server.ts'

/**
 * Moves a session to another server between two requests, without the client noticing: asks the old server what
 * the session has set, rebuilds that on the new one, and goes on there. What cannot be rebuilt (temporary tables,
 * LISTEN, held cursors, advisory locks, another role) makes the move impossible, and the session stays.
 */
export interface MoveOptions {
  client: Client
  timers: Timers
  /** Opens a connection to the node to move to, or takes an idle one. */
  openTarget: (user: ServerUser) => ServerConnection | undefined
  /** `moved` to the new server, or still on the old one with the reason. The client may have ended meanwhile. */
  done: (moved: ServerConnection | undefined, reason: string) => void
}

/** What a session carries that another server would not know. */
export interface SessionState {
  /** Sentences for what cannot be rebuilt elsewhere. */
  obstacles: string[]
  settings: [name: string, value: string][]
  prepared: { name: string; statement: string; fromSql: boolean; types: number[] }[]
  /** How far the session may have read: its next server must have come as far. An LSN as text. */
  position: string
}

/** A whole move takes no longer; the client is not read from meanwhile. */
const moveTimeoutMs = 2000
/** Between two looks at how far the other server has come. */
const catchUpPauseMs = 20
/** Prepared statements that are longer than this in all stay where they are. */
const preparedBytesMax = 256 * 1024
const questionName = 'pgherd_question'

/**
 * One row that tells everything. `pg_catalog` is named so that the session's search_path does not matter. Asked by
 * extended messages under a name of its own, so that the session's unnamed statement survives it.
 */
function question(hasSqlBodies: boolean): Buffer {
  const body = hasSqlBodies
    ? "coalesce(prosrc, '') || coalesce(pg_catalog.pg_get_function_sqlbody(oid), '')"
    : "coalesce(prosrc, '')"
  const sql = `SELECT
 (SELECT count(*) FROM pg_catalog.pg_listening_channels()),
 (SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable),
 pg_catalog.pg_my_temp_schema() <> 0,
 (SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()),
 session_user,
 current_user,
 (SELECT count(*) FROM pg_catalog.pg_proc
   WHERE oid >= 16384 AND prokind <> 'a'
     AND ${body} ~* '\\mset_config\\M|\\mset\\s+(session\\s+|local\\s+)?["\\w]+\\s*\\.\\s*["\\w]+\\s*(=|to\\M)'),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(name, setting)) FROM pg_catalog.pg_settings
   WHERE source = 'session' AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')),
 (SELECT coalesce(pg_catalog.sum(pg_catalog.octet_length(statement)), 0) > ${preparedBytesMax}
   FROM pg_catalog.pg_prepared_statements),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(name, statement, from_sql, parameter_types::oid[]))
   FROM pg_catalog.pg_prepared_statements
  WHERE name <> '${questionName}' AND (SELECT pg_catalog.sum(pg_catalog.octet_length(statement))
   FROM pg_catalog.pg_prepared_statements) <= ${preparedBytesMax}),
 CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
      ELSE pg_catalog.pg_current_wal_insert_lsn() END::text`
  return Buffer.concat([
    writeParse(questionName, sql, []),
    writeBind('', questionName),
    writeExecute(''),
    writeCloseStatement(questionName),
    sync,
  ])
}

const questionBefore14 = question(false)
const questionFrom14 = question(true)

export function moveSession(options: MoveOptions): void {
  new Move(options).start()
}

class Move implements ServerUser {
  readonly #options: MoveOptions
  readonly #old: ServerConnection
  #target: ServerConnection | undefined
  #state: SessionState | undefined
  #timer: Timer | undefined
  #over = false

  constructor(options: MoveOptions) {
    this.#options = options
    this.#old = options.client.server!
  }

  start(): void {
    const { client, timers, done } = this.#options
    const obstacle = this.#obstacle()
    if (obstacle !== undefined) return done(undefined, obstacle)
    this.#timer = timers.after(moveTimeoutMs, () => this.#onTimeout())
    client.hold()
    const version = Number.parseInt(this.#old.reported.get('server_version') ?? '', 10)
    this.#old.ask(version >= 14 ? questionFrom14 : questionBefore14, 1, answer =>
      this.#onSessionState(answer),
    )
  }

  /** What is known without asking. */
  #obstacle(): string | undefined {
    const { client } = this.#options
    const { relay } = client
    if (!(relay instanceof ClientRelay)) return 'it is pooled'
    if (this.#old.challenged) return 'only its client knows the password'
    if (relay.hiddenState) return 'it may hold settings that cannot be read back'
    if (relay.hasUnnamed && !relay.unnamed) return 'its unnamed statement is too long to be prepared again'
    const { reported } = this.#old
    // What is read back as text in another encoding would not be the same when it is written again.
    if (reported.get('client_encoding') !== 'UTF8') return 'its client_encoding is not UTF8'
    if (reported.get('standard_conforming_strings') !== 'on') return 'its standard_conforming_strings is off'
    return undefined
  }

  #onSessionState(answer: Answer): void {
    if (this.#gone()) return
    const state = answer.failed ? undefined : readSessionState(answer, this.#options.client.user)
    if (!state) return this.#stay('its state could not be read')
    const [obstacle] = state.obstacles
    if (obstacle !== undefined) return this.#stay(obstacle)
    this.#state = state
    const target = this.#options.openTarget(this)
    if (!target) return this.#stay('there is no other node to go to')
    this.#target = target
    if (target.isActive) this.#catchUp(target)
  }

  onServerReady(server: ServerConnection): void {
    if (server.challenged) return this.#stay('the other node asks for a password')
    this.#catchUp(server)
  }

  /** A session must not see less on its new server than it has seen: it waits until that has replayed as much. */
  #catchUp(target: ServerConnection): void {
    if (this.#gone() || !this.#state) return
    const sql = `SELECT NOT pg_catalog.pg_is_in_recovery()
      OR pg_catalog.pg_last_wal_replay_lsn() >= ${literal(this.#state.position)}::pg_catalog.pg_lsn`
    target.ask(writeQuery(sql), 1, answer => {
      if (this.#gone()) return
      const row = answer.replies[0]?.rows[0]
      if (answer.failed || !row) return this.#stay('the other node did not say how far it has come')
      if (readDataRow(row)[0] === 't') return this.#rebuild(target)
      this.#options.timers.after(catchUpPauseMs, () => this.#catchUp(target))
    })
  }

  #rebuild(target: ServerConnection): void {
    if (this.#gone() || !this.#state) return
    const { relay } = this.#options.client
    const { unnamed, hasUnnamed } = relay as ClientRelay
    const { messages, readyForQueries } = writeSessionState(this.#state, hasUnnamed ? unnamed : undefined)
    if (readyForQueries === 0) return this.#finish(target)
    target.ask(messages, readyForQueries, answer => {
      if (this.#gone()) return
      if (answer.failed || target.status !== TransactionStatus.Idle) {
        return this.#stay('its state could not be rebuilt on the other node')
      }
      this.#finish(target)
    })
  }

  #finish(target: ServerConnection): void {
    const { client, done } = this.#options
    this.#end()
    this.#target = undefined
    for (const [name, value] of target.reported) {
      if (this.#old.reported.get(name) !== value) client.tellParameter(name, value)
    }
    // Before the client goes on: it may end with what it has sent meanwhile.
    done(target, '')
    client.goOn(target)
    this.#old.release()
  }

  #stay(reason: string): void {
    if (this.#over) return
    this.#end()
    this.#dropTarget()
    const { client, done } = this.#options
    client.goOn(this.#old)
    if (this.#old.isClosed) this.#tellLost()
    done(undefined, reason)
  }

  #onTimeout(): void {
    if (this.#over) return
    if (this.#old.isActive) return this.#stay(`the other node did not answer within ${moveTimeoutMs} ms`)
    // The old server itself is silent: its session cannot go on either.
    this.#end()
    this.#dropTarget()
    this.#tellLost()
    this.#options.done(undefined, 'its server did not answer')
  }

  /** The client ended, or its server was lost, while its session was being moved. */
  #gone(): boolean {
    const { client, done } = this.#options
    if (this.#over) return true
    if (!client.isClosed && !this.#old.isClosed) return false
    this.#end()
    this.#dropTarget()
    if (!client.isClosed) this.#tellLost()
    done(undefined, 'the session ended')
    return true
  }

  #end(): void {
    this.#over = true
    this.#timer?.cancel()
  }

  #tellLost(): void {
    this.#options.client.end('server_lost', `the connection to ${this.#old.target.node} was lost`)
  }

  #dropTarget(): void {
    const target = this.#target
    this.#target = undefined
    target?.handOver(undefined)
    target?.destroy()
  }

  onChallenge(): void {
    this.#stay('the other node asks for a password')
  }

  onLoginNotice(): void {
    // The client has had its own when it logged in.
  }

  onLoginFailed(_server: ServerConnection, failure: LoginFailure): void {
    if (this.#gone()) return
    this.#stay(
      failure.kind === 'refused' ? 'the other node refused the login' : `the other node: ${failure.message}`,
    )
  }

  onAside(): void {
    // The same: what it says of parameters is compared at the end.
  }

  onStatementsGone(): void {
    // What is set up on the new server is asked of the old one.
  }

  onRetry(): void {
    // Only requests of pooled clients are sent again.
  }

  onServerData(): void {
    // Nothing is relayed before the session goes on.
  }

  onServerWritable(): void {
    // The proxy's own questions are small.
  }

  onServerLost(): void {
    if (!this.#gone()) this.#stay('the other node was lost')
  }
}

/** Reads the one row of `question`; undefined when it is not as expected. */
export function readSessionState(answer: Answer, loginUser: string): SessionState | undefined {
  const row = answer.replies[0]?.rows[0]
  if (!row) return undefined
  try {
    return sessionStateOf(readDataRow(row), Buffer.from(loginUser, 'latin1').toString())
  } catch {
    // Not the JSON that was asked for: an encoding or a server that is not understood.
    return undefined
  }
}

function sessionStateOf(columns: (string | undefined)[], loginUser: string): SessionState {
  const [
    channels,
    cursors,
    temporary,
    locks,
    sessionUser,
    currentUser,
    setters,
    settings,
    tooLong,
    prepared,
    position,
  ] = columns
  const obstacles: string[] = []
  if (channels !== '0') obstacles.push('it listens on a channel')
  if (cursors !== '0') obstacles.push('it has an open cursor WITH HOLD')
  if (temporary !== 'f') obstacles.push('it has temporary tables')
  if (locks !== '0') obstacles.push('it holds an advisory lock')
  if (sessionUser !== loginUser || currentUser !== loginUser) obstacles.push('it runs as another role')
  if (setters !== '0') obstacles.push('functions of its database may have set what cannot be read back')
  if (tooLong !== 'f') obstacles.push('its prepared statements are too long')
  type PreparedRow = [string, string, boolean, number[]]
  const rows = prepared === undefined ? [] : (JSON.parse(prepared) as PreparedRow[])
  const statements = rows.map(([name, statement, fromSql, types]) => ({
    name,
    statement,
    fromSql,
    types: types.map(Number),
  }))
  if (statements.some(({ statement, fromSql }) => fromSql && !isOnePrepare(statement))) {
    obstacles.push('it has a statement that was prepared together with others')
  }
  return {
    obstacles,
    settings: settings === undefined ? [] : (JSON.parse(settings) as [string, string][]),
    prepared: statements,
    position: position ?? '',
  }
}

/** The server keeps the whole text that a PREPARE stood in: only one that is nothing else may be run again. */
function isOnePrepare(statement: string): boolean {
  const bytes = Buffer.from(statement)
  const lexer = new Lexer(bytes, 0, bytes.length)
  if (!lexer.next() || lexer.kind !== Token.Word || lexer.text() !== 'prepare') return false
  let ended = false
  while (lexer.next()) {
    if (ended) return false
    ended = lexer.isOther(0x3b)
  }
  return true
}

/**
 * The messages that make a fresh session carry the same state, and how many ReadyForQuery answer them. `unnamed`:
 * the Parse message of its unnamed statement.
 */
export function writeSessionState(
  state: SessionState,
  unnamed: Buffer | undefined,
): { messages: Buffer; readyForQueries: number } {
  const messages: Buffer[] = []
  let readyForQueries = 0
  if (state.settings.length > 0) {
    const calls = state.settings.map(
      ([name, value]) => `pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`,
    )
    messages.push(writeQuery(`SELECT ${calls.join(', ')}`))
    readyForQueries++
  }
  for (const { statement, fromSql } of state.prepared) {
    if (!fromSql) continue
    messages.push(writeQuery(statement))
    readyForQueries++
  }
  const parses = state.prepared.filter(({ fromSql }) => !fromSql)
  if (parses.length > 0 || unnamed) {
    for (const { name, statement, types } of parses) messages.push(writeParse(name, statement, types))
    if (unnamed) messages.push(unnamed)
    messages.push(sync)
    readyForQueries++
  }
  return { messages: Buffer.concat(messages), readyForQueries }
}

/** A string constant that means the same with standard_conforming_strings on and off. */
function literal(value: string): string {
  const quoted = value.replaceAll("'", "''")
  return quoted.includes('\\') ? `E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`
}
