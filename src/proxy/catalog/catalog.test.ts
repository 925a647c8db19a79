import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sessionEffects } from '../../sql/session-effects.ts'
import { type SessionFacts, unloadedFacts } from '../../sql/session-facts.ts'
import type { Answer } from '../relay/conversations.ts'
import { loadSessionFacts } from './catalog.ts'
import { bodiesPageRows, expressionsMax } from './catalog-questions.ts'

type Row = (string | null)[]

/** A server that gives its answers one by one; one that is undefined is an error. */
function load(
  answers: (Row[] | undefined)[],
  known?: SessionFacts,
): { facts: SessionFacts | undefined; asked: string[] } {
  const asked: string[] = []
  let facts: SessionFacts | undefined = unloadedFacts
  let count = 0
  const ask = (messages: Buffer, readyForQueries: number, done: (answer: Answer) => void): void => {
    assert.equal(readyForQueries, 1)
    const rows = answers[asked.length]
    asked.push(messages.toString())
    const replies = [{ rows: [] }, { rows: (rows ?? []).map(dataRow) }]
    done(rows ? { failed: false, replies } : { failed: true, replies: [] })
  }
  loadSessionFacts(
    { ask },
    loaded => {
      facts = loaded
      count++
    },
    known,
  )
  assert.equal(count, 1)
  return { facts, asked }
}

function dataRow(columns: Row): Buffer {
  const parts = columns.map(column => {
    const text = Buffer.from(column ?? '', 'latin1')
    const length = Buffer.alloc(4)
    length.writeInt32BE(column === null ? -1 : text.length)
    return Buffer.concat([length, text])
  })
  return Buffer.concat([Buffer.from([0, columns.length]), ...parts])
}

const names: Row[] = [
  ['builtin', 'now'],
  ['function', 'f'],
]
const body = (oid: number, text: string | null): Row => ['body', 'f', 'plpgsql', '', text, String(oid)]

function callOf(facts: SessionFacts | undefined): { mayChange: boolean; unknownCustom: boolean } {
  assert.ok(facts)
  const sql = 'SELECT f(), now()'
  return sessionEffects(Buffer.from(sql), 0, sql.length, facts)
}

test('facts come from one question after another, bodies page by page', () => {
  const page = Array.from({ length: bodiesPageRows }, (_, index) => body(20_000 + index, 'BEGIN NULL; END'))
  const last = [body(30_000, 'BEGIN SET x = 1; END')]
  const { facts, asked } = load([[['print']], names, [], [], page, last])
  assert.equal(callOf(facts).mayChange, true)
  assert.equal(facts?.fingerprint, 'print')
  assert.equal(asked.length, 6)
  assert.match(asked[4]!, /oid > 0 /)
  assert.match(asked[5]!, new RegExp(`oid > ${20_000 + bodiesPageRows - 1} `))
  assert.equal(callOf(load([[['print']], names, [], [], []]).facts).mayChange, false)
})

test('what holds touchy expressions is where the search for dependents begins', () => {
  const expression: Row = [
    'expression',
    'relation',
    'v',
    "SELECT set_config('a.b', '1', false)",
    'pg_class',
    '17000',
  ]
  const { facts, asked } = load([
    [['print']],
    names,
    [expression],
    [['edge', 'relation', 'w', 'relation', 'v']],
    [],
  ])
  assert.match(asked[3]!, /'pg_class'::regclass::oid, 17000::oid/)
  assert.ok(facts)
  const effects = sessionEffects(Buffer.from('TABLE w'), 0, 7, facts)
  assert.deepEqual(effects.customSettings, ['a.b'])
})

test('the same catalog is not read again', () => {
  const { facts } = load([[['print']], names, [], [], []])
  const again = load([[['print']]], facts)
  assert.equal(again.facts, facts)
  assert.equal(again.asked.length, 1)
  assert.notEqual(load([[['other']], names, [], [], []], facts).facts, facts)
})

test('a refused question, whichever it is, leaves no facts', () => {
  const answers: Row[][] = [[['print']], names, [], [], [body(20_000, null)]]
  for (let refused = 0; refused < answers.length; refused++) {
    assert.equal(load([...answers.slice(0, refused), undefined]).facts, undefined)
  }
  assert.equal(callOf(load(answers).facts).unknownCustom, true, 'a body that is too long may do anything')
})

test('too much of anything: every statement counts', () => {
  const expressions = Array.from({ length: expressionsMax + 1 }, () => [
    'expression',
    'relation',
    'v',
    '',
    'pg_class',
    '1',
  ])
  assert.equal(load([[['print']], names, expressions]).facts, unloadedFacts)
  const long = Array.from({ length: bodiesPageRows }, (_, index) => body(20_000 + index, 'x'.repeat(65_536)))
  assert.equal(
    load([[['print']], names, [], [], ...Array.from({ length: 10 }, () => long)]).facts,
    unloadedFacts,
  )
})
