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

/** What was done with units, for one worker. Plain numbers, added to in place. */
export interface LaneCountersData {
  shared: number
  refused: Record<LaneRefusal, number>
  givenBack: Record<GivenBackReason, number>
}

export class LaneCounters {
  /** Answered in a lane. */
  shared = 0
  readonly refused = zeros(laneRefusals)
  /** Taken out of a lane and run elsewhere. */
  readonly givenBack = zeros(givenBackReasons)

  data(): LaneCountersData {
    return { shared: this.shared, refused: { ...this.refused }, givenBack: { ...this.givenBack } }
  }
}

export function addLanes(sum: LaneCountersData, one: LaneCountersData): void {
  sum.shared += one.shared
  for (const reason of laneRefusals) sum.refused[reason] += one.refused[reason]
  for (const reason of givenBackReasons) sum.givenBack[reason] += one.givenBack[reason]
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map(name => [name, 0])) as Record<Name, number>
}
