import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseDocument,
  type YAMLError,
  type YAMLMap,
} from 'yaml'
import { dotted, type KeyPath } from './keys.ts'
import type { Problem } from './problem.ts'

/** Largest file in characters; a configuration is some kilobytes. */
export const documentLengthMax = 1024 * 1024
const depthMax = 16

export interface Position {
  line: number
  column: number
}

/** What a file says, as plain objects without prototypes, with the place of everything in it. */
export interface ConfigDocument {
  value: Record<string, unknown>
  problems: Problem[]
  /** Whether the structure was not understood, so that its keys had better not be judged. */
  broken: boolean
  /** Place of the key, or of the element of a list; undefined when the file does not have it. */
  keyPosition(path: KeyPath): Position | undefined
  /** Place of the value. */
  valuePosition(path: KeyPath): Position | undefined
}

/**
 * Reads YAML into plain values. Anchors, aliases and tags are refused: a configuration does not need them, and
 * a password that begins with `&`, `*` or `!` would silently turn into something else. Messages are our own,
 * because the parser's repeat parts of the text, which may be a secret.
 */
export function readDocument(text: string, file: string): ConfigDocument {
  return new Reader(file).read(text)
}

class Reader implements ConfigDocument {
  value = emptyMapping()
  problems: Problem[] = []
  broken = false
  readonly #file: string
  readonly #lines = new LineCounter()
  readonly #keys = new Map<string, number>()
  readonly #values = new Map<string, number>()

  constructor(file: string) {
    this.#file = file
  }

  keyPosition(path: KeyPath): Position | undefined {
    return this.#position(this.#keys.get(dotted(path)))
  }

  valuePosition(path: KeyPath): Position | undefined {
    return this.#position(this.#values.get(dotted(path)))
  }

  read(text: string): this {
    if (text.length > documentLengthMax) {
      this.#break(0, 'the file is larger than 1 MB, which no configuration is')
      return this
    }
    let contents: ParsedNode | null
    try {
      const document = parseDocument(text, {
        prettyErrors: false,
        lineCounter: this.#lines,
        logLevel: 'error',
      })
      for (const error of document.errors) this.#syntaxError(error, text)
      contents = document.contents
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      this.#break(0, 'the file is nested too deeply')
      return this
    }
    if (contents === null || (isScalar(contents) && contents.value === null)) return this
    if (!isMap(contents)) {
      if (!this.broken) this.#break(contents.range[0], 'the file must hold keys, as in `cluster: main`')
      return this
    }
    this.value = this.#mapping(contents, [])
    return this
  }

  #mapping(map: YAMLMap, path: KeyPath): Record<string, unknown> {
    const mapping = emptyMapping()
    for (const pair of map.items) {
      if (!isPair(pair) || !isScalar(pair.key)) {
        this.#break(startOf(pair.key as Node), 'a key must be a plain text')
        continue
      }
      const key = String(pair.key.value)
      const child = [...path, key]
      this.#refuseProperties(pair.key, child)
      this.#keys.set(dotted(child), startOf(pair.key))
      this.#values.set(dotted(child), startOf((pair.value ?? pair.key) as Node))
      mapping[key] = this.#plain(pair.value as Node | null, child)
    }
    return mapping
  }

  #plain(node: Node | null, path: KeyPath): unknown {
    if (node === null) return null
    if (path.length > depthMax) {
      this.#break(startOf(node), 'the file is nested too deeply')
      return null
    }
    this.#refuseProperties(node, path)
    if (isScalar(node)) return node.value
    if (isMap(node)) return this.#mapping(node, path)
    if (!isSeq(node)) return null
    return node.items.map((item, index) => {
      const child = [...path, index]
      const start = startOf((item ?? node) as Node)
      this.#keys.set(dotted(child), start)
      this.#values.set(dotted(child), start)
      return this.#plain(item as Node | null, child)
    })
  }

  #refuseProperties(node: Node, path: KeyPath): void {
    const sign = isAlias(node) ? '*' : node.tag !== undefined ? '!' : hasAnchor(node) ? '&' : ''
    if (sign === '') return
    this.#break(
      startOf(node),
      `\`${dotted(path)}\` begins with \`${sign}\`, which YAML takes for ${propertyNames[sign]}`,
      'put the value in quotes',
    )
  }

  #syntaxError(error: YAMLError, text: string): void {
    if (error.code === 'DUPLICATE_KEY') {
      const key = /^[\w.-]+/.exec(text.slice(error.pos[0], error.pos[0] + 64))?.[0]
      const message = key === undefined ? 'a key stands here twice' : `\`${key}\` stands here twice`
      this.#add(error.pos[0], message, 'keep one of the two')
      return
    }
    const [message, hint] = syntaxMessages[error.code] ?? ['the YAML cannot be understood here']
    this.#break(error.pos[0], message, hint)
  }

  #break(offset: number, message: string, hint?: string): void {
    this.broken = true
    this.#add(offset, message, hint)
  }

  #add(offset: number, message: string, hint?: string): void {
    const position = this.#position(offset) ?? { line: 1, column: 1 }
    this.problems.push({ file: this.#file, ...position, path: '', message, ...(hint && { hint }) })
  }

  #position(offset: number | undefined): Position | undefined {
    if (offset === undefined) return undefined
    const { line, col } = this.#lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
}

const propertyNames: Record<'*' | '!' | '&', string> = { '*': 'an alias', '!': 'a tag', '&': 'an anchor' }

/** By the parser's error code; what is not here gets a general sentence. */
const syntaxMessages: Partial<Record<YAMLError['code'], [message: string, hint?: string]>> = {
  TAB_AS_INDENT: ['a tab stands where YAML wants spaces', 'indent with spaces'],
  BAD_INDENT: [
    'the indentation fits no line above, or a bracket is not closed',
    'keys of one section begin in the same column',
  ],
  BAD_SCALAR_START: ['a value begins with a character that YAML reserves', 'put the value in quotes'],
  BAD_DQ_ESCAPE: [
    'an escape in a double-quoted text is not known to YAML',
    'write `\\\\` for a backslash, or use single quotes',
  ],
  MISSING_CHAR: [
    'a closing quote, bracket or colon is missing',
    'each key is followed by a colon and a space; a text with special characters stands in quotes',
  ],
  MULTILINE_IMPLICIT_KEY: [
    'a key is not followed by a colon on its line',
    'each key is followed by a colon and a space',
  ],
  BLOCK_AS_IMPLICIT_KEY: [
    'a line holds two keys',
    'write each key on its own line, or put the value in quotes',
  ],
  MULTIPLE_DOCS: ['a second document begins', 'a configuration is one document: remove the `---`'],
  UNEXPECTED_TOKEN: ['the YAML cannot be understood here', 'a text with special characters stands in quotes'],
}

/** Without a prototype, so that a key such as `__proto__` is a key like any other. */
function emptyMapping(): Record<string, unknown> {
  return Object.create(null) as Record<string, unknown>
}

function startOf(node: Node | null | undefined): number {
  return node?.range?.[0] ?? 0
}

function hasAnchor(node: Node): boolean {
  return 'anchor' in node && node.anchor !== undefined
}
