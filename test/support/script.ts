import type { Random } from '../../src/runtime/random.ts'
import {
  frame,
  readErrorFields,
  sync,
  writeBindText,
  writeCloseStatement,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import {
  bound,
  describeStatement,
  type Form,
  int4,
  parsed,
  prepare,
  simple,
  type Unit,
  type Value,
} from './lanes.ts'
import type { Received } from './wire-client.ts'

/**
 * Random sessions for comparing two ways to PostgreSQL: what a client sends is made from a seed alone, so that both
 * get the same, and what comes back is reduced to what must be the same.
 */
export interface Step {
  /** Messages, and how many ReadyForQuery answer them. */
  bytes: Buffer
  readyForQueries: number
  text: string
}

const flush = frame(0x48, Buffer.alloc(0))
const describe = (kind: string, name: string): Buffer => frame(0x44, Buffer.from(`${kind}${name}\0`))
const executeRows = (portal: string, rows: number): Buffer => {
  const limit = Buffer.alloc(4)
  limit.writeUInt32BE(rows)
  return frame(0x45, Buffer.concat([Buffer.from(`${portal}\0`), limit]))
}
const copyData = (text: string): Buffer => frame(0x64, Buffer.from(text))
const copyDone = frame(0x63, Buffer.alloc(0))
const copyFail = frame(0x66, Buffer.from('no\0'))

/** Makes the steps of one client, whose tables and names carry `id`. */
export function randomScript(random: Random, id: number, length: number): Step[] {
  return new Script(random, id).steps(length)
}

class Script {
  readonly #random: Random
  readonly #id: number

  constructor(random: Random, id: number) {
    this.#random = random
    this.#id = id
  }

  steps(length: number): Step[] {
    const first = this.#query(
      `set client_min_messages = error; drop table if exists own_${this.#id}; reset client_min_messages; create table own_${this.#id} (i int, t text)`,
    )
    const last = [
      this.#query('rollback'),
      this.#query('select pg_advisory_unlock_all()'),
      this.#query('discard all'),
      this.#query(`drop table own_${this.#id}`),
      this.#query('select 1'),
    ]
    return [first, ...Array.from({ length }, () => this.#step()), ...last]
  }

  #below(limit: number): number {
    return Math.floor(this.#random.next() * limit)
  }

  #one<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!
  }

  #query(sql: string): Step {
    return { bytes: writeQuery(sql), readyForQueries: 1, text: sql }
  }

  #step(): Step {
    const kind = this.#below(20)
    if (kind < 9) return this.#query(this.#sql())
    if (kind < 10) {
      // A DEALLOCATE beside other statements is not rewritten (see docs/pooling.md).
      const parts = [this.#sql(), this.#sql()].map(sql => (sql.startsWith('deallocate s') ? 'select 5' : sql))
      return this.#query(parts.join('; '))
    }
    if (kind < 11) return this.#copy()
    if (kind < 12) return this.#pipeline()
    return this.#extended()
  }

  #sql(): string {
    const id = this.#id
    const number = this.#below(1000)
    return this.#one([
      `select ${number} as marker, 'client ${id}'`,
      `select ${number}, current_setting('work_mem'), current_setting('search_path'), current_user`,
      `insert into own_${id} values (${number}, 'x') returning i`,
      `select count(*), sum(i) from own_${id}`,
      `update own_${id} set i = i + 1 where i < ${number}`,
      `set work_mem = '${64 + number}kB'`,
      `set local work_mem = '${64 + number}kB'`,
      'show work_mem',
      'reset work_mem',
      'reset all',
      `set search_path = public, s${number % 3}`,
      `set app.tenant = '${id}-${number}'`,
      "select current_setting('app.tenant', true)",
      `select set_config('app.other', '${number}', ${this.#one(['true', 'false'])})`,
      "select current_setting('app.other', true)",
      `set timezone = '${this.#one(['UTC', 'Europe/Berlin', 'Asia/Tokyo'])}'`,
      "select to_char(timestamptz '2026-01-01 00:00+00', 'HH24:MI')",
      `set datestyle = '${this.#one(['ISO, DMY', 'German', 'SQL, MDY'])}'`,
      "select date '2026-02-01'",
      `set application_name = 'app ${id} ${number % 5}'`,
      'show application_name',
      'begin',
      'begin isolation level serializable',
      'commit',
      'rollback',
      'savepoint sp',
      'rollback to sp',
      'select 1/0',
      'selec',
      '',
      `create temporary table if not exists tmp_${id} (i int)`,
      `insert into tmp_${id} values (${number})`,
      `select count(*) from tmp_${id}`,
      `drop table tmp_${id}`,
      `prepare p${number % 2} as select ${number} + $1::int`,
      `execute p${number % 2} (1)`,
      `deallocate p${number % 2}`,
      `deallocate s${number % 3}`,
      'deallocate all',
      `declare c cursor with hold for select generate_series(1, 5) + ${number}`,
      'declare d cursor for select generate_series(1, 5)',
      'fetch 2 from c',
      'fetch 2 from d',
      'close c',
      `listen ch_${id}`,
      `notify ch_${id}, '${number}'`,
      `unlisten ch_${id}`,
      `select pg_advisory_lock(${id})`,
      `select pg_try_advisory_xact_lock(${id})`,
      `select pg_advisory_unlock(${id})`,
      `select count(*) from pg_locks where locktype = 'advisory' and objid = ${id}`,
      'set role pg_monitor',
      'reset role',
      'set session characteristics as transaction read only',
      'set session characteristics as transaction read write',
      'show default_transaction_read_only',
      'discard all',
      "do $$ begin perform set_config('work_mem', '99kB', false); end $$",
      "set client_encoding = 'LATIN1'",
      'reset client_encoding',
      "select U&'\\00e4'",
      "create or replace function pg_temp.f() returns int language sql as 'select 7'",
      'select pg_temp.f()',
      'set standard_conforming_strings = off',
      'set standard_conforming_strings = on',
    ])
  }

  #copy(): Step {
    const id = this.#id
    const number = this.#below(100)
    return this.#one<() => Step>([
      () => this.#query(`copy (select generate_series(1, ${number})) to stdout`),
      () => ({
        bytes: Buffer.concat([
          writeQuery(`copy own_${id} from stdin`),
          copyData(`${number}\tcopied\n`),
          copyDone,
        ]),
        readyForQueries: 1,
        text: 'copy in',
      }),
      () => ({
        bytes: Buffer.concat([writeQuery(`copy own_${id} from stdin`), copyData('x\n'), copyDone]),
        readyForQueries: 1,
        text: 'copy in with an error',
      }),
      () => ({
        bytes: Buffer.concat([writeQuery(`copy own_${id} from stdin`), copyData(`${number}\t.\n`), copyFail]),
        readyForQueries: 1,
        text: 'copy in that is given up',
      }),
    ])()
  }

  /** Extended messages up to a Sync. */
  #extended(): Step {
    const parts: Buffer[] = []
    const texts: string[] = []
    const add = (text: string, ...messages: Buffer[]): void => {
      texts.push(text)
      parts.push(...messages)
    }
    for (let count = 1 + this.#below(3); count > 0; count--) {
      const name = this.#one(['', '', 's0', 's1', 's2'])
      const portal = this.#one(['', '', 'po'])
      const number = `${this.#below(1000)}`
      const sql = this.#one([
        'select $1::int + 1',
        `select $1::text, 'client ${this.#id}'`,
        `insert into own_${this.#id} values ($1, 'p') returning i`,
        `select i from own_${this.#id} where i > $1 order by i`,
        'select generate_series(1, 7), $1::int',
        'select 1 / ($1::int - $1::int)',
        'select nonsense from $1',
        "select set_config('work_mem', $1 || '000kB', false)",
      ])
      this.#one<() => void>([
        () => add(`parse ${name} ${sql}`, writeParse(name, sql, [])),
        () =>
          add(
            `parse ${name} ${sql}, bind, execute`,
            writeParse(name, sql, []),
            writeBindText('', name, [number]),
            writeExecute(''),
          ),
        () =>
          add(
            `bind ${name}, describe, execute`,
            writeBindText(portal, name, [number]),
            describe('P', portal),
            executeRows(portal, this.#one([0, 2])),
          ),
        () => add(`bind ${name}, execute`, writeBindText('', name, [number]), writeExecute('')),
        () => add(`describe ${name}`, describe('S', name)),
        () => add(`close ${name}`, writeCloseStatement(name)),
        // PostgreSQL 15 itself crashes at some Execute messages for an unnamed portal that failed before.
        () => add('execute po', executeRows('po', 2)),
        () => add('flush', flush),
      ])()
    }
    return { bytes: Buffer.concat([...parts, sync]), readyForQueries: 1, text: `${texts.join(' | ')} | sync` }
  }

  /** Several requests at once. */
  #pipeline(): Step {
    const steps = Array.from({ length: 2 + this.#below(3) }, () =>
      this.#below(3) === 0 ? this.#query(this.#sql()) : this.#extended(),
    )
    return {
      bytes: Buffer.concat(steps.map(({ bytes }) => bytes)),
      readyForQueries: steps.length,
      text: `pipeline of ${steps.map(({ text }) => text).join(' || ')}`,
    }
  }
}

interface Read {
  sql: string
  values: (random: () => number) => Value[]
}

/** On the tables of `laneTables`, and by columns' names: changes that leave those alone leave the answers alone. */
const reads: readonly Read[] = [
  { sql: 'select $1::int + 1, $2::text', values: next => [`${Math.floor(next() * 1000)}`, 'two'] },
  { sql: 'select $1::int + 1, $2::text', values: next => [next() < 0.5 ? 'no number' : null, null] },
  { sql: 'select n, t from numbers where n < $1 order by n', values: next => [`${Math.floor(next() * 60)}`] },
  { sql: 'select n, t from numbers where n < $1 order by n', values: () => ['0'] },
  { sql: 'select n from evens where n = $1::int', values: next => [int4(Math.floor(next() * 60))] },
  {
    sql: 'select picky(n), 100 / n from numbers where n = $1',
    values: next => [`${Math.floor(next() * 9)}`],
  },
  { sql: 'select noisy($1)', values: next => [`this ${Math.floor(next() * 9)}`] },
  { sql: "select repeat('x', $1::int)", values: next => [next() < 0.05 ? '300000' : '3'] },
  { sql: 'select nap($1), $2::text', values: next => [next() < 0.01 ? '150' : '0', 'slept'] },
  { sql: "select date '2026-02-01', timestamptz '2026-01-01 12:00+00', $1::int", values: () => ['1'] },
  { sql: "select current_setting('work_mem'), count(*) from numbers where n > $1", values: () => ['7'] },
]

/**
 * Makes the steps of a client that mostly reads, in all forms in which it may share its server connection, and leaves
 * that and comes back to it by all that it does otherwise.
 */
export function readScript(random: Random, length: number): Step[] {
  const below = (limit: number): number => Math.floor(random.next() * limit)
  const one = <T>(choices: readonly T[]): T => choices[below(choices.length)]!
  const step = (...units: Unit[]): Step => ({
    bytes: Buffer.concat(units.map(({ bytes }) => bytes)),
    readyForQueries: units.length,
    text: units.map(({ text }) => text).join(' || '),
  })
  const read = (): Unit => {
    const { sql, values } = one(reads)
    const brought = values(() => random.next())
    const form: Form = { describes: below(2) === 0, binary: below(4) === 0 }
    const kind = below(5)
    if (kind === 0) return simple(inline(sql, brought))
    if (kind < 3) return parsed(sql, brought, form)
    return bound(`r${reads.findIndex(each => each.sql === sql)}`, brought, form)
  }
  const other = (): Step[] => {
    const query = (...texts: string[]): Step[] => texts.map(sql => step(simple(sql)))
    return one<() => Step[]>([
      () => query(one(["set work_mem = '5MB'", "set datestyle = 'German'", "set timezone = 'Asia/Tokyo'"])),
      () => query('reset all'),
      () => query('reset all'),
      () => query('reset all'),
      () => [step(read(), read(), read())],
      () => [...query('begin'), step(read()), step(read()), ...query(one(['commit', 'rollback']))],
      () => [
        step(parsed('select n from numbers where n < $1', ['2'])),
        step(bound('', ['3'])),
        step(bound('', [])),
      ],
      () => [step(parsed('selec', [])), step(bound('', []))],
      () => [step({ text: 'describe', bytes: Buffer.concat([describeStatement('r2'), sync]) })],
      () => query('', 'select n from missing', 'select n from numbers for share', 'select 1; select 2'),
    ])()
  }
  const steps = reads.map(({ sql }, at) => step(prepare(`r${at}`, sql)))
  while (steps.length < length) {
    if (below(8) > 0) steps.push(step(read()))
    else steps.push(...other())
  }
  return steps
}

function inline(sql: string, values: readonly Value[]): string {
  return sql.replaceAll(/\$(\d)/g, (_, number: string) => {
    const value = values[Number(number) - 1] ?? null
    if (value === null) return 'null'
    return `'${Buffer.isBuffer(value) ? value.readInt32BE() : value}'`
  })
}

/** What must be the same whichever way a client has come: everything but numbers that PostgreSQL makes up. */
export function essence(received: readonly Received[]): string[] {
  return received.flatMap(({ code, body }) => {
    switch (code) {
      case 'S':
        return []
      case 'E':
      case 'N': {
        const fields = readErrorFields(body)
        // Whether there is a temporary schema depends on what the server process has done before.
        const sqlstate = fields.get('C') === '3F000' ? '42883' : fields.get('C')
        return [`${code} ${fields.get('V')} ${sqlstate}`]
      }
      case 'A': {
        const [channel, payload] = body.toString('latin1', 4).split('\0')
        return [`A ${channel} ${payload}`]
      }
      case 'T':
        return [`T ${columnsOf(body)}`]
      default:
        return [`${code} ${body.toString('latin1')}`]
    }
  })
}

/** Names and types; numbers of tables are left out. */
function columnsOf(body: Buffer): string {
  const columns: string[] = []
  let at = 2
  for (let count = body.readUInt16BE(0); count > 0; count--) {
    const end = body.indexOf(0, at)
    const name = body.toString('latin1', at, end)
    columns.push(`${name}:${body.readUInt32BE(end + 7)}:${body.readInt32BE(end + 13)}`)
    at = end + 19
  }
  return columns.join(',')
}
