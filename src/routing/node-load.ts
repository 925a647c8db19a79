import { timesMax } from './typical.ts'

/** How quickly a slower answer, and a quicker one, are believed. */
const risingMs = 1000
const fallingMs = 4000
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
  /** How many times longer than usual its answers take: a peak-sensitive moving average. */
  slowdown = 1
  /** How long its answers take, ms; the same average. */
  latencyMs = 0
  /** Clients that are at work there from here: counted now and then, and kept up to date in between. */
  clients = 0
  /** Answers since it was taken in. */
  samples = 0
  /** In a row. */
  failures = 0
  #observedMs = 0
  #failedMs = Number.NEGATIVE_INFINITY
  #ejectedUntilMs = 0
  #admittedMs = Number.NEGATIVE_INFINITY
  #ejections = 0
  /** Why it is out, as a sentence; empty while it is not. */
  #why = ''

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
    if (this.samples++ === 0) {
      this.latencyMs = ms
      this.slowdown += (times - this.slowdown) * weightMax
      return
    }
    this.slowdown += (times - this.slowdown) * weightOf(sinceMs, times > this.slowdown)
    this.latencyMs += (ms - this.latencyMs) * weightOf(sinceMs, ms > this.latencyMs)
  }

  /** A request has had no answer for `ms`, and others were taken from behind it. */
  stalled(ms: number, nowMs: number): void {
    const { failures } = this
    this.observe(ms, timesMax, nowMs)
    this.failures = failures
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
    this.slowdown = 1
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

function weightOf(sinceMs: number, isRising: boolean): number {
  return Math.min(weightMax, sinceMs / (isRising ? risingMs : fallingMs))
}
