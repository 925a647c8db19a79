import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { systemClock } from '../../runtime/clock.ts'
import { buildSessionFacts, type SessionFacts } from '../../sql/session-facts.ts'
import { classify, type Parse, type ShareRefusal, type StatementClass } from '../../sql/statement-class.ts'
import { loadParser, StatementClasses } from '../../sql/statement-classes.ts'
import { SystemNamesCache } from '../../sql/volatility.ts'
import type { Answer } from '../relay/conversations.ts'
import type { Askable } from './catalog.ts'
import { SharingKnowledge } from './sharing-knowledge.ts'
import { definitionsMax, ownNamesMax } from './sharing-questions.ts'

const classes = new StatementClasses(systemClock)
let parse: Parse
before(async () => {
  await classes.load()
  parse = await loadParser()
})

type Row = (string | null)[]

const sessionFacts: SessionFacts = buildSessionFacts([
  ['builtin', 'now'],
  ['builtin', 'lower'],
  ['body', 'sets', 'plpgsql', '', 'BEGIN SET a.b = 1; END'],
])

const print = ['print']
const system = ['f now\nf lower\nF random\no =']
const names: Row[] = [
  ['function', 'sets', ''],
  ['relation', 'plain', 't'],
  ['relation', 'seen', 'v'],
]
const definitions: Row[] = [['definition', 'seen', 'SELECT lower(a) FROM plain']]
const all: Row[][] = [[print], [system], names, definitions]

class Server implements Askable {
  readonly asked: string[] = []
  readonly #answers: (Row[] | undefined)[]
  #waiting: (() => void) | undefined

  constructor(answers: readonly (Row[] | undefined)[]) {
    this.#answers = [...answers]
  }

  ask(messages: Buffer, readyForQueries: number, done: (answer: Answer) => void): void {
    assert.equal(readyForQueries, 1)
    this.asked.push(messages.toString())
    const rows = this.#answers.shift()
    this.#waiting = () => {
      done(
        rows
          ? { failed: false, replies: [{ rows: [] }, { rows: rows.map(dataRow) }] }
          : { failed: true, replies: [] },
      )
    }
  }

  /** Gives all its answers. */
  answer(): void {
    for (let next = this.#waiting; next; next = this.#waiting) {
      this.#waiting = undefined
      next()
    }
  }
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

function classOf(sql: string): StatementClass {
  return classify(Buffer.from(sql), parse)
}

function load(knowledge: SharingKnowledge, answers: readonly (Row[] | undefined)[] = all): Server {
  const server = new Server(answers)
  let count = 0
  knowledge.load(server, () => count++)
  server.answer()
  assert.equal(count, 1)
  return server
}

const newKnowledge = (): SharingKnowledge => new SharingKnowledge(new SystemNamesCache())

function refusal(knowledge: SharingKnowledge, sql: string): ShareRefusal | undefined {
  return knowledge.refusal(classOf(sql), classes, sessionFacts)
}

test('nothing may share before the catalog is read, nor after it has changed', () => {
  const knowledge = newKnowledge()
  assert.equal(refusal(knowledge, 'TABLE plain'), 'facts_missing')
  assert.equal(load(knowledge).asked.length, 4)
  assert.equal(refusal(knowledge, 'TABLE plain'), undefined)
  assert.equal(refusal(knowledge, 'TABLE seen'), undefined)
  knowledge.noteChange()
  assert.equal(refusal(knowledge, 'TABLE plain'), 'facts_missing')
  assert.equal(load(knowledge, [[print]]).asked.length, 1, 'the same catalog is not read again')
  assert.equal(refusal(knowledge, 'TABLE plain'), undefined)
})

test('a change while the catalog is read counts', () => {
  const knowledge = newKnowledge()
  const server = new Server(all)
  knowledge.load(server, () => {})
  knowledge.noteChange()
  server.answer()
  assert.equal(refusal(knowledge, 'TABLE plain'), 'facts_missing')
})

test('of two loads the one that began later counts', () => {
  const knowledge = newKnowledge()
  const early = new Server([[['old']], [system], [...names, ['relation', 'dropped', 't']], definitions])
  knowledge.load(early, () => {})
  knowledge.noteChange()
  load(knowledge)
  early.answer()
  assert.equal(refusal(knowledge, 'TABLE plain'), undefined)
  assert.equal(refusal(knowledge, 'TABLE dropped'), 'relation_unknown')
})

test('a verdict is kept until what it was made from changes', () => {
  const knowledge = newKnowledge()
  load(knowledge)
  const found = classOf('TABLE plain')
  assert.equal(knowledge.refusal(found, classes, sessionFacts), undefined)
  load(knowledge, [[['other']], [system], [['relation', 'plain', 'f']], []])
  assert.equal(knowledge.refusal(found, classes, sessionFacts), 'foreign_table')
  const call = classOf('SELECT lower(a)')
  assert.equal(knowledge.refusal(call, classes, sessionFacts), undefined)
  knowledge.forgetVerdicts()
  const touchy = buildSessionFacts([['body', 'lower', 'plpgsql', '', 'BEGIN SET a.b = 1; END']])
  assert.equal(knowledge.refusal(call, classes, touchy), 'session_effects')
})

test('a refused question leaves what was known; refused definitions only views unknown', () => {
  for (const refused of [0, 1, 2]) {
    const knowledge = newKnowledge()
    load(knowledge, [...all.slice(0, refused), undefined])
    assert.equal(refusal(knowledge, 'SELECT 1'), 'facts_missing')
    load(knowledge)
    load(knowledge, [[['other']], ...all.slice(1, refused), undefined])
    assert.equal(refusal(knowledge, 'SELECT 1'), undefined)
    knowledge.noteChange()
    load(knowledge, [[['other']], ...all.slice(1, refused), undefined])
    if (refused > 0) assert.equal(refusal(knowledge, 'SELECT 1'), 'facts_missing')
  }
  const knowledge = newKnowledge()
  load(knowledge, [...all.slice(0, 3), undefined])
  assert.equal(refusal(knowledge, 'TABLE plain'), undefined)
  assert.equal(refusal(knowledge, 'TABLE seen'), 'view_volatile')
  assert.equal(load(knowledge).asked.length, 4, 'asked again although nothing has changed')
  assert.equal(refusal(knowledge, 'TABLE seen'), undefined)
})

test('too much to know', () => {
  const knowledge = newKnowledge()
  const many = Array.from({ length: ownNamesMax + 1 }, (_, index): Row => ['relation', `t_${index}`, 't'])
  load(knowledge, [[print], [system], many, []])
  assert.equal(refusal(knowledge, 'TABLE t_1'), 'facts_missing')
  assert.equal(load(knowledge, [[print]]).asked.length, 1, 'which is not tried again')
  const views = Array.from({ length: definitionsMax + 1 }, (): Row => ['definition', 'seen', 'SELECT 1'])
  load(knowledge, [[['other']], [system], names, views])
  assert.equal(refusal(knowledge, 'TABLE plain'), undefined)
  assert.equal(refusal(knowledge, 'TABLE seen'), 'view_volatile')
})

test('what may leave something behind in its session gets one of its own', () => {
  const knowledge = newKnowledge()
  load(knowledge)
  for (const [sql, expected] of [
    ['select sets ( )', 'session_effects'],
    ['select * from pg_temp . plain', 'session_effects'],
    ["select lower ( '' ) from plain as p ( a , b )", undefined],
    ['with x ( a ) as ( values ( 1 ) ) select * from x , plain p ( c )', undefined],
    ['select 1 for update', 'locking'],
  ] as const) {
    assert.equal(refusal(knowledge, sql), expected, sql)
  }
})
