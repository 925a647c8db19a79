/**
 * Statements that see no data: what PostgreSQL runs without a snapshot (`PlannedStmtRequiresSnapshot`), and those that
 * only let go of something. FETCH is one: its rows are those of the moment in which its cursor was made.
 */
const words = new Set([
  ...['release', 'savepoint', 'reset', 'set', 'show'],
  ...['close', 'deallocate', 'discard', 'fetch', 'move', 'unlisten'],
])
/** Behind them there is another transaction, or none. */
const bounds = new Set(['abort', 'begin', 'commit', 'end', 'rollback', 'start'])
/** What surely takes a snapshot. */
const reads = new Set(['select', 'with', 'table', 'values'])
const longestWord = 'deallocate'.length

/** What statements may see, and what is known behind the last of them. */
export interface SnapshotNeed {
  /** None of them sees data. */
  seesNothing: boolean
  /** One of them begins or ends a transaction. */
  hasBound: boolean
  /** The transaction that is open behind them has its snapshot; undefined where nobody can tell. */
  hasLooked: boolean | undefined
}

/** What the statements in `text[start, end)` need, when the transaction before them `hasLooked`. */
export function snapshotNeed(text: Buffer, start: number, end: number, hasLooked: boolean): SnapshotNeed {
  const need: SnapshotNeed = { seesNothing: true, hasBound: false, hasLooked }
  let at = start
  while ((at = skipComments(text, at, end)) < end) {
    if (text[at] === semicolon) {
      at++
      continue
    }
    let wordEnd = at
    while (wordEnd < end && wordEnd - at <= longestWord && isLetter(text[wordEnd]!)) wordEnd++
    const word = text.toString('latin1', at, wordEnd).toLowerCase()
    const next = endOfStatement(text, wordEnd, end)
    if (bounds.has(word)) {
      if (word !== 'rollback' || !savepoint.test(text.toString('latin1', wordEnd, next))) {
        need.hasBound = true
        need.hasLooked = false
      }
    } else if (!words.has(word)) {
      need.seesNothing = false
      need.hasLooked = reads.has(word) ? true : undefined
    }
    // What cannot be told apart may hold anything.
    if (next < end && text[next] !== semicolon)
      return { seesNothing: false, hasBound: true, hasLooked: undefined }
    at = next
  }
  return need
}

const savepoint = /^\s+((work|transaction)\s+)?to\b/i
const semicolon = 0x3b
const slash = 0x2f
const star = 0x2a
const minus = 0x2d
const newline = 0x0a

/** Where the statement ends; or, before that, where something begins in which a semicolon may mean something else. */
function endOfStatement(text: Buffer, start: number, end: number): number {
  // Of a single statement only the end has to be found.
  const first = text.indexOf(semicolon, start)
  if (first < 0 || first >= end || skipComments(text, first + 1, end) >= end) return end
  for (let at = start; at < end; at++) {
    const byte = text[at]!
    if (byte === semicolon) return at
    if (byte === 0x24 || byte === 0x5c || (byte === slash && text[at + 1] === star)) return at
    if (byte === minus && text[at + 1] === minus) return at
    if (byte === 0x27 || byte === 0x22) {
      const close = text.indexOf(byte, at + 1)
      if (close < 0 || close >= end || text.subarray(at, close).includes(0x5c)) return at
      at = close
    }
  }
  return end
}

/** Behind blanks and comments; `start` of a comment that cannot be told the end of. */
function skipComments(text: Buffer, start: number, end: number): number {
  let at = skipBlanks(text, start, end)
  for (;;) {
    if (text[at] === slash && text[at + 1] === star) {
      const close = text.indexOf('*/', at + 2)
      const nested = text.indexOf('/*', at + 2)
      if (close < 0 || close >= end || (nested >= 0 && nested < close)) return at
      at = skipBlanks(text, close + 2, end)
    } else if (at < end && text[at] === minus && text[at + 1] === minus) {
      const close = text.indexOf(newline, at + 2)
      if (close < 0 || close >= end) return end
      at = skipBlanks(text, close + 1, end)
    } else return at
  }
}

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
