import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MessageReader } from '../../wire/reader.ts'
import { readSessionState, writeSessionState } from './move.ts'

/** A DataRow body with these columns. */
function row(columns: (string | undefined)[]): Buffer {
  const parts = [Buffer.from([0, columns.length])]
  for (const column of columns) {
    const value = column === undefined ? undefined : Buffer.from(column)
    const length = Buffer.alloc(4)
    length.writeInt32BE(value?.length ?? -1, 0)
    parts.push(length, ...(value ? [value] : []))
  }
  return Buffer.concat(parts)
}

const clean = ['0', '0', 'f', '0', 'alice', 'alice', '0', undefined, 'f', undefined, '0/10']

const stateOf = (columns: (string | undefined)[]) =>
  readSessionState({ failed: false, replies: [{ rows: [row(columns)] }] }, 'alice')

test('a session that holds nothing has no obstacles', () => {
  assert.deepEqual(stateOf(clean), { obstacles: [], settings: [], prepared: [], position: '0/10' })
})

test('each kind of state that cannot be rebuilt is an obstacle', () => {
  for (const [place, value, obstacle] of [
    [0, '1', /listens/],
    [1, '2', /WITH HOLD/],
    [2, 't', /temporary/],
    [3, '1', /advisory/],
    [4, 'bob', /another role/],
    [5, 'bob', /another role/],
    [6, '3', /functions/],
    [8, 't', /too long/],
    [9, JSON.stringify([['p', 'prepare p as select 1; drop table t', true, []]]), /together with others/],
  ] as const) {
    const state = stateOf(clean.with(place, value))
    assert.equal(state?.obstacles.length, 1)
    assert.match(state.obstacles[0]!, obstacle)
  }
})

test('an answer that is not as expected is no state', () => {
  assert.equal(stateOf(clean.with(7, '[["a\\"]]')), undefined)
  assert.equal(readSessionState({ failed: false, replies: [] }, 'alice'), undefined)
})

test('settings and prepared statements are written as messages, each ReadyForQuery counted', () => {
  const state = stateOf(
    clean.with(7, JSON.stringify([['search_path', `a'b, "c\\d"`]])).with(
      9,
      JSON.stringify([
        ['one', 'select $1', false, ['23']],
        ['two', 'PREPARE two AS SELECT 2', true, []],
      ]),
    ),
  )
  const { messages, readyForQueries } = writeSessionState(state!, Buffer.from('P\0\0\0\x07\0\0\0', 'latin1'))
  const seen: string[] = []
  new MessageReader(1000).push(messages, (code, body) => {
    seen.push(`${String.fromCharCode(code)} ${body.toString('latin1').replaceAll('\0', '|')}`)
    return true
  })
  assert.deepEqual(seen, [
    `Q SELECT pg_catalog.set_config('search_path', E'a''b, "c\\\\d"', false)|`,
    'Q PREPARE two AS SELECT 2|',
    'P one|select $1||\x01|||\x17',
    'P |||',
    'S ',
  ])
  assert.equal(readyForQueries, 3)
})

test('nothing to carry, nothing to send', () => {
  assert.equal(
    writeSessionState({ obstacles: [], settings: [], prepared: [], position: '0/10' }, undefined)
      .readyForQueries,
    0,
  )
})
