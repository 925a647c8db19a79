import type { Route } from '../../routing/choose.ts'
import {
  controlBytesMax,
  readTransactionControl,
  type TransactionControl,
} from '../../sql/transaction-control.ts'
import { Client as Code, headerBytes, Server as ServerCode, TransactionStatus } from '../../wire/codes.ts'
import { frame } from '../../wire/messages.ts'
import type { Database } from '../catalog/database.ts'
import { UnitKind, UnitReader } from '../lanes/unit-reader.ts'
import type { PoolMode } from '../pool/limits.ts'
import type { PooledSession } from '../session/pooled-session.ts'
import { contextOf } from '../session/reported.ts'
import { Statement } from '../session/statements.ts'

/** A transaction that a client has begun, and that no server knows of yet. */
export interface DeferredBegin {
  /** What begins it on a server. */
  readonly statement: Statement
  /** When the client has begun it. */
  readonly sinceMs: number
  /** A request in it was cancelled while it waited for a server: nothing but its end is carried out. */
  readonly hasFailed: boolean
  /**
   * Whether it says that it only reads, each statement what is there when it begins, which a standby can do; undefined
   * where it says neither.
   */
  readonly readsOnly: boolean | undefined
}

/** A client as it stands when it wants something and has no server connection. */
export interface Beginner {
  readonly session: PooledSession | undefined
  readonly database: string
  readonly user: string
  readonly mode: PoolMode
  readonly route: Route
  /** What it has begun and no server knows of. */
  readonly begun: DeferredBegin | undefined
}

export interface TransactionDeskOptions {
  /** What is known of the database that clients know by this name. */
  knowledgeOf(database: string): Database
  /** Whether what a client begins may wait for its first statement. */
  defers(client: Beginner): boolean
}

/** What a request has led to without a server. */
export interface Answered {
  readonly answer: Buffer
  /** Undefined: the transaction is over. */
  readonly begun: DeferredBegin | undefined
}

/**
 * Answers requests that begin a transaction, or end one in which nothing was done, in the place of a server: what
 * PostgreSQL would answer is known, and it would do nothing else. One for all clients of a worker.
 */
export class TransactionDesk {
  readonly #reader = new UnitReader()
  /** By text; as many as there are combinations of modes. */
  readonly #begins = new Map<string, Statement>()
  readonly #options: TransactionDeskOptions

  constructor(options: TransactionDeskOptions) {
    this.#options = options
  }

  /** Undefined: a server has to answer `request`. */
  answer(request: Buffer, client: Beginner, nowMs: number): Answered | undefined {
    const { begun, session } = client
    if (!session || !mayControl(request)) return undefined
    const kind = this.#reader.read(request)
    const control = this.#read(kind, request, session)
    if (!control || (control.kind === 'begin') === (begun !== undefined)) return undefined
    const isOpen = control.kind === 'begin'
    if (isOpen && !this.#defers(client, control)) return undefined
    this.#noteUnnamed(kind, request, client, session)
    const tag = begun?.hasFailed === true ? 'ROLLBACK' : control.tag
    const describes = kind !== UnitKind.Simple && this.#reader.describes
    return {
      answer: answerOf(tag, kind, describes),
      begun: isOpen ? this.#begun(control, nowMs) : undefined,
    }
  }

  /** Whether `request` does nothing but end a transaction. */
  ends(request: Buffer, { session }: Beginner): boolean {
    if (!session || !mayControl(request)) return false
    const control = this.#read(this.#reader.read(request), request, session)
    return control !== undefined && control.kind !== 'begin'
  }

  /** On the port for reads only what a standby takes. */
  #defers(client: Beginner, { failsInRecovery }: TransactionControl): boolean {
    if (client.mode === 'statement' || (failsInRecovery && client.route === 'replica')) return false
    return this.#options.defers(client)
  }

  /** The unnamed statement is what PostgreSQL would have made of it. */
  #noteUnnamed(kind: UnitKind, request: Buffer, { database }: Beginner, session: PooledSession): void {
    if (kind === UnitKind.Simple) session.dropUnnamed()
    if (kind !== UnitKind.Parsed) return
    const context = contextOf(session.told, session.context)
    const { bodyEnd, textStart } = this.#reader
    const { statements } = this.#options.knowledgeOf(database)
    session.hasParsedUnnamed(statements.of(request, textStart, bodyEnd, context))
  }

  #read(kind: UnitKind, request: Buffer, session: PooledSession): TransactionControl | undefined {
    const reader = this.#reader
    switch (kind) {
      case UnitKind.Simple:
        return readText(request, reader.textStart, reader.textEnd)
      case UnitKind.Parsed:
        // Behind the text: no types of parameters.
        if (reader.bodyEnd - reader.textEnd !== 3 || !bindsNothing(request, reader)) return undefined
        return readText(request, reader.textStart, reader.textEnd)
      case UnitKind.Bound: {
        const named = session.named(request.toString('latin1', reader.nameStart, reader.nameEnd))
        if (!named || named.failed || named.closing || !bindsNothing(request, reader)) return undefined
        const { body, textEnd } = named.statement
        return body.length - textEnd === 3 ? readText(body, 0, textEnd) : undefined
      }
      default:
        return undefined
    }
  }

  #begun({ failsInRecovery, text }: TransactionControl, nowMs: number): DeferredBegin {
    const isElsewhere = failsInRecovery || text.includes('REPEATABLE READ')
    const readsOnly = isElsewhere ? false : text.includes('READ ONLY') || undefined
    return { statement: this.#begin(text), sinceMs: nowMs, hasFailed: false, readsOnly }
  }

  #begin(text: string): Statement {
    let statement = this.#begins.get(text)
    if (!statement) {
      statement = new Statement(Buffer.from(`${text}\0\0\0`, 'latin1'))
      this.#begins.set(text, statement)
    }
    return statement
  }
}

/** The first letters are looked at before anything else is: most requests are others. */
function mayControl(request: Buffer): boolean {
  switch (request[0]) {
    case Code.Query:
      return request.length <= headerBytes + controlBytesMax && beginsLikeControl(request[headerBytes]!)
    case Code.Parse:
      return request.length <= 2 * controlBytesMax && beginsLikeControl(request[headerBytes + 1] ?? 0)
    default:
      return request[0] === Code.Bind && request.length <= controlBytesMax
  }
}

/** BEGIN, START, COMMIT, END, ROLLBACK, ABORT, or a blank. */
function beginsLikeControl(byte: number): boolean {
  return byte <= 0x20 || firstLetters.includes(byte | 0x20)
}
const firstLetters = Buffer.from('bscera')

function readText(buffer: Buffer, start: number, end: number): TransactionControl | undefined {
  return end - start <= controlBytesMax
    ? readTransactionControl(buffer.toString('latin1', start, end))
    : undefined
}

/** Whether a Bind has no parameters, and at most one format for what will be no columns. */
function bindsNothing(request: Buffer, { bindBodyBytes, bindStart, nameEnd }: UnitReader): boolean {
  const at = nameEnd + 1
  const bytes = bindStart + headerBytes + bindBodyBytes - at
  if (bytes !== 6 && bytes !== 8) return false
  // Formats of parameters and parameters: none.
  if (request.readUInt32BE(at) !== 0 || request.readUInt16BE(at + 4) !== (bytes - 6) / 2) return false
  return bytes === 6 || request.readUInt16BE(at + 6) <= 1
}

type Tag = TransactionControl['tag']

const empty = Buffer.alloc(0)
const parseComplete = frame(ServerCode.ParseComplete, empty)
const bindComplete = frame(ServerCode.BindComplete, empty)
const noData = frame(ServerCode.NoData, empty)

function writeAnswer(tag: Tag, kind: UnitKind, describes: boolean): Buffer {
  const isOpen = tag === 'BEGIN' || tag === 'START TRANSACTION'
  const status = isOpen ? TransactionStatus.InTransaction : TransactionStatus.Idle
  return Buffer.concat([
    kind === UnitKind.Parsed ? parseComplete : empty,
    kind === UnitKind.Simple ? empty : bindComplete,
    describes ? noData : empty,
    frame(ServerCode.CommandComplete, Buffer.from(`${tag}\0`)),
    frame(ServerCode.ReadyForQuery, Buffer.from([status])),
  ])
}

function answersOf(tag: Tag): readonly Buffer[] {
  return [UnitKind.Simple, UnitKind.Parsed, UnitKind.Bound].flatMap(kind => [
    writeAnswer(tag, kind, false),
    writeAnswer(tag, kind, true),
  ])
}

const answers: Readonly<Record<Tag, readonly Buffer[]>> = {
  BEGIN: answersOf('BEGIN'),
  'START TRANSACTION': answersOf('START TRANSACTION'),
  COMMIT: answersOf('COMMIT'),
  ROLLBACK: answersOf('ROLLBACK'),
}

function answerOf(tag: Tag, kind: UnitKind, describes: boolean): Buffer {
  return answers[tag][2 * (kind - UnitKind.Simple) + (describes ? 1 : 0)]!
}
