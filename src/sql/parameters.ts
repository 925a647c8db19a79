import { Lexer, Token } from './lexer.ts'

/**
 * Which constants of a statement could as well be parameters: by their place among its constants, a 1 for each. There a
 * constant and a parameter of its type mean the same: beside an operator that compares, in a condition. Undefined when
 * there are none.
 *
 * Elsewhere they may not: in ORDER BY a number is a column, in LIMIT it is part of the plan, in an expression it may
 * have to be the one that an index is about.
 */
export function parametersOf(tree: unknown, text: Uint8Array): Uint8Array | undefined {
  // Places in the tree count bytes of UTF-8.
  for (const byte of text) if (byte >= 0x80) return undefined
  const found = new Set<number>()
  const [statement] = listOf(fieldOf(tree, 'stmts'))
  select(fieldOf(fieldOf(statement, 'stmt'), 'SelectStmt'), found)
  return found.size === 0 ? undefined : byOrder(found, text)
}

/** Most constants of a statement that is looked at. */
export const constantsMax = 32

type Found = Set<number>

function select(statement: unknown, found: Found): void {
  if (statement === undefined) return
  condition(fieldOf(statement, 'whereClause'), found)
  for (const from of listOf(fieldOf(statement, 'fromClause'))) source(from, found)
  select(fieldOf(statement, 'larg'), found)
  select(fieldOf(statement, 'rarg'), found)
}

function source(node: unknown, found: Found): void {
  const join = fieldOf(node, 'JoinExpr')
  if (join !== undefined) {
    source(fieldOf(join, 'larg'), found)
    source(fieldOf(join, 'rarg'), found)
    condition(fieldOf(join, 'quals'), found)
  }
  select(fieldOf(fieldOf(fieldOf(node, 'RangeSubselect'), 'subquery'), 'SelectStmt'), found)
}

function condition(node: unknown, found: Found): void {
  for (const part of listOf(fieldOf(fieldOf(node, 'BoolExpr'), 'args'))) condition(part, found)
  select(fieldOf(fieldOf(fieldOf(node, 'SubLink'), 'subselect'), 'SelectStmt'), found)
  const expression = fieldOf(node, 'A_Expr')
  if (expression === undefined || !compares(expression)) return
  operand(fieldOf(expression, 'lexpr'), found)
  operand(fieldOf(expression, 'rexpr'), found)
}

const kinds: ReadonlySet<unknown> = new Set(['AEXPR_OP', 'AEXPR_IN', 'AEXPR_BETWEEN', 'AEXPR_NOT_BETWEEN'])
const comparisons: ReadonlySet<unknown> = new Set([
  '=',
  '<>',
  '!=',
  '<',
  '>',
  '<=',
  '>=',
  'BETWEEN',
  'NOT BETWEEN',
])

function compares(expression: unknown): boolean {
  if (!kinds.has(fieldOf(expression, 'kind'))) return false
  const [name, more] = listOf(fieldOf(expression, 'name'))
  return more === undefined && comparisons.has(fieldOf(fieldOf(name, 'String'), 'sval'))
}

function operand(node: unknown, found: Found): void {
  for (const each of listOf(fieldOf(fieldOf(node, 'List'), 'items'))) operand(each, found)
  if (Array.isArray(node)) for (const each of node) operand(each, found)
  const constant = fieldOf(node, 'A_Const')
  if (constant === undefined) return condition(node, found)
  if (fieldOf(constant, 'ival') === undefined && fieldOf(constant, 'sval') === undefined) return
  found.add(Number(fieldOf(constant, 'location') ?? 0))
}

/** From places in the text to places among its constants. The place of a negative number is that of its sign. */
function byOrder(found: ReadonlySet<number>, text: Uint8Array): Uint8Array | undefined {
  const places: number[] = []
  const lexer = new Lexer(text, 0, text.length)
  let signAt = -1
  while (lexer.next()) {
    const isConstant = lexer.kind === Token.Number || lexer.kind === Token.String
    if (isConstant) places.push(found.has(lexer.from) || found.has(signAt) ? 1 : 0)
    signAt = lexer.kind === Token.Other && text[lexer.from] === minus ? lexer.from : -1
  }
  return places.length > constantsMax || !places.includes(1) ? undefined : Uint8Array.from(places)
}

const minus = 0x2d

function fieldOf(node: unknown, name: string): unknown {
  return typeof node === 'object' && node !== null ? (node as Record<string, unknown>)[name] : undefined
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
