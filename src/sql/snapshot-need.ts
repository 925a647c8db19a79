/**
 * Statements that see no data: what PostgreSQL runs without a snapshot (`PlannedStmtRequiresSnapshot`), and those that
 * only let go of something. FETCH is one: its rows are those of the moment in which its cursor was made.
 */
const words = new Set([
  ...['abort', 'begin', 'commit', 'end', 'release', 'rollback', 'savepoint', 'start'],
  ...['reset', 'set', 'show'],
  ...['close', 'deallocate', 'discard', 'fetch', 'move', 'unlisten'],
])
const longestWord = 'deallocate'.length

/**
 * Whether `text[start, end)` is one statement of a kind that sees no data. What may be several statements is not looked
 * at: it counts as one that does.
 */
export function needsNoSnapshot(text: Buffer, start: number, end: number): boolean {
  let at = skipBlanks(text, start, end)
  while (text[at] === slash && text[at + 1] === star) {
    const close = text.indexOf('*/', at + 2)
    const nested = text.indexOf('/*', at + 2)
    if (close < 0 || (nested >= 0 && nested < close)) return false
    at = skipBlanks(text, close + 2, end)
  }
  // Most are SELECT, which costs no more than a look.
  if ((text[at + 2]! | 0x20) === 0x6c && (text[at]! | 0x20) === 0x73) return false
  let wordEnd = at
  while (wordEnd < end && isLetter(text[wordEnd]!)) wordEnd++
  if (wordEnd - at > longestWord || !words.has(text.toString('latin1', at, wordEnd).toLowerCase()))
    return false
  let last = end
  while (last > wordEnd && (isBlank(text[last - 1]!) || text[last - 1] === semicolon)) last--
  const semicolonAt = text.indexOf(semicolon, wordEnd)
  return semicolonAt < 0 || semicolonAt >= last
}

const semicolon = 0x3b
const slash = 0x2f
const star = 0x2a

function skipBlanks(text: Buffer, start: number, end: number): number {
  let at = start
  while (at < end && isBlank(text[at]!)) at++
  return at
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d && byte !== 0x0b)
}

function isLetter(byte: number): boolean {
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x7a
}
