import { Lexer, Token } from './lexer.ts'

/**
 * Which constants of a statement could as well be parameters: by their place among its constants, a 1 for each. There a
 * constant and a parameter of its type mean the same: beside an operator that compares, in a condition, and in a value
 * that is stored. Undefined when there are none.
 *
 * Elsewhere they may not: in ORDER BY a number is a column, in LIMIT it is part of the plan, in an expression it may
 * have to be the one that an index is about.
 */
export function parametersOf(tree: unknown, text: Uint8Array): Uint8Array | undefined {
  // Places in the tree count bytes of UTF-8.
  for (const byte of text) if (byte >= 0x80) return undefined
  const found = new Set<number>()
  const { SelectStmt, InsertStmt, UpdateStmt, DeleteStmt } = statementOf(tree)
  select(SelectStmt, found)
  insert(InsertStmt, found)
  change(UpdateStmt, found)
  change(DeleteStmt, found)
  return found.size === 0 ? undefined : byOrder(found, text)
}

/** Most constants of a statement that is looked at. */
export const constantsMax = 32

/**
 * Whether a text is one INSERT, UPDATE or DELETE of a table by its name that calls no functions, asks nothing else and
 * gives no rows back.
 */
export function isPlainWrite(tree: unknown): boolean {
  if (listOf(fieldOf(tree, 'stmts')).length !== 1) return false
  const { InsertStmt, UpdateStmt, DeleteStmt } = statementOf(tree)
  const statement = InsertStmt ?? UpdateStmt ?? DeleteStmt
  return statement !== undefined && isPlain(statement)
}

/** What a statement that is plain has nowhere. */
const notPlain = new Set(['FuncCall', 'SubLink', 'RangeSubselect', 'RangeFunction', 'withClause'])
const returning = ['returningList', 'returningClause', 'onConflictClause']

function isPlain(node: unknown): boolean {
  if (Array.isArray(node)) return node.every(isPlain)
  if (typeof node !== 'object' || node === null) return true
  if (returning.some(name => name in node)) return false
  return Object.entries(node).every(([name, value]) => !notPlain.has(name) && isPlain(value))
}

type Statements = Partial<Record<'SelectStmt' | 'InsertStmt' | 'UpdateStmt' | 'DeleteStmt', unknown>>

function statementOf(tree: unknown): Statements {
  const [first] = listOf(fieldOf(tree, 'stmts'))
  const statement = fieldOf(first, 'stmt')
  return typeof statement === 'object' && statement !== null ? statement : {}
}

type Found = Set<number>

function insert(statement: unknown, found: Found): void {
  const rows = fieldOf(fieldOf(fieldOf(statement, 'selectStmt'), 'SelectStmt'), 'valuesLists')
  for (const row of listOf(rows))
    for (const value of listOf(fieldOf(fieldOf(row, 'List'), 'items'))) stored(value, found)
}

/** UPDATE or DELETE. */
function change(statement: unknown, found: Found): void {
  condition(fieldOf(statement, 'whereClause'), found)
  for (const target of listOf(fieldOf(statement, 'targetList')))
    stored(fieldOf(fieldOf(target, 'ResTarget'), 'val'), found)
}

/** A value on its way into a column: no index is about it. */
function stored(node: unknown, found: Found): void {
  const expression = fieldOf(node, 'A_Expr')
  if (expression === undefined) return constant(node, found)
  const [name, more] = listOf(fieldOf(expression, 'name'))
  const isSum =
    fieldOf(expression, 'kind') === 'AEXPR_OP' &&
    more === undefined &&
    sums.has(fieldOf(fieldOf(name, 'String'), 'sval'))
  if (!isSum) return
  stored(fieldOf(expression, 'lexpr'), found)
  stored(fieldOf(expression, 'rexpr'), found)
}

const sums: ReadonlySet<unknown> = new Set(['+', '-', '*'])

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
  if (fieldOf(node, 'A_Const') === undefined) condition(node, found)
  else constant(node, found)
}

function constant(node: unknown, found: Found): void {
  const value = fieldOf(node, 'A_Const')
  if (fieldOf(value, 'ival') === undefined && fieldOf(value, 'sval') === undefined) return
  found.add(Number(fieldOf(value, 'location') ?? 0))
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
