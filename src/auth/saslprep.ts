import {
  type CodePoints,
  contains,
  leftToRight,
  mappedToNothing,
  nonAsciiSpace,
  prohibitedOutput,
  rightToLeft,
  unassigned,
} from './saslprep-tables.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The bytes of a password as SCRAM hashes them: prepared with SASLprep (RFC 4013). As in PostgreSQL, a password
 * that is not valid UTF-8, or that SASLprep prohibits, is used as it came, so that every password works.
 *
 * Like PostgreSQL, this looks for prohibited characters and for the direction of the text before it normalizes,
 * where the RFC does so afterwards: a password has to give the same keys on both sides.
 */
export function saslPrep(password: string | Uint8Array): Buffer {
  const bytes = typeof password === 'string' ? Buffer.from(password, 'utf8') : Buffer.from(password)
  if (bytes.every(byte => byte < 0x80)) return bytes
  const text = decode(bytes)
  const prepared = text === undefined ? undefined : prepare(text)
  return prepared === undefined ? bytes : Buffer.from(prepared, 'utf8')
}

function decode(bytes: Buffer): string | undefined {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

/** Undefined when the text is prohibited or nothing is left of it. */
function prepare(text: string): string | undefined {
  const mapped: number[] = []
  for (const character of text) {
    const codePoint = character.codePointAt(0)!
    if (contains(nonAsciiSpace, codePoint)) mapped.push(0x20)
    else if (!contains(mappedToNothing, codePoint)) mapped.push(codePoint)
  }
  if (mapped.length === 0 || isProhibited(mapped)) return undefined
  return mapped
    .map(codePoint => String.fromCodePoint(codePoint))
    .join('')
    .normalize('NFKC')
}

function isProhibited(codePoints: readonly number[]): boolean {
  const any = (table: CodePoints) => codePoints.some(codePoint => contains(table, codePoint))
  if (any(prohibitedOutput) || any(unassigned)) return true
  if (!any(rightToLeft)) return false
  // RFC 3454, section 6: right-to-left text is right-to-left at both ends and mixed with no other direction.
  return (
    any(leftToRight) || !contains(rightToLeft, codePoints[0]!) || !contains(rightToLeft, codePoints.at(-1)!)
  )
}
