import type { ShareRefusal } from './statement-class.ts'

/** Names that decide what a statement does; names of schemas are dropped but for the system's own. */
export interface Dependencies {
  readonly functions: readonly string[]
  /** What the grammar itself makes calls of (EXTRACT, AT TIME ZONE): of a version's own functions, perhaps. */
  readonly forms: readonly string[]
  /** Operators' symbols. */
  readonly operators: readonly string[]
  readonly relations: readonly RelationName[]
  /** Of casts. */
  readonly types: readonly string[]
  /** Fields of rows, each of which may be a function of the row. */
  readonly fields: readonly string[]
}

export interface RelationName {
  readonly schema: string | undefined
  readonly name: string
}

type TreeNode = Readonly<Record<string, unknown>>

/** The parse tree of a text: why it may share no lane, and what it names. Throws for what is no such tree. */
export function readTree(tree: unknown): { refusal: ShareRefusal | undefined; dependencies: Dependencies } {
  const statements = nodesOf(nodeOf(tree)['stmts'])
  const walk = new Walk()
  const [first] = statements
  if (!first) walk.refuse('not_read')
  else if (statements.length > 1) walk.refuse('several')
  else walk.value(first['stmt'])
  return walk.result()
}

/** How a field of a node is treated. */
type Rule = { readonly as: 'leave' | 'walk' } | { readonly as: 'kind'; readonly kind: string } | Refuse
interface Refuse {
  readonly as: 'refuse'
  readonly refusal: ShareRefusal
}

/**
 * The nodes that are understood, and their fields: `name` leads to nothing that counts, `name*` to nodes, `name:Kind`
 * to one node of that kind, `name!refusal` may not be there. Any other node or field is refused, so that what a
 * later PostgreSQL brings has to be looked at first. See PostgreSQL's parsenodes.h.
 */
const grammar: Record<string, string> = {
  SelectStmt: `distinctClause* intoClause!into targetList* fromClause* whereClause* groupClause* groupDistinct
    havingClause* windowClause* valuesLists* sortClause* limitOffset* limitCount* limitOption
    lockingClause!locking withClause op all larg:SelectStmt rarg:SelectStmt`,
  List: 'items*',
  ResTarget: 'name val* location',
  RangeVar: 'catalogname schemaname relname inh relpersistence alias location',
  RangeSubselect: 'lateral subquery* alias',
  RangeFunction: 'lateral ordinality is_rowsfrom functions* alias coldeflist*',
  RangeTableFunc: 'lateral docexpr* rowexpr* namespaces* columns* alias location',
  RangeTableFuncCol: 'colname typeName:TypeName for_ordinality is_not_null colexpr* coldefexpr* location',
  RangeTableSample: 'relation* method!sampling args repeatable location',
  JoinExpr: 'jointype isNatural larg* rarg* usingClause join_using_alias quals* alias rtindex',
  ColumnDef: 'colname typeName:TypeName is_local collClause location',
  ColumnRef: 'fields location',
  ParamRef: 'number location',
  A_Const: 'ival fval boolval sval bsval isnull location',
  A_Expr: 'kind name lexpr* rexpr* rexpr_list_start rexpr_list_end location',
  A_ArrayExpr: 'elements* list_start list_end location',
  A_Indirection: 'arg* indirection*',
  A_Indices: 'is_slice lidx* uidx*',
  A_Star: '',
  String: 'sval',
  BoolExpr: 'boolop args* location',
  NullTest: 'arg* nulltesttype argisrow location',
  BooleanTest: 'arg* booltesttype location',
  CaseExpr: 'arg* args* defresult* location',
  CaseWhen: 'expr* result* location',
  CoalesceExpr: 'args* location',
  MinMaxExpr: 'op args* location',
  CollateClause: 'arg* collname location',
  RowExpr: 'args* row_format colnames location',
  SubLink: 'subLinkType subLinkId testexpr* operName subselect* location',
  TypeCast: 'arg* typeName:TypeName location',
  TypeName: 'names setof pct_type!unknown_node typmods* typemod arrayBounds location',
  FuncCall: `funcname args* agg_order* agg_filter* over:WindowDef agg_within_group agg_star agg_distinct
    func_variadic funcformat location`,
  NamedArgExpr: 'arg* name argnumber location',
  WindowDef: 'name refname partitionClause* orderClause* frameOptions startOffset* endOffset* location',
  SortBy: 'node* sortby_dir sortby_nulls useOp location',
  GroupingSet: 'kind content* location',
  GroupingFunc: 'args* location',
  SQLValueFunction: 'op typmod location',
  XmlExpr: 'op name named_args* arg_names args* xmloption indent type typmod location',
  XmlSerialize: 'xmloption expr* typeName:TypeName indent location',
}

const leave: Rule = { as: 'leave' }
const walkOn: Rule = { as: 'walk' }
const rules = new Map(Object.entries(grammar).map(([kind, fields]) => [kind, rulesOf(fields)]))

function rulesOf(fields: string): Map<string, Rule> {
  const rulesOfKind = new Map<string, Rule>()
  for (const field of fields.split(/\s+/).filter(Boolean)) {
    const [, name = '', kind, refusal] = /^(\w+)(?::(\w+)|!(\w+)|\*)?$/.exec(field) ?? []
    if (kind) rulesOfKind.set(name, { as: 'kind', kind })
    else if (refusal) rulesOfKind.set(name, { as: 'refuse', refusal: refusal as ShareRefusal })
    else rulesOfKind.set(name, field.endsWith('*') ? walkOn : leave)
  }
  return rulesOfKind
}

/** A refusal that another one does not take the place of: it says more. */
const mild: ReadonlySet<ShareRefusal | undefined> = new Set([undefined, 'sampling', 'unusual_name'])

class Walk {
  readonly #functions = new Set<string>()
  readonly #forms = new Set<string>()
  readonly #operators = new Set<string>()
  readonly #relations = new Map<string, RelationName>()
  readonly #types = new Set<string>()
  readonly #fields = new Set<string>()
  /** Names of WITH that are seen from here. */
  readonly #withNames: string[] = []
  #refusal: ShareRefusal | undefined

  refuse(refusal: ShareRefusal): void {
    if (this.#refusal === undefined || (mild.has(this.#refusal) && !mild.has(refusal)))
      this.#refusal = refusal
  }

  result(): { refusal: ShareRefusal | undefined; dependencies: Dependencies } {
    const dependencies = {
      functions: [...this.#functions],
      forms: [...this.#forms],
      operators: [...this.#operators],
      relations: [...this.#relations.values()],
      types: [...this.#types],
      fields: [...this.#fields],
    }
    return { refusal: this.#refusal, dependencies }
  }

  /** Nodes as the parser wraps them, `{Kind: node}`, in a list or alone; an empty one stands for none. */
  value(value: unknown): void {
    if (Array.isArray(value)) {
      for (const each of value) this.value(each)
      return
    }
    const kinds = Object.entries(nodeOf(value))
    for (const [kind, node] of kinds) this.#node(kind, nodeOf(node))
  }

  #node(kind: string, node: TreeNode): void {
    const known = rules.get(kind)
    if (!known) return this.refuse(kind.endsWith('Stmt') ? 'not_read' : 'unknown_node')
    this.#take(kind, node)
    const namesBefore = this.#withNames.length
    if (kind === 'SelectStmt' && node['withClause'] !== undefined) this.#with(nodeOf(node['withClause']))
    for (const field in node) this.#field(known.get(field), node[field])
    this.#withNames.length = namesBefore
  }

  #field(rule: Rule | undefined, value: unknown): void {
    if (!rule) return this.refuse('unknown_node')
    if (rule.as === 'walk') this.value(value)
    else if (rule.as === 'kind') this.#node(rule.kind, nodeOf(value))
    else if (rule.as === 'refuse') this.refuse(rule.refusal)
  }

  /** A query of a WITH sees those before it, or all of them; what a name stands for outside is no matter then. */
  #with(clause: TreeNode): void {
    const queries = nodesOf(clause['ctes']).map(each => nodeOf(each['CommonTableExpr']))
    const names = queries.map(({ ctename }) => textOf(ctename))
    const isRecursive = clause['recursive'] === true
    if (isRecursive) this.#withNames.push(...names)
    for (const [index, query] of queries.entries()) {
      for (const field in query) if (!withQueryFields.has(field)) this.refuse('unknown_node')
      this.value(query['ctequery'])
      if (!isRecursive) this.#withNames.push(names[index]!)
    }
  }

  /** The names in a node. */
  #take(kind: string, node: TreeNode): void {
    switch (kind) {
      case 'RangeVar':
        return this.#relation(node)
      case 'FuncCall': {
        const isForm = node['funcformat'] === 'COERCE_SQL_SYNTAX'
        return this.#add(isForm ? this.#forms : this.#functions, lastName(node['funcname']))
      }
      case 'A_Expr':
        if (textOf(node['kind']).includes('BETWEEN'))
          for (const symbol of between) this.#operators.add(symbol)
        else this.#add(this.#operators, lastName(node['name']))
        return
      case 'SubLink':
        if (node['operName'] !== undefined) this.#add(this.#operators, lastName(node['operName']))
        else if (node['subLinkType'] === 'ANY_SUBLINK') this.#operators.add('=')
        return
      case 'SortBy':
        if (node['useOp'] !== undefined) this.#add(this.#operators, lastName(node['useOp']))
        return
      case 'TypeName':
        return this.#add(this.#types, lastName(node['names']))
      case 'ColumnRef': {
        const fields = nodesOf(node['fields'])
        if (fields.length > 1 && fields.at(-1)?.['String']) this.#add(this.#fields, lastName(fields))
        return
      }
      // Only in an indirection: (row).field
      case 'String':
        return this.#add(this.#fields, textOf(node['sval']))
      default:
    }
  }

  #relation(node: TreeNode): void {
    const schema = node['schemaname'] === undefined ? undefined : textOf(node['schemaname'])
    const name = textOf(node['relname'])
    if (!isPlain(name) || !isPlain(schema ?? '')) return this.refuse('unusual_name')
    if (schema === undefined && this.#withNames.includes(name)) return
    this.#relations.set(`${schema?.length ?? -1} ${schema ?? ''} ${name}`, { schema, name })
  }

  #add(names: Set<string>, name: string): void {
    if (isPlain(name)) names.add(name)
    else this.refuse('unusual_name')
  }
}

const between = ['<', '<=', '>', '>=']
const withQueryFields = new Set(['ctename', 'aliascolnames', 'ctematerialized', 'ctequery', 'location'])

function isPlain(name: string): boolean {
  for (let index = 0; index < name.length; index++) if (name.charCodeAt(index) >= 0x80) return false
  return true
}

function lastName(names: unknown): string {
  return textOf(nodeOf(nodesOf(names).at(-1)?.['String'])['sval'])
}

function nodesOf(value: unknown): TreeNode[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw unlike(value)
  return value.map(nodeOf)
}

function nodeOf(value: unknown): TreeNode {
  if (typeof value !== 'object' || value === null) throw unlike(value)
  return value as TreeNode
}

function textOf(value: unknown): string {
  if (typeof value !== 'string') throw unlike(value)
  return value
}

function unlike(value: unknown): Error {
  return new Error(
    `Cannot read a parse tree with a ${typeof value} in a node's place: use the pinned libpg-query`,
  )
}
