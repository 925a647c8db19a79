import { type Hints, readHints } from '../../routing/hints.ts'
import type { Logger } from '../../runtime/log.ts'
import { Parameterized } from '../../sql/parameterized.ts'
import { isReadable } from '../../sql/session-effects.ts'
import { noDependencies, type StatementClass } from '../../sql/statement-class.ts'
import type { StatementClasses } from '../../sql/statement-classes.ts'
import type { Database } from '../catalog/database.ts'
import type { NamedStatement, PooledSession } from '../session/pooled-session.ts'
import { contextOf, dialectOf, type Reported } from '../session/reported.ts'
import type { Statement } from '../session/statements.ts'
import type { ServerAccount } from '../startup/server-account.ts'
import type { LaneCounters, LaneRefusal } from './counters.ts'
import type { Bound, Lane } from './lane.ts'
import type { Lanes } from './lanes.ts'
import type { Learned } from './learned.ts'
import type { LaneClient, LaneUnit } from './unit.ts'
import { UnitKind, UnitReader } from './unit-reader.ts'

/** A client as it stands when it wants something and has no server connection. */
export interface SharingClient extends LaneClient {
  readonly session: PooledSession | undefined
  readonly credentials: ServerAccount | undefined
  /** What the next execution of a class on a connection of its own teaches; undefined: nothing. */
  learning: Learned | undefined
  /** It is told what it does not know yet of the parameters of the lane's server. */
  tellParameters(reported: Reported): void
}

type Refusal = LaneRefusal

/** Where its unit would run. */
export interface SharingPlace {
  lanes: Lanes
  knowledge: Database
  preparedMax: number
  /** Repeated statements without a name are prepared on the server. */
  preparesUnnamed: boolean
}

/**
 * Decides which units share a server connection, by the admission rules: one read that neither reads nor leaves
 * anything in its session, from a session that has nothing but settings, of a kind that was quick so far.
 */
export class Sharing {
  readonly counters: LaneCounters
  readonly classes: StatementClasses
  readonly #reader = new UnitReader()
  readonly #values = new Parameterized()
  readonly #nowMs: () => number
  readonly #log: Logger
  #isLoading = false
  /** The request that was examined, until it is in a lane, and what was found. */
  #request: Buffer | undefined
  #statement: Statement | undefined
  #named: NamedStatement | undefined
  #class: StatementClass | undefined
  #learned: Learned | undefined
  #refusal: Refusal | undefined
  /** Whether statements can be read by what a server has reported. */
  readonly #isReadable = new WeakMap<Reported, boolean>()

  constructor(classes: StatementClasses, counters: LaneCounters, nowMs: () => number, log: Logger) {
    this.#log = log
    this.classes = classes
    this.counters = counters
    this.#nowMs = nowMs
  }

  /**
   * Looks at a request that a client without a server connection has sent: why its statement is none that only reads,
   * whatever connection it runs on; undefined when it does. What it has found counts until the next one is looked at.
   */
  examine(client: SharingClient, request: Buffer, knowledge: Database): Refusal | undefined {
    this.#request = request
    this.#statement = undefined
    this.#class = undefined
    this.#learned = undefined
    this.#refusal = this.#look(client, request, knowledge)
    return this.#refusal
  }

  /** What executions of the examined statement's class have cost; undefined where that is not known. */
  get learned(): Learned | undefined {
    return this.#learned
  }

  /** Whether the examined statement reads no table and asks the server about itself: the primary is the one that is meant. */
  get asksServer(): boolean {
    const { functions, relations } = this.#class?.dependencies ?? noDependencies
    return relations.length === 0 && functions.some(name => aboutServer.has(name))
  }

  get #readsSettings(): boolean {
    return this.#class?.dependencies?.functions.includes('current_setting') ?? false
  }

  /** What the examined statement says of itself in a comment. */
  hints(request: Buffer): Hints | undefined {
    const { kind, textEnd, textStart } = this.#reader
    if (kind === UnitKind.None) return undefined
    if (kind !== UnitKind.Bound) return readHints(request, textStart, textEnd)
    const statement = this.#statement
    return statement && readHints(statement.body, 0, statement.textEnd)
  }

  #look(client: SharingClient, request: Buffer, knowledge: Database): Refusal | undefined {
    const { session } = client
    if (this.#reader.read(request) === UnitKind.None) return 'form'
    if (!session || !isPlain(session) || !this.#reads(session.told)) return 'session'
    // The parser is large: it is loaded when there is something to parse.
    if (!this.classes.isLoaded) this.#load()
    const statement = this.#statementOf(session, request, knowledge)
    if (statement === null) return 'session'
    this.#statement = statement
    // Such a type may run whatever its makers want when a value comes in.
    if (statement?.declaresOwnTypes) return 'type_volatile'
    const found = statement
      ? this.#classOf(statement.body, 0, statement.textEnd, session.told)
      : this.#classOf(request, this.#reader.textStart, this.#reader.textEnd, session.told)
    if (!found) return 'unknown'
    const refusal = found.refusal ?? knowledge.sharing(found, this.classes)
    if (refusal === undefined) this.#learned = knowledge.learnedOf(found)
    this.#class = found
    return refusal
  }

  /** Gives what `request` holds to a lane, if it is just one unit that may go there. Otherwise undefined. */
  submit(client: SharingClient, request: Buffer, place: SharingPlace): Lane | undefined {
    client.learning = undefined
    if (this.#request !== request) this.examine(client, request, place.knowledge)
    this.#request = undefined
    const learned = this.#learned
    if (this.#refusal !== undefined || !learned) return this.#refuse(this.#refusal ?? 'unknown')
    const session = client.session!
    const statement = this.#statement
    const nowMs = this.#nowMs()
    const cost = learned.refusal(nowMs)
    if (cost !== undefined) {
      client.learning = learned
      return this.#refuse(cost)
    }
    const bound = statement ? this.#boundOf(statement, place) : this.#boundOfQuery(request, session, place)
    const lane = place.lanes.pick(session.settings.serverKey, nowMs)
    if (!lane) return this.#refuse('no_lane')
    // There may be others' of pgherd's own settings.
    if (this.#readsSettings && !lane.server.settings.equals(session.settings)) return this.#refuse('session')
    const { reported, isTrusting } = lane.server
    // What a secret was needed for is not for a client that nobody has checked.
    if (!isTrusting && client.credentials === undefined) return this.#refuse('session')
    if (session.told !== reported) {
      // It was looked at by what the client was told.
      if (dialectOf(session.told) !== dialectOf(reported)) return this.#refuse('session')
      client.tellParameters(reported)
    }
    if (this.#reader.kind === UnitKind.Simple) session.dropUnnamed()
    else if (this.#reader.kind === UnitKind.Parsed) session.hasParsedUnnamed(statement!)
    lane.submit(client, request, this.#reader, learned, bound, nowMs)
    return lane
  }

  /** Sends a unit that is on its way elsewhere to this lane, too, for `client`. */
  submitAgain(
    { isQuery, learned, named, request, statement, submittedMs }: LaneUnit,
    client: LaneClient,
    lane: Lane,
    { knowledge, preparedMax }: SharingPlace,
    nowMs: number,
  ): void {
    // What was found for another request is the reader's no more.
    this.#request = undefined
    this.#reader.read(request)
    // A Query is run as it came: its values were read for another request by now.
    const bound =
      statement && !isQuery
        ? { statement, named, changedAt: knowledge.changedAt, preparedMax, values: undefined }
        : undefined
    lane.submit(client, request, this.#reader, learned!, bound, nowMs, nowMs - submittedMs)
  }

  #load(): void {
    if (this.#isLoading) return
    this.#isLoading = true
    this.classes.load().catch((cause: unknown) => {
      this.#log.error(
        { event: 'parser.missing', cause },
        'no lanes: the parser of statements cannot be loaded',
      )
    })
  }

  #refuse(reason: LaneRefusal): undefined {
    this.counters.refused[reason]++
  }

  #classOf(body: Buffer, start: number, end: number, told: Reported): StatementClass | undefined {
    return this.classes.of(body, start, end, told.get('standard_conforming_strings') !== 'off')
  }

  /** The prepared statement that a unit binds; undefined for a Query, null for one that only its own connection knows. */
  #statementOf(session: PooledSession, request: Buffer, knowledge: Database): Statement | undefined | null {
    const reader = this.#reader
    this.#named = undefined
    if (reader.kind === UnitKind.Simple) return undefined
    const dialect = dialectOf(session.told)
    const context = session.context === '' ? dialect : `${dialect}\0${session.context}`
    if (reader.kind === UnitKind.Parsed) {
      return knowledge.statements.of(request, reader.textStart, reader.bodyEnd, context)
    }
    const named = session.named(request.toString('latin1', reader.nameStart, reader.nameEnd))
    if (!named || named.failed || named.closing || named.statement.context !== context) return null
    // What its columns were said to be has to be known, for they may have changed since.
    if (reader.describes && named.shape === undefined) return null
    this.#named = named
    return named.statement
  }

  /** How a lane is to run it: undefined for as it came. */
  #boundOf(
    statement: Statement,
    { knowledge, preparedMax, preparesUnnamed }: SharingPlace,
  ): Bound | undefined {
    const named = this.#named
    if (named) return { statement, named, changedAt: 0, preparedMax, values: undefined }
    if (!preparesUnnamed || !statement.comes()) return undefined
    return { statement, named: undefined, changedAt: knowledge.changedAt, preparedMax, values: undefined }
  }

  /**
   * A Query that comes again and again with other constants is prepared with parameters in their place: undefined for
   * one that is run as it came.
   */
  #boundOfQuery(
    request: Buffer,
    session: PooledSession,
    { knowledge, preparedMax, preparesUnnamed }: SharingPlace,
  ): Bound | undefined {
    const found = this.#class
    const { fingerprinter } = this.classes
    if (!found?.parameters || !preparesUnnamed || fingerprinter.text !== request || found.isVaried())
      return undefined
    if (session.told.get('standard_conforming_strings') === 'off') return undefined
    const values = this.#values
    const { textEnd, textStart } = this.#reader
    if (!values.read(request, textStart, textEnd, fingerprinter, found.parameters)) return undefined
    const context = contextOf(session.told, session.context)
    const statement = knowledge.statements.ofQuery(values, context, found)
    if (!statement) return undefined
    this.counters.queriesPrepared++
    return { statement, named: undefined, changedAt: knowledge.changedAt, preparedMax, values }
  }

  #reads(told: Reported): boolean {
    let reads = this.#isReadable.get(told)
    if (reads === undefined) {
      reads = isReadable(told.get('client_encoding') ?? '')
      this.#isReadable.set(told, reads)
    }
    return reads
  }
}

/** Of PostgreSQL's own functions those that are not volatile and have other results on a standby. */
const aboutServer = new Set([
  ...['current_setting', 'inet_server_addr', 'inet_server_port', 'version'],
  ...['pg_postmaster_start_time', 'pg_conf_load_time'],
])

/** A session that is wholly described by its settings. */
function isPlain(session: PooledSession): boolean {
  return (
    !session.isPinned &&
    !session.isDirty &&
    !session.isOpaque &&
    !session.hasLocalSettings &&
    session.uncertainNames === 0
  )
}
