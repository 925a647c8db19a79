import { Lexer, Token } from './lexer.ts'

export type PreparedVerb = 'reads' | 'writes'

/**
 * What the first word of a statement makes of it: `writes` for one that changes rows and gives none back, `reads` for
 * every other that PostgreSQL makes a plan for; undefined for those that it only carries out.
 */
export function preparedVerb(body: Uint8Array, end: number): PreparedVerb | undefined {
  const lexer = new Lexer(body, 0, end)
  while (lexer.next()) {
    if (lexer.isOther(openParenthesis)) continue
    if (lexer.kind !== Token.Word) return undefined
    const word = lexer.text()
    if (reading.has(word)) return 'reads'
    if (!writing.has(word)) return undefined
    while (lexer.next()) if (lexer.kind === Token.Word && lexer.text() === 'returning') return 'reads'
    return 'writes'
  }
  return undefined
}

const openParenthesis = 0x28
const reading = new Set(['select', 'values', 'with', 'table'])
const writing = new Set(['insert', 'update', 'delete', 'merge'])
