import { type ShareRefusal, shareRefusals } from '../../sql/statement-class.ts'

/** Why a unit got a connection of its own. */
export const laneRefusals = [
  /** Lanes are off for its database or user. */
  'off',
  /** More than one unit at once, or messages other than one statement's. */
  'form',
  /** The session has something that other connections do not have, or not yet. */
  'session',
  /** The statement was not seen often enough, or cannot be looked at now. */
  'unknown',
  'new',
  'slow',
  'large',
  /** No lane has room: this connection may become one. */
  'no_lane',
  /** It was given back by a lane. */
  'given_back',
  ...shareRefusals,
] as const
export type LaneRefusal = (typeof laneRefusals)[number] | ShareRefusal

export const givenBackReasons = ['stall', 'cancel', 'lost', 'plan', 'standby'] as const
export type GivenBackReason = (typeof givenBackReasons)[number]

/** Why a unit that was late was not asked a second time. */
export const hedgeRefusals = [
  /** As many as may be were. */
  'budget',
  /** No other node takes such reads. */
  'no_node',
  /** The other node does not have what it must see, or not in time. */
  'not_fresh',
  /** There is no connection to the other node that it could share. */
  'no_lane',
] as const
export type HedgeRefusal = (typeof hedgeRefusals)[number]

/** What was done with units, for one worker. Plain numbers, added to in place. */
export interface LaneCountersData {
  shared: number
  refused: Record<LaneRefusal, number>
  givenBack: Record<GivenBackReason, number>
  hedged: number
  hedgesWon: number
  hedgesRefused: Record<HedgeRefusal, number>
}

export class LaneCounters {
  /** Answered in a lane. */
  shared = 0
  /** Queries that are run as prepared statements. */
  queriesPrepared = 0
  readonly refused = zeros(laneRefusals)
  /** Taken out of a lane and run elsewhere. */
  readonly givenBack = zeros(givenBackReasons)
  /** Asked a second time on another node, and answered by that one. */
  hedged = 0
  hedgesWon = 0
  readonly hedgesRefused = zeros(hedgeRefusals)

  data(): LaneCountersData {
    const { hedged, hedgesWon, shared } = this
    return {
      shared,
      refused: { ...this.refused },
      givenBack: { ...this.givenBack },
      hedged,
      hedgesWon,
      hedgesRefused: { ...this.hedgesRefused },
    }
  }
}

export function addLanes(sum: LaneCountersData, one: LaneCountersData): void {
  sum.shared += one.shared
  for (const reason of laneRefusals) sum.refused[reason] += one.refused[reason]
  for (const reason of givenBackReasons) sum.givenBack[reason] += one.givenBack[reason]
  sum.hedged += one.hedged
  sum.hedgesWon += one.hedgesWon
  for (const reason of hedgeRefusals) sum.hedgesRefused[reason] += one.hedgesRefused[reason]
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map(name => [name, 0])) as Record<Name, number>
}
