import { readSecret, type Secret } from '../../auth/secrets.ts'
import type { Logger } from '../../runtime/log.ts'
import { pause, type Timer, type Timers } from '../../runtime/timers.ts'
import { sync, writeBindText, writeExecute, writeParse } from '../../wire/messages.ts'
import type { AuthQuerySettings } from '../control/ipc.ts'
import type { Target } from '../server.ts'
import { QuestionError, QuestionLink, toWire } from './question-link.ts'
import type { ServerAccount } from './server-account.ts'

export interface SecretsLookupOptions {
  query: AuthQuerySettings
  /** What the asking user logs in with. */
  account: ServerAccount
  /** Servers to ask, the best first. */
  targets: () => readonly Target[]
  /** The name on the servers of a database that clients ask for. */
  serverDatabase: (database: string) => string
  timeoutMs: number
  timers: Timers
  log: Logger
}

export type SecretsLookupErrorCode =
  /** No server gave an answer. */
  | 'unavailable'
  /** Too many wait for an answer already. */
  | 'overloaded'

export class SecretsLookupError extends Error {
  readonly code: SecretsLookupErrorCode

  constructor(code: SecretsLookupErrorCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'SecretsLookupError'
    this.code = code
  }
}

/** Connections at once; whoever comes later waits for one of them. */
const linksMax = 4
const waitingMax = 1000
/** How often is looked for a server while none is known. */
const lookAgainMs = 50
/** A connection that is not used is closed after this. */
const idleMaxMs = 30_000
/** Secrets are the same in every database of a cluster: this one is asked where the client's does not exist. */
const commonDatabase = 'postgres'

interface Question {
  user: string
  database: string
  resolve: (secret: Secret | undefined) => void
  reject: (cause: unknown) => void
}

/**
 * Asks the servers for the secrets of users (`auth.query`), over a few connections of its own. The same question of
 * several clients at once is asked once.
 */
export class SecretsLookup {
  readonly #options: SecretsLookupOptions
  readonly #links = new Set<QuestionLink>()
  /** Connections that are being opened. */
  #opening = 0
  readonly #idle = new Map<QuestionLink, Timer>()
  readonly #waiting: Question[] = []
  readonly #asked = new Map<string, Promise<Secret | undefined>>()
  #retired = false

  constructor(options: SecretsLookupOptions) {
    this.#options = options
  }

  /** Undefined for a user who does not exist or may not log in now. Rejects with a SecretsLookupError. */
  find(user: string, database: string): Promise<Secret | undefined> {
    const { query, serverDatabase } = this.#options
    const where = query.database ?? (database === '' ? commonDatabase : serverDatabase(database))
    const key = `${user}\0${where}`
    const asked = this.#asked.get(key)
    if (asked) return asked
    if (this.#waiting.length >= waitingMax) {
      const message = `${waitingMax} logins wait for the auth query already`
      return Promise.reject(new SecretsLookupError('overloaded', message))
    }
    const found = new Promise<Secret | undefined>((resolve, reject) => {
      this.#waiting.push({ user, database: where, resolve, reject })
    }).finally(() => this.#asked.delete(key))
    this.#asked.set(key, found)
    this.#serve()
    return found
  }

  /** Another one has taken over: what was asked is still answered, and every connection is closed after that. */
  retire(): void {
    this.#retired = true
    for (const link of [...this.#idle.keys()]) link.close()
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const question = this.#waiting[0]!
      const idle = [...this.#idle.keys()].find(link => link.options.database === question.database)
      if (!idle && this.#links.size + this.#opening >= linksMax && !this.#makeRoom()) return
      this.#waiting.shift()
      if (idle) this.#take(idle)
      else this.#opening++
      void this.#answer(question, idle)
    }
  }

  /** Closes the connection that has been idle for longest. */
  #makeRoom(): boolean {
    const [oldest] = this.#idle.keys()
    if (!oldest) return false
    this.#take(oldest)
    oldest.close()
    return true
  }

  #take(link: QuestionLink): void {
    this.#idle.get(link)?.cancel()
    this.#idle.delete(link)
  }

  async #answer(question: Question, idle: QuestionLink | undefined): Promise<void> {
    try {
      question.resolve(await this.#ask(question, idle))
    } catch (cause) {
      const { log, query } = this.#options
      const isUnknown = cause instanceof QuestionError && cause.code === 'no_database'
      if (isUnknown && query.database === undefined && question.database !== commonDatabase) {
        this.#waiting.unshift({ ...question, database: commonDatabase })
        return
      }
      log.error({ event: 'auth_query.failed' }, `the auth query has failed: ${messageOf(cause)}`)
      question.reject(new SecretsLookupError('unavailable', 'the auth query has failed', cause))
    } finally {
      this.#serve()
    }
  }

  async #ask(question: Question, idle: QuestionLink | undefined): Promise<Secret | undefined> {
    if (idle) {
      try {
        return await this.#askOn(idle, question.user)
      } catch (cause) {
        // It may have been lost long ago: a new one tells.
        if (!(cause instanceof QuestionError) || cause.code !== 'lost') throw cause
        this.#opening++
      }
    }
    const link = await this.#openAny(question.database).finally(() => this.#opening--)
    return await this.#askOn(link, question.user)
  }

  async #askOn(link: QuestionLink, user: string): Promise<Secret | undefined> {
    const { query, timers } = this.#options
    const messages = [
      writeParse('', query.text, []),
      writeBindText('', '', [toWire(user)]),
      writeExecute(''),
      sync,
    ]
    const rows = await link.ask(Buffer.concat(messages)).finally(() => {
      if (this.#retired) link.close()
      else if (link.isIdle)
        this.#idle.set(
          link,
          timers.after(idleMaxMs, () => link.close()),
        )
    })
    return this.#secretIn(rows, user)
  }

  #secretIn(rows: (string | undefined)[][], user: string): Secret | undefined {
    const { log } = this.#options
    const event = 'auth_query.answer'
    const [row] = rows
    if (!row) return undefined
    const secret = row[1] === undefined ? undefined : readSecret(row[1])
    if (rows.length > 1 || row.length !== 2 || (row[1] && !secret)) {
      log.warn(
        { event, user },
        'the auth query must give one row of a name and a secret; this answer is not used',
      )
      return undefined
    }
    return secret
  }

  /** The servers to ask. For a moment there may be none, as after the start: then it looks again, but not for ever. */
  async #knownTargets(): Promise<readonly Target[]> {
    const { targets, timeoutMs, timers } = this.#options
    for (let waitedMs = 0; waitedMs < timeoutMs; waitedMs += lookAgainMs) {
      const known = targets()
      if (known.length > 0) return known
      await pause(timers, lookAgainMs)
    }
    return targets()
  }

  /** A connection to the first server that can be had. */
  async #openAny(database: string): Promise<QuestionLink> {
    let last: unknown = new QuestionError('lost', 'no server of the cluster can be asked')
    for (const target of await this.#knownTargets()) {
      try {
        return await this.#open(target, database)
      } catch (cause) {
        if (!(cause instanceof QuestionError) || cause.code !== 'lost') throw cause
        last = new QuestionError('lost', `${target.node}: ${cause.message}`)
      }
    }
    throw last
  }

  async #open(target: Target, database: string): Promise<QuestionLink> {
    const { account, query, timeoutMs, timers } = this.#options
    const onClosed = (closed: QuestionLink): void => {
      this.#take(closed)
      this.#links.delete(closed)
    }
    const link = await QuestionLink.open({
      target,
      user: query.user,
      database,
      account,
      timeoutMs,
      timers,
      onClosed,
    })
    this.#links.add(link)
    return link
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
