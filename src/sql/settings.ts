import { type Lexer, Token } from './lexer.ts'

/** What a SET, a RESET or a call of set_config sets. */
export interface SettingChange {
  /** In lower case; undefined when it is several, or one that cannot be seen. */
  name: string | undefined
  /** The name is made up when the statement runs. */
  isHidden: boolean
  /** Only until the end of the transaction. */
  isLocal: boolean
}

const several: SettingChange = { name: undefined, isHidden: false, isLocal: false }
const hidden: SettingChange = { name: undefined, isHidden: true, isLocal: false }

/** The arguments of one set_config are read so far. */
const argumentTokensMax = 100

const openParenthesis = 0x28
const closeParenthesis = 0x29
const comma = 0x2c
const dot = 0x2e
const colon = 0x3a
const equals = 0x3d

/** Names that SET and RESET spell in words of their own. */
const spelled = new Map([
  ['time', 'timezone'],
  ['names', 'client_encoding'],
  ['schema', 'search_path'],
  ['xml', 'xmloption'],
  ['authorization', 'session_authorization'],
])

/** `lexer` stands after the word SET or RESET. Undefined when it sets nothing that has a name. */
export function readSetting(lexer: Lexer, isReset: boolean): SettingChange | undefined {
  if (!lexer.next()) return hidden
  if (!isReset && isGrammar(lexer, 'local')) return readLocal(lexer)
  if (isGrammar(lexer, 'session') && !lexer.next()) return hidden
  // SESSION CHARACTERISTICS AS TRANSACTION sets several defaults, with SET SESSION before it too.
  if (isGrammar(lexer, 'session') || isGrammar(lexer, 'characteristics')) return several
  if (isGrammar(lexer, 'transaction') || isGrammar(lexer, 'constraints')) return isReset ? several : undefined
  if (isReset && isGrammar(lexer, 'all')) return several
  if (!isIdentifier(lexer)) return hidden
  const first = lexer.text().toLowerCase()
  const own = spelled.get(first)
  if (own !== undefined && isGrammar(lexer, first)) return { name: own, isHidden: false, isLocal: false }
  return readDotted(lexer, first)
}

/** Behind SET LOCAL. */
function readLocal(lexer: Lexer): SettingChange | undefined {
  if (!lexer.next() || !isIdentifier(lexer)) return undefined
  const { name } = readDotted(lexer, lexer.text().toLowerCase())
  return { name, isHidden: false, isLocal: true }
}

function readDotted(lexer: Lexer, first: string): SettingChange {
  let name = first
  while (lexer.next() && lexer.isOther(dot)) {
    if (!lexer.next() || !isIdentifier(lexer)) return hidden
    name += `.${lexer.text().toLowerCase()}`
  }
  return { name, isHidden: false, isLocal: false }
}

/** The word stands for itself: it does not begin the name of a setting (`SET local.a = 1`). */
function isGrammar(lexer: Lexer, word: string): boolean {
  if (lexer.kind !== Token.Word || lexer.text() !== word) return false
  const ahead = lexer.ahead()
  if (!ahead.next()) return true
  const isAssigned = ahead.kind === Token.Word && ahead.text() === 'to'
  return !isAssigned && !ahead.isOther(dot) && !ahead.isOther(equals)
}

function isIdentifier(lexer: Lexer): boolean {
  return lexer.kind === Token.Word || (lexer.kind === Token.Quoted && !lexer.isUnicode)
}

/**
 * `lexer` stands after the parenthesis of `set_config(name, value, is_local)`. When the last argument is the word
 * true only the transaction is concerned.
 */
export function readSetConfig(lexer: Lexer): SettingChange {
  let depth = 1
  let argument = 0
  let tokens = 0
  let name: string | undefined
  let isLocal = false
  for (let count = 0; count < argumentTokensMax; count++) {
    if (!lexer.next()) return hidden
    if (lexer.isOther(closeParenthesis) && --depth === 0) {
      if (isLocal) return { name, isHidden: false, isLocal }
      return name === undefined ? hidden : { name, isHidden: false, isLocal }
    }
    if (lexer.isOther(openParenthesis)) depth++
    if (depth === 1 && lexer.isOther(comma)) {
      argument++
      tokens = 0
      continue
    }
    tokens++
    if (argument === 0 && tokens === 1) name = nameOf(lexer)
    else if (argument === 0 && !isCast(lexer)) name = undefined
    else if (argument === 2) isLocal = tokens === 1 && isTrue(lexer)
  }
  return hidden
}

function nameOf(lexer: Lexer): string | undefined {
  if (lexer.kind !== Token.String) return undefined
  const bytes = lexer.decoded()
  return bytes && Buffer.from(bytes).toString('latin1').toLowerCase()
}

/** Part of `::text` after the name. */
function isCast(lexer: Lexer): boolean {
  return lexer.isOther(colon) || (lexer.kind === Token.Word && ['text', 'varchar'].includes(lexer.text()))
}

function isTrue(lexer: Lexer): boolean {
  if (lexer.kind !== Token.Word && lexer.kind !== Token.String) return false
  const text = lexer.text().toLowerCase()
  return lexer.kind === Token.Word ? text === 'true' : ['true', 't', 'on', 'yes', '1'].includes(text)
}
