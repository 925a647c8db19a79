import { noEffects, type SessionEffects } from '../sql/session-effects.ts'
import type { Answer } from './conversations.ts'
import type { Reported } from './reported.ts'
import type { ServerConnection } from './server.ts'
import { type PinReason, readSessionAnswer, settingsOf } from './session-question.ts'
import { Settings } from './settings.ts'
import type { Statement } from './statements.ts'

const noReport: Reported = new Map()
const noPins: readonly PinReason[] = []

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
  /** The unnamed prepared statement. */
  unnamed: Statement | undefined
  /** It has called functions that were not known then. */
  unknownCalls: string[] = []
  /** It may have defined or dropped what the knowledge of its database is about. */
  changesCatalog = false
  #statements: Map<string, Statement> | undefined
  #customNames: Set<string> | undefined
  /** Pins that no question can lift. */
  #lasting: Set<PinReason> | undefined
  #context = ''

  constructor(base: Settings) {
    this.base = base
    this.settings = base
    for (const name of base.customNames) this.#learnCustom(name)
    this.#setContext()
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
    if (effects.mayChange || (this.isPinned && effects.endsState)) this.isDirty = true
    for (const name of effects.customSettings) this.#learnCustom(name)
    if (effects.unknownCustom) this.pinForGood('unseen_setting')
    if (effects.obstacle !== undefined) this.pinForGood('library')
    if (effects.changesCatalog) this.changesCatalog = true
    for (const name of effects.unknownCalls) {
      this.isDirty = true
      this.unknownCalls.push(name)
    }
  }

  #learnCustom(name: string): void {
    this.#customNames ??= new Set()
    this.#customNames.add(name)
  }

  pinForGood(reason: PinReason): void {
    this.isDirty = true
    this.#lasting ??= new Set()
    this.#lasting.add(reason)
  }

  /** Takes the server's answer to what the session holds. Returns the settings that the server connection has. */
  learn(answer: Answer, user: string): Settings | undefined {
    const state = readSessionAnswer(answer, user)
    this.isDirty = false
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
    const { values } = this.settings
    const path = values.get('search_path')
    const role = values.get('role')
    this.#context = path === undefined && role === undefined ? '' : JSON.stringify([path, role])
  }

  // Named prepared statements.

  statement(name: string): Statement | undefined {
    return this.#statements?.get(name)
  }

  setStatement(name: string, statement: Statement): void {
    this.#statements ??= new Map()
    this.#statements.set(name, statement)
  }

  /** Forgets a name, unless it means another statement by now. */
  dropStatement(name: string, statement?: Statement): void {
    if (statement && this.#statements?.get(name) !== statement) return
    this.#statements?.delete(name)
  }

  get statementCount(): number {
    return this.#statements?.size ?? 0
  }

  dropStatements(): void {
    this.#statements = undefined
    this.unnamed = undefined
  }
}

const noNames: ReadonlySet<string> = new Set()
