import { HedgeBudget } from '../../routing/hedge.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import type { Client } from '../client/client.ts'
import type { HedgeRefusal, LaneCounters } from './counters.ts'
import type { Lane } from './lane.ts'
import { Race } from './race.ts'
import type { Sharing, SharingPlace } from './sharing.ts'
import { Hedging, type LaneUnit } from './unit.ts'

export interface HedgesOptions {
  clock: Clock
  timers: Timers
  counters: LaneCounters
  sharing: Sharing
  /** Which part of a client's reads may be asked twice, in percent. */
  percentOf(client: Client): number
  /** Another node that reads could go to which go to `node`; undefined when there is none. */
  besides(node: string): string | undefined
  /** A lane on a node for a unit of a client, if there is one now. */
  laneOn(node: string, client: Client): { lane: Lane; place: SharingPlace } | undefined
  /** Calls back whether a node has what the request of a client has to see, perhaps at once. */
  whenFresh(client: Client, node: string, done: (isFresh: boolean) => void): void
  /** A client has its answer from another node than its own, and reads there from now on. */
  onMoved(from: string, to: string): void
}

/** How often it is looked whether something is late. */
const lookMs = 5
/** When nothing was on its way for so many times, it is not looked any more until something is. */
const looksMax = 200

/**
 * Reads on replicas whose answers are late are asked a second time on another replica, within a budget, and the quicker
 * answer counts. Only units in lanes: they are known to read only, and to be quick as a rule.
 */
export class Hedges {
  readonly #options: HedgesOptions
  readonly #budget = new HedgeBudget()
  #watched: Lane[] = []
  #timer: Timer | undefined
  #idleLooks = 0

  constructor(options: HedgesOptions) {
    this.#options = options
  }

  /** A read has been given to a lane on a replica. */
  onRead(lane: Lane, percent: number): void {
    if (percent === 0) return
    this.#budget.earn(percent)
    if (lane.isWatched) return
    lane.isWatched = true
    this.#watched.push(lane)
    const { timers } = this.#options
    // Answers that came while this process was busy are read before anything is found to be late.
    this.#timer ??= timers.every(lookMs, () => timers.soon(() => this.#look()))
  }

  #look(): void {
    const nowMs = this.#options.clock.nowMs()
    let kept = 0
    for (const lane of this.#watched) {
      if (lane.tellLate(nowMs)) this.#watched[kept++] = lane
      else lane.isWatched = false
    }
    this.#watched.length = kept
    if (kept > 0) this.#idleLooks = 0
    else if (++this.#idleLooks > looksMax) {
      this.#idleLooks = 0
      this.#timer?.cancel()
      this.#timer = undefined
    }
  }

  /** A unit is late whose client has asked a replica. */
  onLate(client: Client, lane: Lane, unit: LaneUnit): void {
    const options = this.#options
    if (options.percentOf(client) === 0) return
    const node = options.besides(lane.server.target.node)
    if (node === undefined) return this.#refuse('no_node', unit)
    if (!this.#budget.take()) return this.#refuse('budget', unit)
    unit.hedging = Hedging.Settled
    // The unit may be answered before that is known, and its place taken by another one.
    const { request } = unit
    options.whenFresh(client, node, isFresh => {
      const isWaiting = unit.client === client && unit.request === request && !lane.isOver
      const isLate = isWaiting && unit.deliveredBytes === 0 && !unit.isCancelled
      if (isLate && isFresh && this.#send(client, lane, unit, node)) return
      this.#budget.giveBack()
      if (isLate) this.#refuse(isFresh ? 'no_lane' : 'not_fresh', unit)
    })
  }

  #send(client: Client, lane: Lane, unit: LaneUnit, node: string): boolean {
    const options = this.#options
    const { clock, counters, sharing } = options
    const other = options.laneOn(node, client)
    if (!other) return false
    counters.hedged++
    const race = new Race(client, lane, other.lane, hasSecondWon => {
      if (!hasSecondWon) return
      counters.hedgesWon++
      options.onMoved(lane.server.target.node, node)
    })
    lane.passOn(client, race.first)
    client.runsIn(race)
    sharing.submitAgain(unit, race.second, other.lane, other.place, clock.nowMs())
    return true
  }

  /** Counted once for a unit. For want of budget it is tried again, for reads that come allow for more. */
  #refuse(reason: HedgeRefusal, unit: LaneUnit): void {
    const { hedgesRefused } = this.#options.counters
    if (reason === 'budget') {
      if (unit.hedging === Hedging.None) hedgesRefused.budget++
      unit.hedging = Hedging.Refused
      return
    }
    unit.hedging = Hedging.Settled
    hedgesRefused[reason]++
  }
}
