/** Before what is counted, after the limit was changed: what was begun before it ends. */
const settleMs = 20
/** How long is counted at one limit before the other has its turn. */
const windowMs = 100
/** Connections that have to come back in one turn to tell something. */
const countMin = 20
/** A limit is tried that is this much smaller, or larger. */
const step = 0.6
const valueMin = 2
const firstPauseMs = 1000
const pauseMsMax = 30_000

/** Pairs of turns from which on a clear difference is believed, and after which there is none. */
const pairsMin = 4
const pairsMax = 20
/** How many times its own standard error a gain has to be: at any time, and in the end. */
const clearly = 4
const probably = 2

/** Two limits, which take turns. */
interface Trial {
  readonly fewer: number
  readonly more: number
  /** The turn it is, by twos in the order A B B A: so that what changes meanwhile does so for both. */
  turn: number
  /** How many came back in a ms in the other turn of the pair. */
  rate: number
  /** Of what fewer bring, as logarithms of ratios: how many pairs, their sum, and the sum of their squares. */
  pairs: number
  sum: number
  squares: number
}

/**
 * How many connections of a pool are best in use at the same time while clients wait for them. More do more at once,
 * up to the server's processors and disks; beyond that they only wait for each other's locks and push each other off
 * the processors. What is best depends on the server and on what is done, so it is tried: now and then a smaller or a
 * larger number takes turns with the one in force. The smaller is kept when clearly more transactions end with it,
 * else the larger. Pure.
 */
export class UseLimit {
  #value = Infinity
  #max = Infinity
  #now = Infinity
  #trial: Trial | undefined
  #startMs = 0
  #count = 0
  #triesLess = true
  #pauseMs = firstPauseMs
  #nextTryMs = 0

  /** How many may be in use now, of `max` that there may be. */
  of(max: number): number {
    this.#max = max
    return Math.min(max, this.#now)
  }

  /** A connection came back; `isWanted`: clients wait for one. */
  returned(isWanted: boolean, nowMs: number): void {
    const trial = this.#trial
    if (!trial) {
      if (isWanted && nowMs >= this.#nextTryMs) this.#beginTrial(nowMs)
      return
    }
    // While nobody waits it makes no difference how many there may be.
    if (!isWanted) return this.#end(Math.min(this.#value, this.#max), nowMs)
    const ms = nowMs - this.#startMs - settleMs
    if (ms < 0) return
    this.#count++
    if (ms < windowMs) return
    // Too few tell nothing.
    if (this.#count < countMin) return this.#end(Math.min(this.#value, this.#max), nowMs)
    // Nor do those before and after a pause.
    if (ms > 2 * windowMs) return this.#beginTurn(trial, nowMs)
    this.#endTurn(trial, this.#count / ms, nowMs)
  }

  #beginTrial(nowMs: number): void {
    const now = Math.min(this.#value, this.#max)
    if (now >= this.#max) this.#triesLess = true
    else if (now <= valueMin) this.#triesLess = false
    const fewer = this.#triesLess ? Math.max(valueMin, Math.floor(now * step)) : now
    const more = this.#triesLess ? now : Math.min(this.#max, Math.ceil(now / step))
    if (fewer >= more) return
    this.#trial = { fewer, more, turn: 0, rate: 0, pairs: 0, sum: 0, squares: 0 }
    this.#beginTurn(this.#trial, nowMs)
  }

  #beginTurn(trial: Trial, nowMs: number): void {
    this.#now = hasFewer(trial) ? trial.fewer : trial.more
    this.#startMs = nowMs
    this.#count = 0
  }

  #endTurn(trial: Trial, rate: number, nowMs: number): void {
    if (trial.turn % 2 === 0) trial.rate = rate
    else {
      const gain = Math.log(hasFewer(trial) ? rate / trial.rate : trial.rate / rate)
      trial.pairs++
      trial.sum += gain
      trial.squares += gain * gain
      const best = bestOf(trial)
      if (best !== undefined) return this.#end(best, nowMs)
    }
    trial.turn++
    this.#beginTurn(trial, nowMs)
  }

  #end(best: number, nowMs: number): void {
    this.#trial = undefined
    const before = Math.min(this.#value, this.#max)
    this.#value = best >= this.#max ? Infinity : best
    this.#now = this.#value
    if (best < before === this.#triesLess && best !== before) {
      this.#pauseMs = firstPauseMs
      return
    }
    this.#triesLess = !this.#triesLess
    this.#nextTryMs = nowMs + this.#pauseMs
    this.#pauseMs = Math.min(pauseMsMax, this.#pauseMs * 2)
  }
}

function hasFewer({ turn }: Trial): boolean {
  return ((turn + 1) & 2) !== 0
}

/** The limit that is better, once that can be told. */
function bestOf({ fewer, more, pairs, squares, sum }: Trial): number | undefined {
  if (pairs < pairsMin) return undefined
  const mean = sum / pairs
  const error = Math.sqrt(Math.max(0, squares / pairs - mean * mean) / (pairs - 1))
  if (mean > clearly * error) return fewer
  if (mean < -error) return more
  if (pairs < pairsMax) return undefined
  return mean > probably * error ? fewer : more
}
