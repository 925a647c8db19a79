/** Why a request that came to the port for everything went to the primary although there are replicas. */
export const primaryReasons = [
  /** It is none that only reads, as far as can be told. */
  'write',
  /** It was not seen often enough, or nothing is known of its database yet. */
  'unknown',
  /** The client says so. */
  'wish',
  /** Nothing but the primary is right: consistency `strong`. */
  'strong',
  /** The replica does not have yet what it must see. */
  'not_fresh',
  /** A standby has refused one like it. */
  'refused',
  'no_replica',
] as const
export type PrimaryReason = (typeof primaryReasons)[number]

export interface RoutedData {
  replica: number
  /** Requests of clients that keep their replica, which did not have in time what they must see. */
  stale: number
  primary: Record<PrimaryReason, number>
}

/** Where requests went, for one worker. Plain numbers, added to in place. */
export class RoutedCounters {
  replica = 0
  stale = 0
  readonly primary = Object.fromEntries(primaryReasons.map(reason => [reason, 0])) as Record<
    PrimaryReason,
    number
  >

  toPrimary(reason: PrimaryReason): undefined {
    this.primary[reason]++
  }

  data(): RoutedData {
    return { replica: this.replica, stale: this.stale, primary: { ...this.primary } }
  }
}

export function addRouted(sum: RoutedData, one: RoutedData): void {
  sum.replica += one.replica
  sum.stale += one.stale
  for (const reason of primaryReasons) sum.primary[reason] += one.primary[reason]
}
