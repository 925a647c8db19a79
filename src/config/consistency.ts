/**
 * How old what a read sees may be:
 * - `strong`: nothing is read but the primary; on the port for reads, a replica that has replayed all that the primary
 *   had when the read came
 * - `causal`: everything that this proxy has acknowledged before the read came is seen, and what the client saw before
 * - `bounded`: what the primary had so many ms ago is seen
 * - `eventual`: what a replica has
 */
export type Consistency =
  | { readonly level: 'strong' | 'causal' | 'eventual' }
  | { readonly level: 'bounded'; readonly staleMs: number }

export const consistencyForms = '`strong`, `causal`, `eventual`, or `bounded:` with a number of ms'

const levels = {
  strong: { level: 'strong' },
  causal: { level: 'causal' },
  eventual: { level: 'eventual' },
} as const satisfies Record<string, Consistency>

const staleMsMax = 24 * 3600 * 1000

/** Reads a level as it is written in settings and hints; undefined when it is none. */
export function parseConsistency(text: string): Consistency | undefined {
  const word = text.trim().toLowerCase()
  if (word === 'strong' || word === 'causal' || word === 'eventual') return levels[word]
  const bounded = /^bounded:(\d{1,9})(?:ms)?$/.exec(word)
  const staleMs = Number(bounded?.[1])
  return bounded && staleMs <= staleMsMax ? { level: 'bounded', staleMs } : undefined
}

export function writeConsistency(consistency: Consistency): string {
  return consistency.level === 'bounded' ? `bounded:${consistency.staleMs}` : consistency.level
}
