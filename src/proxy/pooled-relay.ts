import { Client as Code } from '../wire/codes.ts'
import { writeCloseStatement, writeErrorResponse, writeParse } from '../wire/messages.ts'
import { Scanner } from '../wire/scanner.ts'
import { Owed } from './answers.ts'
import type { Relayed } from './client-relay.ts'
import type { Database } from './database.ts'
import type { PooledSession } from './pooled-session.ts'
import type { ServerConnection } from './server.ts'
import type { Statement } from './statements.ts'

/** What the relay of a pooled client needs beside the client and its server. */
export interface PooledRelayOptions {
  session: PooledSession
  database: Database
  /** Most named statements on a server connection. */
  preparedMax: () => number
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
    const end = chunk.length
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      const outcome = this.#message(at)
      if (outcome === 'done') continue
      if (outcome === 'wait') break
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
    return this.#flush(end - this.#keptBytes)
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

  #message(at: number): 'done' | 'wait' | 'terminated' | 'violation' {
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
        this.#options.session.isDirty = true
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

  #query(at: number): 'done' | 'wait' {
    const { session, database } = this.#options
    const whole = this.#whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long') session.pinForGood('long_statement')
    else {
      const bodyEnd = at + this.#scanner.bodyBytes
      session.note(database.effectsOf(this.#chunk, at, bodyEnd - 1))
    }
    session.unnamed = undefined
    this.#server.unnamed = undefined
    this.#request(Owed.Query)
    return 'done'
  }

  #parse(at: number): 'done' | 'wait' {
    const { session, database } = this.#options
    const whole = this.#whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long') {
      // It is prepared under the client's own name, on the server connection that the client keeps.
      session.pinForGood('long_statement')
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
    const statement = database.statements.of(chunk, nameEnd + 1, bodyEnd, session.context)
    if (nameEnd === at) this.#parseUnnamed(statement)
    else this.#parseNamed(at, bodyEnd, chunk.toString('latin1', at, nameEnd), statement)
    return 'done'
  }

  #parseUnnamed(statement: Statement): void {
    const { session } = this.#options
    const server = this.#server
    session.unnamed = statement
    server.unnamed = statement
    server.request(Owed.Parse, this.#nowMs, {
      failed: () => {
        if (session.unnamed === statement) session.unnamed = undefined
        if (server.unnamed === statement) server.unnamed = undefined
      },
    })
  }

  #parseNamed(at: number, bodyEnd: number, name: string, statement: Statement): void {
    const { session } = this.#options
    const server = this.#server
    const start = at - headerLength
    if (session.statement(name)) {
      this.#refuse(start, bodyEnd, '42P05', `prepared statement "${name}" already exists`)
      return
    }
    session.setStatement(name, statement)
    if (server.statements.use(statement) !== undefined) {
      this.#replace(start, bodyEnd, empty)
      const failed = (): void => session.dropStatement(name, statement)
      server.request(Owed.SkippedParse, this.#nowMs, { failed })
      return
    }
    this.#makeRoom(start)
    const onServer = server.statements.add(statement)
    this.#replace(start, bodyEnd, statement.parse(onServer))
    server.request(Owed.Parse, this.#nowMs, {
      failed: () => {
        session.dropStatement(name, statement)
        server.statements.forget(statement, onServer)
      },
    })
  }

  /**
   * Sends something that must fail in the place of what is refused, so that the server skips what follows as it
   * would have; the client gets the error that it should.
   */
  #refuse(start: number, end: number, code: string, message: string): void {
    this.#replace(start, end, sureError)
    const refusal = writeErrorResponse({ severity: 'ERROR', code, message })
    this.#server.request(Owed.Refused, this.#nowMs, { refusal })
  }

  /** Closes the statement that the server connection has not used for longest, when it has as many as it may. */
  #makeRoom(start: number): void {
    const { statements } = this.#server
    const evicted = statements.evict(Math.max(1, this.#options.preparedMax()) - 1)
    if (!evicted) return
    this.#replace(start, start, writeCloseStatement(evicted.name))
    const failed = (): void => statements.restore(evicted.statement, evicted.name)
    this.#server.request(Owed.OwnClose, this.#nowMs, { failed })
  }

  /** The name of a statement on the server; it is prepared there first, before `start`, when it is not. */
  #nameOnServer(statement: Statement, start: number): string {
    const server = this.#server
    const known = server.statements.use(statement)
    if (known !== undefined) return known
    this.#makeRoom(start)
    const name = server.statements.add(statement)
    this.#replace(start, start, statement.parse(name))
    const failed = (): void => server.statements.forget(statement, name)
    server.request(Owed.OwnParse, this.#nowMs, { failed })
    return name
  }

  /** Makes sure that the server's unnamed statement is the client's. */
  #bringUnnamed(start: number): void {
    const { unnamed } = this.#options.session
    const server = this.#server
    if (!unnamed || server.unnamed === unnamed) return
    this.#replace(start, start, unnamed.parse(''))
    server.unnamed = unnamed
    const failed = (): void => {
      if (server.unnamed === unnamed) server.unnamed = undefined
    }
    server.request(Owed.OwnParse, this.#nowMs, { failed })
  }

  #bind(at: number): 'done' | 'wait' {
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
    if (nameEnd === portalEnd + 1) {
      if (session.unnamed) session.note(session.unnamed.effectsIn(database))
      this.#bringUnnamed(start)
    } else {
      const statement = session.statement(chunk.toString('latin1', portalEnd + 1, nameEnd))
      if (statement) {
        session.note(statement.effectsIn(database))
        const name = this.#nameOnServer(statement, start)
        const portalBytes = portalEnd + 1 - at
        const change = name.length - (nameEnd - portalEnd - 1)
        const head = Buffer.allocUnsafe(headerLength + portalBytes + name.length)
        head[0] = Code.Bind
        head.writeUInt32BE(bodyBytes + 4 + change, 1)
        chunk.copy(head, headerLength, at, portalEnd + 1)
        head.write(name, headerLength + portalBytes, 'latin1')
        this.#replace(start, nameEnd, head)
      }
    }
    this.#request(Owed.Bind)
    return 'done'
  }

  #describeOrClose(at: number, code: number): 'done' | 'wait' {
    const { session } = this.#options
    const whole = this.#whole(at, namesBytesMax)
    if (whole === 'wait') return 'wait'
    const isClose = code === Code.Close
    const kind = isClose ? Owed.Close : Owed.Describe
    const bodyEnd = at + this.#scanner.bodyBytes
    if (whole === 'too_long' || this.#chunk[at] !== statementKind) {
      this.#request(kind)
      return 'done'
    }
    const start = at - headerLength
    const name = this.#chunk.toString('latin1', at + 1, bodyEnd - 1)
    const statement = name === '' ? undefined : session.statement(name)
    if (isClose) return this.#close(start, bodyEnd, name, statement)
    if (name === '') this.#bringUnnamed(start)
    else if (statement) {
      const onServer = this.#nameOnServer(statement, start)
      this.#replace(start, bodyEnd, named(Code.Describe, onServer))
    }
    this.#request(kind)
    return 'done'
  }

  #close(start: number, bodyEnd: number, name: string, statement: Statement | undefined): 'done' {
    const { session } = this.#options
    if (name === '') {
      session.unnamed = undefined
      this.#server.unnamed = undefined
    }
    if (!statement) this.#request(Owed.Close)
    else {
      // The server connection keeps it: it may be wanted again.
      session.dropStatement(name)
      this.#replace(start, bodyEnd, empty)
      const failed = (): void => {
        if (!session.statement(name)) session.setStatement(name, statement)
      }
      this.#server.request(Owed.SkippedClose, this.#nowMs, { failed })
    }
    return 'done'
  }
}

const statementKind = 0x53 // 'S'
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
