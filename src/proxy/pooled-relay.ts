import {
  type Deallocation,
  isReadable,
  noEffects,
  type SessionEffects,
  unreadEffects,
} from '../sql/session-effects.ts'
import { Client as Code, messageBytesMax, TransactionStatus } from '../wire/codes.ts'
import { frame, writeCloseStatement, writeErrorResponse, writeParse, writeQuery } from '../wire/messages.ts'
import { Scanner } from '../wire/scanner.ts'
import { Owed } from './answers.ts'
import type { Relayed } from './client-relay.ts'
import type { Database } from './database.ts'
import type { NamedStatement, PooledSession } from './pooled-session.ts'
import { dialectOf, type Reported } from './reported.ts'
import type { ServerConnection } from './server.ts'
import { nextMoment, Statement } from './statements.ts'

/** What the relay of a pooled client needs beside the client and its server. */
export interface PooledRelayOptions {
  session: PooledSession
  user: string
  database: Database
  /** Most named statements on a server connection. */
  preparedMax: () => number
  /** A statement is on its way that needs a database without connections. */
  freeDatabase: (name: string) => void
}

const headerLength = 5
const empty = Buffer.alloc(0)
/** The longest statement that is looked through; a longer one keeps its client on its server connection. */
const statementBytesMax = 1024 * 1024
/** The names in Bind, Describe and Close. PostgreSQL's own names have at most 63 bytes, drivers' are not much longer. */
const namesBytesMax = 8192

/**
 * Passes the bytes of a client on whose server connection may be another one each time: names of prepared statements
 * are replaced by those that the server connection knows them under, statements that it lacks are prepared there
 * first, and every statement is looked through for what it may leave behind.
 */
export class PooledRelay {
  problem = ''
  readonly #options: PooledRelayOptions
  readonly #scanner = new Scanner()
  /** The beginning of a message that has to be seen as a whole. */
  #kept: Buffer[] = []
  #keptBytes = 0
  /** How many bytes must have come before it is worth looking at them again. */
  #neededBytes = 0
  // Of the piece that is passing:
  #chunk: Buffer = empty
  #parts: Buffer[] = []
  /** Where what has not been put out yet begins. */
  #from = 0
  #server!: ServerConnection
  #nowMs = 0
  #parses = false
  #describes = false
  #binds = 0
  #queries = false
  /** The named statement that was bound last in this piece. */
  #bound: { portal: string; known: NamedStatement } | undefined
  #held: Buffer = empty
  /** The request that is outstanding alone, as it came; empty when it cannot be sent again. */
  #retryPiece: Buffer = empty
  /** The statement whose columns the server was asked for last. */
  #fitAsked: NamedStatement | undefined
  #forcesBarrier = false
  /** Names that were given in the request that is outstanding alone. */
  #parsedNames: [name: string, named: NamedStatement][] = []
  #encodedAs: Reported | undefined
  #readsEncoding = true

  constructor(options: PooledRelayOptions) {
    this.#options = options
  }

  /** Everything that came was whole messages, and was passed on. */
  get atBoundary(): boolean {
    return this.#scanner.atBoundary && this.#keptBytes === 0
  }

  /** No message was passed on in part: the next bytes on the server connection begin a message. */
  get isWhole(): boolean {
    return this.#scanner.atBoundary
  }

  pass(piece: Buffer, server: ServerConnection, nowMs: number): Relayed {
    const chunk = this.#join(piece)
    if (!chunk) return true
    const scanner = this.#scanner
    this.#chunk = chunk
    this.#server = server
    this.#nowMs = nowMs
    this.#from = 0
    const isAlone = server.owed.isEmpty && server.status === TransactionStatus.Idle
    if (!isAlone) server.disarmRetry()
    this.#parses = false
    this.#describes = false
    this.#binds = 0
    this.#queries = false
    this.#bound = undefined
    this.#parsedNames.length = 0
    this.#retryPiece = empty
    const end = chunk.length
    let at = 0
    const { session } = this.#options
    if (session.isUnread) session.touch()
    const wasDirty = session.isDirty
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      const outcome = this.#message(at)
      if (outcome === 'done') {
        const mayChange = this.#forcesBarrier || (!wasDirty && session.isDirty)
        if (!mayChange || !this.#endsRequest) continue
        this.#forcesBarrier = false
        const requestEnd = at + scanner.bodyBytes
        // Of what is too long to be seen as a whole the rest has to come.
        if (requestEnd > end) continue
        scanner.rewind()
        this.#held = requestEnd < end ? Buffer.from(chunk.subarray(requestEnd)) : empty
        this.#flush(requestEnd)
        return 'barrier'
      }
      if (outcome === 'wait') break
      if (outcome === 'barrier') {
        const start = at - headerLength
        scanner.rewind()
        this.#held = Buffer.from(chunk.subarray(start))
        this.#flush(start)
        return 'barrier'
      }
      this.#flush(outcome === 'terminated' ? at - headerLength : this.#from)
      return outcome
    }
    if (scanner.violation) {
      this.problem = 'a message has an impossible length'
      return 'violation'
    }
    if (at < 0) {
      const kept = scanner.takePartialHeader()
      if (kept > 0) this.#keep(end - kept, headerLength)
    }
    if (isAlone && server.owed.ready === 1 && !server.unsynced && this.#keptBytes === 0) {
      this.#retryPiece = chunk
      // One statement, so that nothing can have been done before it fails; and one that tells its columns anew.
      const isOne = this.#binds <= 1 && !this.#queries
      server.armRetry(isOne && !session.isPinned && (this.#parses || this.#describes))
    }
    return this.#flush(end - this.#keptBytes)
  }

  get #endsRequest(): boolean {
    const { code } = this.#scanner
    return code === Code.Query || code === Code.Sync
  }

  /** After `barrier`: what follows the request that may change the session. */
  takeHeld(): Buffer {
    const held = this.#held
    this.#held = empty
    return held
  }

  /** The request was answered. */
  endRetry(): void {
    this.#retryPiece = empty
    this.#parsedNames.length = 0
  }

  /** What has to be passed again when the request it was is to be tried again; empty when that cannot be. */
  takeRetry(): Buffer {
    const piece = this.#retryPiece
    this.#retryPiece = empty
    // They are given again.
    for (const [name, named] of this.#parsedNames) this.#options.session.unname(name, named)
    this.#parsedNames.length = 0
    return piece
  }

  #join(piece: Buffer): Buffer | undefined {
    if (this.#keptBytes === 0) return piece
    this.#kept.push(piece)
    this.#keptBytes += piece.length
    if (this.#keptBytes < this.#neededBytes) return undefined
    const chunk = Buffer.concat(this.#kept, this.#keptBytes)
    this.#kept = []
    this.#keptBytes = 0
    return chunk
  }

  /** Keeps what begins at `start` until `bytes` of it have come. */
  #keep(start: number, bytes: number): void {
    const rest = Buffer.from(this.#chunk.subarray(start))
    this.#kept = [rest]
    this.#keptBytes = rest.length
    this.#neededBytes = bytes
  }

  /** Puts out everything up to `end`. */
  #flush(end: number): boolean {
    this.#putOut(end)
    const parts = this.#parts
    this.#chunk = empty
    if (parts.length === 0) return true
    this.#parts = []
    return this.#server.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  }

  #putOut(end: number): void {
    if (end > this.#from) this.#parts.push(this.#chunk.subarray(this.#from, end))
    this.#from = end
  }

  /** Puts out `message` instead of what stands between `start` and `end`. */
  #replace(start: number, end: number, message: Buffer): void {
    this.#putOut(start)
    if (message.length > 0) this.#parts.push(message)
    this.#from = end
  }

  #request(kind: Owed): void {
    this.#server.request(kind, this.#nowMs)
  }

  #message(at: number): 'done' | 'wait' | 'barrier' | 'terminated' | 'violation' {
    const { code } = this.#scanner
    switch (code) {
      case Code.Query:
        return this.#query(at)
      case Code.Parse:
        return this.#parse(at)
      case Code.Bind:
        return this.#bind(at)
      case Code.Describe:
      case Code.Close:
        return this.#describeOrClose(at, code)
      case Code.Execute:
        this.#request(Owed.Execute)
        return 'done'
      case Code.Sync:
        this.#request(Owed.Sync)
        return 'done'
      case Code.FunctionCall:
        this.#functionCall(at)
        this.#request(Owed.Query)
        return 'done'
      case Code.CopyDone:
      case Code.CopyFail:
        this.#server.owed.copyInEnds()
        return 'done'
      case Code.Flush:
      case Code.CopyData:
        return 'done'
      case Code.Terminate:
        return 'terminated'
      default:
        this.problem = `unknown message '${printable(code)}' (0x${code.toString(16)})`
        return 'violation'
    }
  }

  /** Calls of large-object functions leave nothing behind; what others do cannot be seen. */
  #functionCall(at: number): void {
    const isHere = at + 4 <= this.#chunk.length
    const isHarmless = isHere && largeObjectFunctions.has(this.#chunk.readUInt32BE(at))
    this.#queries = true
    if (!isHarmless) this.#options.session.pinForGood('unseen_setting')
  }

  /** Whether the body is here as a whole; if not and it is short enough, it is waited for. */
  #whole(at: number, bytesMax: number): 'whole' | 'wait' | 'too_long' {
    const { bodyBytes } = this.#scanner
    if (at + bodyBytes <= this.#chunk.length) return 'whole'
    if (bodyBytes > bytesMax) return 'too_long'
    this.#keepMessage(at, bodyBytes)
    return 'wait'
  }

  #keepMessage(at: number, bodyBytes: number): void {
    this.#scanner.rewind()
    this.#keep(at - headerLength, headerLength + bodyBytes)
  }

  #query(at: number): 'done' | 'wait' | 'barrier' {
    const { session, database } = this.#options
    const server = this.#server
    const whole = this.#whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long') session.pinForGood('long_statement')
    else if (!this.#isReadable) this.#noteUnread()
    else {
      const bodyEnd = at + this.#scanner.bodyBytes
      const effects = database.effectsOf(this.#chunk, at, bodyEnd - 1)
      if (effects !== noEffects) {
        this.#note(effects)
        const refusal = this.#sequenceRefusal(effects)
        if (refusal) {
          this.#replace(at - headerLength, bodyEnd, failingQuery)
          server.request(Owed.RefusedQuery, this.#nowMs, { refusal, refuses: syntaxError })
          return 'done'
        }
        this.#forcesBarrier = effects.discardsAll || effects.deallocates?.all === true
        if (effects.deallocates) {
          // Whether the transaction has failed has to be known.
          if (!server.owed.isEmpty) return this.#barrierBefore(at)
          this.#deallocate(effects.deallocates, at)
        }
      }
    }
    this.#queries = true
    session.dropUnnamed()
    server.unnamed = undefined
    this.#request(Owed.Query)
    return 'done'
  }

  /** What decides the meaning of a statement's text when the server parses it now. */
  get #context(): string {
    const { context } = this.#options.session
    const dialect = dialectOf(this.#server.reported)
    return context === '' ? dialect : `${dialect}\0${context}`
  }

  /**
   * What a client's name means. What the server connection lacks has to be parsed anew, by the settings of now: that
   * may be another statement than the one that others know by its text.
   */
  #named(name: string): NamedStatement | undefined {
    const { session, database } = this.#options
    const known = session.named(name)
    if (!known || this.#server.statements.use(known.statement) !== undefined) return known
    const context = this.#context
    const { body } = known.statement
    if (known.statement.context !== context)
      known.statement = database.statements.of(body, 0, body.length, context)
    return known
  }

  /** Whether statements can be read in the encoding that the client's server connection takes them in. */
  get #isReadable(): boolean {
    const { reported } = this.#server
    if (reported !== this.#encodedAs) {
      this.#encodedAs = reported
      this.#readsEncoding = isReadable(reported.get('client_encoding') ?? '')
    }
    return this.#readsEncoding
  }

  #note(effects: SessionEffects): void {
    const { freeDatabase, session } = this.#options
    session.note(effects)
    if (effects.needsDatabase !== undefined) freeDatabase(effects.needsDatabase)
  }

  /** It may be any statement: from now on the client keeps its server connection, and no more need be known. */
  #noteUnread(): void {
    const { session } = this.#options
    if (!session.isOpaque) session.note(unreadEffects)
  }

  /** A DEALLOCATE of a name that only the proxy knows: it is replaced by the one on the server. */
  #deallocate({ all, name, start, end }: Deallocation, at: number): void {
    const named = all ? undefined : this.#named(name)
    const server = this.#server
    if (server.status === TransactionStatus.Failed || (!named && !name.startsWith(ownNames))) return
    const chunk = this.#chunk
    if (!named) {
      const bodyEnd = at + this.#scanner.bodyBytes
      const unknown = Buffer.from('"no such name"')
      const text = Buffer.concat([chunk.subarray(at, start), unknown, chunk.subarray(end, bodyEnd)])
      return this.#replace(at - headerLength, bodyEnd, frame(Code.Query, text))
    }
    let onServer = server.statements.use(named.statement)
    if (onServer === undefined) {
      // Any other that surely can be prepared does as well.
      onServer = 'pgherd_deallocated'
      this.#replace(at - headerLength, at - headerLength, writeParse(onServer, '', []))
      server.request(Owed.OwnParse, this.#nowMs)
    }
    const gone = onServer
    const bodyEnd = at + this.#scanner.bodyBytes
    const text = Buffer.concat([
      chunk.subarray(at, start),
      Buffer.from(onServer, 'latin1'),
      chunk.subarray(end, bodyEnd),
    ])
    this.#replace(at - headerLength, bodyEnd, frame(Code.Query, text))
    server.deallocating = () => this.#forget(name, named, gone)
  }

  #forget(name: string, named: NamedStatement, onServer: string): void {
    this.#options.session.unname(name, named)
    this.#server.statements.forget(named.statement, onServer)
  }

  /**
   * What a session has drawn from sequences stays on the server connection where it was. An error is better than what
   * another client has drawn; from then on, who draws from sequences in this database keeps its connection.
   */
  #sequenceRefusal(effects: SessionEffects): Buffer | undefined {
    if (!effects.writesSequenceState && !effects.readsSequenceState) return undefined
    const { session, database } = this.#options
    const server = this.#server
    const { user } = this.#options
    if (effects.writesSequenceState) session.draws(server, database.sequenceReaders.has(user))
    if (!effects.readsSequenceState) return undefined
    database.noteSequenceReader(user)
    if (!session.hasSequenceStateOn(server)) return sequenceRefusal
    session.pinForGood('sequence')
    return undefined
  }

  #parse(at: number): 'done' | 'wait' | 'barrier' {
    const { session, database } = this.#options
    const whole = this.#whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    this.#parses = true
    if (whole === 'too_long') {
      // It is prepared under the client's own name, on the server connection that the client keeps.
      session.pinForGood('long_statement')
      if (this.#chunk[at] === 0) {
        session.hasLongUnnamed = true
        this.#server.unnamed = undefined
      }
      this.#request(Owed.Parse)
      return 'done'
    }
    const chunk = this.#chunk
    const bodyEnd = at + this.#scanner.bodyBytes
    const nameEnd = chunk.indexOf(0, at)
    if (nameEnd < 0 || nameEnd >= bodyEnd) {
      this.#request(Owed.Parse)
      return 'done'
    }
    const statement = session.isInContext
      ? database.statements.of(chunk, nameEnd + 1, bodyEnd, this.#context)
      : new Statement(Buffer.from(chunk.subarray(nameEnd + 1, bodyEnd)), this.#context)
    if (nameEnd === at) this.#parseUnnamed(this.#rewritten(statement, at, bodyEnd))
    else return this.#parseNamed(at, bodyEnd, chunk.toString('latin1', at, nameEnd), statement)
    return 'done'
  }

  /** The same statement, unless it is a DEALLOCATE of a name that only the proxy knows. */
  #rewritten(statement: Statement, at: number, bodyEnd: number): Statement {
    const { database } = this.#options
    if (!this.#isReadable) return statement
    const { deallocates } = statement.effectsIn(database)
    const named = !deallocates || deallocates.all ? undefined : this.#named(deallocates.name)
    if (!deallocates || !named) return statement
    const start = at - headerLength
    const onServer = this.#nameOnServer(named.statement, start)
    const { body } = statement
    const rewritten = new Statement(
      Buffer.concat([
        body.subarray(0, deallocates.start),
        Buffer.from(onServer, 'latin1'),
        body.subarray(deallocates.end),
      ]),
    )
    this.#replace(start, bodyEnd, rewritten.parse(''))
    this.#server.deallocating = () => this.#forget(deallocates.name, named, onServer)
    return rewritten
  }

  #parseUnnamed(statement: Statement): void {
    const { session } = this.#options
    const server = this.#server
    server.unnamed = statement
    server.request(Owed.Parse, this.#nowMs, session.parseUnnamed(statement, server))
  }

  #parseNamed(at: number, bodyEnd: number, name: string, statement: Statement): 'done' | 'barrier' {
    const { session } = this.#options
    const server = this.#server
    const start = at - headerLength
    // What the name means depends on requests before this one that may still fail.
    if (session.uncertainNames > 0 && server.owed.ready > 0) return this.#barrierBefore(at)
    const namesake = this.#named(name)
    if (this.#isUncertain(namesake?.statement ?? statement, false)) return this.#barrierBefore(at)
    if (namesake) {
      this.#refuseName(start, bodyEnd, name, namesake.statement, statement)
      return 'done'
    }
    // Whether it can be skipped depends on whether the transaction has failed.
    const isKnown = server.statements.use(statement) !== undefined
    if (isKnown && server.owed.ready > 0) return this.#barrierBefore(at)
    const named = session.name(name, statement)
    this.#parsedNames.push([name, named])
    const isFailed = server.status === TransactionStatus.Failed
    if (isFailed) this.#closeOnServer(statement, start)
    if (server.statements.use(statement) !== undefined) {
      this.#replace(start, bodyEnd, empty)
      server.request(Owed.SkippedParse, this.#nowMs, session.outcomeOfParse(name, named))
      return 'done'
    }
    this.#makeRoom(start)
    const onServer = server.statements.add(statement, server.unit)
    this.#replace(start, bodyEnd, statement.parse(onServer))
    const there = (): void => server.statements.confirm(statement, onServer)
    const gone = (): void => server.statements.forget(statement, onServer)
    server.request(Owed.Parse, this.#nowMs, session.outcomeOfParse(name, named, there, gone))
    return 'done'
  }

  /** Holds back what comes from here on until what was passed on before is answered. */
  #barrierBefore(at: number): 'barrier' {
    const start = at - headerLength
    // The server does not answer before it is told to, and the Sync that would is held back too.
    if (this.#server.unsynced) this.#replace(start, start, flush)
    return 'barrier'
  }

  /** PostgreSQL takes a name only once: the same happens on the server with the name that it has there. */
  #refuseName(start: number, end: number, name: string, namesake: Statement, statement: Statement): void {
    // In a failed transaction nothing can be prepared, neither this one nor the namesake.
    const isFailed = this.#server.status === TransactionStatus.Failed
    const onServer = isFailed ? 'pgherd_refused' : this.#nameOnServer(namesake, start)
    this.#replace(start, end, statement.parse(onServer))
    const message = `prepared statement "${name}" already exists`
    const refusal = writeErrorResponse({ severity: 'ERROR', code: '42P05', message })
    this.#server.request(Owed.Refused, this.#nowMs, { refusal, refuses: '42P05' })
  }

  /** In a failed transaction a Parse fails whether the server knows the statement or not: it is sent. */
  #closeOnServer(statement: Statement, start: number): void {
    const { statements } = this.#server
    const name = statements.use(statement)
    if (name === undefined) return
    statements.forget(statement, name)
    this.#replace(start, start, writeCloseStatement(name))
    this.#server.request(Owed.OwnClose, this.#nowMs)
  }

  /** Closes the statement that the server connection has not used for longest, when it has as many as it may. */
  #makeRoom(start: number): void {
    const { statements } = this.#server
    const evicted = statements.evict(this.#options.preparedMax() - 1)
    if (!evicted) return
    this.#replace(start, start, writeCloseStatement(evicted.name))
    const failed = (): void => statements.restore(evicted.statement, evicted.name)
    this.#server.request(Owed.OwnClose, this.#nowMs, evicted.isCertain ? { failed } : undefined)
  }

  /**
   * Whether a statement on the server has the result that its client was told. One that was prepared there before is
   * prepared anew; one that was prepared after that tells that its tables have changed since, which PostgreSQL would
   * refuse to a client of its own. What is not known is asked for.
   */
  #fit(known: NamedStatement, start: number): 'fits' | 'unknown' | 'changed' {
    const server = this.#server
    const { statement } = known
    const there = server.statements.shapeOf(statement)
    if (there?.shape === known.shape) return 'fits'
    // What cannot be told now the server says itself.
    if (server.status === TransactionStatus.Failed || server.owed.discarding) return 'fits'
    if (this.#fitAsked === known && there?.shape === undefined) return 'fits'
    this.#fitAsked = known
    if (there?.shape !== undefined) {
      if (there.parsedAt > known.describedAt) return 'changed'
      this.#closeOnServer(statement, start)
    }
    const name = this.#nameOnServer(statement, start)
    this.#replace(start, start, named(Code.Describe, name))
    server.request(Owed.OwnDescribe, this.#nowMs, {
      described: shape => server.statements.describe(statement, name, shape),
    })
    return 'unknown'
  }

  /** Notes what columns the client is told, when that is not known yet. */
  #requestDescribe(known: NamedStatement | undefined): void {
    const server = this.#server
    const there = known && server.statements.shapeOf(known.statement)
    if (!known || !there || (known.shape !== undefined && there.shape !== undefined)) {
      return this.#request(Owed.Describe)
    }
    const name = server.statements.use(known.statement)!
    server.request(Owed.Describe, this.#nowMs, {
      described: shape => {
        known.shape = shape
        known.describedAt = nextMoment()
        server.statements.describe(known.statement, name, shape)
      },
    })
  }

  /** The name of a statement on the server; it is prepared there first, before `start`, when it is not. */
  #nameOnServer(statement: Statement, start: number): string {
    const server = this.#server
    const known = server.statements.use(statement)
    if (known !== undefined) return known
    this.#makeRoom(start)
    const name = server.statements.add(statement, server.unit)
    this.#replace(start, start, statement.parse(name))
    server.request(Owed.OwnParse, this.#nowMs, {
      succeeded: () => server.statements.confirm(statement, name),
      failed: () => server.statements.forget(statement, name),
    })
    return name
  }

  /** Whether what a named or the unnamed statement is depends on an earlier request that may still fail. */
  #isUncertain(statement: Statement | undefined, isUnnamed: boolean): boolean {
    const { unit, statements } = this.#server
    if (isUnnamed) return this.#options.session.isUnnamedUncertain(unit)
    return statement !== undefined && statements.isUncertain(statement, unit)
  }

  /** The client has none: it must not find what another one has left. */
  #closeUnnamed(start: number): void {
    this.#replace(start, start, writeCloseStatement(''))
    this.#server.unnamed = undefined
    this.#server.request(Owed.OwnClose, this.#nowMs)
  }

  /** Makes sure that the server's unnamed statement is the client's. */
  #bringUnnamed(start: number): void {
    const { hasLongUnnamed, unnamed } = this.#options.session
    const server = this.#server
    // It is on the server connection, which the client keeps.
    if (hasLongUnnamed) return
    if (!unnamed) return this.#closeUnnamed(start)
    if (server.unnamed === unnamed) return
    this.#replace(start, start, unnamed.parse(''))
    server.unnamed = unnamed
    const failed = (): void => {
      if (server.unnamed === unnamed) server.unnamed = undefined
    }
    server.request(Owed.OwnParse, this.#nowMs, { failed })
  }

  #bind(at: number): 'done' | 'wait' | 'barrier' {
    const { session, database } = this.#options
    const chunk = this.#chunk
    const { bodyBytes } = this.#scanner
    const here = Math.min(chunk.length, at + bodyBytes)
    const portalEnd = chunk.indexOf(0, at)
    const nameEnd = portalEnd < 0 ? -1 : chunk.indexOf(0, portalEnd + 1)
    if (nameEnd < 0 || nameEnd >= here) {
      const isShort = here - at < Math.min(bodyBytes, namesBytesMax)
      if (isShort) {
        this.#keepMessage(at, Math.min(bodyBytes, 2 * (here - at) + 64))
        return 'wait'
      }
      this.#request(Owed.Bind)
      return 'done'
    }
    const start = at - headerLength
    this.#binds++
    const isUnnamed = nameEnd === portalEnd + 1
    const known = isUnnamed ? undefined : this.#named(chunk.toString('latin1', portalEnd + 1, nameEnd))
    const statement = isUnnamed ? session.unnamed : known?.statement
    if (this.#isUncertain(statement, isUnnamed)) return this.#barrierBefore(at)
    if (!statement && session.uncertainNames > 0 && this.#server.owed.ready > 0)
      return this.#barrierBefore(at)
    // Who asks for the columns again takes them as they are now.
    const asksAgain = chunk[at + bodyBytes] === Code.Describe
    if (known?.shape !== undefined && !asksAgain) {
      const fit = this.#fit(known, start)
      if (fit === 'unknown') return this.#barrierBefore(at)
      const whole = fit === 'changed' ? this.#whole(at, statementBytesMax) : 'too_long'
      if (whole === 'wait') return 'wait'
      if (whole === 'whole') {
        this.#replace(start, at + bodyBytes, sureError)
        this.#server.request(Owed.Refused, this.#nowMs, { refusal: planChanged, refuses: syntaxError })
        return 'done'
      }
    }
    this.#bound = known && { portal: chunk.toString('latin1', at, portalEnd), known }
    if (statement && !this.#isReadable) this.#noteUnread()
    const effects = statement && this.#isReadable ? statement.effectsIn(database) : noEffects
    if (effects !== noEffects) {
      this.#note(effects)
      const refusal = this.#sequenceRefusal(effects)
      const whole = refusal ? this.#whole(at, statementBytesMax) : 'too_long'
      if (whole === 'wait') return 'wait'
      if (refusal && whole === 'whole') {
        this.#replace(start, at + bodyBytes, sureError)
        this.#server.request(Owed.Refused, this.#nowMs, { refusal, refuses: syntaxError })
        return 'done'
      }
    }
    if (isUnnamed) this.#bringUnnamed(start)
    else {
      if (statement) {
        const name = this.#nameOnServer(statement, start)
        const portalBytes = portalEnd + 1 - at
        const change = name.length - (nameEnd - portalEnd - 1)
        const head = Buffer.allocUnsafe(headerLength + portalBytes + name.length)
        head[0] = Code.Bind
        head.writeUInt32BE(bodyBytes + 4 + change, 1)
        chunk.copy(head, headerLength, at, portalEnd + 1)
        head.write(name, headerLength + portalBytes, 'latin1')
        this.#replace(start, nameEnd, head)
      } else this.#hideOwnName(at, portalEnd, nameEnd)
    }
    this.#request(Owed.Bind)
    return 'done'
  }

  /** A name of the proxy's own is nobody else's: it is replaced by one that surely is unknown. */
  #hideOwnName(at: number, portalEnd: number, nameEnd: number): void {
    const name = this.#chunk.toString('latin1', portalEnd + 1, nameEnd)
    if (!name.startsWith(ownNames)) return
    const start = at - headerLength
    const unknown = Buffer.from(`no ${name}`, 'latin1')
    const head = Buffer.alloc(headerLength)
    head[0] = Code.Bind
    head.writeUInt32BE(this.#scanner.bodyBytes + 4 + 3, 1)
    this.#replace(start, nameEnd, Buffer.concat([head, this.#chunk.subarray(at, portalEnd + 1), unknown]))
  }

  #describeOrClose(at: number, code: number): 'done' | 'wait' | 'barrier' {
    const { session } = this.#options
    const whole = this.#whole(at, namesBytesMax)
    if (whole === 'wait') return 'wait'
    const isClose = code === Code.Close
    const kind = isClose ? Owed.Close : Owed.Describe
    const bodyEnd = at + this.#scanner.bodyBytes
    if (!isClose) this.#describes = true
    if (whole === 'too_long' || this.#chunk[at] !== statementKind) {
      if (isClose) this.#request(kind)
      else this.#requestDescribe(this.#boundTo(at, bodyEnd))
      return 'done'
    }
    const start = at - headerLength
    const name = this.#chunk.toString('latin1', at + 1, bodyEnd - 1)
    const known = name === '' ? undefined : this.#named(name)
    if (this.#isUncertain(known?.statement, name === '')) return this.#barrierBefore(at)
    const isUnknown = name !== '' && !known
    if ((isClose || isUnknown) && session.uncertainNames > 0 && this.#server.owed.ready > 0) {
      return this.#barrierBefore(at)
    }
    if (isClose) return this.#close(start, bodyEnd, name, known)
    if (name === '') this.#bringUnnamed(start)
    else if (known) {
      const onServer = this.#nameOnServer(known.statement, start)
      this.#replace(start, bodyEnd, named(Code.Describe, onServer))
    } else if (name.startsWith(ownNames)) this.#replace(start, bodyEnd, named(Code.Describe, `no ${name}`))
    this.#requestDescribe(known)
    return 'done'
  }

  /** The statement of the portal that a Describe names, when it was bound last. */
  #boundTo(at: number, bodyEnd: number): NamedStatement | undefined {
    const bound = this.#bound
    const isHere = bodyEnd <= this.#chunk.length
    return bound && isHere && this.#chunk.toString('latin1', at + 1, bodyEnd - 1) === bound.portal
      ? bound.known
      : undefined
  }

  #close(start: number, bodyEnd: number, name: string, known: NamedStatement | undefined): 'done' {
    const { session } = this.#options
    if (name === '') {
      this.#server.unnamed = undefined
      this.#server.request(Owed.Close, this.#nowMs, session.closeUnnamed(this.#server.unit))
    } else if (!known && name.startsWith(ownNames)) {
      this.#replace(start, bodyEnd, empty)
      this.#server.request(Owed.SkippedClose, this.#nowMs)
    } else if (!known) this.#request(Owed.Close)
    else {
      // The server connection keeps it: it may be wanted again.
      session.unname(name, known)
      this.#replace(start, bodyEnd, empty)
      this.#server.request(Owed.SkippedClose, this.#nowMs, session.outcomeOfClose(name, known))
    }
    return 'done'
  }
}

const statementKind = 0x53 // 'S'
/** Numbers in pg_proc: lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_tell and so on. */
const largeObjectFunctions = new Set([
  715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172,
])
/** What the proxy's own names for statements begin with. */
const ownNames = 'pgherd_'
const flush = frame(Code.Flush, empty)
const syntaxError = '42601'
const planChanged = writeErrorResponse({
  severity: 'ERROR',
  code: '0A000',
  message: 'cached plan must not change result type',
})
const failingQuery = writeQuery('pgherd refuses what stood here')
const sequenceRefusal = writeErrorResponse({
  severity: 'ERROR',
  code: '55000',
  message: 'pgherd: currval and lastval tell here what another session has drawn from a sequence',
  detail: 'Whatever this client has drawn, it was on a server connection that it does not have any more.',
  hint:
    'Run it again after the next INSERT or nextval: from now on clients of this user keep their connection when ' +
    'they draw from a sequence. RETURNING, or pool_mode `session`, does without.',
})
const sureError = writeParse('', 'pgherd refuses what stood here', [])

function named(code: number, name: string): Buffer {
  const message = Buffer.allocUnsafe(headerLength + 1 + name.length + 1)
  message[0] = code
  message.writeUInt32BE(message.length - 1, 1)
  message[headerLength] = statementKind
  message.write(name, headerLength + 1, 'latin1')
  message[message.length - 1] = 0
  return message
}

function printable(code: number): string {
  return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : '?'
}

/** How long the first request in `ahead` is, up to the message that is answered by a ReadyForQuery; if it is whole. */
export function firstRequestBytes(ahead: Buffer): number | undefined {
  const scanner = new Scanner()
  let at = 0
  while ((at = scanner.next(ahead, at, ahead.length)) >= 0) {
    const end = at + scanner.bodyBytes
    const { code } = scanner
    const isEnd = code === Code.Query || code === Code.Sync || code === Code.FunctionCall
    if (isEnd) return end <= ahead.length ? end : undefined
  }
  return undefined
}

/** Whether so much of a message has come that it is worth a server connection: the whole, or of a long one a part. */
export function hasRequest(ahead: Buffer): boolean {
  if (ahead.length < headerLength) return false
  const length = ahead.readUInt32BE(1)
  // What makes no sense is told at once.
  return length > messageBytesMax || ahead.length > Math.min(length, requestBytesMin)
}

const requestBytesMin = 8192
