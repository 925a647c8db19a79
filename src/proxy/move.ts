import { TransactionStatus } from '../wire/codes.ts'
import { readDataRow, sync, writeParse, writeQuery } from '../wire/messages.ts'
import type { Client } from './client.ts'
import type { Answer, LoginFailure, ServerConnection, ServerUser } from './server.ts'

/**
 * Moves a session to another server between two requests, without the client noticing: asks the old server what
 * the session has set, rebuilds that on the new one, and goes on there. What cannot be rebuilt (temporary tables,
 * LISTEN, held cursors, advisory locks, another role) makes the move impossible, and the session stays.
 */
export interface MoveOptions {
  client: Client
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
}

/** One row that tells everything; `pg_catalog` is named so that the session's search_path does not matter. */
const question = writeQuery(`SELECT
 (SELECT count(*) FROM pg_catalog.pg_listening_channels()),
 (SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable),
 pg_catalog.pg_my_temp_schema() <> 0,
 (SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()),
 session_user,
 current_user,
 (SELECT count(*) FROM pg_catalog.pg_proc
   WHERE oid >= 16384 AND prosrc ~* '\\m(set_config|set)\\M'),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(name, setting)) FROM pg_catalog.pg_settings
   WHERE source = 'session' AND name NOT LIKE 'transaction%'),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(name, statement, from_sql, parameter_types::oid[]))
   FROM pg_catalog.pg_prepared_statements)`)

export function moveSession(options: MoveOptions): void {
  new Move(options).start()
}

class Move implements ServerUser {
  readonly #options: MoveOptions
  readonly #old: ServerConnection
  #target: ServerConnection | undefined
  #state: SessionState | undefined
  #over = false

  constructor(options: MoveOptions) {
    this.#options = options
    this.#old = options.client.server!
  }

  start(): void {
    const { client } = this.#options
    if (client.hiddenState)
      return this.#options.done(undefined, 'it may hold settings that cannot be read back')
    if (this.#old.challenged) return this.#options.done(undefined, 'only its client knows the password')
    client.hold()
    this.#old.ask(question, 1, answer => this.#onSessionState(answer))
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
    if (target.isActive) this.#rebuild(target)
  }

  onServerReady(server: ServerConnection): void {
    if (server.challenged) return this.#stay('the other node asks for a password')
    this.#rebuild(server)
  }

  #rebuild(target: ServerConnection): void {
    if (this.#gone() || !this.#state) return
    const { messages, readyForQueries } = writeSessionState(this.#state)
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
    this.#over = true
    this.#target = undefined
    for (const [name, value] of target.reported) {
      if (this.#old.reported.get(name) !== value) client.tellParameter(name, value)
    }
    client.goOn(target)
    this.#old.release(true)
    done(target, '')
  }

  #stay(reason: string): void {
    if (this.#over) return
    this.#over = true
    this.#dropTarget()
    const { client, done } = this.#options
    client.goOn(this.#old)
    if (this.#old.isClosed) client.end('server_lost', `the connection to ${this.#old.target.node} was lost`)
    done(undefined, reason)
  }

  /** The client ended, or its server was lost, while its session was being moved. */
  #gone(): boolean {
    const { client, done } = this.#options
    if (this.#over) return true
    if (!client.isClosed && !this.#old.isClosed) return false
    this.#over = true
    this.#dropTarget()
    if (!client.isClosed) client.end('server_lost', `the connection to ${this.#old.target.node} was lost`)
    done(undefined, 'the session ended')
    return true
  }

  #dropTarget(): void {
    const target = this.#target
    this.#target = undefined
    target?.handOver(undefined)
    target?.destroy()
  }

  onLoginMessage(): void {
    this.#stay('the other node asks for a password')
  }

  onLoginFailed(_server: ServerConnection, failure: LoginFailure): void {
    if (this.#gone()) return
    this.#stay(
      failure.kind === 'refused' ? 'the other node refused the login' : `the other node: ${failure.message}`,
    )
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
  const [channels, cursors, temporary, locks, sessionUser, currentUser, setters, settings, prepared] =
    readDataRow(row)
  const obstacles: string[] = []
  if (channels !== '0') obstacles.push('it listens on a channel')
  if (cursors !== '0') obstacles.push('it has an open cursor WITH HOLD')
  if (temporary !== 'f') obstacles.push('it has temporary tables')
  if (locks !== '0') obstacles.push('it holds an advisory lock')
  if (sessionUser !== loginUser || currentUser !== loginUser) obstacles.push('it runs as another role')
  if (setters !== '0') obstacles.push('functions of its database may have set what cannot be read back')
  type PreparedRow = [string, string, boolean, number[]]
  return {
    obstacles,
    settings: settings === undefined ? [] : (JSON.parse(settings) as [string, string][]),
    prepared: (prepared === undefined ? [] : (JSON.parse(prepared) as PreparedRow[])).map(
      ([name, statement, fromSql, types]) => ({ name, statement, fromSql, types: types.map(Number) }),
    ),
  }
}

/** The messages that make a fresh session carry the same state, and how many ReadyForQuery answer them. */
export function writeSessionState(state: SessionState): { messages: Buffer; readyForQueries: number } {
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
  if (parses.length > 0) {
    for (const { name, statement, types } of parses) messages.push(writeParse(name, statement, types))
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
