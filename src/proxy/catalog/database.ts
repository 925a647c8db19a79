import { Typical } from '../../routing/typical.ts'
import type { Clock } from '../../runtime/clock.ts'
import { type SessionEffects, sessionEffects } from '../../sql/session-effects.ts'
import { type SessionFacts, unloadedFacts } from '../../sql/session-facts.ts'
import type { ShareRefusal, StatementClass } from '../../sql/statement-class.ts'
import type { StatementClasses } from '../../sql/statement-classes.ts'
import { SystemNamesCache } from '../../sql/volatility.ts'
import { Learned } from '../lanes/learned.ts'
import { nextMoment, StatementCache } from '../session/statements.ts'
import { type Askable, loadSessionFacts } from './catalog.ts'
import { SharingKnowledge } from './sharing-knowledge.ts'

/** What is known of a database's functions is looked at anew after this long, while it is used. */
const refreshMs = 30_000
const sequenceReadersMax = 1000
const usersMax = 1000
const noCallsMax = 10_000
/** So long after a change standbys are not asked. */
const standbyMs = 30_000
/** After a server has refused to tell. */
const retryMs = 5000

/** A server connection, as far as it is asked; it may be lost meanwhile. */
type Asked = Askable & { readonly isClosed?: boolean; readonly isStandby?: boolean }

/**
 * What a worker knows of one database, whichever node it is asked on: its prepared statements, and what its functions
 * may do to the session that calls them.
 */
export class Database {
  readonly statements = new StatementCache()
  readonly #clock: Clock
  readonly #onChanged: () => void
  /** Users who have asked what their session has drawn from a sequence: their programs rely on it. */
  readonly sequenceReaders = new Set<string>()
  #facts: SessionFacts = unloadedFacts
  /** Counts up with every change of the facts. */
  #version = 0
  #staleFromMs = 0
  /** When somebody was known to have changed something. */
  #toldMs = Number.NEGATIVE_INFINITY
  /** It was changed from elsewhere since the facts were asked for. */
  #isExpired = false
  #isLoading = false
  #hasFailed = false
  #awaiting: (() => void)[] = []
  /** What was prepared before this moment may mean something else if it was prepared now. */
  changedAt = 0
  readonly #typical = new Map<string, Typical>()
  readonly #learned = new WeakMap<StatementClass, Learned>()
  readonly #effects = new WeakMap<StatementClass, { version: number; effects: SessionEffects }>()
  readonly #sharing: SharingKnowledge

  constructor(clock: Clock, onChanged: () => void, systems = new SystemNamesCache()) {
    this.#clock = clock
    this.#onChanged = onChanged
    this.#sharing = new SharingKnowledge(systems)
  }

  get facts(): SessionFacts {
    return this.#facts
  }

  get version(): number {
    return this.#version
  }

  /**
   * Whether the next server connection that comes free should be asked. A standby may not know yet of a change that
   * somebody here has made a moment ago.
   */
  needsFacts(ofStandby: boolean): boolean {
    const nowMs = this.#clock.nowMs()
    if (this.#isLoading || nowMs < this.#staleFromMs) return false
    return !ofStandby || nowMs - this.#toldMs >= standbyMs
  }

  /** A client of this worker has defined or dropped something that the facts are about: whoever else needs to know is told. */
  tellChange(): void {
    this.changedAt = nextMoment()
    this.#toldMs = this.#clock.nowMs()
    this.#sharing.noteChange()
    this.#onChanged()
  }

  /** A client of another worker has done so: until the facts are asked for again nobody goes by them. */
  expire(): void {
    this.changedAt = nextMoment()
    this.#sharing.noteChange()
    this.#toldMs = this.#clock.nowMs()
    this.#staleFromMs = this.#toldMs
    this.#isExpired = true
  }

  get isLoaded(): boolean {
    return (this.#version > 0 && !this.#isExpired) || this.#hasFailed
  }

  /** Calls back when the facts are there, or could not be had from `server`, which nobody else uses. */
  whenLoaded(server: Asked, done: () => void): void {
    if (this.#isLoading) this.#awaiting.push(done)
    else this.load(server, done)
  }

  /** Asks a server connection that nobody else uses. */
  load(server: Asked, done: (isLoaded: boolean) => void): void {
    const mayLag = server.isStandby === true && this.#clock.nowMs() - this.#toldMs < standbyMs
    this.#isLoading = true
    this.#isExpired = false
    const onFacts = (facts: SessionFacts | undefined): void => {
      this.#isLoading = false
      if (!this.#isExpired)
        this.#staleFromMs = facts ? this.#clock.nowMs() + (mayLag ? 0 : refreshMs) : this.#retryMs(server)
      // One that was lost meanwhile says nothing about the next.
      this.#hasFailed = facts === undefined && server.isClosed !== true
      if (facts && facts !== this.#facts) {
        this.#facts = facts
        this.changedAt = nextMoment()
        this.#version++
        this.#sharing.forgetVerdicts()
      }
      const awaiting = this.#awaiting
      this.#awaiting = []
      if (facts && this.#sharing.isWanted && !mayLag) this.#loadSharing(server, done)
      else done(facts !== undefined)
      for (const each of awaiting) each()
    }
    loadSessionFacts(server, onFacts, this.#facts)
  }

  #loadSharing(server: Asked, done: (isLoaded: boolean) => void): void {
    this.#sharing.load(server, isChanged => {
      // A name may be that of another table by now.
      if (isChanged) this.changedAt = nextMoment()
      // Nothing is shared before somebody has told.
      if (!this.#sharing.isCurrent && !this.#isExpired) this.#staleFromMs = this.#retryMs(server)
      done(true)
    })
  }

  /** When to ask again: the next one at once if this one was lost. */
  #retryMs({ isClosed }: { isClosed?: boolean }): number {
    return this.#clock.nowMs() + (isClosed ? 0 : retryMs)
  }

  /** Whether what a statement writes to a table of this name is all that it does: no rule and no trigger does more. */
  isPlainTable(name: string): boolean {
    this.#wantSharing()
    return this.#sharing.isPlainTable(name)
  }

  #wantSharing(): void {
    if (this.#sharing.isWanted) return
    this.#sharing.isWanted = true
    this.#staleFromMs = this.#clock.nowMs()
  }

  /**
   * Why a statement of this class gets a server connection of its own here; undefined if it may share one. The first
   * one to ask has the facts loaded with the next ones.
   */
  sharing(statement: StatementClass, classes: StatementClasses): ShareRefusal | undefined {
    this.#wantSharing()
    return this.#sharing.refusal(statement, classes, this.#facts)
  }

  /** What executions of a class have cost here. */
  learnedOf(statement: StatementClass): Learned {
    let learned = this.#learned.get(statement)
    if (!learned) {
      learned = new Learned()
      this.#learned.set(statement, learned)
    }
    return learned
  }

  /** How long a user's requests usually take here, of whatever class and on whichever node. */
  typicalOf(user: string): Typical {
    let typical = this.#typical.get(user)
    if (!typical) {
      typical = new Typical()
      if (this.#typical.size >= usersMax) this.#typical.clear()
      this.#typical.set(user, typical)
    }
    return typical
  }

  noteSequenceReader(user: string): void {
    if (this.sequenceReaders.size < sequenceReadersMax) this.sequenceReaders.add(user)
  }

  /** Words before a parenthesis that turned out to be no functions: lists of columns behind a name, mostly. */
  noteNoCalls(names: readonly string[]): void {
    const { noCalls } = this.#facts
    if (noCalls.size > noCallsMax) noCalls.clear()
    for (const name of names) if (!this.#facts.words.get(name)?.isFunction) noCalls.add(name)
    this.#version++
  }

  /** The same for a statement of this class that has no constants but numbers, which leave nothing behind themselves. */
  effectsOfClass(found: StatementClass, body: Buffer, start: number, end: number): SessionEffects {
    const known = this.#effects.get(found)
    if (known?.version === this.#version) return known.effects
    const effects = this.effectsOf(body, start, end)
    this.#effects.set(found, { version: this.#version, effects })
    return effects
  }

  /** What the statements in `body[start, end)` may leave behind. */
  effectsOf(body: Buffer, start: number, end: number): SessionEffects {
    return sessionEffects(body, start, end, this.#facts)
  }
}

/** Names come from clients, who may make up any number of them. */
const databasesMax = 1000

/** The databases of the cluster, by their names on the servers. Who has one keeps it when it is forgotten here. */
export class Databases {
  readonly #clock: Clock
  readonly #onChanged: (name: string) => void
  readonly #known = new Map<string, Database>()
  readonly #systems = new SystemNamesCache()

  /** `onChanged`: a client of this worker has changed what is known of a database. */
  constructor(clock: Clock, onChanged: (name: string) => void) {
    this.#clock = clock
    this.#onChanged = onChanged
  }

  of(name: string): Database {
    let database = this.#known.get(name)
    if (!database) {
      database = new Database(this.#clock, () => this.#onChanged(name), this.#systems)
      if (this.#known.size >= databasesMax) {
        const [oldest] = this.#known.keys()
        this.#known.delete(oldest!)
      }
      this.#known.set(name, database)
    }
    return database
  }

  /** A client of another worker has changed what is known of a database. */
  expire(name: string): void {
    this.#known.get(name)?.expire()
  }
}
