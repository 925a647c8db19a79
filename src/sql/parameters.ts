import { Lexer, Token } from './lexer.ts'

/**
 * Which constants of a statement could as well be parameters: by their place among its constants, a 1 for each. There a
 * constant and a parameter of its type mean the same: where it is compared with something that has a column in it, and
 * as a value that is stored or added. Undefined when there are none. 2 for a negative number, which begins with its sign.
 *
 * Never where PostgreSQL could evaluate what stands there before it looks at any row: whether that fails must not depend
 * on whether there is a row.
 *
 * Elsewhere they may not: in ORDER BY a number is a column, in LIMIT it is part of the plan, in an expression it may
 * have to be the one that an index is about.
 */
export function parametersOf(tree: unknown, text: Uint8Array): Uint8Array | undefined {
  // Places in the tree count bytes of UTF-8.
  for (const byte of text) if (byte >= 0x80) return undefined
  // The client's own parameters, which a Query cannot have.
  if (has(tree, 'ParamRef')) return undefined
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
 * The table that a text writes to, when it is one INSERT, UPDATE or DELETE that calls no functions, asks nothing else
 * and gives no rows back.
 */
export function plainlyWritten(tree: unknown): string | undefined {
  if (listOf(fieldOf(tree, 'stmts')).length !== 1) return undefined
  const { InsertStmt, UpdateStmt, DeleteStmt } = statementOf(tree)
  const statement = InsertStmt ?? UpdateStmt ?? DeleteStmt
  if (statement === undefined || !isPlain(statement)) return undefined
  return String(fieldOf(fieldOf(statement, 'relation'), 'relname'))
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
  // Of several the values are made to be of one type first.
  if (listOf(rows).length !== 1) return
  for (const row of listOf(rows))
    for (const value of listOf(fieldOf(fieldOf(row, 'List'), 'items'))) constant(value, found)
}

/** UPDATE or DELETE. */
function change(statement: unknown, found: Found): void {
  condition(fieldOf(statement, 'whereClause'), found)
  for (const target of listOf(fieldOf(statement, 'targetList')))
    added(fieldOf(fieldOf(target, 'ResTarget'), 'val'), found)
}

/** What is added to a column, or taken away: no index is about it. */
function added(node: unknown, found: Found): void {
  const expression = fieldOf(node, 'A_Expr')
  if (expression === undefined || fieldOf(fieldOf(expression, 'lexpr'), 'ColumnRef') === undefined) return
  const [name, more] = listOf(fieldOf(expression, 'name'))
  const isSum =
    fieldOf(expression, 'kind') === 'AEXPR_OP' &&
    more === undefined &&
    sums.has(fieldOf(fieldOf(name, 'String'), 'sval'))
  if (isSum) constant(fieldOf(expression, 'rexpr'), found)
}

const sums: ReadonlySet<unknown> = new Set(['+', '-'])

/** Whether a node of this kind is anywhere in a tree. */
function has(tree: unknown, kind: string): boolean {
  if (Array.isArray(tree)) return tree.some(each => has(each, kind))
  if (typeof tree !== 'object' || tree === null) return false
  return kind in tree || Object.values(tree).some(each => has(each, kind))
}

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
  const [left, right] = [fieldOf(expression, 'lexpr'), fieldOf(expression, 'rexpr')]
  if (has(left, 'ColumnRef')) operand(right, found)
  else if (has(right, 'ColumnRef')) constant(left, found)
  condition(left, found)
  condition(right, found)
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
  constant(node, found)
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
    if (isConstant) places.push(found.has(lexer.from) ? 1 : found.has(signAt) ? 2 : 0)
    signAt = lexer.kind === Token.Other && text[lexer.from] === minus ? lexer.from : -1
  }
  return places.length > constantsMax || !places.some(Boolean) ? undefined : Uint8Array.from(places)
}

const minus = 0x2d

function fieldOf(node: unknown, name: string): unknown {
  return typeof node === 'object' && node !== null ? (node as Record<string, unknown>)[name] : undefined
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
