import { timesMax } from './typical.ts'

/** How quickly a slower answer, and a quicker one, are believed. */
const risingMs = 500
const fallingMs = 1000
/** No single answer says more than this, however long the one before it is ago. */
const weightMax = 0.1
/** Several clients find out about one failure: within this time they are one. */
const failureMs = 100
/** The first ejection lasts that long; each further one twice as long as the one before. */
const ejectMs = 5000
const ejectMsMax = 60_000
/** After that long without another one an ejection is forgotten. */
const forgiveMs = 60_000
/** The share that a node begins with when it comes back. */
const firstShare = 0.1

/**
 * What one process has seen of a node. Owns no clock: times in ms are passed in, from any clock that does not go back.
 * `observe` is called for every request and allocates nothing.
 */
export class NodeLoad {
  /** How long its answers take, ms: a moving average. */
  latencyMs = 0
  /** Clients that are at work there from here: counted now and then, and kept up to date in between. */
  clients = 0
  /** Answers since it was taken in. */
  samples = 0
  /** In a row. */
  failures = 0
  /** The moving average of the square roots of how many times longer than usual its answers take. */
  #root = 1
  /** Sum and number of those since the last review. */
  #recentRoots = 0
  #recentCount = 0
  /** How many times longer than usual its answers took between the last two reviews; undefined without any. */
  recent: number | undefined
  #observedMs = 0
  #failedMs = Number.NEGATIVE_INFINITY
  #ejectedUntilMs = 0
  #admittedMs = Number.NEGATIVE_INFINITY
  #ejections = 0
  /** Why it is out, as a sentence; empty while it is not. */
  #why = ''

  /**
   * How many times longer than usual its answers take. It rises quicker than it falls; and a node that is always slow
   * counts more than one that is very slow now and then, as any is on a busy machine.
   */
  get slowdown(): number {
    return this.#root * this.#root
  }

  get isEjected(): boolean {
    return this.#why !== ''
  }

  get ejectedUntilMs(): number {
    return this.#ejectedUntilMs
  }

  get why(): string {
    return this.#why
  }

  /** A request was answered after `ms`, `times` as long as usual. */
  observe(ms: number, times: number, nowMs: number): void {
    const sinceMs = nowMs - this.#observedMs
    this.#observedMs = nowMs
    this.failures = 0
    const root = Math.sqrt(times)
    this.#recentRoots += root
    this.#recentCount++
    const isFirst = this.samples++ === 0
    const weight = isFirst
      ? weightMax
      : Math.min(weightMax, sinceMs / (root > this.#root ? risingMs : fallingMs))
    this.#root += (root - this.#root) * weight
    this.latencyMs += (ms - this.latencyMs) * (isFirst ? 1 : weight)
  }

  /** A request has had no answer for `ms`, and others were taken from behind it. */
  stalled(ms: number, nowMs: number): void {
    const { failures } = this
    this.observe(ms, timesMax, nowMs)
    this.failures = failures
  }

  /** A review begins. */
  endPeriod(): void {
    const mean = this.#recentRoots / this.#recentCount
    this.recent = this.#recentCount > 0 ? mean * mean : undefined
    this.#recentRoots = 0
    this.#recentCount = 0
  }

  /** A connection to it was lost, or it did not answer in time. */
  failed(nowMs: number): void {
    if (nowMs - this.#failedMs < failureMs) return
    this.#failedMs = nowMs
    this.failures++
  }

  /** It gets nothing for a while. `jitter` in [0, 1) keeps processes that saw the same from coming back together. */
  eject(why: string, jitter: number, nowMs: number): void {
    this.#why = why
    const lastsMs = Math.min(ejectMsMax, ejectMs * 2 ** this.#ejections)
    this.#ejectedUntilMs = nowMs + lastsMs * (1 + jitter / 4)
    this.#ejections++
  }

  /** It comes back, with a small share at first and nothing known against it. */
  admit(nowMs: number): void {
    this.#why = ''
    this.#admittedMs = nowMs
    this.#root = 1
    this.samples = 0
    this.failures = 0
  }

  /** Now and then: what was long ago is forgotten. */
  forgive(nowMs: number): void {
    if (this.#ejections === 0 || this.isEjected || nowMs - this.#admittedMs < forgiveMs) return
    this.#ejections--
    this.#admittedMs = nowMs - forgiveMs / 2
  }

  /** Its part of a full share, from a tenth when it comes back to 1 after `slowStartMs`. */
  ramp(slowStartMs: number, nowMs: number): number {
    const share = (nowMs - this.#admittedMs) / slowStartMs
    return slowStartMs > 0 && share < 1 ? Math.max(firstShare, share) : 1
  }
}
