import { anyEffects, Effect, type Findings, type NameEffects } from './effects.ts'
import { Bit, Special } from './keywords.ts'
import { foldByte, Lexer, nameBytesMax, Token } from './lexer.ts'
import { readSetConfig, readSetting, type SettingChange } from './settings.ts'
import { type SessionFacts, setConfig, settingsView, type WordFacts } from './vocabulary.ts'

/** The body of a function, where statements stand between words of PL/pgSQL and strings may be executed. */
export interface BodyScan {
  /** How many strings it stands in. */
  depth: number
  /** While facts are being made: takes what comes with a name, which is not known yet, instead of adding it up. */
  mention?: (effects: NameEffects) => void
}

/** What the token before the present one was. */
const Before = { Name: 1, Dot: 2, Close: 3, Other: 4 } as const
type Before = (typeof Before)[keyof typeof Before]

const depthMax = 4
const unknownCallsMax = 16
const customSettingsMax = 64

/** Words that TEMP follows where it makes something temporary; elsewhere it may be the name of a column. */
const beforeTemporary = new Set<Special>([Special.Create, Special.BeforeTemporary, Special.Into])

const openParenthesis = 0x28
const closeParenthesis = 0x29
const dot = 0x2e
const semicolon = 0x3b
const equals = 0x3d

/** One pass over a text of statements or the body of a function. */
export class Scan {
  readonly #buffer: Uint8Array
  readonly #lexer: Lexer
  readonly #facts: SessionFacts
  readonly #findings: Findings
  readonly #body: BodyScan | undefined

  #before: Before = Before.Other
  /** About the name before. `#bits` and `#special` are void for a quoted name and for one after a dot. */
  #word: WordFacts | undefined
  #bits = 0
  #special: Special = Special.None
  #isQuoted = false
  #nameStart = 0
  #nameEnd = 0
  /** The name, with what stands dotted before it, is where no call can be: `INSERT INTO a.b (`. */
  #isIntroduced = false

  /** The next word begins a statement. */
  #isFirst = true
  #verb: Special = Special.None
  #isIndex = false
  #isCallAfterParenthesis = false
  #updates = false
  #usesSettingsView = false
  #statements = 0

  /** In a body: its string constants, undefined for one that cannot be read, and whether they may be executed. */
  readonly #strings: (Uint8Array | undefined)[] = []
  #executes = false

  constructor(buffer: Uint8Array, lexer: Lexer, facts: SessionFacts, findings: Findings, body?: BodyScan) {
    this.#buffer = buffer
    this.#lexer = lexer
    this.#facts = facts
    this.#findings = findings
    this.#body = body
  }

  run(): void {
    const lexer = this.#lexer
    while (lexer.next()) {
      switch (lexer.kind) {
        case Token.Word:
        case Token.Quoted:
          this.#name()
          break
        case Token.Other:
          this.#punctuation(this.#buffer[lexer.start]!)
          break
        case Token.String:
          this.#string()
          break
        default:
          this.#before = Before.Other
      }
    }
    this.#endStatement()
    if (this.#executes) this.#scanStrings()
    if (this.#statements !== 1) {
      this.#findings.onlySet = undefined
      this.#findings.deallocates = undefined
    }
  }

  #name(): void {
    const lexer = this.#lexer
    const before = this.#before
    const word = this.#facts.words.find(lexer, this.#buffer)
    const isQuoted = lexer.kind === Token.Quoted
    const isKeyword = word !== undefined && !isQuoted && before !== Before.Dot
    const bits = isKeyword ? word.bits : 0
    if (before !== Before.Dot) this.#isIntroduced = this.#introduces(before)

    if (word === undefined) this.#unknownName()
    else {
      if (word.relation) this.#relation(word.relation)
      // A function of one composite argument may be written like a column.
      if (before === Before.Dot && word.call && word.call !== setConfig) this.#meet(word.call)
    }
    if (this.#isFirst) this.#first(bits, isKeyword ? word.special : Special.None)
    else if (isKeyword && (word.special !== Special.None || bits & Bit.Write)) this.#keyword(word)
    if (this.#body && bits & Bit.StartsBody) this.#isFirst = true

    this.#before = Before.Name
    this.#word = word
    this.#bits = bits
    this.#special = isKeyword ? word.special : Special.None
    this.#isQuoted = isQuoted
    this.#nameStart = lexer.start
    this.#nameEnd = lexer.end
  }

  #introduces(before: Before): boolean {
    if (before === Before.Close) return !this.#isCallAfterParenthesis
    if (before !== Before.Name) return false
    return (this.#bits & (this.#isIndex ? Bit.BeforeName | Bit.BeforeIndexed : Bit.BeforeName)) !== 0
  }

  #punctuation(byte: number): void {
    const before = this.#before
    this.#before = Before.Other
    if (byte === openParenthesis) {
      if (before === Before.Name) this.#call()
    } else if (byte === closeParenthesis) this.#before = Before.Close
    else if (byte === dot) {
      this.#before = Before.Dot
      if (before !== Before.Name) this.#isIntroduced = false
    } else if (byte === semicolon) this.#endStatement()
  }

  #endStatement(): void {
    if (this.#updates && this.#usesSettingsView) this.#findings.mask |= Effect.Changes
    this.#isFirst = true
    this.#verb = Special.None
    this.#isIndex = false
    this.#isCallAfterParenthesis = false
    this.#updates = false
    this.#usesSettingsView = false
  }

  // Names.

  #unknownName(): void {
    const { start, end, isEncoded, isUnicode } = this.#lexer
    const buffer = this.#buffer
    if (isUnicode) this.#findings.mask |= anyEffects
    else if (isTemporarySchema(buffer, start, end)) {
      this.#findings.mask |= Effect.Changes
    }
    if (!this.#facts.hasUnusualNames) return
    let isUnusual = isEncoded
    for (let at = start; at < end && !isUnusual; at++) isUnusual = buffer[at]! >= 0x80
    if (isUnusual) this.#meet(this.#facts.anything)
  }

  #relation(effects: NameEffects): void {
    if (effects === settingsView) this.#usesSettingsView = true
    this.#meet(effects)
  }

  /** The name before is followed by a parenthesis. */
  #call(): void {
    const word = this.#word
    if (word) {
      if (word.call === setConfig) this.#setting(readSetConfig(this.#lexer.ahead()))
      else if (word.call) this.#meet(word.call)
      if (word.isFunction || this.#bits & Bit.Parenthesis) return
    }
    if (this.#isIntroduced || this.#body) return
    const { unknownCalls } = this.#findings
    const name = this.#nameText()
    if (this.#facts.noCalls.has(name)) return
    this.#findings.mask |= Effect.Changes | Effect.WritesSequence
    if (unknownCalls.length < unknownCallsMax) unknownCalls.push(name)
    else this.#findings.mask |= Effect.UnknownCustom
  }

  #nameText(): string {
    const end = Math.min(this.#nameEnd, this.#nameStart + nameBytesMax)
    const text = Buffer.from(this.#buffer.subarray(this.#nameStart, end)).toString('latin1')
    return this.#isQuoted ? text : text.replace(/[A-Z]/g, letter => letter.toLowerCase())
  }

  #meet(effects: NameEffects): void {
    if (this.#body?.mention) return this.#body.mention(effects)
    const findings = this.#findings
    findings.mask |= effects.mask
    findings.obstacle ??= effects.obstacle
    for (const name of effects.customSettings) this.#customSetting(name)
  }

  // Words of the language.

  /** The word that begins a statement. */
  #first(bits: number, special: Special): void {
    this.#isFirst = false
    this.#statements++
    this.#verb = special
    if (this.#body) return this.#firstOfBody(bits, special)
    const findings = this.#findings
    const facts = this.#facts
    // No statement of PostgreSQL: an error, as far as is known.
    if ((bits & Bit.Plain) === 0) findings.mask |= Effect.Changes
    if (bits & Bit.Ends) findings.mask |= Effect.Ends
    if (bits & Bit.Indirect) this.#meet(facts.anything)
    if ((bits & Bit.Inert) === 0 && facts.unnamed) this.#meet(facts.unnamed)
    this.#firstOfBody(bits, special)
    if (special === Special.Discard && this.#isNext('all')) findings.mask |= Effect.DiscardsAll
    else if (special === Special.Deallocate) this.#deallocate()
    else if (bits & Bit.Definition && this.#isNext('database')) this.#database(this.#lexer.text())
  }

  /** CREATE, ALTER or DROP DATABASE: the database, or the one it is copied from, must not be in use. */
  #database(verb: string): void {
    const ahead = this.#lexer.ahead()
    const isName = (): boolean => ahead.kind === Token.Word || ahead.kind === Token.Quoted
    const isWord = (word: string): boolean => ahead.kind === Token.Word && ahead.text() === word
    ahead.next()
    if (verb === 'create') {
      while (ahead.next() && !ahead.isOther(semicolon)) {
        if (!isWord('template')) continue
        if (ahead.next() && ahead.isOther(equals)) ahead.next()
        break
      }
    } else if (ahead.next() && isWord('if')) {
      ahead.next()
      ahead.next()
    }
    const isDefault = ahead.kind === Token.End || ahead.isOther(semicolon) || isWord('default')
    if (isDefault && verb === 'create') this.#findings.needsDatabase = 'template1'
    else if (isName()) this.#findings.needsDatabase = ahead.text().slice(0, nameBytesMax)
  }

  #firstOfBody(bits: number, special: Special): void {
    const findings = this.#findings
    if (bits & Bit.Write) findings.mask |= Effect.WritesSequence
    if (bits & Bit.Definition && this.#facts.definition) this.#meet(this.#facts.definition)
    if (bits & Bit.Redefines && !this.#createsTemporary()) findings.mask |= Effect.Catalog
    switch (special) {
      case Special.Set:
      case Special.Reset:
        return this.#setting(readSetting(this.#lexer.ahead(), special === Special.Reset))
      case Special.Prepare:
        if (!this.#preparesTransaction()) findings.mask |= Effect.Changes
        return
      case Special.Changes:
      case Special.Create:
      case Special.Deallocate:
      case Special.Discard:
        findings.mask |= Effect.Changes
        return
      case Special.Execute:
        if (this.#body) this.#dynamic()
        else findings.mask |= Effect.Changes
        return
      case Special.Do:
        findings.mask |= Effect.Changes
        this.#executes = true
        return
      case Special.Load:
        findings.mask |= Effect.Changes
        findings.obstacle ??= 'it has loaded a library (LOAD)'
        return
      case Special.Update:
        this.#updates = true
        return
      default:
    }
  }

  /** A word with a rule of its own, inside a statement. */
  #keyword({ bits, special }: WordFacts): void {
    const findings = this.#findings
    const previous = this.#before === Before.Name ? this.#special : Special.None
    const isExplained = this.#verb === Special.Explain
    if (bits & Bit.Write && (this.#before !== Before.Name || this.#body || isExplained)) {
      findings.mask |= Effect.WritesSequence
    }
    switch (special) {
      case Special.Temporary:
        if (beforeTemporary.has(previous)) findings.mask |= Effect.Changes
        return
      case Special.Into:
        // SELECT INTO makes a table, and a search_path may make that a temporary one.
        if (!this.#body && previous !== Special.InsertOrMerge) findings.mask |= Effect.Changes
        return
      case Special.Hold:
        if (previous === Special.With) findings.mask |= Effect.Changes
        return
      case Special.Create:
      case Special.Declare:
        if (isExplained) findings.mask |= Effect.Changes
        return
      case Special.Execute:
        if (this.#body) this.#dynamic()
        else if (isExplained) findings.mask |= Effect.Changes
        return
      case Special.Index:
        this.#isIndex = this.#verb === Special.Create
        return
      case Special.Distinct:
      case Special.Operator:
        this.#isCallAfterParenthesis = true
        return
      case Special.Update:
        this.#updates = true
        return
      default:
    }
  }

  #isNext(word: string): boolean {
    const ahead = this.#lexer.ahead()
    return ahead.next() && ahead.kind === Token.Word && ahead.text() === word
  }

  #createsTemporary(): boolean {
    const ahead = this.#lexer.ahead()
    while (ahead.next() && ahead.kind === Token.Word) {
      const word = ahead.text()
      if (word === 'temp' || word === 'temporary') return true
      if (!['or', 'replace', 'local', 'global'].includes(word)) return false
    }
    return false
  }

  /** PREPARE TRANSACTION 'gid', and not a statement of that name. */
  #preparesTransaction(): boolean {
    const ahead = this.#lexer.ahead()
    return ahead.next() && ahead.text() === 'transaction' && ahead.next() && ahead.kind === Token.String
  }

  #deallocate(): void {
    let token = this.#lexer.ahead()
    if (!token.next()) return
    if (token.kind === Token.Word && token.text() === 'prepare') {
      const after = token.ahead()
      if (after.next() && (after.kind === Token.Word || after.kind === Token.Quoted)) token = after
    }
    if ((token.kind !== Token.Word && token.kind !== Token.Quoted) || token.isUnicode) return
    const text = token.text()
    const all = token.kind === Token.Word && text === 'all'
    this.#findings.deallocates = {
      all,
      name: all ? '' : text.slice(0, nameBytesMax),
      start: token.from,
      end: token.position,
    }
  }

  #setting(change: SettingChange | undefined): void {
    if (!change) return
    const findings = this.#findings
    const { name, isHidden, isLocal } = change
    if (isLocal) {
      this.#findings.mask |= Effect.Local
      if (name?.includes('.')) this.#customSetting(name)
      return
    }
    findings.mask |= isHidden ? Effect.Changes | Effect.UnknownCustom : Effect.Changes
    if (name === undefined) return
    if (name.includes('.')) this.#customSetting(name)
    if (name === 'seed') findings.obstacle ??= 'it has seeded random() (SET seed)'
    if (!this.#body && (this.#verb === Special.Set || this.#verb === Special.Reset)) findings.onlySet = name
  }

  #customSetting(name: string): void {
    const { customSettings } = this.#findings
    this.#findings.mask |= Effect.Custom
    if (customSettings.includes(name)) return
    if (customSettings.length < customSettingsMax) customSettings.push(name)
    else this.#findings.mask |= Effect.UnknownCustom
  }

  // Strings that are executed.

  #string(): void {
    this.#before = Before.Other
    if (this.#body || this.#verb === Special.Do) this.#strings.push(this.#lexer.decoded())
  }

  /** At the word EXECUTE in a body: what is executed is a constant, begins with one, or cannot be seen. */
  #dynamic(): void {
    const token = this.#lexer.ahead()
    do {
      if (!token.next()) return
    } while (token.isOther(openParenthesis))
    const word = token.kind === Token.Word ? token.text() : ''
    // EXECUTE FUNCTION of a trigger, GRANT EXECUTE ON.
    if (word === 'function' || word === 'procedure' || word === 'on') return
    this.#executes = true
    const isFormat = word === 'format' || word === 'concat'
    if (isFormat && token.next()) token.next()
    const isVisible = token.kind === Token.String && this.#beginsStatement(token.decoded())
    if (isVisible && !isFormat && isWhole(token)) return
    // What is put in later may be any name of the database, and more than a name where format has no %I or %L.
    this.#meet(this.#facts.anything)
    this.#findings.mask |= Effect.WritesSequence
    if (isVisible && word === 'format' && !mayTakeCode.test(token.text())) return
    this.#findings.mask |= Effect.Changes
    // Without a beginning it may be any statement.
    if (!isVisible) this.#findings.mask |= Effect.UnknownCustom | Effect.Catalog
  }

  #beginsStatement(bytes: Uint8Array | undefined): boolean {
    if (!bytes) return false
    const lexer = new Lexer(bytes, 0, bytes.length)
    if (!lexer.next() || lexer.kind !== Token.Word) return false
    return ((this.#facts.words.find(lexer, bytes)?.bits ?? 0) & Bit.Plain) !== 0
  }

  #scanStrings(): void {
    const depth = (this.#body?.depth ?? 0) + 1
    for (const bytes of this.#strings) {
      if (!bytes || depth > depthMax) {
        this.#findings.mask |= anyEffects
        continue
      }
      const body: BodyScan = this.#body?.mention ? { depth, mention: this.#body.mention } : { depth }
      new Scan(bytes, new Lexer(bytes, 0, bytes.length), this.#facts, this.#findings, body).run()
    }
  }
}

/** `pg_temp` or `pg_temp_3`, in any letters. */
function isTemporarySchema(buffer: Uint8Array, start: number, end: number): boolean {
  if (end - start < temporarySchema.length) return false
  for (let index = 0; index < temporarySchema.length; index++) {
    if (foldByte(buffer[start + index]!) !== temporarySchema[index]) return false
  }
  return true
}

const temporarySchema = Buffer.from('pg_temp')

/** In what `format` takes: something that is neither quoted nor a name, or the name of a function. */
const mayTakeCode = /%[\d$*-]*s|I\s*\(/

/** Nothing is added to the constant that is executed. */
function isWhole(token: Lexer): boolean {
  if (!token.next() || token.isOther(semicolon) || token.isOther(closeParenthesis)) return true
  return token.kind === Token.Word && ['into', 'using', 'loop'].includes(token.text())
}
