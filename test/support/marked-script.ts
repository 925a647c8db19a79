import type { Random } from '../../src/runtime/random.ts'
import {
  frame,
  sync,
  writeBindText,
  writeCloseStatement,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'

/**
 * Requests of a client that writes its own mark into everything that it can set or be sent back, so that whatever
 * reaches another client can be told from what is that client's own.
 */
export interface MarkedRequest {
  bytes: Buffer
  readyForQueries: number
  text: string
}

/** Every mark looks like this, wherever it comes back. */
export const marks = /<c\d+>/g

export const markOf = (number: number): string => `<c${number}>`

/** What the requests work on, to be run once. */
export const markedTables = `
  create table shared (n int);
  insert into shared values (1);
  create table inbox (owner text);
  create table numbers (n int);
  create table tallies (owner int primary key, other int unique, n int not null default 0,
    mark text generated always as ('<c' || owner::text || '>') stored);
  create view owners as select owner, '<c' || owner || '>' as mark from generate_series(1, 100000) owner`

const copyDone = frame(0x63, Buffer.alloc(0))
const describeStatement = (name: string): Buffer => frame(0x44, Buffer.from(`S${name}\0`))

/**
 * Statements that differ from client to client in numbers alone: whoever is given another one's number is told that
 * one's mark.
 */
function numbered(mark: string, number: number): string[] {
  const owner = Number(mark.slice(2, -1))
  return [
    `select mark from owners where owner = ${owner}`,
    `select mark from owners where owner in (${owner}, -${number}) and owner > 0`,
    `insert into tallies (owner, other) values (${owner}, ${owner})`,
    `update tallies set n = n + ${number} where owner = ${owner}`,
    `update tallies set other = ${owner} where owner = ${owner}`,
    `delete from tallies where owner = ${owner} and n > ${number}`,
    `select mark, n from tallies where owner = ${owner}`,
  ]
}

/** Makes requests that all carry one mark. */
export interface MarkedRequests {
  /** What goes to the server in one piece. */
  next(): MarkedRequest
  /** Ends whatever is open, asks something, and gives back what the answer has to carry. */
  question(number: number): MarkedRequest & { expected: string }
}

export class MarkedScript implements MarkedRequests {
  readonly #random: Random
  readonly #mark: string

  constructor(random: Random, mark: string) {
    this.#random = random
    this.#mark = mark
  }

  /** What goes to the server in one piece: a request, several in a row, or a scene that needs its own connection. */
  next(): MarkedRequest {
    const kind = this.#below(10)
    if (kind < 4) return marked(this.#sql())
    if (kind < 7) return this.#extended()
    if (kind < 8) return this.#copy()
    if (kind < 9) return together(...Array.from({ length: 2 + this.#below(4) }, () => this.#request()))
    return this.#pinned()
  }

  /** Ends whatever is open, asks something, and gives back what the answer has to carry. */
  question(number: number): MarkedRequest & { expected: string } {
    const expected = `${this.#mark} ${number}`
    return { ...together(marked('rollback'), marked(`select '${expected}'`)), expected }
  }

  #request(): MarkedRequest {
    return this.#below(2) === 0 ? marked(this.#sql()) : this.#extended()
  }

  #below(limit: number): number {
    return Math.floor(this.#random.next() * limit)
  }

  #one<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!
  }

  #sql(): string {
    const mark = this.#mark
    if (this.#below(4) === 0) return this.#one(numbered(mark, this.#below(100)))
    return this.#one([
      `select '${mark}'`,
      `select '${mark}', repeat('${mark}', ${this.#below(3000)})`,
      `select '${mark}' from generate_series(1, ${this.#below(200)})`,
      `select '${mark}', pg_sleep(${this.#one([0, 0.005, 0.02])})`,
      `set application_name = '${mark}'`,
      'show application_name',
      "select current_setting('application_name')",
      `set app.mark = '${mark}'`,
      `select set_config('app.mark', '${mark}', ${this.#one(['true', 'false'])})`,
      "select current_setting('app.mark', true)",
      `set local app.mark = '${mark}'`,
      `set search_path = "${mark}", public`,
      'show search_path',
      'reset search_path',
      'begin',
      'commit',
      'rollback',
      `select '${mark}'::int`,
      `do $$ begin raise notice '${mark}'; end $$`,
      `do $$ begin raise exception '${mark}'; end $$`,
      `do $$ begin perform set_config('app.mark', '${mark}', false); end $$`,
      `insert into inbox values ('${mark}') returning owner`,
      `delete from inbox where owner = '${mark}' returning owner`,
      `notify "${mark}", '${mark}'`,
      `prepare s0 as select '${mark}'`,
      'execute s0',
      'deallocate s0',
      `declare held cursor with hold for select '${mark}' from generate_series(1, 9)`,
      'fetch 2 from held',
      'close held',
      'discard all',
    ])
  }

  /** Prepared statements of which everybody has some, under the same names. */
  #extended(): MarkedRequest {
    const mark = this.#mark
    const parts: Buffer[] = []
    const texts: string[] = []
    for (let count = 1 + this.#below(3); count > 0; count--) {
      const name = this.#one(['', 's0', 's1', 's2', 's3'])
      const sql = this.#one([
        `select '${mark}', $1::text`,
        'select $1::text',
        `select '${mark}', $1::text, n from shared`,
        `select ('${mark}' || $1)::int`,
        "select $1::text, current_setting('app.mark', true)",
        "select set_config('app.mark', $1, false)",
        "select set_config('application_name', $1, false)",
      ])
      const parse = writeParse(name, sql, [])
      const run = Buffer.concat([writeBindText('', name, [mark]), writeExecute('')])
      const [text, bytes] = this.#one<[string, Buffer[]]>([
        [`parse ${name}: ${sql}`, [parse]],
        [`parse ${name} anew: ${sql}`, [writeCloseStatement(name), parse]],
        [`parse and run ${name}: ${sql}`, [writeCloseStatement(name), parse, run]],
        [`describe ${name}`, [describeStatement(name)]],
        [`run ${name}`, [run]],
        [`run ${name}`, [run]],
      ])
      texts.push(text)
      parts.push(...bytes)
    }
    return { bytes: Buffer.concat([...parts, sync]), readyForQueries: 1, text: texts.join(' | ') }
  }

  #copy(): MarkedRequest {
    const mark = this.#mark
    const table = this.#one(['inbox', 'numbers'])
    const rows = Array.from({ length: 1 + this.#below(5) }, () =>
      frame(0x64, Buffer.from(`${mark}\n`.repeat(1 + this.#below(200)))),
    )
    return this.#one([
      marked(`copy (select '${mark}' from generate_series(1, ${this.#below(3000)})) to stdout`),
      {
        bytes: Buffer.concat([writeQuery(`copy ${table} from stdin`), ...rows, copyDone]),
        readyForQueries: 1,
        text: `copy ${table} from stdin`,
      },
    ])
  }

  /** What nobody else may see, and cannot be carried to another server connection. */
  #pinned(): MarkedRequest {
    const mark = this.#mark
    const scene = this.#one([
      [
        `create temporary table mine as select '${mark}' as mark`,
        'select mark from mine',
        'select mark from mine',
      ],
      [`listen "${mark}"`, `notify "${mark}", '${mark}'`, 'select 1'],
      [`prepare s1 as select '${mark}'`, 'execute s1', 'execute s1'],
    ])
    const end = this.#one(['discard all', 'discard all', 'select 1'])
    return together(...[...scene, end].map(marked))
  }
}

/** What the reads work on, beside `markedTables`. */
export const markedFunctions = `
  create function nap(ms int) returns int language plpgsql stable as
    $$ begin perform pg_sleep(ms / 1000.0); return ms; end $$;
  create function tell(what text) returns text language plpgsql stable as
    $$ begin raise notice '%', what; return what; end $$`

/**
 * Requests of clients that have nothing but their marks: any two of them may share a server connection. Every client
 * gives its own statements the names that all others give theirs.
 */
export class MarkedReads implements MarkedRequests {
  readonly #random: Random
  readonly #mark: string

  constructor(random: Random, mark: string) {
    this.#random = random
    this.#mark = mark
  }

  next(): MarkedRequest {
    const kind = this.#below(12)
    const mark = this.#mark
    const more = `${mark}${'.'.repeat(this.#below(10) === 0 ? this.#below(200_000) : this.#below(20))}`
    if (kind < 4) {
      return marked(
        this.#one([
          `select '${more}', n from shared`,
          `select '${mark}' from generate_series(1, ${this.#below(100)})`,
          `select '${mark}', nap(${this.#below(10) === 0 ? 120 : this.#below(3)})`,
          `select tell('${mark}')`,
          `select '${mark}'::int`,
          ...numbered(mark, this.#below(100)),
        ]),
      )
    }
    if (kind < 5) return together(this.next(), this.next(), this.next())
    if (kind < 6)
      return together(marked('begin'), marked(`select '${mark}', n from shared for share`), marked('commit'))
    return this.#extended(more)
  }

  question(number: number): MarkedRequest & { expected: string } {
    const expected = `${this.#mark} ${number}`
    return { ...marked(`select '${expected}'`), expected }
  }

  #extended(more: string): MarkedRequest {
    const mark = this.#mark
    const [at, sql] = this.#one(
      [
        `select '${mark}', $1::text`,
        'select $1::text, n from shared',
        'select $1::text',
        'select tell($1)',
        'select $1::int',
      ].map((text, index): [number, string] => [index, text]),
    )
    const name = this.#one(['', '', `s${at}`])
    const run = [
      writeBindText('', name, [more]),
      ...(this.#below(2) === 0 ? [frame(0x44, Buffer.from('P\0'))] : []),
      writeExecute(''),
      sync,
    ]
    const parse = writeParse(name, sql, [])
    const [text, parts] = this.#one<[string, Buffer[]]>([
      ['parse and run', [parse, ...run]],
      ['run', run],
      ['run', run],
      ['close and parse', [writeCloseStatement(name), parse, describeStatement(name), sync]],
    ])
    return { bytes: Buffer.concat(parts), readyForQueries: 1, text: `${text} ${name}: ${sql}` }
  }

  #below(limit: number): number {
    return Math.floor(this.#random.next() * limit)
  }

  #one<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!
  }
}

function marked(sql: string): MarkedRequest {
  return { bytes: writeQuery(sql), readyForQueries: 1, text: sql.slice(0, 200) }
}

function together(...requests: readonly MarkedRequest[]): MarkedRequest {
  return {
    bytes: Buffer.concat(requests.map(({ bytes }) => bytes)),
    readyForQueries: requests.reduce((sum, { readyForQueries }) => sum + readyForQueries, 0),
    text: requests.map(({ text }) => text).join(' || '),
  }
}
