import { effectsOfFindings, effectsOfMask, type Findings, noEffects, type SessionEffects } from './effects.ts'
import { Lexer } from './lexer.ts'
import { Scan } from './scan.ts'
import type { SessionFacts } from './vocabulary.ts'

export { type Deallocation, noEffects, type SessionEffects, unreadEffects } from './effects.ts'

/**
 * Looks through the statements in `buffer[start, end)`, which ends before the terminating zero. Without
 * `standardStrings` (the session's standard_conforming_strings) a text that means two things is read both ways.
 */
export function sessionEffects(
  buffer: Uint8Array,
  start: number,
  end: number,
  facts: SessionFacts,
  standardStrings?: boolean,
): SessionEffects {
  const findings = newFindings()
  const lexer = new Lexer(buffer, start, end, standardStrings ?? true)
  new Scan(buffer, lexer, facts, findings).run()
  if (lexer.isAmbiguous && standardStrings === undefined) {
    new Scan(buffer, new Lexer(buffer, start, end, false), facts, findings).run()
  }
  return conclude(findings)
}

/**
 * Whether statements can be read byte by byte in a client's encoding. In some a character's later bytes look like
 * ASCII, a backslash for example: what clients send in those gets `unreadEffects`.
 */
export function isReadable(clientEncoding: string): boolean {
  return !unreadableEncodings.has(clientEncoding.toUpperCase().replace(/[^A-Z0-9]/g, ''))
}

/** PostgreSQL documentation, "Character Set Support": those that no server may have. */
const unreadableEncodings = new Set([
  ...['BIG5', 'WIN950', 'WINDOWS950', 'GB18030', 'GBK', 'WIN936', 'WINDOWS936', 'JOHAB'],
  ...['SJIS', 'MSKANJI', 'SHIFTJIS', 'WIN932', 'WINDOWS932', 'SHIFTJIS2004', 'UHC', 'WIN949', 'WINDOWS949'],
])

/** What calls of these functions may leave behind, for names that were `unknownCalls` of a text. */
export function callEffects(names: readonly string[], facts: SessionFacts): SessionEffects {
  const findings = newFindings()
  for (const name of names) {
    const call = facts.words.get(name)?.call
    if (!call) continue
    findings.mask |= call.mask
    findings.obstacle ??= call.obstacle
    findings.customSettings.push(...call.customSettings)
  }
  return conclude(findings)
}

/**
 * What may have come with a text that was judged before something was defined (`changesCatalog`): by these, newer
 * facts, all that any code of the database may leave behind.
 */
export function laterEffects(facts: SessionFacts): SessionEffects {
  const { mask, customSettings, obstacle } = facts.anything
  return conclude({ ...newFindings(), mask, customSettings: [...customSettings], obstacle })
}

function newFindings(): Findings {
  return {
    mask: 0,
    customSettings: [],
    obstacle: undefined,
    unknownCalls: [],
    deallocates: undefined,
    onlySet: undefined,
    needsDatabase: undefined,
  }
}

function conclude(findings: Findings): SessionEffects {
  const { mask, customSettings, obstacle, unknownCalls, deallocates, onlySet, needsDatabase } = findings
  if (mask === 0) return noEffects
  const hasDetails =
    customSettings.length > 0 ||
    unknownCalls.length > 0 ||
    obstacle !== undefined ||
    deallocates !== undefined ||
    onlySet !== undefined ||
    needsDatabase !== undefined
  return hasDetails ? effectsOfFindings(findings) : effectsOfMask(mask)
}
