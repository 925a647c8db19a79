import { Parameterized } from '../../sql/parameterized.ts'
import type { SessionEffects } from '../../sql/session-effects.ts'
import { Client as Code, headerBytes, Server as ServerCode, TransactionStatus } from '../../wire/codes.ts'
import { frame } from '../../wire/messages.ts'
import { contextOf } from '../session/reported.ts'
import type { Statement } from '../session/statements.ts'
import { type Outcome, Owed } from './answers.ts'
import type { Passage } from './pooled-passage.ts'
import type { PreparedThere } from './pooled-prepared.ts'
import { ServerOutput } from './server-output.ts'

const slash = 0x2f

/** What all server connections of a worker put their statements together in. */
const values = new Parameterized()
const output = new ServerOutput()

/**
 * Prepares Queries that change rows and come again and again with other numbers, in transactions, where nobody can tell.
 * As nothing can be sent twice there, it is done where nothing can fail that would not have failed otherwise: for INSERT,
 * UPDATE and DELETE that call no functions and give no rows back, of tables without rules and triggers, and with whole
 * numbers as parameters. Positions in errors are put right. Outside of transactions the server would say what it has done
 * before that is committed, other than for a Query.
 */
export class PreparedQueries {
  readonly #passage: Passage
  readonly #there: PreparedThere
  /** What the piece that passes will be bound to. */
  #planned: Statement | undefined
  /** What was run last, until it is known how long that took. */
  #ran: Statement | undefined
  /** Of that: where its parameters are in its text, how long they are there, and how long their values are in the Query. */
  #count = 0
  readonly #marks = new Int32Array(values.starts.length)
  readonly #markBytes = new Int32Array(values.starts.length)
  readonly #valueBytes = new Int32Array(values.starts.length)
  readonly #outcome: Outcome = {
    rewrite: error => this.#rewrite(error),
    // It would be said each time the statement is parsed.
    noticed: () => {
      if (this.#ran) this.#ran.refusals = Number.POSITIVE_INFINITY
    },
  }

  constructor(passage: Passage, there: PreparedThere) {
    this.#passage = passage
    this.#there = there
  }

  /** What was run last was answered. */
  judge(): void {
    const { server } = this.#passage
    if (this.#ran) server.statements.answered(this.#ran, server.answerMs)
    this.#ran = undefined
  }

  /** What the Query that passes may leave behind, where that is known without looking at it. */
  effects: SessionEffects | undefined

  /**
   * A piece has come; `isFresh`: to a server that has nothing left to do; `isOpen`: a transaction is open, or will be by
   * then. Returns whether it is one Query that will be run as a prepared statement: `put` does it.
   */
  plan(chunk: Buffer, isFresh: boolean, isOpen: boolean): boolean {
    this.#planned = undefined
    this.effects = undefined
    if (!isFresh || !isOpen) return false
    this.judge()
    const { database, host, limits, server, session } = this.#passage
    const end = chunk.length
    if (chunk[0] !== Code.Query || end < headerBytes + 2 || chunk.readUInt32BE(1) + 1 !== end) return false
    if (chunk[end - 1] !== 0 || chunk[headerBytes] === slash) return false
    if (!limits.prepareUnnamed || session.isPinned || session.isDirty || !session.isInContext) return false
    if (server.status === TransactionStatus.Failed) return false
    const { classes } = host
    const { reported } = server
    const isStandard = reported.get('standard_conforming_strings') !== 'off'
    const found = classes.of(chunk, headerBytes, end - 1, isStandard)
    if (found?.writes === undefined || !found.parameters || classes.fingerprinter.hasStrings) return false
    if (!database.isPlainTable(found.writes) || found.isVaried()) return false
    const effects = database.effectsOfClass(found, chunk, headerBytes, end - 1)
    // Nothing that could be refused: the BEGIN before it relies on what comes behind.
    if (
      effects.readsSequenceState ||
      effects.needsDatabase !== undefined ||
      effects.customSettings.length > 0
    )
      return false
    this.effects = effects
    if (!values.read(chunk, headerBytes, end - 1, classes.fingerprinter, found.parameters)) return false
    const context = contextOf(reported, session.context)
    const statement = database.statements.ofQuery(values, context, found)
    if (!statement?.isAscii) return false
    this.#planned = statement
    return true
  }

  /** Puts what was planned in the place of the Query. Returns whether there was anything planned. */
  put(at: number, bodyEnd: number): boolean {
    const statement = this.#planned
    if (!statement) return false
    this.#planned = undefined
    const { chunk, database, server } = this.#passage
    const { statements } = server
    const start = at - headerBytes
    if (statements.isOutdated(statement, database.changedAt)) this.#there.close(statement, start)
    this.#note()
    const name = this.#there.nameOf(statement, start, this.#outcome)
    output.addQuery(name, chunk, values, false)
    this.#passage.replace(start, bodyEnd, Buffer.from(output.take()))
    this.#passage.request(Owed.OwnBind, this.#outcome)
    this.#passage.request(Owed.Execute)
    this.#passage.request(Owed.Sync)
    this.#ran = statement
    this.#passage.host.counters.queriesPrepared++
    return true
  }

  #note(): void {
    this.#count = values.count
    for (let index = 0; index < values.count; index++) {
      this.#marks[index] = values.marks[index]!
      this.#markBytes[index] = values.markBytes[index]!
      this.#valueBytes[index] = values.ends[index]! - values.starts[index]!
    }
  }

  /** An ErrorResponse about the statement becomes one about the Query: the position in it is another one. */
  #rewrite(body: Buffer): Buffer {
    let at = 0
    while (at < body.length && body[at] !== 0) {
      const end = body.indexOf(0, at)
      if (end < 0) break
      if (body[at] === positionField) {
        const position = this.#positionOf(Number(body.toString('latin1', at + 1, end)))
        const parts = [body.subarray(0, at + 1), Buffer.from(String(position)), body.subarray(end)]
        return frame(ServerCode.ErrorResponse, Buffer.concat(parts))
      }
      at = end + 1
    }
    return frame(ServerCode.ErrorResponse, body)
  }

  /** Positions count characters, from 1; everything here is ASCII. */
  #positionOf(position: number): number {
    let shift = 0
    for (let index = 0; index < this.#count; index++) {
      const mark = this.#marks[index]!
      const bytes = this.#markBytes[index]!
      if (position <= mark) break
      // Within it, only its own beginning is ever meant.
      if (position <= mark + bytes) return mark + 1 - shift
      shift += bytes - this.#valueBytes[index]!
    }
    return position - shift
  }
}

const positionField = 0x50 // 'P'
