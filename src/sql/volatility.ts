import type { Dependencies, RelationName } from './parse-tree.ts'
import type { ShareRefusal } from './statement-class.ts'
import type { StatementClasses } from './statement-classes.ts'

/** A row about the catalog; text has one character a byte. See `SharingFacts.add`. */
export type SharingRow = readonly (string | undefined)[]

/** Functions and operators: whether any of that name is volatile. */
type Volatility = Map<string, boolean>

/**
 * What PostgreSQL brings itself, the same for most databases: made once from a text of lines, each a letter and a
 * name. `f` function, `F` volatile function, `o` operator, `O` volatile operator, `r` table, `v` view.
 */
export class SystemNames {
  readonly functions: Volatility = new Map()
  readonly operators: Volatility = new Map()
  /** Whether it is a view. */
  readonly relations = new Map<string, boolean>()

  constructor(lines: string) {
    for (const line of lines.split('\n')) {
      const letter = line[0] ?? ''
      const name = line.slice(2)
      if (letter === 'f' || letter === 'F') this.functions.set(name, letter === 'F')
      else if (letter === 'o' || letter === 'O') this.operators.set(name, letter === 'O')
      else if (letter === 'r' || letter === 'v') this.relations.set(name, letter === 'v')
    }
  }
}

/** Clusters of so many versions may be served by one worker. */
const systemsMax = 8

/** Lets databases have the same names in common. */
export class SystemNamesCache {
  readonly #known = new Map<string, SystemNames>()

  of(lines: string): SystemNames {
    const known = this.#known.get(lines)
    if (known) return known
    const names = new SystemNames(lines)
    if (this.#known.size >= systemsMax) this.#known.clear()
    this.#known.set(lines, names)
    return names
  }
}

/** All relations of one name, whatever their schemas. */
interface Relations {
  /** What they are: see `SharingFacts.add`. */
  kinds: string
  /** SQL that reading one of them runs: what views select, what policies check. undefined for one that is unknown. */
  readonly definitions: (string | undefined)[]
  /** null for none; undefined until somebody asks. */
  refusal: ShareRefusal | null | undefined
}

/** Definitions of one database, in characters; those beyond count as volatile. */
const definitionsCharactersMax = 4 * 1024 * 1024

/**
 * What the catalog of one database says about which statements may share a connection. Everything is judged by its
 * name, over all schemas, overloads and types of arguments: that says too much rather than too little, and no
 * constant, parameter or search_path changes it. What is not in here counts as volatile.
 */
export class SharingFacts {
  /** What the catalog must still be like for these to be true; '' when they are to be read again in any case. */
  readonly fingerprint: string
  readonly #system: SystemNames
  readonly #functions: Volatility = new Map()
  readonly #operators: Volatility = new Map()
  readonly #volatileTypes = new Set<string>()
  /** Volatile functions that take a row, and so may be written like one of its fields. */
  readonly #rowFunctions = new Set<string>()
  readonly #relations = new Map<string, Relations>()
  /** Why no statement at all may share a connection. */
  #general: ShareRefusal | undefined
  #definitionsCharacters = 0

  constructor(system: SystemNames, fingerprint: string) {
    this.#system = system
    this.fingerprint = fingerprint
  }

  /**
   * Takes a row of what the database has besides `SystemNames`, by its first column:
   * - `function`, name, 'v' for a volatile one, 'r' if that takes a row
   * - `operator`, symbol, 'v' for a volatile one
   * - `type`, name: a cast to it may run something volatile
   * - `implicit`: a statement may run something volatile that it does not name
   * - `relation`, name, letters: t for a table or materialized view, v view, f foreign table or one with a part that
   *   is foreign, s sequence, c one with a column of a volatile type, p one with policies, u one that is partitioned or
   *   no table, or has rules or triggers
   * - `definition`, name of the relation, SQL or NULL when that cannot be had; after the relations
   */
  add([kind, name = '', detail]: SharingRow): void {
    switch (kind) {
      case 'function':
        if (detail?.includes('r')) this.#rowFunctions.add(name)
        this.#functions.set(name, detail?.includes('v') === true)
        return
      case 'operator':
        this.#operators.set(name, detail === 'v')
        return
      case 'type':
        this.#volatileTypes.add(name)
        return
      case 'implicit':
        this.#general = 'volatile_implicit'
        return
      case 'relation':
        this.#relations.set(name, { kinds: detail ?? '', definitions: [], refusal: undefined })
        return
      case 'definition': {
        this.#definitionsCharacters += detail?.length ?? 0
        const isKept = this.#definitionsCharacters <= definitionsCharactersMax
        this.#relations.get(name)?.definitions.push(isKept ? detail : undefined)
        return
      }
      default:
        throw new Error(`Cannot take a row of kind ${kind} for sharing facts: give only known kinds`)
    }
  }

  /** There is more than can be kept: nothing is known. */
  addTooMuch(): void {
    this.#general = 'facts_missing'
  }

  /** Nothing is known of what views select and policies check: those count as volatile. */
  addUnknownDefinitions(): void {
    for (const { kinds, definitions } of this.#relations.values()) {
      if (/[vp]/.test(kinds)) definitions.push(undefined)
    }
  }

  /** Whether what a statement writes to a table of this name is all that it does. */
  isPlainTable(name: string): boolean {
    const { kinds = 'u' } = this.#relations.get(name) ?? {}
    return this.#general !== 'facts_missing' && !kinds.includes('u')
  }

  /** Why a statement with these dependencies may not share a connection; undefined if it may. */
  refusal(dependencies: Dependencies, classes: StatementClasses): ShareRefusal | undefined {
    return this.#general ?? this.#byNames(dependencies) ?? this.#byRelations(dependencies.relations, classes)
  }

  #byNames({ functions, forms, operators, types, fields }: Dependencies): ShareRefusal | undefined {
    const system = this.#system
    for (const name of functions) {
      const isVolatile = worst(this.#functions.get(name), system.functions.get(name))
      if (isVolatile === undefined) return 'function_unknown'
      // The name of a type, before a parenthesis, is a cast.
      if (isVolatile || this.#volatileTypes.has(name)) return 'function_volatile'
    }
    for (const name of forms) {
      if (worst(this.#functions.get(name), system.functions.get(name))) return 'function_volatile'
    }
    for (const symbol of operators) {
      const isVolatile = worst(this.#operators.get(symbol), system.operators.get(symbol))
      if (isVolatile === undefined) return 'operator_unknown'
      if (isVolatile) return 'operator_volatile'
    }
    for (const name of types) if (this.#volatileTypes.has(name)) return 'type_volatile'
    for (const name of fields) if (this.#rowFunctions.has(name)) return 'function_volatile'
    return undefined
  }

  #byRelations(names: readonly RelationName[], classes: StatementClasses): ShareRefusal | undefined {
    for (const name of names) {
      const refusal = this.#ofRelation(name, classes)
      if (refusal) return refusal
    }
    return undefined
  }

  #ofRelation({ schema, name }: RelationName, classes: StatementClasses): ShareRefusal | undefined {
    if (schema === 'information_schema') return 'system_view'
    const isSystems = schema === undefined || schema === 'pg_catalog'
    const isSystemView = isSystems ? this.#system.relations.get(name) : undefined
    if (isSystemView) return 'system_view'
    const own = schema === 'pg_catalog' ? undefined : this.#relations.get(name)
    if (!own) return isSystemView === undefined ? 'relation_unknown' : undefined
    if (own.refusal === undefined) {
      // Until it is known: views of one name in two schemas may select from each other.
      own.refusal = 'view_volatile'
      own.refusal = this.#ofOwn(own, classes) ?? null
    }
    return own.refusal ?? undefined
  }

  #ofOwn({ kinds, definitions }: Relations, classes: StatementClasses): ShareRefusal | undefined {
    if (kinds.includes('f')) return 'foreign_table'
    if (kinds.includes('s')) return 'sequence'
    if (kinds.includes('c')) return 'relation_volatile'
    const hasAll = definitions.length > 0 || !/[vp]/.test(kinds)
    const isFine = definitions.every(definition => {
      if (definition === undefined) return false
      const { refusal, dependencies } = classes.ofDefinition(definition)
      return (refusal ?? this.refusal(dependencies, classes)) === undefined
    })
    if (hasAll && isFine) return undefined
    return kinds.includes('v') ? 'view_volatile' : 'policy_volatile'
  }
}

/** Of what two catalogs say; undefined when neither knows it. */
function worst(one: boolean | undefined, other: boolean | undefined): boolean | undefined {
  return one === undefined ? other : one || other === true
}
