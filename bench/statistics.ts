/** What some rounds gave together. */
export interface Spread {
  median: number
  min: number
  max: number
}

/**
 * `noise`: the rounds differ too much to tell. `even`: no round was further than 5 % from equal. `single`: one round
 * says nothing about chance.
 */
export type Verdict = 'more' | 'less' | 'even' | 'noise' | 'single'

const noiseSpreadMax = 0.15
const evenSpreadMax = 0.05

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Of at least one value. */
export function spreadOf(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** The value that `share` of the sorted values do not exceed (nearest rank). */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  const rank = Math.min(sorted.length, Math.max(1, Math.ceil(share * sorted.length)))
  return sorted[rank - 1] ?? Number.NaN
}

/** Ratios round by round: what slows the machine for a while slows both runs of that round. */
export function ratiosOf(subject: readonly number[], against: readonly number[]): number[] {
  const rounds = Math.min(subject.length, against.length)
  return Array.from({ length: rounds }, (_, round) => subject[round]! / against[round]!)
}

/**
 * What ratios of some rounds allow to say: a spread of more than 15 % to one side of the median, or one that has equal
 * within, is noise.
 */
export function verdictOf(ratios: readonly number[]): Verdict {
  const { median, min, max } = spreadOf(ratios)
  if (ratios.length < 2) return 'single'
  if (min >= 1 - evenSpreadMax && max <= 1 + evenSpreadMax) return 'even'
  if (min < 1 && max > 1) return 'noise'
  if (min < median * (1 - noiseSpreadMax) || max > median * (1 + noiseSpreadMax)) return 'noise'
  return median > 1 ? 'more' : 'less'
}
