import { readHints } from '../../routing/hints.ts'
import { noEffects, type SessionEffects } from '../../sql/session-effects.ts'
import { Client as Code, headerBytes, TransactionStatus } from '../../wire/codes.ts'
import { sync, writeQuery } from '../../wire/messages.ts'
import type { ClientHost } from '../client/client-host.ts'
import type { DeferredBegin } from '../client/deferred-begin.ts'
import type { PooledClient } from '../client/pooled-checkout.ts'
import type { ServerConnection } from '../server.ts'
import { explainsElsewhere, queryThatShows, refusalOfSet, setsOwn, shownBy } from '../session/own-settings.ts'
import { Statement } from '../session/statements.ts'
import { type Outcome, Owed } from './answers.ts'
import type { Relayed } from './client-relay.ts'
import { PassingEffects, syntaxError } from './pooled-effects.ts'
import { Passage, type Passed } from './pooled-passage.ts'
import { PooledStatements, statementBytesMax } from './pooled-statements.ts'

const empty = Buffer.alloc(0)

/**
 * Passes the bytes of clients who share a server connection, of one client at a time: names of prepared statements
 * are replaced by those that the server connection knows them under, statements that it lacks are prepared there
 * first, and every statement is looked through for what it may leave behind.
 */
export class PooledRelay {
  problem = ''
  readonly #passage: Passage
  readonly #effects: PassingEffects
  readonly #statements: PooledStatements
  // What the piece that is passing holds:
  #parses = false
  #describes = false
  #binds = 0
  #queries = false
  #held: Buffer = empty
  /** The request that is outstanding alone, as it came; empty when it cannot be sent again. */
  #retryPiece: Buffer = empty
  #forcesBarrier = false
  /** What the client has begun here and the server does not know of. */
  #begun: DeferredBegin | undefined

  constructor(server: ServerConnection) {
    this.#passage = new Passage(server)
    this.#effects = new PassingEffects(this.#passage)
    this.#statements = new PooledStatements(this.#passage, this.#effects)
  }

  /** Works for another client from now on. */
  serve(client: PooledClient, host: ClientHost): void {
    this.#passage.serve(client, host)
    this.#statements.reset()
    this.problem = ''
    this.#held = empty
    this.#retryPiece = empty
    this.#forcesBarrier = false
    this.#begun = undefined
  }

  /** The next piece is the first of a transaction that was begun without a server. */
  begin(begun: DeferredBegin): void {
    this.#begun = begun
  }

  /** Everything that came was whole messages, and was passed on. */
  get atBoundary(): boolean {
    return this.isWhole && this.#passage.keptBytes === 0
  }

  /** No message was passed on in part: the next bytes on the server connection begin a message. */
  get isWhole(): boolean {
    return this.#passage.scanner.atBoundary
  }

  /** Passes on the next piece of the client's bytes. */
  pass(piece: Buffer, server: ServerConnection, nowMs: number): Relayed {
    const passage = this.#passage
    const chunk = passage.join(piece)
    if (!chunk) return true
    passage.begin(chunk, nowMs)
    if (this.#begun && isShortPart(chunk)) {
      passage.keep(0, messageBytes(chunk))
      return true
    }
    const isFresh = server.owed.isEmpty && !server.unsynced
    const isAlone = isFresh && server.status === TransactionStatus.Idle && !this.#begun
    if (!isAlone) server.disarmRetry()
    this.#parses = false
    this.#describes = false
    this.#binds = 0
    this.#queries = false
    this.#retryPiece = empty
    this.#statements.beginPiece(isFresh)
    const isOpen = this.#begun ? !this.#begun.hasFailed : server.status === TransactionStatus.InTransaction
    const isPrepared = this.#statements.queries.plan(chunk, isFresh, isOpen && this.#effects.isReadable)
    if (this.#begun) this.#putBegin(this.#begun, chunk[0]!, isPrepared)
    const { session } = passage
    if (session.isUnread) session.touch()
    const stopped = this.#passMessages(chunk, session.isDirty)
    if (stopped !== undefined) return stopped
    const { keptBytes } = passage
    if (isAlone && server.owed.ready === 1 && !server.unsynced && keptBytes === 0) {
      this.#retryPiece = chunk
      // One statement, so that nothing can have been done before it fails; and one that tells its columns anew.
      const isOne = this.#binds <= 1 && !this.#queries
      const { client } = passage
      const forStandby = client.staysForOne && client.reading !== undefined && client.route === 'replica'
      server.armRetry(isOne && !session.isPinned && (this.#parses || this.#describes), forStandby)
    }
    return passage.flush(chunk.length - keptBytes)
  }

  /**
   * The BEGIN goes as extended messages without a Sync: where it fails nothing behind it is carried out, up to the
   * Sync. A Query has none of its own: it is given one then, and alone, so that nothing else is discarded with it.
   */
  #putBegin(begun: DeferredBegin, firstCode: number, isPrepared: boolean): void {
    const { server } = this.#passage
    this.#begun = undefined
    server.transactionSinceMs = begun.sinceMs
    const hasNoSync = !isPrepared && (firstCode === Code.Query || firstCode === Code.FunctionCall)
    this.#forcesBarrier = hasNoSync
    this.#statements.begin(begun.statement, () => {
      if (hasNoSync && !server.isClosed) this.#endDiscarded('the transaction could not be begun')
    })
  }

  /** A Query is discarded because what was put before it has failed: `what`. */
  #endDiscarded(what: string): void {
    const { client, host, server } = this.#passage
    if (this.isWhole && server.owed.ready === 1) {
      server.write(sync)
      this.#passage.request(Owed.Sync)
      return
    }
    // Of a request that is too long to be held back a part is still to come, or others have followed it: they would be
    // discarded without an answer. First the client is told what was wrong.
    host.timers.soon(() => {
      if (client.server === server) client.end('server_lost', `${what} on ${server.target.node}`)
    })
  }

  /** Goes through the messages of a piece, up to one that the rest has to wait for or that ends it all. */
  #passMessages(chunk: Buffer, wasDirty: boolean): Relayed | undefined {
    const { scanner, session } = this.#passage
    const end = chunk.length
    let at = 0
    while ((at = scanner.next(chunk, at, end)) >= 0) {
      const start = at - headerBytes
      switch (this.#message(at)) {
        case 'done': {
          const mayChange = this.#forcesBarrier || (!wasDirty && session.isDirty)
          if (!mayChange || !endsRequest(scanner.code)) break
          this.#forcesBarrier = false
          const requestEnd = at + scanner.bodyBytes
          // Of what is too long to be seen as a whole the rest has to come.
          if (requestEnd <= end) return this.#holdFrom(requestEnd)
          break
        }
        case 'wait':
          return undefined
        case 'barrier':
          return this.#holdFrom(start)
        case 'terminated':
          this.#passage.flush(start)
          return 'terminated'
        case 'violation':
          this.#passage.flush()
          return 'violation'
        default:
      }
    }
    if (scanner.violation) {
      this.problem = 'a message has an impossible length'
      return 'violation'
    }
    const partBytes = scanner.takePartialHeader()
    if (partBytes > 0) this.#passage.keep(end - partBytes, headerBytes)
    return undefined
  }

  #holdFrom(start: number): 'barrier' {
    const { chunk, scanner } = this.#passage
    scanner.rewind()
    this.#held = start < chunk.length ? Buffer.from(chunk.subarray(start)) : empty
    this.#passage.flush(start)
    return 'barrier'
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
    this.#statements.keepNames()
  }

  /** What has to be passed again when the request it was is to be tried again; empty when that cannot be. */
  takeRetry(): Buffer {
    const piece = this.#retryPiece
    this.#retryPiece = empty
    this.#statements.takeNamesBack(true)
    return piece
  }

  #message(at: number): Passed | 'terminated' | 'violation' {
    const { scanner } = this.#passage
    const { code } = scanner
    switch (code) {
      case Code.Query:
        return this.#query(at)
      case Code.Parse:
        this.#parses = true
        return this.#statements.parse(at)
      case Code.Bind:
        this.#binds++
        return this.#statements.bind(at)
      case Code.Describe:
        this.#describes = true
        return this.#statements.describe(at)
      case Code.Close:
        return this.#statements.close(at)
      case Code.Execute:
        this.#passage.request(Owed.Execute)
        return 'done'
      case Code.Sync:
        this.#passage.request(Owed.Sync)
        return 'done'
      case Code.FunctionCall:
        return this.#functionCall(at)
      case Code.CopyDone:
      case Code.CopyFail:
        this.#passage.server.owed.copyInEnds()
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
  #functionCall(at: number): 'done' {
    const { chunk, session } = this.#passage
    const isHere = at + 4 <= chunk.length
    const isHarmless = isHere && largeObjectFunctions.has(chunk.readUInt32BE(at))
    this.#queries = true
    if (!isHarmless) session.pinForGood('unseen_setting')
    this.#passage.request(Owed.Query)
    return 'done'
  }

  /** What is set of pgherd's own must be what it can be. */
  #ownRefusal({ customSettings }: SessionEffects, at: number, bodyEnd: number): Buffer | undefined {
    if (!setsOwn(customSettings)) return undefined
    return refusalOfSet(this.#passage.chunk.toString('latin1', at, bodyEnd - 1))
  }

  #query(at: number): Passed {
    const { chunk, database, scanner, server, session } = this.#passage
    if (readHints(chunk, at, Math.min(chunk.length, at + scanner.bodyBytes))?.explain) {
      const outcome = { refusal: explainsElsewhere, refuses: syntaxError }
      return this.#refuseQuery(at, at + scanner.bodyBytes, outcome)
    }
    let noted: Outcome | undefined
    const whole = this.#passage.whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long') session.pinForGood('long_statement')
    else if (!this.#effects.isReadable) this.#effects.noteUnread()
    else {
      const bodyEnd = at + scanner.bodyBytes
      const { queries } = this.#statements
      const effects = queries.effects ?? database.effectsOf(chunk, at, bodyEnd - 1)
      if (effects === noEffects) {
        const shown = shownBy(chunk, at, bodyEnd - 1)
        if (shown) {
          const query = queryThatShows(shown, this.#passage.limits.consistency)
          this.#passage.replace(at - headerBytes, bodyEnd, writeQuery(query))
        }
      } else {
        const refusal = this.#ownRefusal(effects, at, bodyEnd)
        if (refusal) return this.#refuseQuery(at, bodyEnd, { refusal, refuses: syntaxError })
        noted = this.#effects.note(effects)
        if (noted?.refusal) {
          this.#parseFirst(at, bodyEnd)
          return this.#refuseQuery(at, bodyEnd, noted)
        }
        const { deallocates, discardsAll } = effects
        if (discardsAll || deallocates?.all === true) this.#forcesBarrier = true
        if (deallocates && this.#statements.deallocate(deallocates, at) === 'barrier') return 'barrier'
      }
    }
    this.#queries = true
    session.dropUnnamed()
    server.unnamed = undefined
    if (!this.#statements.queries.put(at, at + scanner.bodyBytes)) this.#passage.request(Owed.Query, noted)
    return 'done'
  }

  #refuseQuery(at: number, bodyEnd: number, outcome: Outcome): 'done' {
    this.#passage.replace(at - headerBytes, bodyEnd, failingQuery)
    this.#passage.request(Owed.RefusedQuery, outcome)
    return 'done'
  }

  /**
   * Before a Query is refused that is one statement, PostgreSQL says what is wrong with it: a table that does not exist,
   * say. The Query behind a Parse that fails would be discarded, and no Sync follows it: it is given one then, and alone.
   */
  #parseFirst(at: number, bodyEnd: number): void {
    const { chunk, server, session } = this.#passage
    if (/;\s*[^\s]/.test(chunk.toString('latin1', at, bodyEnd - 1))) return
    const statement = new Statement(Buffer.concat([chunk.subarray(at, bodyEnd), noParameters]))
    session.dropUnnamed()
    server.unnamed = undefined
    this.#forcesBarrier = true
    this.#passage.putBefore(at - headerBytes, statement.parse(''))
    this.#passage.request(Owed.OwnParse, {
      failed: wasDiscarded => {
        if (!wasDiscarded && !server.isClosed) this.#endDiscarded('the statement could not be parsed')
      },
    })
  }
}

/** Of a message with its header, which is here. */
function messageBytes(chunk: Buffer): number {
  return chunk.readUInt32BE(1) + 1
}

/** Whether the first message is not here as a whole, and may be waited for. */
function isShortPart(chunk: Buffer): boolean {
  const bytes = messageBytes(chunk)
  return bytes > chunk.length && bytes <= headerBytes + statementBytesMax
}

function endsRequest(code: number): boolean {
  return code === Code.Query || code === Code.Sync || code === Code.FunctionCall
}

/** Numbers in pg_proc: lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_tell and so on. */
const largeObjectFunctions = new Set([
  715, 764, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172,
])
const noParameters = Buffer.alloc(2)
const failingQuery = writeQuery('pgherd refuses what stood here')

function printable(code: number): string {
  return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : '?'
}
