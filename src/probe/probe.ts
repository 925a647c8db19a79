import { Socket } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { Client } from 'pg'
import type { Clock } from '../runtime/clock.ts'
import { type Timers, within } from '../runtime/timers.ts'
import type { NodeFacts } from '../topology/types.ts'
import { type FactsRow, factsFromRow, factsSql } from './facts.ts'
import { acceptsOthers, classifyFailure, type ProbeFailure, retryDelayMs } from './failure.ts'

/** How a PostgreSQL server is reached to be asked about itself. The role needs no more than `pg_monitor`. */
export interface PostgresAddress {
  /** Host name, IP address, or the folder of the unix socket (starts with `/`). */
  host: string
  port: number
  user: string
  database: string
  password?: string | undefined
  tls?: ConnectionOptions | undefined
}

export interface ProbeOptions {
  postgres: PostgresAddress
  /** Limit for connecting, and for each answer. A server that takes longer counts as not accepting. */
  timeoutMs: number
  /**
   * The connection is replaced by a new one this often. A connection that is open says nothing about whether
   * new ones are accepted: a server that shuts down in smart mode, or whose postmaster hangs, serves it still.
   */
  renewMs: number
  /** What the server's `pg_stat_activity` shows. */
  applicationName: string
  clock: Clock
  timers: Timers
}

/** What a probe found. With `facts`, `warning` says why a new connection is refused although an old one works. */
export type Sample =
  | { facts: NodeFacts; warning: ProbeFailure | undefined; failure?: undefined }
  | { facts?: undefined; failure: ProbeFailure }

class ProbeTimeout extends Error {
  readonly code = 'probe_timeout'
}

interface Session {
  client: Client
  socket: Socket
  sql: string
  renewAtMs: number
}

/** A stopped server never reads our goodbye: the socket is taken away after this. */
const goodbyeLimitMs = 300

/**
 * Asks one PostgreSQL about itself over one connection that it keeps, renews and reopens. `sample` never
 * rejects: what goes wrong is an answer too. One call at a time.
 */
export class Probe {
  readonly #options: ProbeOptions
  readonly #where: string
  #session: Session | undefined
  #connecting: Socket | undefined
  #closed = false
  #failure: ProbeFailure | undefined
  #attempts = 0
  #retryAtMs = 0

  constructor(options: ProbeOptions) {
    this.#options = options
    const { host, port } = options.postgres
    this.#where = host.startsWith('/') ? `${host}/.s.PGSQL.${port}` : `${host}:${port}`
  }

  /** With `fresh` a new connection is opened for it, if the last refusal is not too recent. */
  async sample({ fresh = false } = {}): Promise<Sample> {
    const session = this.#session
    if (fresh || !session || this.#options.clock.nowMs() >= session.renewAtMs) await this.#connect()
    const answer = await this.#ask()
    // The connection had gone: the server restarted, or threw us off. Only a new one tells which.
    if (answer.failure && session && this.#attempts === 0) {
      await this.#connect()
      return this.#ask()
    }
    return answer
  }

  /** Lets go of the connection; resolves when the socket is closed, within 300 ms. A sample under way fails. */
  async close(): Promise<void> {
    this.#closed = true
    this.#connecting?.destroy()
    const session = this.#session
    this.#session = undefined
    this.#failure ??= { kind: 'unreachable', reason: 'nobody asks it any more' }
    if (session) await this.#discard(session)
  }

  /** Opens a connection and puts it in place of the old one; on failure decides whether the old one still counts. */
  async #connect(): Promise<void> {
    if (this.#closed || this.#options.clock.nowMs() < this.#retryAtMs) return
    const old = this.#session
    try {
      const session = await this.#open()
      if (this.#closed) return await this.#discard(session)
      this.#session = session
      this.#failure = undefined
      this.#attempts = 0
      // Waited for, so that the old connection does not count among those of the server in every other answer.
      if (old) await this.#discard(old)
    } catch (cause) {
      const failure = classifyFailure(cause, this.#where)
      this.#refused(failure)
      if (!old || acceptsOthers(failure.kind)) return
      this.#session = undefined
      void this.#discard(old)
    }
  }

  async #open(): Promise<Session> {
    const { postgres, timeoutMs, renewMs, clock, timers } = this.#options
    const socket = new Socket()
    this.#connecting = socket
    const client = new Client({
      host: postgres.host,
      port: postgres.port,
      user: postgres.user,
      database: postgres.database,
      // A function, so that neither PGPASSWORD nor a password file is looked at.
      password: () => postgres.password ?? '',
      ssl: postgres.tls ?? false,
      stream: () => socket,
      application_name: this.#options.applicationName,
      statement_timeout: timeoutMs,
    })
    // What breaks an idle connection shows at the next query; unheard, it would end the process.
    client.on('error', () => {})
    const start = async (): Promise<string> => {
      await client.connect()
      const { rows } = await client.query<{ server_version_num: string }>('SHOW server_version_num')
      return factsSql(Number(rows[0]?.server_version_num))
    }
    try {
      const sql = await within(timers, timeoutMs, start(), () => this.#timeout('accept a connection'))
      return { client, socket, sql, renewAtMs: clock.nowMs() + renewMs }
    } catch (cause) {
      socket.destroy()
      throw cause
    } finally {
      this.#connecting = undefined
    }
  }

  async #ask(): Promise<Sample> {
    const session = this.#session
    if (!session) return { failure: this.#failure! }
    const { timers, timeoutMs } = this.#options
    try {
      const query = session.client.query<FactsRow>(session.sql)
      const { rows } = await within(timers, timeoutMs, query, () => this.#timeout('answer'))
      return { facts: factsFromRow(rows[0]!), warning: this.#failure }
    } catch (cause) {
      const failure = classifyFailure(cause, this.#where)
      this.#session = undefined
      void this.#discard(session)
      if (failure.kind === 'timeout' || acceptsOthers(failure.kind)) this.#refused(failure)
      else this.#lost(failure)
      return { failure }
    }
  }

  /** The connection broke: nothing is known of the next attempt, so it may come at once. */
  #lost(failure: ProbeFailure): void {
    this.#failure = failure
    this.#attempts = 0
    this.#retryAtMs = 0
  }

  #refused(failure: ProbeFailure): void {
    this.#failure = failure
    this.#attempts++
    this.#retryAtMs = this.#options.clock.nowMs() + retryDelayMs(failure.kind, this.#attempts)
  }

  #timeout(what: string): ProbeTimeout {
    return new ProbeTimeout(`it did not ${what} within ${this.#options.timeoutMs} ms`)
  }

  #discard({ client, socket }: Session): Promise<void> {
    return new Promise(resolve => {
      if (socket.destroyed) return resolve()
      const limit = this.#options.timers.after(goodbyeLimitMs, () => socket.destroy())
      socket.once('close', () => {
        limit.cancel()
        resolve()
      })
      client.end().catch(() => socket.destroy())
    })
  }
}
