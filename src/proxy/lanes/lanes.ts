import { lateMsMin } from '../../routing/hedge.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import type { PoolLimits } from '../pool/limits.ts'
import type { ServerConnection } from '../server.ts'
import type { LaneCounters } from './counters.ts'
import { Lane, type LaneEvents } from './lane.ts'
import { LaneLimit } from './lane-limit.ts'
import { stallMs } from './learned.ts'
import type { LaneClient } from './unit.ts'

const checkMs = 20
/** A lane without work goes back to the pool after this long. */
const idleMs = 1000
/** When clients who need a connection of their own get none for this long, lanes give theirs up, for a while. */
const starvedMsMax = 100
const givenUpMs = 1000
/** Units in one lane. */
const unitsMax = 1024

/** What lanes need of the pool whose server connections they are. */
export interface LaneHome {
  readonly limits: PoolLimits
  /** Clients that wait for a connection of their own. */
  readonly waitingCount: number
  /** For how long they wait and none of them was served. */
  starvedMs(): number
  /** What is known of the database's functions should be looked at anew. */
  readonly needsFacts: boolean
  nowMs(): number
  readonly timers: Timers
  readonly counters: LaneCounters
  onBroken(server: ServerConnection, problem: string): void
}

/** Lanes whose sessions have the same settings. */
class LaneGroup {
  readonly lanes: Lane[] = []
  readonly limit = new LaneLimit()
  /** One more would be of use: the next connection that comes free becomes one. */
  wantsMore = false
}

/**
 * The lanes of one pool: server connections that came free while units could have shared one. They go back to the
 * pool when they have nothing to do, when clients wait for connections of their own, and now and then.
 */
export class Lanes {
  readonly #home: LaneHome
  readonly #groups = new Map<string, LaneGroup>()
  readonly #dirty: Lane[] = []
  #isFlushPlanned = false
  #check: Timer | undefined
  /** Until then no connection is kept from those who need one of their own. */
  #givenUpUntilMs = 0

  constructor(home: LaneHome) {
    this.#home = home
  }

  get count(): number {
    let count = 0
    for (const { lanes } of this.#groups.values()) count += lanes.length
    return count
  }

  /** Clients whose units are on their way. */
  get clientCount(): number {
    let count = 0
    for (const lane of this.all()) count += lane.count
    return count
  }

  *all(): Iterable<Lane> {
    for (const { lanes } of this.#groups.values()) yield* lanes
  }

  /** Each with how many there may be of those with its settings now. */
  *withLimits(): Iterable<[lane: Lane, limit: number]> {
    for (const { lanes, limit } of this.#groups.values()) {
      for (const lane of lanes) yield [lane, limit.value]
    }
  }

  /**
   * The lane for a unit of a session with these settings; undefined when it should have a connection of its own,
   * which may become a lane afterwards.
   */
  pick(serverKey: string, nowMs: number): Lane | undefined {
    const group = this.#groupOf(serverKey)
    let best: Lane | undefined
    let open = 0
    for (const lane of group.lanes) {
      if (!lane.isOpen) continue
      const { count } = lane
      if (count >= unitsMax || (count > 0 && lane.headMs(nowMs) > stallMs)) continue
      open++
      if (best === undefined || count < best.count) best = lane
      if (count === 0 || open === group.limit.value) break
    }
    const isEnough = open >= group.limit.value || group.lanes.length >= this.#lanesMax
    if (!best || (best.count > 0 && !isEnough && !group.wantsMore)) {
      group.wantsMore = true
      return undefined
    }
    group.limit.arrived(best.count)
    return best
  }

  /** The lane for a unit that is late elsewhere: none whose own head takes long. */
  pickQuick(serverKey: string, nowMs: number): Lane | undefined {
    const group = this.#groupOf(serverKey)
    let best: Lane | undefined
    for (const lane of group.lanes) {
      if (!lane.isOpen || lane.headMs(nowMs) > lateMsMin) continue
      if (best === undefined || lane.count < best.count) best = lane
    }
    if (best) group.limit.arrived(best.count)
    else group.wantsMore = true
    return best
  }

  #groupOf(serverKey: string): LaneGroup {
    let group = this.#groups.get(serverKey)
    if (!group) {
      group = new LaneGroup()
      this.#groups.set(serverKey, group)
    }
    return group
  }

  /** A connection has come free: whether it becomes a lane. */
  adopt(server: ServerConnection): boolean {
    const group = this.#groups.get(server.settings.serverKey)
    if (!group?.wantsMore) return false
    group.wantsMore = false
    if (group.lanes.length >= Math.min(group.limit.value + stalledMax, this.#lanesMax)) return false
    for (const name of server.customNames) if (!server.settings.values.has(name)) return false
    if (this.#home.waitingCount > 0 && this.count >= this.#lanesWhenWanted) return false
    group.lanes.push(new Lane(server, this.#eventsOf(group)))
    if (this.#home.waitingCount > 0) this.#watch()
    return true
  }

  /** A lane without work goes back to the pool. Returns whether there was one. */
  releaseIdle(fits: (server: ServerConnection) => boolean): boolean {
    for (const lane of this.all()) {
      if (lane.count > 0 || !lane.isOpen || !fits(lane.server)) continue
      lane.close()
      return true
    }
    return false
  }

  /** Clients wait for connections of their own: lanes beyond a share of the pool end when they are worked off. */
  yield(): void {
    if (this.count > 0) this.#watch()
    const surplus = this.count - this.#lanesWhenWanted
    if (surplus <= 0) return
    let closed = 0
    for (const lane of [...this.all()].reverse()) {
      lane.close()
      if (++closed === surplus) return
    }
  }

  /** About once a second. */
  tick(nowMs: number): void {
    const { needsFacts, limits } = this.#home
    for (const [key, group] of this.#groups) {
      for (const lane of [...group.lanes]) {
        const isIdle = lane.count === 0 && nowMs - lane.idleSinceMs > idleMs
        const isOld = limits.serverLifetimeMs > 0 && nowMs - lane.server.createdMs > limits.serverLifetimeMs
        if (isIdle || isOld || lane.server.isSpoiled) lane.close()
      }
      // One connection is enough to ask the server, and the others go on meanwhile.
      if (needsFacts) group.lanes[0]?.close()
      if (group.lanes.length === 0) this.#groups.delete(key)
    }
  }

  /** No unit joins any more; with `now` nobody waits for those on their way, they are run elsewhere. */
  close(now = false): void {
    for (const lane of [...this.all()]) {
      if (now) lane.abort()
      else lane.close()
    }
  }

  get #lanesMax(): number {
    return Math.max(1, this.#home.limits.poolSize)
  }

  get #lanesWhenWanted(): number {
    const { poolSize } = this.#home.limits
    if (poolSize < 2 || this.#home.nowMs() < this.#givenUpUntilMs) return 0
    return Math.max(1, poolSize >> 2)
  }

  #eventsOf(group: LaneGroup): LaneEvents {
    const home = this.#home
    const leave = (lane: Lane): void => {
      const at = group.lanes.indexOf(lane)
      if (at >= 0) group.lanes.splice(at, 1)
    }
    return {
      nowMs: () => home.nowMs(),
      onDirty: lane => this.#onDirty(lane),
      onAbandoned: () => this.#watch(),
      onAnswered: (units, sumMs, nowMs) => {
        home.counters.shared += units
        group.limit.answered(units, sumMs, nowMs)
      },
      onDone: lane => {
        leave(lane)
        lane.server.unshare()
      },
      onLost: leave,
      onGivenBack: (reason, units) => {
        home.counters.givenBack[reason] += units
      },
      onBroken: (lane, problem) => home.onBroken(lane.server, problem),
    }
  }

  #onDirty(lane: Lane): void {
    if (!this.#dirty.includes(lane)) this.#dirty.push(lane)
    this.#watch()
    if (this.#isFlushPlanned) return
    this.#isFlushPlanned = true
    this.#home.timers.soon(() => this.#flush())
  }

  #flush(): void {
    this.#isFlushPlanned = false
    for (const lane of this.#dirty) lane.flush()
    this.#dirty.length = 0
  }

  #watch(): void {
    this.#check ??= this.#home.timers.every(checkMs, () => this.#checkStalls())
  }

  /** Only units that wait behind others can be held up, and clients who wait for a connection that a lane has. */
  #checkStalls(): void {
    const nowMs = this.#home.nowMs()
    let waits = this.#home.waitingCount > 0 && this.count > 0
    if (waits) this.#giveUp(nowMs)
    for (const lane of [...this.all()]) {
      waits ||= lane.needsCheck
      lane.checkStall(nowMs)
    }
    if (waits) return
    this.#check?.cancel()
    this.#check = undefined
  }

  /** Other connections may be in transactions that take long: those who wait get those of the lanes, too. */
  #giveUp(nowMs: number): void {
    if (this.#home.starvedMs() > starvedMsMax) {
      this.#givenUpUntilMs = nowMs + givenUpMs
      this.yield()
    } else this.releaseIdle(() => true)
  }

  /** Ends the clients whose units have waited for longer than `limitMs`. */
  endOverdue(nowMs: number, limitMs: number): void {
    const overdue: LaneClient[] = []
    for (const lane of this.all()) {
      for (const { client, submittedMs } of lane.waiting())
        if (nowMs - submittedMs > limitMs) overdue.push(client)
    }
    for (const client of overdue) client.endOverdue(limitMs)
  }
}

/** Beside lanes that are held up there may be as many others. */
const stalledMax = 4
