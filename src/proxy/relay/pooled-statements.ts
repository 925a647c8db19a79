import { readHints } from '../../routing/hints.ts'
import { type Deallocation, noEffects } from '../../sql/session-effects.ts'
import { Client as Code, headerBytes, TransactionStatus } from '../../wire/codes.ts'
import {
  frame,
  writeBind,
  writeCloseStatement,
  writeErrorResponse,
  writeExecute,
  writeParse,
} from '../../wire/messages.ts'
import {
  explainsElsewhere,
  type OwnSetting,
  queryThatShows,
  refusalOfSet,
  setsOwn,
  shownBy,
} from '../session/own-settings.ts'
import type { NamedStatement } from '../session/pooled-session.ts'
import { contextOf } from '../session/reported.ts'
import { nextMoment, Statement } from '../session/statements.ts'
import { type Outcome, Owed } from './answers.ts'
import { type PassingEffects, syntaxError } from './pooled-effects.ts'
import type { Passage, Passed } from './pooled-passage.ts'
import { PreparedBehind, PreparedThere } from './pooled-prepared.ts'
import { PreparedQueries } from './pooled-queries.ts'

/** The longest statement that is looked through; a longer one keeps its client on its server connection. */
export const statementBytesMax = 1024 * 1024
/** The names in Bind, Describe and Close. PostgreSQL's own names have at most 63 bytes, drivers' are not much longer. */
const namesBytesMax = 8192
const empty = Buffer.alloc(0)

/**
 * The prepared statements of pooled clients on their way to a server: a client's names are replaced by those that the
 * server connection knows the statements under, and what it lacks is prepared there first.
 */
export class PooledStatements {
  readonly #passage: Passage
  readonly #effects: PassingEffects
  /** Queries that are run as prepared statements. */
  readonly queries: PreparedQueries
  readonly #there: PreparedThere
  readonly #behind: PreparedBehind
  /** The named statement that was bound last in this piece. */
  #bound: { portal: string; known: NamedStatement } | undefined
  /** The statement whose columns the server was asked for last. */
  #fitAsked: NamedStatement | undefined
  /** Names that were given in the request that is outstanding alone. */
  readonly #parsedNames: [name: string, named: NamedStatement][] = []

  constructor(passage: Passage, effects: PassingEffects) {
    this.#passage = passage
    this.#effects = effects
    this.#there = new PreparedThere(passage)
    this.#behind = new PreparedBehind(passage, this.#there)
    this.queries = new PreparedQueries(passage, this.#there)
  }

  /** Of the client before nothing is left. */
  reset(): void {
    this.#fitAsked = undefined
    this.#behind.isOff = false
    this.#behind.judge()
    this.queries.judge()
    this.beginPiece(false)
  }

  /** `isFresh`: the server owes nothing, and what was sent before has had its Sync. */
  beginPiece(isFresh: boolean): void {
    this.#bound = undefined
    this.#behind.beginPiece(isFresh)
    this.#parsedNames.length = 0
  }

  /** The request was answered: the names that it has given are the client's. */
  keepNames(): void {
    this.#parsedNames.length = 0
  }

  /** The request is tried again: the names are given again. `plainly`: nothing is prepared behind the client's back. */
  takeNamesBack(plainly: boolean): void {
    this.#behind.isOff = plainly
    for (const [name, named] of this.#parsedNames) this.#passage.session.unname(name, named)
    this.#parsedNames.length = 0
  }

  /** Puts a BEGIN before everything that this piece holds; `failed`: it was not carried out. */
  begin(statement: Statement, failed: () => void): void {
    const name = this.#there.nameOf(statement, 0)
    this.#passage.putBefore(0, Buffer.concat([writeBind('', name), executeUnnamed]))
    this.#passage.request(Owed.OwnBind)
    this.#passage.request(Owed.OwnExecute, { failed })
  }

  // Parse.

  parse(at: number): Passed {
    const { chunk, database, scanner, server, session } = this.#passage
    const whole = this.#passage.whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long') {
      // It is prepared under the client's own name, on the server connection that the client keeps.
      session.pinForGood('long_statement')
      if (chunk[at] === 0) {
        session.hasLongUnnamed = true
        server.unnamed = undefined
      }
      this.#passage.request(Owed.Parse)
      return 'done'
    }
    const bodyEnd = at + scanner.bodyBytes
    const nameEnd = chunk.indexOf(0, at)
    if (nameEnd < 0 || nameEnd >= bodyEnd) {
      this.#passage.request(Owed.Parse)
      return 'done'
    }
    const asked = session.isInContext
      ? database.statements.of(chunk, nameEnd + 1, bodyEnd, this.#context)
      : new Statement(Buffer.from(chunk.subarray(nameEnd + 1, bodyEnd)), this.#context)
    const refusal =
      readHints(chunk, nameEnd + 1, bodyEnd)?.explain === undefined
        ? this.#ownRefusal(asked)
        : explainsElsewhere
    if (refusal) {
      this.#passage.replace(at - headerBytes, bodyEnd, sureError)
      this.#passage.request(Owed.Refused, { refusal, refuses: syntaxError })
      return 'done'
    }
    const shown = shownBy(chunk, nameEnd + 1, bodyEnd - 3)
    const statement = shown ? this.#showing(shown) : asked
    if (nameEnd > at) return this.#parseNamed(at, bodyEnd, chunk.toString('latin1', at, nameEnd), statement)
    if (shown) this.#passage.replace(at - headerBytes, bodyEnd, statement.parse(''))
    const unnamed = shown ? statement : this.#rewritten(statement, at, bodyEnd)
    if (unnamed === asked && this.#effects.isReadable && this.#behind.parse(unnamed, at)) return 'done'
    server.unnamed = unnamed
    this.#passage.request(Owed.Parse, session.parseUnnamed(unnamed, server))
    return 'done'
  }

  #showing(setting: OwnSetting): Statement {
    const query = queryThatShows(setting, this.#passage.limits.consistency)
    return new Statement(Buffer.from(`${query}\0\0\0`), this.#context)
  }

  /** What is set of pgherd's own must be what it can be. */
  #ownRefusal(statement: Statement): Buffer | undefined {
    if (!this.#effects.isReadable) return undefined
    const { customSettings } = statement.effectsIn(this.#passage.database)
    if (!setsOwn(customSettings)) return undefined
    return refusalOfSet(statement.body.toString('latin1', 0, statement.textEnd))
  }

  #parseNamed(at: number, bodyEnd: number, name: string, statement: Statement): 'done' | 'barrier' {
    const { server, session } = this.#passage
    const start = at - headerBytes
    // What the name means depends on requests before this one that may still fail.
    if (session.uncertainNames > 0 && server.owed.ready > 0) return this.#barrierBefore(at)
    const namesake = this.#named(name)
    if (this.#isUncertain(namesake?.statement ?? statement, false)) return this.#barrierBefore(at)
    if (namesake) {
      // It may be that the transaction ends before.
      if (server.status === TransactionStatus.Failed && server.owed.ready > 0) return this.#barrierBefore(at)
      this.#refuseName(start, bodyEnd, name, namesake.statement, statement)
      return 'done'
    }
    // Whether it can be skipped depends on whether the transaction has failed.
    const isKnown = server.statements.use(statement) !== undefined
    if (isKnown && server.owed.ready > 0) return this.#barrierBefore(at)
    const named = session.name(name, statement)
    named.parsedIn = server.unit
    this.#parsedNames.push([name, named])
    if (server.status === TransactionStatus.Failed) this.#there.close(statement, start)
    if (server.statements.use(statement) !== undefined) {
      this.#passage.replace(start, bodyEnd, empty)
      this.#passage.request(Owed.SkippedParse, session.outcomeOfParse(name, named))
      return 'done'
    }
    this.#there.makeRoom(start)
    const onServer = server.statements.add(statement, server.unit)
    this.#passage.replace(start, bodyEnd, statement.parse(onServer))
    const there = (): void => server.statements.confirm(statement, onServer)
    const gone = (): void => server.statements.forget(statement, onServer)
    this.#passage.request(Owed.Parse, session.outcomeOfParse(name, named, there, gone))
    return 'done'
  }

  /** PostgreSQL takes a name only once: the same happens on the server with the name that it has there. */
  #refuseName(start: number, end: number, name: string, namesake: Statement, statement: Statement): void {
    // In a failed transaction nothing can be prepared, neither this one nor the namesake.
    const isFailed = this.#passage.server.status === TransactionStatus.Failed
    const onServer = isFailed ? 'pgherd_refused' : this.#there.nameOf(namesake, start)
    this.#passage.replace(start, end, statement.parse(onServer))
    const message = `prepared statement "${name}" already exists`
    const refusal = writeErrorResponse({ severity: 'ERROR', code: '42P05', message })
    this.#passage.request(Owed.Refused, { refusal, refuses: '42P05' })
  }

  // Bind.

  bind(at: number): Passed {
    const { chunk, scanner, server, session } = this.#passage
    const { bodyBytes } = scanner
    const here = Math.min(chunk.length, at + bodyBytes)
    const portalEnd = chunk.indexOf(0, at)
    const nameEnd = portalEnd < 0 ? -1 : chunk.indexOf(0, portalEnd + 1)
    if (nameEnd < 0 || nameEnd >= here) return this.#bindInPart(at, here)
    const isUnnamed = nameEnd === portalEnd + 1
    const known = isUnnamed ? undefined : this.#named(chunk.toString('latin1', portalEnd + 1, nameEnd))
    const statement = isUnnamed ? session.unnamed : known?.statement
    if (this.#isUncertain(statement, isUnnamed, known)) return this.#barrierBefore(at)
    if (!statement && session.uncertainNames > 0 && server.owed.ready > 0) return this.#barrierBefore(at)
    // Who asks for the columns again takes them as they are now.
    const asksAgain = chunk[at + bodyBytes] === Code.Describe
    if (known?.shape !== undefined && !asksAgain) {
      const fit = this.#fit(known, at - headerBytes)
      if (fit === 'unknown') return this.#barrierBefore(at)
      const refused = fit === 'changed' ? this.#refuse(at, planChanged) : undefined
      if (refused) return refused
    }
    this.#bound = known && { portal: chunk.toString('latin1', at, portalEnd), known }
    const noted = statement && this.#noteEffects(statement)
    if (!noted?.refusal) {
      this.#passBind(at, portalEnd, nameEnd, statement, noted)
      return 'done'
    }
    const whole = this.#passage.whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    // What is wrong with its values the server says before.
    if (whole === 'whole') this.#passBind(at, portalEnd, nameEnd, statement)
    this.#passage.putBefore(whole === 'whole' ? at + bodyBytes : at - headerBytes, sureError)
    this.#passage.request(Owed.Refused, noted)
    if (whole === 'too_long') this.#passage.request(Owed.Bind)
    return 'done'
  }

  /** `noted`: what depends on whether what is bound can be run. */
  #passBind(
    at: number,
    portalEnd: number,
    nameEnd: number,
    statement: Statement | undefined,
    noted?: Outcome,
  ): void {
    if (nameEnd > portalEnd + 1) {
      if (statement) this.#bindTo(statement, at, portalEnd, nameEnd)
      else this.#hideOwnName(at, portalEnd, nameEnd)
      return this.#passage.request(Owed.Bind, noted)
    }
    const outcome = statement && this.#behind.outcomeOfBind(statement)
    if (statement && this.#behind.isPrepared(statement)) this.#bindTo(statement, at, portalEnd, nameEnd)
    else this.#bringUnnamed(at - headerBytes)
    this.#passage.request(Owed.Bind, noted ?? outcome)
  }

  /** Its names have not come as a whole. Those that are too long are nobody's. */
  #bindInPart(at: number, here: number): 'done' | 'wait' {
    const { bodyBytes } = this.#passage.scanner
    if (here - at < Math.min(bodyBytes, namesBytesMax)) {
      this.#passage.keepMessage(at, Math.min(bodyBytes, 2 * (here - at) + 64))
      return 'wait'
    }
    this.#passage.request(Owed.Bind)
    return 'done'
  }

  #noteEffects(statement: Statement): Outcome | undefined {
    if (!this.#effects.isReadable) {
      this.#effects.noteUnread()
      return undefined
    }
    const effects = statement.effectsIn(this.#passage.database)
    return effects === noEffects ? undefined : this.#effects.note(effects)
  }

  /** What stands here fails, and its client gets `refusal`; undefined when it is too long to be replaced. */
  #refuse(at: number, refusal: Buffer): 'done' | 'wait' | undefined {
    const whole = this.#passage.whole(at, statementBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long') return undefined
    this.#passage.replace(at - headerBytes, at + this.#passage.scanner.bodyBytes, sureError)
    this.#passage.request(Owed.Refused, { refusal, refuses: syntaxError })
    return 'done'
  }

  /** Replaces the client's name of a statement by the one on the server. */
  #bindTo(statement: Statement, at: number, portalEnd: number, nameEnd: number): void {
    const { chunk, scanner } = this.#passage
    const start = at - headerBytes
    const name = this.#there.nameOf(statement, start)
    const portalBytes = portalEnd + 1 - at
    const change = name.length - (nameEnd - portalEnd - 1)
    const head = Buffer.allocUnsafe(headerBytes + portalBytes + name.length)
    head[0] = Code.Bind
    head.writeUInt32BE(scanner.bodyBytes + 4 + change, 1)
    chunk.copy(head, headerBytes, at, portalEnd + 1)
    head.write(name, headerBytes + portalBytes, 'latin1')
    this.#passage.replace(start, nameEnd, head)
  }

  /** A name of the proxy's own is nobody else's: it is replaced by one that surely is unknown. */
  #hideOwnName(at: number, portalEnd: number, nameEnd: number): void {
    const { chunk, scanner } = this.#passage
    const name = chunk.toString('latin1', portalEnd + 1, nameEnd)
    if (!name.startsWith(ownNames)) return
    const start = at - headerBytes
    const unknown = Buffer.from(`no ${name}`, 'latin1')
    const head = Buffer.alloc(headerBytes)
    head[0] = Code.Bind
    head.writeUInt32BE(scanner.bodyBytes + 4 + 3, 1)
    this.#passage.replace(start, nameEnd, Buffer.concat([head, chunk.subarray(at, portalEnd + 1), unknown]))
  }

  // Describe and Close.

  describe(at: number): Passed {
    const { chunk, scanner, server, session } = this.#passage
    const whole = this.#passage.whole(at, namesBytesMax)
    if (whole === 'wait') return 'wait'
    const bodyEnd = at + scanner.bodyBytes
    if (whole === 'too_long' || chunk[at] !== statementKind) {
      this.#requestDescribe(this.#boundTo(at, bodyEnd))
      return 'done'
    }
    const start = at - headerBytes
    const name = chunk.toString('latin1', at + 1, bodyEnd - 1)
    const known = name === '' ? undefined : this.#named(name)
    if (this.#isUncertain(known?.statement, name === '', known)) return this.#barrierBefore(at)
    const isUnknown = name !== '' && !known
    if (isUnknown && session.uncertainNames > 0 && server.owed.ready > 0) return this.#barrierBefore(at)
    if (name === '') this.#bringUnnamed(start)
    else if (known) {
      const onServer = this.#there.nameOf(known.statement, start)
      this.#passage.replace(start, bodyEnd, named(Code.Describe, onServer))
    } else if (name.startsWith(ownNames)) {
      this.#passage.replace(start, bodyEnd, named(Code.Describe, `no ${name}`))
    }
    this.#requestDescribe(known)
    return 'done'
  }

  close(at: number): Passed {
    const { chunk, scanner, server, session } = this.#passage
    const whole = this.#passage.whole(at, namesBytesMax)
    if (whole === 'wait') return 'wait'
    if (whole === 'too_long' || chunk[at] !== statementKind) {
      this.#passage.request(Owed.Close)
      return 'done'
    }
    const bodyEnd = at + scanner.bodyBytes
    const name = chunk.toString('latin1', at + 1, bodyEnd - 1)
    const known = name === '' ? undefined : this.#named(name)
    if (this.#isUncertain(known?.statement, name === '')) return this.#barrierBefore(at)
    if (session.uncertainNames > 0 && server.owed.ready > 0) return this.#barrierBefore(at)
    this.#closeName(at - headerBytes, bodyEnd, name, known)
    return 'done'
  }

  #closeName(start: number, bodyEnd: number, name: string, known: NamedStatement | undefined): void {
    const { server, session } = this.#passage
    if (name === '') {
      server.unnamed = undefined
      this.#passage.request(Owed.Close, session.closeUnnamed(server.unit))
    } else if (known) {
      // The server connection keeps it: it may be wanted again.
      session.unname(name, known)
      this.#passage.replace(start, bodyEnd, empty)
      this.#passage.request(Owed.SkippedClose, session.outcomeOfClose(name, known))
    } else if (name.startsWith(ownNames)) {
      this.#passage.replace(start, bodyEnd, empty)
      this.#passage.request(Owed.SkippedClose)
    } else this.#passage.request(Owed.Close)
  }

  /** The statement of the portal that a Describe names, when it was bound last. */
  #boundTo(at: number, bodyEnd: number): NamedStatement | undefined {
    const { chunk } = this.#passage
    const bound = this.#bound
    const isHere = bodyEnd <= chunk.length
    return bound && isHere && chunk.toString('latin1', at + 1, bodyEnd - 1) === bound.portal
      ? bound.known
      : undefined
  }

  /** Notes what columns the client is told, when that is not known yet. */
  #requestDescribe(known: NamedStatement | undefined): void {
    const { server } = this.#passage
    const there = known && server.statements.shapeOf(known.statement)
    if (!known || !there || (known.shape !== undefined && there.shape !== undefined)) {
      return this.#passage.request(Owed.Describe)
    }
    const name = server.statements.use(known.statement)!
    this.#passage.request(Owed.Describe, {
      described: shape => {
        known.shape = shape
        known.describedAt = nextMoment()
        server.statements.describe(known.statement, name, shape)
      },
    })
  }

  // DEALLOCATE.

  /** A DEALLOCATE in a Query: a name that only the proxy knows is replaced by the one on the server. */
  deallocate(deallocation: Deallocation, at: number): 'done' | 'barrier' {
    const { server } = this.#passage
    // Whether the transaction has failed has to be known.
    if (!server.owed.isEmpty) return this.#barrierBefore(at)
    const { all, name } = deallocation
    const named = all ? undefined : this.#named(name)
    if (server.status === TransactionStatus.Failed) return 'done'
    if (!named) {
      if (name.startsWith(ownNames)) this.#renameIn(deallocation, at, '"no such name"')
      return 'done'
    }
    let onServer = server.statements.use(named.statement)
    if (onServer === undefined) {
      // Any other that surely can be prepared does as well.
      onServer = 'pgherd_deallocated'
      this.#passage.putBefore(at - headerBytes, writeParse(onServer, '', []))
      this.#passage.request(Owed.OwnParse)
    }
    const gone = onServer
    this.#renameIn(deallocation, at, gone)
    server.deallocating = () => this.#forget(name, named, gone)
    return 'done'
  }

  /** Replaces the name in a DEALLOCATE. */
  #renameIn({ start, end }: Deallocation, at: number, name: string): void {
    const { chunk, scanner } = this.#passage
    const bodyEnd = at + scanner.bodyBytes
    const text = [chunk.subarray(at, start), Buffer.from(name, 'latin1'), chunk.subarray(end, bodyEnd)]
    this.#passage.replace(at - headerBytes, bodyEnd, frame(Code.Query, Buffer.concat(text)))
  }

  /** The same statement, unless it is a DEALLOCATE of a name that only the proxy knows. */
  #rewritten(statement: Statement, at: number, bodyEnd: number): Statement {
    if (!this.#effects.isReadable) return statement
    const { deallocates } = statement.effectsIn(this.#passage.database)
    const named = !deallocates || deallocates.all ? undefined : this.#named(deallocates.name)
    if (!deallocates || !named) return statement
    const start = at - headerBytes
    const onServer = this.#there.nameOf(named.statement, start)
    const { body } = statement
    const rewritten = new Statement(
      Buffer.concat([
        body.subarray(0, deallocates.start),
        Buffer.from(onServer, 'latin1'),
        body.subarray(deallocates.end),
      ]),
    )
    this.#passage.replace(start, bodyEnd, rewritten.parse(''))
    this.#passage.server.deallocating = () => this.#forget(deallocates.name, named, onServer)
    return rewritten
  }

  #forget(name: string, named: NamedStatement, onServer: string): void {
    this.#passage.session.unname(name, named)
    this.#passage.server.statements.forget(named.statement, onServer)
  }

  // What the server has.

  /** What decides the meaning of a statement's text when the server parses it now. */
  get #context(): string {
    const { server, session } = this.#passage
    return contextOf(server.reported, session.context)
  }

  /**
   * What a client's name means. What the server connection lacks has to be parsed anew, by the settings of now: that
   * may be another statement than the one that others know by its text.
   */
  #named(name: string): NamedStatement | undefined {
    const { database, server, session } = this.#passage
    const known = session.named(name)
    if (!known || server.statements.use(known.statement) !== undefined) return known
    const context = this.#context
    const { body } = known.statement
    if (known.statement.context !== context)
      known.statement = database.statements.of(body, 0, body.length, context)
    return known
  }

  /**
   * Whether a statement on the server has the result that its client was told. One that was prepared there before is
   * prepared anew; one that was prepared after that tells that its tables have changed since, which PostgreSQL would
   * refuse to a client of its own. What is not known is asked for.
   */
  #fit(known: NamedStatement, start: number): 'fits' | 'unknown' | 'changed' {
    const { server } = this.#passage
    const { statement } = known
    const there = server.statements.shapeOf(statement)
    if (there?.shape === known.shape) return 'fits'
    // What cannot be told now the server says itself.
    if (server.status === TransactionStatus.Failed || server.owed.discarding) return 'fits'
    if (this.#fitAsked === known && there?.shape === undefined) return 'fits'
    this.#fitAsked = known
    if (there?.shape !== undefined) {
      if (there.parsedAt > known.describedAt) return 'changed'
      this.#there.close(statement, start)
    }
    const name = this.#there.nameOf(statement, start)
    this.#passage.putBefore(start, named(Code.Describe, name))
    this.#passage.request(Owed.OwnDescribe, {
      described: shape => server.statements.describe(statement, name, shape),
    })
    return 'unknown'
  }

  /** Whether what a named or the unnamed statement is depends on an earlier request that may still fail. */
  #isUncertain(statement: Statement | undefined, isUnnamed: boolean, known?: NamedStatement): boolean {
    const { server, session } = this.#passage
    if (isUnnamed) return session.isUnnamedUncertain(server.unit)
    if (known?.parsedIn !== undefined && known.parsedIn < server.unit) return true
    return statement !== undefined && server.statements.isUncertain(statement, server.unit)
  }

  /** Makes sure that the server's unnamed statement is the client's. */
  #bringUnnamed(start: number): void {
    const { server, session } = this.#passage
    const { hasLongUnnamed, unnamed } = session
    // It is on the server connection, which the client keeps.
    if (hasLongUnnamed) return
    if (!unnamed) return this.#closeUnnamed(start)
    if (server.unnamed === unnamed) return
    this.#passage.putBefore(start, unnamed.parse(''))
    server.unnamed = unnamed
    const failed = (): void => {
      if (server.unnamed === unnamed) server.unnamed = undefined
    }
    this.#passage.request(Owed.OwnParse, { failed })
  }

  /** The client has none: it must not find what another one has left. */
  #closeUnnamed(start: number): void {
    this.#passage.putBefore(start, writeCloseStatement(''))
    this.#passage.server.unnamed = undefined
    this.#passage.request(Owed.OwnClose)
  }

  /** Holds back what comes from here on until what was passed on before is answered. */
  #barrierBefore(at: number): 'barrier' {
    // The server does not answer before it is told to, and the Sync that would is held back too.
    if (this.#passage.server.unsynced) this.#passage.putBefore(at - headerBytes, flush)
    return 'barrier'
  }
}

const statementKind = 0x53 // 'S'
/** What the proxy's own names for statements begin with. */
const ownNames = 'pgherd_'
const flush = frame(Code.Flush, empty)
const executeUnnamed = writeExecute('')
const planChanged = writeErrorResponse({
  severity: 'ERROR',
  code: '0A000',
  message: 'cached plan must not change result type',
  // Drivers prepare the statement anew by themselves when they see it.
  routine: 'RevalidateCachedQuery',
})
/** With a name, so that the unnamed statement stays. */
const sureError = writeParse('pgherd_refused', 'pgherd refuses what stood here', [])

function named(code: number, name: string): Buffer {
  const message = Buffer.allocUnsafe(headerBytes + 1 + name.length + 1)
  message[0] = code
  message.writeUInt32BE(message.length - 1, 1)
  message[headerBytes] = statementKind
  message.write(name, headerBytes + 1, 'latin1')
  message[message.length - 1] = 0
  return message
}
