/** What a word without quotes means to a scan for session effects; bits of `Keyword.bits`. */
export const Bit = {
  /** A parenthesis after it belongs to the grammar and does not make it a function call. */
  Parenthesis: 1,
  /** The name after it is that of a relation, an alias or a new thing: `INSERT INTO t (` calls nothing. */
  BeforeName: 2,
  /** The same where an index is created: `CREATE INDEX ON t (`, `USING btree (`. */
  BeforeIndexed: 4,
  /** In a function's body a statement may begin after it. */
  StartsBody: 8,
  /** Begins a statement, which leaves nothing behind by itself. */
  Plain: 16,
  /** Begins a statement that runs no code of the database. */
  Inert: 32,
  /** Begins a statement that may run code whose names it does not tell. */
  Indirect: 64,
  /** Begins a statement that event triggers may follow. */
  Definition: 128,
  /** It may draw from a sequence. */
  Write: 256,
  /** It may end what keeps a session at its server. */
  Ends: 512,
  /** Begins a statement that may change what functions, relations and types do. */
  Redefines: 1024,
} as const

/** Words with a rule of their own. */
export const Special = {
  None: 0,
  Set: 1,
  Reset: 2,
  /** Changes the session whatever follows: LISTEN, EXECUTE. */
  Changes: 3,
  Prepare: 4,
  Deallocate: 5,
  Discard: 6,
  Declare: 7,
  Do: 8,
  Load: 9,
  Create: 10,
  Explain: 11,
  Execute: 12,
  // Anywhere in a statement.
  Temporary: 13,
  Into: 14,
  Hold: 15,
  Update: 16,
  Index: 17,
  Distinct: 18,
  Operator: 19,
  BeforeTemporary: 20,
  InsertOrMerge: 21,
  With: 22,
} as const
export type Special = (typeof Special)[keyof typeof Special]

export interface Keyword {
  readonly bits: number
  readonly special: Special
}

/** Reserved words and those that cannot name a function, then others that a parenthesis often follows. */
const parenthesisWords = `
 all analyse and any array as asc asymmetric both case cast check collate column constraint current_catalog
 current_date current_role current_time current_timestamp current_user default desc else except exists for foreign
 from grant group having in intersect lateral leading limit localtime localtimestamp not null offset on only or order
 placing primary references returning select session_user some symmetric table then to trailing union unique user
 using values variadic when where window
 between bigint bit boolean char character coalesce dec decimal double extract float greatest grouping inout int integer
 interval json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
 json_table json_value least merge_action national nchar none normalize nullif numeric out overlay position precision
 real row setof smallint substring time timestamp treat trim varchar varying xmlattributes xmlconcat xmlelement
 xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
 by columns conflict copy cube escape exclude insert filter generated identity ilike include is key like materialized options over
 range recursive repeatable rollup rows sets similar stdin stdout until within zone`

interface Group {
  words: string
  bits: number
  special?: Special
}

const groups: readonly Group[] = [
  { words: parenthesisWords, bits: Bit.Parenthesis },
  {
    words:
      'into table references view as function procedure routine aggregate tablesample exists trigger policy rule',
    bits: Bit.BeforeName,
  },
  { words: 'copy analyze analyse vacuum with recursive prepare execute', bits: Bit.BeforeName },
  { words: 'on using', bits: Bit.BeforeIndexed },
  { words: 'begin then else loop do exception atomic', bits: Bit.StartsBody },
  { words: 'with values table fetch move lock', bits: Bit.Parenthesis | Bit.Plain },
  { words: 'select truncate call', bits: Bit.Plain },
  { words: 'insert update delete merge copy truncate call do execute', bits: Bit.Plain | Bit.Write },
  { words: 'insert merge', bits: 0, special: Special.InsertOrMerge },
  { words: 'update', bits: Bit.Parenthesis, special: Special.Update },
  { words: 'begin start savepoint release show notify checkpoint', bits: Bit.Plain | Bit.Inert },
  { words: 'commit end rollback abort', bits: Bit.Plain | Bit.Inert | Bit.Ends },
  { words: 'vacuum analyze analyse reindex cluster', bits: Bit.Parenthesis | Bit.Plain | Bit.Indirect },
  { words: 'create alter drop import', bits: Bit.Plain | Bit.Definition | Bit.Ends },
  { words: 'create alter import', bits: Bit.Redefines },
  { words: 'comment grant revoke security reassign refresh', bits: Bit.Plain | Bit.Definition },
  { words: 'close', bits: Bit.Plain | Bit.Inert | Bit.Ends },
  { words: 'set', bits: Bit.Plain | Bit.Inert | Bit.Parenthesis, special: Special.Set },
  { words: 'reset', bits: Bit.Plain | Bit.Inert | Bit.Parenthesis | Bit.Ends, special: Special.Reset },
  { words: 'listen', bits: Bit.Plain | Bit.Inert, special: Special.Changes },
  { words: 'unlisten', bits: Bit.Plain | Bit.Inert | Bit.Ends, special: Special.Changes },
  { words: 'prepare', bits: Bit.Plain | Bit.Ends, special: Special.Prepare },
  { words: 'deallocate', bits: Bit.Plain | Bit.Inert | Bit.Ends, special: Special.Deallocate },
  { words: 'discard', bits: Bit.Plain | Bit.Inert | Bit.Ends, special: Special.Discard },
  { words: 'declare', bits: Bit.Plain, special: Special.Declare },
  { words: 'do', bits: Bit.Plain, special: Special.Do },
  { words: 'load', bits: Bit.Plain, special: Special.Load },
  { words: 'create', bits: Bit.Plain, special: Special.Create },
  { words: 'explain', bits: Bit.Plain | Bit.Parenthesis, special: Special.Explain },
  { words: 'execute', bits: Bit.Plain, special: Special.Execute },
  { words: 'temp temporary', bits: 0, special: Special.Temporary },
  { words: 'into', bits: 0, special: Special.Into },
  { words: 'hold', bits: 0, special: Special.Hold },
  { words: 'index', bits: 0, special: Special.Index },
  { words: 'distinct', bits: Bit.Parenthesis, special: Special.Distinct },
  { words: 'operator', bits: Bit.Parenthesis, special: Special.Operator },
  { words: 'replace local global', bits: 0, special: Special.BeforeTemporary },
  { words: 'with', bits: 0, special: Special.With },
]

/** Every word that means something, in lower case. */
export const keywords: ReadonlyMap<string, Keyword> = collect()

function collect(): Map<string, Keyword> {
  const all = new Map<string, Keyword>()
  for (const { words, bits, special } of groups) {
    for (const word of words.trim().split(/\s+/)) {
      const known = all.get(word)
      all.set(word, {
        bits: bits | (known?.bits ?? 0),
        special: special ?? known?.special ?? Special.None,
      })
    }
  }
  return all
}
