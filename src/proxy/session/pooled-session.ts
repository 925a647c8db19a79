import { noEffects, type SessionEffects } from '../../sql/session-effects.ts'
import type { Outcome } from '../relay/answers.ts'
import type { Answer } from '../relay/conversations.ts'
import type { ServerConnection } from '../server.ts'
import { base64, bytes, type SessionHandOver } from './hand-over.ts'
import type { Reported } from './reported.ts'
import { type PinReason, readSessionAnswer, settingsOf } from './session-question.ts'
import { Settings } from './settings.ts'
import type { Statement, StatementCache } from './statements.ts'

const noReport: Reported = new Map()
const noPins: readonly PinReason[] = []
const noCalls: readonly string[] = []

/** What a client's name for a prepared statement means. */
export interface NamedStatement {
  statement: Statement
  /** What the name meant before, when a Close for that is on its way too. */
  readonly before: NamedStatement | undefined
  /** The columns of its result that the client was told, and when. */
  shape: string | undefined
  describedAt: number
  /** The unit in which it is parsed, or would be, while nobody knows whether that succeeds. */
  parsedIn: number | undefined
  /** The server did not take it. */
  failed: boolean
  /** A Close for it is on its way. */
  closing: boolean
}

/**
 * What belongs to a client of a shared pool and not to the server connection that it happens to have: its settings,
 * its prepared statements, and what it was told of the server. And what it has that cannot be carried along.
 */
export class PooledSession {
  /** What the client asked for when it connected. */
  readonly base: Settings
  /** What it has now: `base` and what it has set since. */
  settings: Settings
  /** ParameterStatus as the client knows them. */
  told: Reported = noReport
  /** Why it keeps its server connection; empty when it need not. */
  pins: readonly PinReason[] = noPins
  /** The pins that were last counted and logged. */
  pinsTold: readonly PinReason[] = noPins
  /** Its state may be another one than what is known: the server is asked at rest. */
  isDirty = false
  /** Nothing but this setting can be another one. */
  onlyChanged: string | undefined
  /** Names of prepared statements whose Parse or Close is on its way: it may still fail. */
  uncertainNames = 0
  /** Something is set until the end of the transaction. */
  hasLocalSettings = false
  /** The unnamed statement is one that was too long to be kept. */
  hasLongUnnamed = false
  /** It has called functions that were not known then. */
  unknownCalls: readonly string[] = noCalls
  /** It may have defined or dropped what the knowledge of its database is about. */
  changesCatalog = false
  #statements: Map<string, NamedStatement> | undefined
  #customNames: Set<string> | undefined
  /** Pins that no question can lift. */
  #lasting: Set<PinReason> | undefined
  /** The newest Close of a name that is on its way. */
  #closing: { name: string; named: NamedStatement } | undefined
  #context = ''
  #unnamed: UnnamedParse | undefined
  /** Closes of it that are on their way, and the unit of the newest. */
  #unnamedCloses = 0
  #unnamedClosedIn = 0
  /** How often it was given up: what was before does not come back when a Close is not carried out. */
  #unnamedDrops = 0
  #drawnOn: ServerConnection | 'several' | undefined

  constructor(base: Settings) {
    this.base = base
    this.settings = base
    for (const name of base.customNames) this.#learnCustom(name)
    this.#setContext()
  }

  /** Whether the settings that count now are those of `context`: none was changed since, be it for a transaction. */
  get isInContext(): boolean {
    return !this.isDirty && !this.hasLocalSettings
  }

  /** What changes the meaning of a statement's text. */
  get context(): string {
    return this.#context
  }

  get isPinned(): boolean {
    return this.pins.length > 0
  }

  /** Settings of a made-up class that it has ever set. */
  get customNames(): ReadonlySet<string> {
    return this.#customNames ?? noNames
  }

  /** Whether its server connection must not serve anybody else: something was set that nobody knows. */
  get isOpaque(): boolean {
    return this.#lasting !== undefined
  }

  /** A statement is on its way that may do this to the session. */
  note(effects: SessionEffects): void {
    if (effects === noEffects) return
    if (effects.setsLocally) this.hasLocalSettings = true
    const isOnlySet = effects.onlySet !== undefined && askedAlone(effects) && !this.isDirty
    this.onlyChanged = isOnlySet ? effects.onlySet : undefined
    if (effects.mayChange || (this.isPinned && effects.endsState)) this.isDirty = true
    for (const name of effects.customSettings) {
      this.#learnCustom(name)
      // Even for a transaction it leaves an empty one behind, which the session then has.
      if (!this.settings.values.has(name)) this.isDirty = true
    }
    if (effects.unknownCustom) this.pinForGood('unseen_setting')
    if (effects.obstacle !== undefined) this.pinForGood('other_state')
    if (effects.changesCatalog) {
      this.isDirty = true
      this.changesCatalog = true
    }
    if (effects.unknownCalls.length > 0) {
      this.isDirty = true
      this.unknownCalls = [...this.unknownCalls, ...effects.unknownCalls]
    }
  }

  #learnCustom(name: string): void {
    this.#customNames ??= new Set()
    this.#customNames.add(name)
  }

  /** Anything may be another one. */
  touch(): void {
    this.isDirty = true
    this.onlyChanged = undefined
  }

  /** The last question got no answer. */
  get isUnread(): boolean {
    return this.pins[0] === 'unread_state'
  }

  pinForGood(reason: PinReason): void {
    this.isDirty = true
    this.onlyChanged = undefined
    this.#lasting ??= new Set()
    this.#lasting.add(reason)
  }

  /** The server did not tell what was asked: everything is asked for the next time something is run. */
  doubt(): void {
    this.isDirty = false
    this.onlyChanged = undefined
    this.pins = ['unread_state', ...(this.#lasting ?? [])]
  }

  /**
   * Takes the value of the one setting that can be another one, null when the session has not set it. Returns what
   * the server connection has, which had `settings`.
   */
  learnSetting(name: string, value: string | null, settings: Settings): Settings {
    this.isDirty = false
    this.onlyChanged = undefined
    const base = this.base.values.get(name)
    // A RESET leaves a setting of a made-up class empty, not as it was at the start.
    const isReset = value === null || (value === '' && name.includes('.'))
    const own = isReset ? (base ?? value ?? undefined) : value
    this.settings = own === undefined ? this.settings.without(name) : this.settings.with(name, own)
    this.#setContext()
    return value === null ? settings.without(name) : settings.with(name, value)
  }

  /** Takes the server's answer to what the session holds. Returns the settings that the server connection has. */
  learn(answer: Answer, user: string): Settings | undefined {
    const state = readSessionAnswer(answer, user)
    this.isDirty = false
    this.onlyChanged = undefined
    if (!state) {
      this.pins = ['unread_state', ...(this.#lasting ?? [])]
      return undefined
    }
    this.settings = settingsOf(this.base, state)
    const pins = [...state.pins, ...(this.#lasting ?? [])]
    this.pins = pins.length === 0 ? noPins : pins
    this.#setContext()
    return Settings.of(state.settings)
  }

  /**
   * In the modes that do not pin: what the session holds beside its settings is lost, as with other poolers, but
   * nobody else gets it.
   */
  giveUpPins(server: ServerConnection): void {
    server.isSpoiled = true
    this.pins = noPins
    this.#lasting = undefined
  }

  #setContext(): void {
    const telling = [...this.settings.values].filter(
      ([name]) => !name.includes('.') && !meaningless.has(name),
    )
    this.#context = Settings.of(new Map(telling)).key
  }

  // Going to another worker.

  /** What goes along to another worker; undefined for a session that cannot go now. */
  handOver(): SessionHandOver | undefined {
    if (this.isPinned || this.isDirty || this.isOpaque || this.uncertainNames > 0) return undefined
    return {
      settings: [...this.settings.values],
      told: [...this.told],
      customNames: [...this.customNames],
      statements: [...(this.#statements ?? [])].map(([name, { shape, statement }]) => ({
        name,
        body: base64(statement.body),
        shape,
      })),
      unnamed: this.unnamed && base64(this.unnamed.body),
      hasDrawn: this.#drawnOn !== undefined,
    }
  }

  /** Takes over what a session had in another worker. */
  takeOver(from: SessionHandOver, statements: StatementCache): void {
    this.settings = Settings.of(new Map(from.settings))
    this.told = new Map(from.told)
    for (const name of from.customNames) this.#learnCustom(name)
    this.#setContext()
    const statementOf = (text: string): Statement => {
      const body = bytes(text)
      return statements.of(body, 0, body.length, this.#context)
    }
    for (const { body, name, shape } of from.statements) this.name(name, statementOf(body)).shape = shape
    if (from.unnamed !== undefined) this.#unnamed = UnnamedParse.done(statementOf(from.unnamed))
    if (from.hasDrawn) this.#drawnOn = 'several'
  }

  /**
   * Everything was discarded: what kept the session at its server is gone, as far as DISCARD ALL goes. Returns
   * whether names are left behind there that nobody knows.
   */
  forgive(): boolean {
    const lasting = this.#lasting
    if (!lasting) return false
    const hadUnseen = lasting.has('unseen_setting') || lasting.has('long_statement')
    for (const reason of ['unseen_setting', 'long_statement', 'sequence'] as const) lasting.delete(reason)
    if (lasting.size === 0) this.#lasting = undefined
    this.#drawnOn = undefined
    return hadUnseen
  }

  // Sequences.

  /** A statement is on its way that may draw from a sequence. With `keeps` the session stays where that happens. */
  draws(server: ServerConnection, keeps: boolean): void {
    const isFirst = this.hasNoSequenceStateOn(server)
    this.#drawnOn = isFirst || keeps || this.hasSequenceStateOn(server) ? server : 'several'
    server.sequenceOwner = this
    if (keeps) this.pinForGood('sequence')
  }

  /** Whether all that it has drawn, and nothing that others have since, is what this server connection tells. */
  hasSequenceStateOn(server: ServerConnection): boolean {
    return this.#drawnOn === server && server.sequenceOwner === this
  }

  /** Whether neither it nor anybody on this server connection has drawn anything. */
  hasNoSequenceStateOn(server: ServerConnection): boolean {
    return this.#drawnOn === undefined && server.sequenceOwner === undefined
  }

  // Named prepared statements.

  named(name: string): NamedStatement | undefined {
    return this.#statements?.get(name)
  }

  /** A Parse is on its way. */
  name(name: string, statement: Statement): NamedStatement {
    const before = this.#closing?.name === name ? this.#closing.named : undefined
    const named = {
      statement,
      before,
      shape: undefined,
      describedAt: 0,
      parsedIn: undefined,
      failed: false,
      closing: false,
    }
    this.#statements ??= new Map()
    this.#statements.set(name, named)
    return named
  }

  /** What comes of a Parse under a name; the callbacks are told as well. */
  outcomeOfParse(
    name: string,
    named: NamedStatement,
    onSucceeded?: () => void,
    onFailed?: () => void,
  ): Outcome {
    this.uncertainNames++
    return {
      succeeded: () => {
        this.uncertainNames--
        named.parsedIn = undefined
        onSucceeded?.()
      },
      failed: () => {
        this.uncertainNames--
        named.parsedIn = undefined
        named.failed = true
        this.unname(name, named)
        if (named.before && !named.before.closing) this.#restore(name, named.before)
        onFailed?.()
      },
    }
  }

  /** Forgets a name, unless it means another statement by now. */
  unname(name: string, named: NamedStatement): void {
    if (this.#statements?.get(name) === named) this.#statements.delete(name)
  }

  /** What comes of a Close: when it is not carried out the name keeps its meaning. */
  outcomeOfClose(name: string, named: NamedStatement): Outcome {
    this.uncertainNames++
    named.closing = true
    this.#closing = { name, named }
    return {
      succeeded: () => {
        this.uncertainNames--
        this.#closing = undefined
      },
      failed: () => {
        this.uncertainNames--
        this.#closing = undefined
        named.closing = false
        this.#restore(name, named)
      },
    }
  }

  #restore(name: string, named: NamedStatement): void {
    if (!named.failed && !this.#statements?.has(name)) this.#statements?.set(name, named)
  }

  get statementCount(): number {
    return this.#statements?.size ?? 0
  }

  dropStatements(): void {
    this.#statements = undefined
    this.#unnamed = undefined
  }

  // The unnamed prepared statement.

  get unnamed(): Statement | undefined {
    let parse = this.#unnamed
    while (parse?.state === 'discarded') parse = parse.previous
    return parse?.state === 'failed' ? undefined : parse?.statement
  }

  /** It was parsed in a unit before `unit` that may still fail. */
  isUnnamedUncertain(unit: number): boolean {
    if (this.#unnamedCloses > 0 && this.#unnamedClosedIn < unit) return true
    return this.#unnamed?.state === 'sent' && this.#unnamed.unit < unit
  }

  parseUnnamed(statement: Statement, server: ServerConnection): Outcome {
    this.hasLongUnnamed = false
    this.#unnamed = new UnnamedParse(statement, server, this.#unnamed)
    return this.#unnamed
  }

  /** It was parsed, or is parsed where its failure is told by `dropUnnamed`. */
  hasParsedUnnamed(statement: Statement): void {
    this.hasLongUnnamed = false
    if (this.#unnamed?.statement === statement && this.#unnamed.state === 'done') return
    this.#unnamed = UnnamedParse.done(statement)
  }

  /** A Close of it is on its way: one that is discarded leaves it. */
  closeUnnamed(unit: number): Outcome {
    const before = this.#unnamed
    const drops = this.#unnamedDrops
    this.#unnamed = undefined
    this.#unnamedCloses++
    this.#unnamedClosedIn = unit
    this.hasLongUnnamed = false
    return {
      succeeded: () => {
        this.#unnamedCloses--
      },
      failed: () => {
        this.#unnamedCloses--
        if (drops === this.#unnamedDrops) this.#unnamed ??= before
      },
    }
  }

  dropUnnamed(): void {
    this.#unnamedDrops++
    this.hasLongUnnamed = false
    this.#unnamed = undefined
  }
}

/** Settings that change nothing about what a statement's text means. All others may: constants are read by them. */
const meaningless = new Set([
  'application_name',
  'client_min_messages',
  'extra_float_digits',
  'hash_mem_multiplier',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'lock_timeout',
  'maintenance_work_mem',
  'statement_timeout',
  'transaction_timeout',
  'work_mem',
])

/** Settings about which the short question does not tell all. */
function askedAlone({
  onlySet,
  unknownCustom,
  obstacle,
  unknownCalls,
  changesCatalog,
}: SessionEffects): boolean {
  if (unknownCustom || changesCatalog || obstacle !== undefined || unknownCalls.length > 0) return false
  return onlySet !== 'role' && onlySet !== 'session_authorization' && onlySet !== 'seed'
}

const noNames: ReadonlySet<string> = new Set()

/** A Parse of the unnamed statement. One that fails leaves none, one that is discarded leaves the one before it. */
class UnnamedParse implements Outcome {
  readonly statement: Statement
  state: 'sent' | 'done' | 'failed' | 'discarded' = 'sent'
  isBehind = false
  readonly unit: number
  previous: UnnamedParse | undefined
  #server: ServerConnection | undefined

  /** One that was parsed in another worker. */
  static done(statement: Statement): UnnamedParse {
    const parse = new UnnamedParse(statement, undefined, undefined)
    parse.state = 'done'
    return parse
  }

  constructor(
    statement: Statement,
    server: ServerConnection | undefined,
    previous: UnnamedParse | undefined,
  ) {
    this.statement = statement
    this.unit = server?.unit ?? 0
    this.#server = server
    this.previous = previous
  }

  succeeded(): void {
    this.#settle('done')
  }

  failed(discarded: boolean): void {
    if (this.#server?.unnamed === this.statement) this.#server.unnamed = undefined
    this.#settle(discarded ? 'discarded' : 'failed')
  }

  #settle(state: 'done' | 'failed' | 'discarded'): void {
    this.state = state
    this.#server = undefined
    if (state !== 'discarded') this.previous = undefined
    // A chain of discarded ones must not grow.
    else while (this.previous?.state === 'discarded') this.previous = this.previous.previous
  }
}
