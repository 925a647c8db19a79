import { noEffects, sessionEffects } from '../../sql/session-effects.ts'
import type { SessionFacts } from '../../sql/session-facts.ts'
import type { ShareRefusal, StatementClass } from '../../sql/statement-class.ts'
import type { StatementClasses } from '../../sql/statement-classes.ts'
import type { SharingFacts, SystemNamesCache } from '../../sql/volatility.ts'
import type { Askable } from './catalog.ts'
import { loadSharingFacts } from './sharing-catalog.ts'

/**
 * Which statements of one database may share a connection with others, as far as its catalog has been read. Nothing
 * is read before somebody asks.
 */
export class SharingKnowledge {
  /** Somebody has asked: the facts are worth loading. */
  isWanted = false
  readonly #systems: SystemNamesCache
  #facts: SharingFacts | undefined
  /** How often the catalog was changed, as far as is known here, and how many of these changes the facts tell of. */
  #changes = 0
  #changesRead = 0
  /** null for a class that may share. */
  #verdicts = new WeakMap<StatementClass, ShareRefusal | null>()

  constructor(systems: SystemNamesCache) {
    this.#systems = systems
  }

  /** The catalog has been changed: nobody goes by the facts until it has been read again. */
  noteChange(): void {
    this.#changes++
  }

  /** What else the verdicts were made from is another thing now. */
  forgetVerdicts(): void {
    this.#verdicts = new WeakMap()
  }

  /** Whether the facts tell of every change that is known of. */
  get isCurrent(): boolean {
    return this.#facts !== undefined && this.#changesRead === this.#changes
  }

  /** Asks a server connection that nobody else uses. `isChanged`: the catalog is another one than when it was read last. */
  load(server: Askable, done: (isChanged: boolean) => void): void {
    const before = this.#facts
    const changes = this.#changes
    loadSharingFacts(server, this.#facts, this.#systems, facts => {
      // A load that began later may have ended before.
      if (facts && changes >= this.#changesRead) {
        this.#changesRead = changes
        if (facts !== this.#facts) this.forgetVerdicts()
        this.#facts = facts
      }
      done(this.#facts !== before)
    })
  }

  /** See `SharingFacts.isPlainTable`; false when nothing is known at present. */
  isPlainTable(name: string): boolean {
    return this.isCurrent && this.#facts!.isPlainTable(name)
  }

  /** Why a statement of this class gets a connection of its own; undefined if it may share one. */
  refusal(
    statement: StatementClass,
    classes: StatementClasses,
    sessionFacts: SessionFacts,
  ): ShareRefusal | undefined {
    if (!this.#facts || !this.isCurrent) return 'facts_missing'
    const known = this.#verdicts.get(statement)
    if (known !== undefined) return known ?? undefined
    const refusal =
      statement.refusal ??
      this.#facts.refusal(statement.dependencies, classes) ??
      (leavesNothing(statement, sessionFacts) ? undefined : 'session_effects')
    this.#verdicts.set(statement, refusal ?? null)
    return refusal
  }
}

/**
 * Whether no statement of the class leaves anything behind in its session, whatever its constants: those matter in
 * set_config alone, which is volatile.
 */
function leavesNothing({ text, dependencies }: StatementClass, facts: SessionFacts): boolean {
  const effects = sessionEffects(text, 0, text.length, facts, true)
  if (effects === noEffects) return true
  const { unknownCalls } = effects
  if (unknownCalls.length === 0 || unknownCalls.some(name => dependencies.functions.includes(name)))
    return false
  // They only look like calls: names of columns stand in the parentheses.
  const noCalls = new Set([...facts.noCalls, ...unknownCalls])
  return sessionEffects(text, 0, text.length, { ...facts, noCalls }, true) === noEffects
}
