import { headerBytes, TransactionStatus } from '../../wire/codes.ts'
import { writeCloseStatement } from '../../wire/messages.ts'
import { UnitKind, UnitReader } from '../lanes/unit-reader.ts'
import type { Statement } from '../session/statements.ts'
import { type Outcome, Owed } from './answers.ts'
import type { Passage } from './pooled-passage.ts'

/** The statements that a server connection has under names of the proxy's own. */
export class PreparedThere {
  readonly #passage: Passage

  constructor(passage: Passage) {
    this.#passage = passage
  }

  /** The name of a statement on the server; it is prepared there first, before `start`, when it is not. */
  nameOf(statement: Statement, start: number, outcome?: Outcome): string {
    const { server } = this.#passage
    const known = server.statements.use(statement)
    if (known !== undefined) return known
    this.makeRoom(start)
    const name = server.statements.add(statement, server.unit)
    this.#passage.putBefore(start, statement.parse(name))
    this.#passage.request(Owed.OwnParse, {
      ...outcome,
      succeeded: () => server.statements.confirm(statement, name),
      failed: () => server.statements.forget(statement, name),
    })
    return name
  }

  /** Closes the statement that the server connection has not used for longest, when it has as many as it may. */
  makeRoom(start: number): void {
    const { limits, server } = this.#passage
    const { statements } = server
    const evicted = statements.evict(limits.preparedMax - 1)
    if (!evicted) return
    this.#passage.putBefore(start, writeCloseStatement(evicted.name))
    const failed = (): void => statements.restore(evicted.statement, evicted.name)
    this.#passage.request(Owed.OwnClose, evicted.isCertain ? { failed } : undefined)
  }

  /** In a failed transaction a Parse fails whether the server knows the statement or not: it is sent. */
  close(statement: Statement, start: number): void {
    const { statements } = this.#passage.server
    const name = statements.use(statement)
    if (name === undefined) return
    statements.forget(statement, name)
    this.#passage.putBefore(start, writeCloseStatement(name))
    this.#passage.request(Owed.OwnClose)
  }
}

/** A statement without a name is prepared when it has been run so often by itself. */
const runsToPrepare = 2
const empty = Buffer.alloc(0)

/**
 * Prepares statements without a name that come again and again, where nobody can tell: only in units whose every
 * answer stays what it would be. That is Parse, Bind, perhaps Describe, Execute and Sync in one piece, from a session
 * that has nothing but settings, and
 *
 * - outside of a transaction, where a unit that fails before it is executed is run again as it came;
 * - in a transaction, where that cannot be, statements that have no result whose columns could be others by now.
 */
export class PreparedBehind {
  /** The unit that passes is to go as it came. */
  isOff = false
  readonly #passage: Passage
  readonly #there: PreparedThere
  readonly #reader = new UnitReader()
  /** The server had nothing left to do when the piece came. */
  #isFresh = false
  /** The piece is one unit. */
  #isUnit = false
  #parameters = 0
  #prepared: Statement | undefined

  constructor(passage: Passage, there: PreparedThere) {
    this.#passage = passage
    this.#there = there
  }

  /** `isFresh`: the server owes nothing, and what was sent before has had its Sync. */
  beginPiece(isFresh: boolean): void {
    if (isFresh) this.judge()
    this.#isFresh = isFresh
    this.#isUnit = false
    this.#prepared = undefined
  }

  /** What was prepared last was answered. */
  judge(): void {
    const { server } = this.#passage
    if (this.#prepared) server.statements.answered(this.#prepared, server.answerMs)
    this.#prepared = undefined
  }

  /** A Parse without a name has come. Returns whether its statement is prepared, or is there already. */
  parse(statement: Statement, at: number): boolean {
    const { chunk, server, session } = this.#passage
    const isFirst = this.#isFresh && at === headerBytes
    const mayBe = isFirst && !this.isOff && session.isInContext && !session.isPinned
    this.isOff = false
    if (!mayBe || server.status === TransactionStatus.Failed) return false
    if (this.#reader.read(chunk) !== UnitKind.Parsed) return false
    this.#isUnit = true
    this.#parameters = parametersOf(chunk, this.#reader.nameEnd + 1)
    if (statement.runs < runsToPrepare || statement.parameters !== this.#parameters) return false
    if (!this.#passage.limits.prepareUnnamed || !this.#isEligible(statement)) return false
    this.#prepare(statement, at, this.#reader.bodyEnd)
    return true
  }

  #isEligible(statement: Statement): boolean {
    const { database, server } = this.#passage
    // What is refused where it is bound must not have been there before.
    if (statement.effectsIn(database).readsSequenceState) return false
    const isOpen = server.status !== TransactionStatus.Idle || server.transactionSinceMs > 0
    return isOpen ? statement.verb === 'writes' : statement.verb !== undefined
  }

  #prepare(statement: Statement, at: number, bodyEnd: number): void {
    const { database, server, session } = this.#passage
    const { statements } = server
    const start = at - headerBytes
    if (statements.isOutdated(statement, database.changedAt)) this.#there.close(statement, start)
    this.#prepared = statement
    const outcome = session.parseUnnamed(statement, server)
    if (statements.use(statement) !== undefined) {
      outcome.isBehind = true
      this.#passage.replace(start, bodyEnd, empty)
      this.#passage.request(Owed.SkippedParse, outcome)
      return
    }
    this.#there.makeRoom(start)
    const name = statements.add(statement, server.unit)
    this.#passage.replace(start, bodyEnd, statement.parse(name))
    this.#passage.request(Owed.Parse, {
      succeeded: () => {
        statements.confirm(statement, name)
        outcome.succeeded?.()
      },
      failed: discarded => {
        statements.forget(statement, name)
        outcome.failed?.(discarded)
      },
    })
  }

  /** Whether the statement that a Bind without a name means is there under a name. */
  isPrepared(statement: Statement): boolean {
    return this.#prepared === statement
  }

  /** What comes of a Bind of the unnamed statement: one that succeeds is a run of it. */
  outcomeOfBind(statement: Statement): Outcome | undefined {
    if (this.#prepared === statement) return behind
    if (!this.#isUnit || statement.runs >= runsToPrepare) return undefined
    const parameters = this.#parameters
    return {
      succeeded: () => {
        if (statement.parameters !== parameters) statement.runs = 0
        statement.parameters = parameters
        statement.runs++
      },
    }
  }
}

const behind: Outcome = { isBehind: true }

/** The number of parameters in a Bind; `at` is behind the names. */
function parametersOf(chunk: Buffer, at: number): number {
  if (at + 2 > chunk.length) return -1
  const formats = chunk.readUInt16BE(at)
  const end = at + 2 + 2 * formats
  return end + 2 > chunk.length ? -1 : chunk.readUInt16BE(end)
}
