import type { NodeLoad } from '../routing/node-load.ts'
import type { Typical } from '../routing/typical.ts'
import type { NodeCounters } from './counters.ts'
import { Owed } from './relay/answers.ts'
import type { DatabaseStats } from './stats.ts'

/** What is counted and timed of the work of one server connection, and told to its node and its database. */
export class ServerTally {
  /** How long requests like that of its client usually take, where that is known. */
  typical: Typical | undefined
  /** How long its last answer took. */
  answerMs = 0
  /** Bytes of what it has answered since it last had nothing to do. */
  answerBytes = 0
  /** Since when it works on the oldest request that it has not answered; else when it answered the last one. */
  requestSinceMs = 0
  /** When the transaction that is open began; 0 when there is none. */
  transactionSinceMs = 0
  readonly #counters: NodeCounters
  readonly #load: NodeLoad
  readonly #usual: Typical
  #stats: DatabaseStats | undefined

  /** `usual`: how long requests take of which nothing else is known. */
  constructor(counters: NodeCounters, load: NodeLoad, usual: Typical) {
    this.#counters = counters
    this.#load = load
    this.#usual = usual
  }

  /** From now on it counts for a database as well. */
  countFor(stats: DatabaseStats): void {
    this.#stats = stats
  }

  // For one client at a time.

  /** It had nothing to do, and gets a request. */
  begin(nowMs: number): void {
    this.requestSinceMs = nowMs
    this.answerBytes = 0
  }

  /** Statements that the proxy prepares on its own account are the server's alone. */
  countRequest(kind: Owed): void {
    const stats = this.#stats
    if (!stats) return
    if (kind === Owed.Bind) stats.binds++
    else if (kind === Owed.OwnParse) stats.serverParses++
    else if (kind === Owed.Parse || kind === Owed.SkippedParse) {
      stats.clientParses++
      if (kind === Owed.Parse) stats.serverParses++
    }
  }

  /** It is ready for the next request; `isIdle` when no transaction is open. */
  countAnswer(isIdle: boolean, nowMs: number): void {
    const since = this.requestSinceMs
    const ms = nowMs - since
    this.answerMs = ms
    this.#counters.queries++
    this.#counters.latency.observe(ms)
    this.#load.observe(ms, (this.typical ?? this.#usual).relate(ms), nowMs)
    const stats = this.#stats
    if (stats) {
      stats.queries++
      stats.queryMs += ms
    }
    if (isIdle) {
      if (stats) {
        stats.transactions++
        stats.transactionMs += nowMs - (this.transactionSinceMs || since)
      }
      this.transactionSinceMs = 0
    } else if (this.transactionSinceMs === 0) this.transactionSinceMs = since
    this.requestSinceMs = nowMs
  }

  // For several at once, whose units are transactions of their own.

  /**
   * Counts a unit of those who share it. `typical` of requests like it; undefined where it says nothing of the node. Its
   * client had waited for `waitedMs` before it came here.
   */
  countShared(ms: number, typical: Typical | undefined, nowMs: number, waitedMs = 0): void {
    if (typical) this.noteShared(ms, typical, nowMs)
    const totalMs = ms + waitedMs
    this.#counters.queries++
    this.#counters.latency.observe(totalMs)
    this.requestSinceMs = nowMs
    const stats = this.#stats
    if (!stats) return
    stats.queries++
    stats.transactions++
    stats.queryMs += totalMs
    stats.transactionMs += totalMs
  }

  /** A unit whose client may have had its answer from elsewhere says how quick the node is. */
  noteShared(ms: number, typical: Typical, nowMs: number): void {
    this.#load.observe(ms, typical.relate(ms), nowMs)
  }

  /** What should have been quick has had no answer for `ms`. */
  noteStall(ms: number, nowMs: number): void {
    this.#load.stalled(ms, nowMs)
  }
}
