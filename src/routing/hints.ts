import { type Consistency, parseConsistency } from '../config/consistency.ts'

/** Where a client wants its statements to go; `auto`: where they are right. */
export type RouteWish = 'auto' | 'primary' | 'replica'

export function parseRouteWish(text: string): RouteWish | undefined {
  const word = text.trim().toLowerCase()
  return word === 'auto' || word === 'primary' || word === 'replica' ? word : undefined
}

/** What a statement says of itself in a comment before its first word. */
export interface Hints {
  readonly route: RouteWish | undefined
  readonly consistency: Consistency | undefined
  /** It is not to be run: where it would go is to be told, as lines or as JSON. */
  readonly explain: 'text' | 'json' | undefined
}

const slash = 0x2f
const star = 0x2a
const space = 0x20
/** The longest comment that is read. */
const hintBytesMax = 200

/**
 * Reads the hints of `text[start, end)`: a comment at its very beginning, as in
 * `/* pgherd: route=replica consistency=eventual *\/ select ...`. Undefined for every text without one, which costs a
 * look at two bytes. What is no hint in such a comment is ignored, as in any comment.
 */
export function readHints(text: Buffer, start: number, end: number): Hints | undefined {
  let at = start
  while (at < end && text[at]! <= space) at++
  if (text[at] !== slash || text[at + 1] !== star) return undefined
  const comment = text.toString('latin1', at, Math.min(end, at + hintBytesMax))
  const found = /^\/\*\+?\s*pgherd:\s*([^*]*?)\s*\*\//i.exec(comment)
  if (!found) return undefined
  let route: RouteWish | undefined
  let consistency: Consistency | undefined
  let explain: 'text' | 'json' | undefined
  for (const part of found[1]!.split(/[\s,]+/)) {
    const [name, value = ''] = part.split('=')
    if (name?.toLowerCase() === 'route') route = parseRouteWish(value) ?? route
    else if (name?.toLowerCase() === 'consistency') consistency = parseConsistency(value) ?? consistency
    else if (name?.toLowerCase() === 'explain') explain = value === 'json' ? 'json' : 'text'
  }
  return { route, consistency, explain }
}
