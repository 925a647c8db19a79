import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../runtime/clock.ts'
import type { Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import { type Store, StoreError, type Transaction, transactionOperationsMax } from '../store/store.ts'
import { encode } from './codec.ts'
import { withFleetValues } from './fleet-settings.ts'
import { type Intent, oldestSnapshot, readIntent, type Snapshot } from './intent.ts'
import { type Keys, keysOf } from './keys.ts'
import type { HistoryEntry, NodeIntent } from './types.ts'

/** Why a change of the intent was not made, or may not have been. */
export class OperationError extends Error {
  readonly code: 'refused' | 'contended' | 'unknown'
  /** What to do about it. */
  readonly hint: string | undefined
  constructor(code: OperationError['code'], message: string, hint?: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'OperationError'
    this.code = code
    this.hint = hint
  }
}

/** Who makes changes, where, and with what. */
export interface Operations {
  store: Store
  cluster: string
  /** For the history. */
  who: string
  why?: string
  clock: Clock
  timers: Timers
  random: Random
  /** How long a change is tried, 20 seconds unless said. */
  limitMs?: number
}

/** What to write. What is not in it stays as it is. */
export interface Draft {
  /** For the history, in the words of the command line: `node drain b`. */
  what: string
  /** By name; undefined takes it out. */
  nodes?: ReadonlyMap<string, NodeIntent | undefined>
  /** All settings of the fleet, by key. */
  values?: Record<string, unknown>
}

/** What has become of a change. */
export interface Made {
  /** Its number; that of the newest change where nothing had to be changed. */
  change: number
  /** Its store revision, or that of the newest change; 0 before the first. */
  revision: number
  isNew: boolean
}

/** So many of the newest changes are kept, and so many characters of them. */
export const historyMax = 200
const historySizeMax = 1024 * 1024
/** Characters of all settings together: twice as many may stand in one entry of the history. */
const settingsSizeMax = 64 * 1024
const limitMsByDefault = 20_000
const firstPauseMs = 5
const pauseMsMax = 250

/**
 * Reads the intent, lets `decide` check it and say what to write, and writes that unless another operator was
 * faster; then it begins again. Every change bumps one generation key and compares it, so that checks which look at
 * everything hold at the moment of the write, and two operators never lose a change. An answer that is lost is no
 * reason for doubt as long as the store comes back in time: the change is looked for in the history.
 * @throws OperationError; StoreError where nothing was changed
 */
export function changeIntent(at: Operations, decide: (intent: Intent) => Draft | undefined): Promise<Made> {
  return new Change(at, decide).make()
}

class Change {
  readonly #at: Operations
  readonly #keys: Keys
  readonly #decide: (intent: Intent) => Draft | undefined
  readonly #id: string
  readonly #deadlineMs: number
  #attempts = 0
  /** Number under which this change may have been written: the answer was lost. */
  #sent: number | undefined
  #lastFailure: unknown

  constructor(at: Operations, decide: (intent: Intent) => Draft | undefined) {
    this.#at = at
    this.#keys = keysOf(at.cluster)
    this.#decide = decide
    this.#id = at.random.bytes(12).toString('hex')
    this.#deadlineMs = at.clock.nowMs() + (at.limitMs ?? limitMsByDefault)
  }

  async make(): Promise<Made> {
    for (;;) {
      const intent = await this.#read()
      const made = intent && (this.#find(intent) ?? (await this.#attempt(intent)))
      if (made) return made
      if (this.#at.clock.nowMs() > this.#deadlineMs) throw this.#gaveUp()
      this.#attempts++
      // Many who were in each other's way would be so again if all waited for the same time.
      const pauseMs = Math.min(pauseMsMax, firstPauseMs * 2 ** Math.min(this.#attempts, 10))
      await pause(this.#at.timers, pauseMs * this.#at.random.next())
    }
  }

  /** Undefined while the store is away and it is not known whether the change was made. */
  async #read(): Promise<Intent | undefined> {
    try {
      return await readIntent(this.#at.store, this.#at.cluster)
    } catch (cause) {
      if (this.#sent === undefined) throw cause
      this.#lastFailure = cause
      if (!isLost(cause)) throw this.#gaveUp()
      return undefined
    }
  }

  /** The change itself, when it was made although nobody said so. */
  #find(intent: Intent): Made | undefined {
    const { history, change } = intent
    const own = history.find(({ entry }) => entry.id === this.#id)
    if (own) return { change: own.change, revision: own.revision, isNew: true }
    if (this.#sent === undefined || change < this.#sent) return undefined
    if (oldestSnapshot(intent) >= this.#sent) throw this.#gaveUp()
    // Another change has its number: this one was not made, and cannot be any more.
    this.#sent = undefined
    return undefined
  }

  async #attempt(intent: Intent): Promise<Made | undefined> {
    const transaction = this.#transactionFor(intent)
    if (!transaction) return { change: intent.change, revision: intent.revision, isNew: false }
    try {
      // Sent twice, because the first answer was lost, it compares the same generation: only one of the two can count.
      const { applied, revision } = await this.#at.store.transact(transaction)
      return applied ? { change: intent.change + 1, revision, isNew: true } : undefined
    } catch (cause) {
      if (!isLost(cause)) throw cause
      this.#sent = intent.change + 1
      this.#lastFailure = cause
      return undefined
    }
  }

  #transactionFor(intent: Intent): Transaction | undefined {
    let draft: Draft | undefined
    try {
      draft = this.#decide(intent)
    } catch (cause) {
      // What was sent may still arrive, whatever is to be said against it now.
      throw this.#sent === undefined ? cause : this.#gaveUp()
    }
    if (!draft) return undefined
    const { what, nodes, settings } = differences(intent, draft)
    if (Object.keys(nodes).length + Object.keys(settings).length === 0) return undefined
    const { clock, who, why } = this.#at
    const at = new Date(clock.wallMs()).toISOString()
    const entry: HistoryEntry = {
      v: 1,
      id: this.#id,
      at,
      who,
      what,
      ...(why !== undefined && { why }),
      nodes,
      settings,
    }
    return compose(this.#keys, intent, draft, entry)
  }

  #gaveUp(): OperationError {
    if (this.#sent === undefined) {
      const message = 'others changed the intent at the same time, again and again'
      return new OperationError('contended', message, 'Nothing was changed; try again.')
    }
    return new OperationError(
      'unknown',
      'whether the change was made is not known: the store did not answer in time',
      `If it was made it is change ${this.#sent} in pgherd config history, made by ${this.#at.who}.`,
      { cause: this.#lastFailure },
    )
  }
}

function isLost(cause: unknown): boolean {
  return cause instanceof StoreError && cause.code === 'unavailable'
}

type Differences = Pick<HistoryEntry, 'what' | 'nodes' | 'settings'>

/** What a draft changes. */
function differences(
  intent: Intent,
  { what, nodes = new Map(), values = intent.values }: Draft,
): Differences {
  const found: Differences = { what, nodes: {}, settings: {} }
  for (const [name, node] of nodes) {
    const before = intent.nodes.get(name) ?? null
    const after = node ?? null
    if (!isDeepStrictEqual(before, after)) found.nodes[name] = { before, after }
  }
  found.settings = settingDifferences(intent.values, values)
  return found
}

/** Settings in which two states differ, by key. */
export function settingDifferences(
  before: Record<string, unknown>,
  after: Record<string, unknown>,
): HistoryEntry['settings'] {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  const different = keys.filter(key => !isDeepStrictEqual(before[key], after[key]))
  return Object.fromEntries(
    different.map(key => [key, { before: before[key] ?? null, after: after[key] ?? null }]),
  )
}

/** A draft that makes everything as it was in a snapshot. */
export function draftOf(intent: Intent, snapshot: Snapshot, what: string): Draft {
  const names = new Set([...intent.nodes.keys(), ...snapshot.nodes.keys()])
  const nodes = new Map([...names].map(name => [name, snapshot.nodes.get(name)]))
  return { what, nodes, values: snapshot.values }
}

function compose(keys: Keys, intent: Intent, draft: Draft, entry: HistoryEntry): Transaction {
  const touched = Object.keys(entry.nodes).map(name => keys.nodeIntent(name))
  const writes: Transaction['writes'] = [
    { kind: 'put', key: keys.generation, value: String(intent.change + 1) },
    { kind: 'put', key: keys.historyEntry(intent.change + 1), value: encode(entry) },
  ]
  for (const [name, { after }] of Object.entries(entry.nodes)) {
    const key = keys.nodeIntent(name)
    writes.push(after ? { kind: 'put', key, value: encode(after) } : { kind: 'delete', key })
  }
  if (Object.keys(entry.settings).length > 0) {
    touched.push(keys.settings)
    writes.push({ kind: 'put', key: keys.settings, value: settingsText(intent, draft.values ?? {}) })
  }
  if (writes.length > transactionOperationsMax) {
    const message = `${Object.keys(entry.nodes).length} nodes are more than one change can hold`
    throw new OperationError('refused', message, 'Make several changes of it.')
  }
  const room = transactionOperationsMax - writes.length
  for (const key of superfluous(keys, intent).slice(0, room)) writes.push({ kind: 'delete', key })
  // The generation holds for everything that keeps to it; the others are for what was written by hand.
  const compares = [keys.generation, ...touched].map(key => ({
    key,
    target: 'modified' as const,
    revision: intent.revisions.get(key) ?? 0,
  }))
  return { compares, writes }
}

function settingsText({ settings, settingsProblem }: Intent, values: Record<string, unknown>): string {
  if (settingsProblem !== undefined) {
    const message = `the settings in the store are not understood: ${settingsProblem}`
    throw new OperationError('refused', message, 'See them with pgherd store dump --prefix intent/settings.')
  }
  const text = encode(withFleetValues(settings, values))
  if (text.length <= settingsSizeMax) return text
  throw new OperationError(
    'refused',
    `the settings would take ${text.length} characters, more than the ${settingsSizeMax} that the store holds of them`,
    'Put what is long, such as proxy.databases, into the file of each proxy.',
  )
}

/** Keys of the oldest changes, where there are more than are kept when one more comes. */
function superfluous(keys: Keys, { history, revisions }: Intent): string[] {
  let size = 0
  let kept = 0
  for (const recorded of history.toReversed()) {
    size += recorded.size
    if (kept + 1 >= historyMax || size > historySizeMax) break
    kept++
  }
  const oldest = history.at(-kept)
  if (kept === 0 || !oldest) return []
  const limit = keys.historyEntry(oldest.change)
  return [...revisions.keys()].filter(key => key.startsWith(keys.history) && key < limit).sort()
}
