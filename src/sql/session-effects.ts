import { Lexer, Token } from './lexer.ts'
import type { SessionFacts } from './session-facts.ts'

/**
 * What a text of statements may leave behind in the session that runs it, beyond its transaction. Found by words
 * alone, and only ever erring towards "it may": the server is asked what is really there.
 */
export interface SessionEffects {
  /** The session's state may be another one afterwards: ask the server. */
  readonly mayChange: boolean
  /** Names of settings of a made-up class (`app.tenant`) that it sets; the server does not list those by itself. */
  readonly customSettings: readonly string[]
  /** It may set one whose name cannot be seen, and so cannot be read back. */
  readonly unknownCustom: boolean
  /** Something that cannot be asked for and cannot be rebuilt; a sentence. */
  readonly obstacle: string | undefined
  /** Functions that the facts do not know: load them again, and judge these names by `callEffects`. */
  readonly unknownCalls: readonly string[]
  /** It uses currval or lastval, which mean what this very session did before. */
  readonly readsSequenceState: boolean
  /** It may draw from a sequence, which currval and lastval would then tell about. */
  readonly writesSequenceState: boolean
  /** It defines, changes or drops what the facts are about: load them again. */
  readonly changesCatalog: boolean
  /** The text is this one DEALLOCATE and nothing else. */
  readonly deallocates: Deallocation | undefined
  /** It has DISCARD ALL. */
  readonly discardsAll: boolean
  /** The one setting that the text sets or resets, when it does nothing else; in lower case, by its own name. */
  readonly onlySet: string | undefined
  /** It may end what keeps a session at its server: worth asking again. */
  readonly endsState: boolean
}

/** `DEALLOCATE [PREPARE] name | ALL`. */
export interface Deallocation {
  all: boolean
  /** One character a byte, as it stands without its quotes; '' for all. */
  name: string
  /** The range of the name or of ALL in the buffer, quotes included. */
  start: number
  end: number
}

/** Words that begin a statement which may change the session. `SET LOCAL` and the like are sorted out later. */
const statementWords = new Set([
  'set',
  'reset',
  'listen',
  'unlisten',
  'prepare',
  'deallocate',
  'discard',
  'declare',
  'close',
  'do',
  'call',
  'move',
])
/** Words that tell of it wherever they stand. */
const anywhereWords = new Set(['temp', 'temporary', 'pg_temp'])
const advisoryLock = /^pg_(try_)?advisory_(un)?lock/
const transactionAdvisoryLock = /^pg_(try_)?advisory_xact_lock/
/** Second words after SET that concern only the transaction. */
const transactionWords = new Set(['local', 'transaction', 'constraints'])

const openParenthesis = 0x28
const closeParenthesis = 0x29
const comma = 0x2c
const semicolon = 0x3b
const dot = 0x2e

/** The one object for "nothing at all". */
export const noEffects: SessionEffects = Object.freeze({
  mayChange: false,
  customSettings: [],
  unknownCustom: false,
  obstacle: undefined,
  unknownCalls: [],
  readsSequenceState: false,
  writesSequenceState: false,
  changesCatalog: false,
  deallocates: undefined,
  discardsAll: false,
  onlySet: undefined,
  endsState: false,
})

/** Of a text that could not be read. */
export const unreadEffects: SessionEffects = Object.freeze({
  ...noEffects,
  mayChange: true,
  unknownCustom: true,
  readsSequenceState: true,
  writesSequenceState: true,
  changesCatalog: true,
  endsState: true,
})

/** Looks through the statements in `buffer[start, end)`, which ends before the terminating zero. */
export function sessionEffects(
  buffer: Uint8Array,
  start: number,
  end: number,
  facts: SessionFacts,
  standardStrings = true,
): SessionEffects {
  return new Scan(new Lexer(buffer, start, end, standardStrings), facts.suspects).run()
}

/** What calls of these functions may leave behind. */
export function callEffects(names: readonly string[], facts: SessionFacts): SessionEffects {
  return names.some(name => facts.suspects.has(name)) ? unreadEffects : noEffects
}

interface Found {
  mayChange: boolean
  customSettings: string[]
  unknownCustom: boolean
  obstacle: string | undefined
  readsSequenceState: boolean
}

class Scan {
  readonly #lexer: Lexer
  readonly #suspects: ReadonlySet<string>
  #found: Found | undefined

  constructor(lexer: Lexer, suspects: ReadonlySet<string>) {
    this.#lexer = lexer
    this.#suspects = suspects
  }

  run(): SessionEffects {
    const lexer = this.#lexer
    let isFirst = true
    let more = lexer.next()
    while (more) {
      if (lexer.kind === Token.Word || lexer.kind === Token.Quoted) {
        const word = lexer.text()
        if (isFirst && statementWords.has(word)) {
          isFirst = false
          more = this.#statement(word)
          continue
        }
        if (isFirst && word === 'load') this.#effects().obstacle = 'it has loaded a library (LOAD)'
        isFirst = false
        if (word === 'set_config') {
          more = this.#setConfig()
          continue
        }
        this.#word(word)
      } else isFirst = lexer.isOther(semicolon) || (isFirst && lexer.isOther(openParenthesis))
      more = lexer.next()
    }
    return this.#found ? { ...noEffects, ...this.#found } : noEffects
  }

  #effects(): Found {
    this.#found ??= {
      mayChange: true,
      customSettings: [],
      unknownCustom: false,
      obstacle: undefined,
      readsSequenceState: false,
    }
    return this.#found
  }

  #word(word: string): void {
    if (anywhereWords.has(word) || word.startsWith('pg_temp') || this.#suspects.has(word)) this.#effects()
    else if (word.startsWith('pg_') && advisoryLock.test(word) && !transactionAdvisoryLock.test(word))
      this.#effects()
    else if (word === 'currval' || word === 'lastval') this.#effects().readsSequenceState = true
  }

  /** After the first word of a statement; stands on the token after what it has read. */
  #statement(word: string): boolean {
    const lexer = this.#lexer
    let more = lexer.next()
    if (word !== 'set') {
      this.#effects()
      return more
    }
    if (more && lexer.kind === Token.Word && lexer.text() === 'session') {
      more = lexer.next()
      // SET SESSION CHARACTERISTICS AS TRANSACTION sets a default, which the server lists.
    }
    if (more && lexer.kind === Token.Word && transactionWords.has(lexer.text())) return lexer.next()
    const effects = this.#effects()
    const first = more ? lexer.text() : ''
    more = lexer.next()
    if (!more || !lexer.isOther(dot)) return more
    more = lexer.next()
    if (more) effects.customSettings.push(`${first}.${lexer.text()}`)
    return more && lexer.next()
  }

  /** `set_config(name, value, is_local)`: nothing is left behind when the last one is the word true. */
  #setConfig(): boolean {
    const lexer = this.#lexer
    let more = lexer.next()
    if (!more || !lexer.isOther(openParenthesis)) return more
    let depth = 1
    let argument = 0
    let name: string | undefined
    let tokensOfArgument = 0
    let isLocal = false
    more = lexer.next()
    while (more && depth > 0) {
      if (lexer.isOther(openParenthesis)) depth++
      else if (lexer.isOther(closeParenthesis)) depth--
      else if (depth === 1 && lexer.isOther(comma)) {
        argument++
        tokensOfArgument = 0
      } else {
        tokensOfArgument++
        if (argument === 0)
          name = tokensOfArgument === 1 && lexer.kind === Token.String ? lexer.text() : undefined
        else if (argument === 2) isLocal = tokensOfArgument === 1 && isTrue(lexer)
      }
      if (depth > 0) more = lexer.next()
    }
    if (isLocal) return more && lexer.next()
    const effects = this.#effects()
    if (name === undefined) effects.unknownCustom = true
    else if (name.includes('.')) effects.customSettings.push(name.toLowerCase())
    return more && lexer.next()
  }
}

function isTrue(lexer: Lexer): boolean {
  if (lexer.kind !== Token.Word && lexer.kind !== Token.String) return false
  return ['true', 't', 'on', 'yes', '1'].includes(lexer.text().toLowerCase())
}
