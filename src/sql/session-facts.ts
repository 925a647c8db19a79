import { anyEffects, Effect, type Findings, type NameEffects } from './effects.ts'
import { foreignCodeEffects } from './foreign-code.ts'
import { Lexer } from './lexer.ts'
import { Scan } from './scan.ts'
import {
  addFunction,
  newVocabulary,
  noNameEffects,
  refine,
  type SessionFacts,
  settingsView,
  type WordFacts,
} from './vocabulary.ts'
import type { WordTable } from './words.ts'

export { type SessionFacts, unloadedFacts } from './vocabulary.ts'

/**
 * A row about the catalog; text has one character a byte. By its first column:
 * - `builtin`, name: a function of PostgreSQL itself
 * - `function`, name: one of the database's own
 * - `edge`, kind and name of what depends, kind and name of what it depends on; see `kinds`
 * - `expression`, kind, name, SQL: what a view, a default, a policy holds, where that calls built-in functions
 *   that matter (the server notes no dependency on those)
 * - `body`, name, language, extension or '', source text or NULL when it is too long
 */
export type FactsRow = readonly (string | undefined)[]

/** An effect that is still being worked out. */
interface Node {
  mask: number
  customSettings: string[]
  obstacle: string | undefined
  /** Whatever comes with these comes with this one too. */
  uses: Set<NameEffects>
}

/** Pure: the facts from all rows of one database, in any order. */
export function buildSessionFacts(rows: readonly FactsRow[]): SessionFacts {
  const builder = new SessionFactsBuilder()
  const texts = rows.filter(([kind]) => kind === 'expression' || kind === 'body')
  for (const row of rows) if (row[0] !== 'expression' && row[0] !== 'body') builder.add(row)
  for (const [kind, name] of texts) if (kind === 'body') builder.add(['function', name])
  for (const row of texts) builder.add(row)
  return builder.build()
}

/** Takes rows as they come: names and edges first, then expressions and bodies, which are read by those names. */
export class SessionFactsBuilder {
  readonly #builtins: string[] = []
  /** What bodies are read by: names lead to nodes, whose effects are not known yet. */
  readonly #draft = newVocabulary()
  readonly #functions = new Map<string, Node>()
  readonly #relations = new Map<string, Node>()
  readonly #unnamed = newNode()
  readonly #definition = newNode()
  readonly #anything = newNode()

  add(row: FactsRow): void {
    const [kind, first = '', second = '', third = '', fourth] = row
    switch (kind) {
      case 'builtin':
        this.#builtins.push(first)
        return
      case 'function':
        this.#node('function', first)
        return
      case 'edge':
        this.#node(first, second).uses.add(this.#node(third, fourth ?? ''))
        return
      case 'expression':
        this.#expression(this.#node(first, second), third)
        return
      case 'body':
        this.#body(first, second, third, fourth)
        return
      default:
        throw new Error(`Cannot build session facts from a row of kind ${kind}: give it only known kinds`)
    }
  }

  /** `fingerprint`: what tells whether the catalog has changed since. */
  build(fingerprint = ''): SessionFacts {
    const named = [...this.#functions.values(), ...this.#relations.values()]
    for (const node of named) this.#anything.uses.add(node)
    spread([...named, this.#unnamed, this.#definition, this.#anything])

    const words = newVocabulary()
    let hasUnusualNames = false
    const settle = (name: string, node: Node): NameEffects | undefined => {
      const effects = settled(node)
      if (effects && /[^ !#-~]/.test(name)) hasUnusualNames = true
      return effects
    }
    for (const name of this.#builtins) addFunction(words, name)
    for (const [name, node] of this.#functions) {
      addFunction(words, name)
      const effects = settle(name, node)
      if (effects) addEffects(words, name, words.get(name)?.call ? 'relation' : 'call', effects)
    }
    for (const [name, node] of this.#relations) {
      const effects = settle(name, node)
      if (effects) addEffects(words, name, 'relation', effects)
    }
    const unnamed = settled(this.#unnamed)
    const definition = settled(this.#definition)
    const anything = settled(this.#anything) ?? noNameEffects
    const everything = unnamed !== undefined
    return {
      everything,
      words,
      unnamed,
      definition,
      anything,
      hasUnusualNames,
      fingerprint,
      noCalls: new Set(),
    }
  }

  #node(kind: string, name: string): Node {
    if (kind === 'unnamed') return this.#unnamed
    if (kind === 'definition') return this.#definition
    const nodes = kind === 'function' ? this.#functions : this.#relations
    const known = nodes.get(name)
    if (known) return known
    const node = newNode()
    nodes.set(name, node)
    const word = this.#draft.get(name)
    // A function that is named like one with a rule counts wherever its name stands.
    if (kind === 'function' && !word?.call) refine(this.#draft, name, { isFunction: true, call: node })
    else if (word?.relation && 'uses' in word.relation) (word.relation as Node).uses.add(node)
    else refine(this.#draft, name, { relation: node })
    return node
  }

  #body(name: string, language: string, extension: string, body: string | undefined): void {
    const node = this.#node('function', name)
    if (language !== 'sql' && language !== 'plpgsql') {
      const effects = foreignCodeEffects(name, language, extension, body)
      if (effects) node.uses.add(effects)
    } else if (body === undefined) node.mask |= anyEffects
    else this.#read(node, body)
  }

  #expression(node: Node, text: string): void {
    this.#read(node, text)
    // A view of pg_settings can be updated like that itself.
    if (node.uses.has(settingsView)) node.mask |= Effect.Changes
  }

  #read(node: Node, text: string): void {
    // A whole definition creates nothing here.
    const bytes = Buffer.from(text.replace(/^\s*CREATE\b/, ''), 'latin1')
    const findings: Findings = {
      mask: 0,
      customSettings: node.customSettings,
      obstacle: undefined,
      unknownCalls: [],
      deallocates: undefined,
      onlySet: undefined,
      needsDatabase: undefined,
    }
    const mention = (effects: NameEffects): void => {
      if (effects !== node) node.uses.add(effects)
    }
    const draft: SessionFacts = {
      everything: false,
      words: this.#draft,
      unnamed: undefined,
      definition: this.#definition,
      anything: this.#anything,
      hasUnusualNames: false,
      fingerprint: '',
      noCalls: new Set(),
    }
    new Scan(bytes, new Lexer(bytes, 0, bytes.length), draft, findings, { depth: 0, mention }).run()
    node.mask |= findings.mask
    node.obstacle ??= findings.obstacle
  }
}

function newNode(): Node {
  return { mask: 0, customSettings: [], obstacle: undefined, uses: new Set() }
}

/** Carries effects from what is used to what uses it, until nothing changes any more. */
function spread(nodes: readonly Node[]): void {
  const users = new Map<NameEffects, Node[]>()
  for (const node of nodes) {
    for (const used of node.uses) {
      const known = users.get(used)
      if (known) known.push(node)
      else users.set(used, [node])
    }
  }
  const changed = [...users.keys()]
  for (let used = changed.pop(); used; used = changed.pop()) {
    for (const user of users.get(used) ?? []) if (take(user, used)) changed.push(user)
  }
}

/** Whether `user` has learned anything. */
function take(user: Node, used: NameEffects): boolean {
  const { mask, customSettings, obstacle } = user
  const count = customSettings.length
  user.mask |= used.mask
  user.obstacle ??= used.obstacle
  for (const name of used.customSettings) {
    if (user.customSettings.includes(name)) continue
    if (user.customSettings.length < customSettingsMax) user.customSettings.push(name)
    else user.mask |= Effect.UnknownCustom
  }
  return user.mask !== mask || user.customSettings.length !== count || user.obstacle !== obstacle
}

/** More settings than these in one function are not told one by one. */
const customSettingsMax = 64

/** Adds what comes with a name to what comes with it already. */
function addEffects(
  words: WordTable<WordFacts>,
  name: string,
  as: 'call' | 'relation',
  effects: NameEffects,
): void {
  const known = words.get(name)?.[as]
  const all = newNode()
  if (known) take(all, known)
  take(all, effects)
  refine(words, name, { [as]: settled(all) })
}

/** What is kept of a node; undefined when nothing comes with it. */
function settled({ mask, customSettings, obstacle }: Node): NameEffects | undefined {
  return mask === 0 && customSettings.length === 0 && obstacle === undefined
    ? undefined
    : { mask, customSettings, obstacle }
}
