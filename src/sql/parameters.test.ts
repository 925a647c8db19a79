import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import fc from 'fast-check'
import { Fingerprinter } from './fingerprint.ts'
import { Parameterized } from './parameterized.ts'
import { classify, type Parse, type StatementClass } from './statement-class.ts'
import { loadParser } from './statement-classes.ts'

let parse: Parse
before(async () => {
  parse = await loadParser()
})

const print = new Fingerprinter()
const values = new Parameterized()

function classOf(text: Buffer): StatementClass {
  print.read(text, 0, text.length, true)
  return classify(Buffer.from(print.bytes.subarray(0, print.length)), parse)
}

/** The text with parameters, their types, and the values; undefined where there are none. */
function take(sql: string): { text: string; types: number[]; values: string[] } | undefined {
  const text = Buffer.from(sql)
  const { parameters } = classOf(text)
  if (!parameters || !values.read(text, 0, text.length, print, parameters)) return undefined
  const { body, bodyBytes, count, starts, ends } = values
  const end = body.indexOf(0)
  assert.equal(body.readUInt16BE(end + 1), count)
  assert.equal(bodyBytes, end + 3 + 4 * count)
  const places = Array.from({ length: count }, (_, index) => index)
  return {
    text: body.toString('latin1', 0, end),
    types: places.map(index => body.readUInt32BE(end + 3 + 4 * index)),
    values: places.map(index => text.toString('utf8', starts[index], ends[index])),
  }
}

const integer = 23
const unknown = 0

describe('Parameterized', () => {
  test('constants beside comparisons in conditions', () => {
    assert.deepEqual(take(`select a from t where id = 42 and name='it''s'`), {
      text: 'select a from t where id =  $1  and name= $2 ',
      types: [integer, unknown],
      values: ['42', "it''s"],
    })
    assert.deepEqual(take('select a from t where 5 <= id and id between -7 and 9 or n in (1, 2)')?.values, [
      ...['5', '-7', '9', '1', '2'],
    ])
    assert.deepEqual(take('select 1 from a join b on a.i = b.i and b.k = 4')?.values, ['4'])
    assert.deepEqual(
      take(`select 1 from (select x from u where y = 3) s where exists (select 1 from v where w = 'q')`)
        ?.values,
      ['3', 'q'],
    )
    assert.deepEqual(take('select a from t where b = 1 union all select a from u where c = 2')?.values, [
      '1',
      '2',
    ])
  })

  test('what has to be that very constant stays', () => {
    const kept = [
      'select 5 from t order by 1 limit 10',
      'select a from t group by 1',
      'select a from t where f(5) = g(6)',
      `select a from t where b = interval '1 day'`,
      'select a from t where b = 5::bigint',
      `select a from t where b like 'x%'`,
      `select a from t where b ->> 'key' is null`,
      'select a from t where b @> 5',
      'select a from t where b operator(s.=) 5',
      'select a from t where b is null',
      `select a from t where b = E'x' or b = U&'x' or b = B'1' or b = X'1f' or b = N'x'`,
      `select a from t where b = 'x'\n'y'`,
      'select a from t where b = 1.5 or b = 12345678901 or b = 1e3 or b = 0x1f',
      'select a from t where b = true',
    ]
    for (const sql of kept) assert.equal(take(sql), undefined, sql)
    assert.equal(
      take(`select a || 'x' from t where b + 2 = 3 and c ->> 'k' = 'v' limit 7`)?.text,
      `select a || 'x' from t where b + 2 =  $1  and c ->> 'k' =  $2  limit 7`,
    )
  })

  test('of statements that neither only read nor only change rows nothing is taken', () => {
    for (const sql of [
      'delete from t where a = 1 returning b',
      'select a from t where b = 1 for update',
      'select 1; select 2',
    ])
      assert.equal(take(sql), undefined, sql)
  })

  test('constants that are stored or added', () => {
    const taken = (sql: string): string | undefined => take(sql)?.text
    assert.equal(
      taken('update t set a = a + -5, b = b - 7, c = f.d from f where e = 3'),
      'update t set a = a +  $1 , b = b -  $2 , c = f.d from f where e =  $3 ',
    )
    assert.deepEqual(take('insert into t (a, b) values (1, current_timestamp)')?.values, ['1'])
    assert.deepEqual(take('insert into t (a, b, c) values (-1, 2 * 3, 4)')?.values, ['-1', '4'])
    assert.deepEqual(take('delete from t where a = 1 and b is not null')?.values, ['1'])
    for (const sql of [
      // Whether these fail must not depend on whether there is a row.
      'update t set a = 5 where b is null',
      'update t set a = 2 + 3, b = b * 4 where c is null',
      'insert into t values (1), (2)',
      'update t set a = f(1) where b = 2',
      'update t set a = (select 1) where b = 2',
      'insert into t values (1) on conflict (a) where b = 2 do nothing',
      'insert into t values (1) returning a',
      'with w as (select 1) delete from t where a = 1',
      'insert into t select a from u where b = 1 and c = f(2)',
      'update t set a = a + 1 where b = 2; select 1',
    ])
      assert.equal(taken(sql), undefined, sql)
  })

  test('constants without a column beside them, signs that stand apart, parameters, and what is no number', () => {
    for (const sql of [
      'select a from t where 1 = 2',
      'select a from t where 1 in (2, 3) and 4 between 5 and 6',
      'select a from t where a = - 5',
      'select a from t where a = - -5',
      'select a from t where a = $1 and b = 5',
      'select a from t where b = 4and c',
      'select a from t where b = 4_000',
    ])
      assert.equal(take(sql), undefined, sql)
    assert.deepEqual(take('select a from t where a=-5 and b -3 = 4 and 6 < c')?.values, ['-5', '4', '6'])
    const text = Buffer.from('select a from t where b = 5\0')
    const { parameters } = classOf(text.subarray(0, -1))
    print.read(text, 0, text.length, true)
    assert.equal(values.read(text, 0, text.length, print, parameters!), false)
  })

  test('names that are not ASCII, and more constants than are looked at', () => {
    assert.equal(take('select ä from t where b = 5'), undefined)
    assert.equal(
      take(`select a from t where b in (${Array.from({ length: 33 }, (_, at) => at).join(',')})`),
      undefined,
    )
    assert.equal(
      take(`select a from t where b in (${Array.from({ length: 32 }, (_, at) => at).join(',')})`)?.values
        .length,
      32,
    )
    assert.deepEqual(take(`select a from t where b = 'ä€'`)?.values, ['ä€'])
  })

  test('with its values put back it is the statement again', () => {
    const constant = fc.oneof(
      fc.integer({ min: -2_000_000_000, max: 2_000_000_000 }).map(String),
      fc.string().map(text => `'${text.replaceAll('\0', '').replaceAll("'", "''")}'`),
    )
    const comparison = fc
      .tuple(fc.constantFrom('=', '<>', '<', '>='), constant, fc.constantFrom(' ', '', '\n', ' /* 5 */ '))
      .map(([operator, value, blank]) => `c${blank}${operator}${blank || ' '}${value}`)
    const condition = fc.array(comparison, { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(condition, fc.constantFrom(' and ', ' or '), (parts, word) => {
        const sql = `select a from t where ${parts.join(word)} limit 3`
        const taken = take(sql)
        let text = taken?.text ?? sql
        for (const [index, value] of [...(taken?.values ?? []).entries()].reverse()) {
          const put = taken!.types[index] === integer ? value : `'${value}'`
          text = text.replace(` $${index + 1} `, () => put)
        }
        assert.equal(text, sql)
      }),
    )
  })
})
