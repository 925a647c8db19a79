import type { ServerConnection } from '../server.ts'
import type { PooledSession } from '../session/pooled-session.ts'
import type { Lane } from './lane.ts'
import type { LaneClient } from './unit.ts'

/** What a race needs of the client whose unit it is. */
export interface RacingClient extends LaneClient {
  /** Its unit is on its way in two lanes from now on, or in this one alone. */
  runsIn(where: Lane | Race): void
}

/**
 * One unit on its way in two lanes at once. The one that has something to deliver first is its client's from then on, and
 * what the other lane answers is thrown away. Until then neither lane knows the client: each has a `Runner`.
 *
 * What goes wrong in one lane decides for the other: an error, too, counts only when nothing else can come any more, for
 * it may be one of that server alone.
 */
export class Race {
  readonly #client: RacingClient
  readonly #onDecided: (hasSecondWon: boolean) => void
  readonly first: Runner
  readonly second: Runner
  /** Its client has asked for that: an error says so. */
  #isCancelled = false
  #isOver = false

  /** `onDecided` is called once, unless the client leaves before. */
  constructor(client: RacingClient, first: Lane, second: Lane, onDecided: (hasSecondWon: boolean) => void) {
    this.#client = client
    this.#onDecided = onDecided
    this.first = new Runner(this, first)
    this.second = new Runner(this, second)
  }

  get client(): RacingClient {
    return this.#client
  }

  get isCancelled(): boolean {
    return this.#isCancelled
  }

  /** Its first server. */
  get server(): ServerConnection {
    return this.first.lane.server
  }

  /** `winner` alone goes on, for the client. */
  decide(winner: Runner): void {
    if (this.#isOver) return
    this.#isOver = true
    const loser = winner === this.first ? this.second : this.first
    loser.lane.passOn(loser, undefined)
    winner.lane.passOn(winner, this.#client)
    this.#client.runsIn(winner.lane)
    this.#onDecided(winner === this.second)
  }

  /** `loser` will deliver nothing. */
  lose(loser: Runner): void {
    this.decide(loser === this.first ? this.second : this.first)
  }

  // As a lane to its client.

  /** What has been delivered to it is not of this request. */
  resume(): void {}

  isMidMessage(): boolean {
    return false
  }

  /** Both are cancelled, and the first to tell counts. Returns whether a server was asked. */
  cancel(_client: LaneClient, done: () => void): boolean {
    this.#isCancelled = true
    let outstanding = 2
    const oneDone = (): void => {
      if (--outstanding === 0) done()
    }
    // One that still waits is answered at once, which ends the race: a server that works on it is asked before.
    const { first, second } = this
    const [one, other] = first.lane.worksOn(first) ? [first, second] : [second, first]
    const isAsked = one.lane.cancel(one, oneDone)
    return other.lane.cancel(other, oneDone) || isAsked
  }

  /** The client has gone. What it has asked for counts once. */
  forget(): void {
    this.#isOver = true
    this.first.lane.forget(this.first)
    this.second.lane.passOn(this.second, undefined)
  }
}

/** Stands for the client in one of the two lanes while nothing is decided. */
class Runner implements LaneClient {
  readonly #race: Race
  readonly lane: Lane

  constructor(race: Race, lane: Lane) {
    this.#race = race
    this.lane = lane
  }

  /** What an answer means for the session counts only when it is the client's. */
  get session(): PooledSession | undefined {
    return this.#race.isCancelled ? this.#race.client.session : undefined
  }

  get unsentBytes(): number {
    return this.#race.client.unsentBytes
  }

  deliver(answer: Buffer, isLast: boolean): void {
    this.#race.decide(this)
    this.#race.client.deliver(answer, isLast)
  }

  giveBack(): void {
    this.#race.lose(this)
  }

  loseAnswer(): void {
    this.#race.lose(this)
  }

  isForAnother(): boolean {
    if (!this.#race.isCancelled) this.#race.lose(this)
    return false
  }

  endOverdue(limitMs: number): void {
    this.#race.client.endOverdue(limitMs)
  }

  onLate(): void {}
}
