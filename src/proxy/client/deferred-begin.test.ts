import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { frame, sync, writeBind, writeExecute, writeParse, writeQuery } from '../../wire/messages.ts'
import { Database } from '../catalog/database.ts'
import { PooledSession } from '../session/pooled-session.ts'
import { Settings } from '../session/settings.ts'
import { type Beginner, type DeferredBegin, TransactionDesk } from './deferred-begin.ts'

const database = new Database(new FakeTime(), () => undefined)

function desk(defers = true): TransactionDesk {
  return new TransactionDesk({ knowledgeOf: () => database, defers: () => defers })
}

function client(more: Partial<Beginner> = {}): Beginner & { session: PooledSession } {
  const session = new PooledSession(Settings.none)
  const rest = { database: 'd', user: 'u', mode: 'auto', route: 'primary', begun: undefined } as const
  return { ...rest, session, ...more } as Beginner & { session: PooledSession }
}

const begun = (hasFailed = false): DeferredBegin => {
  const answered = desk().answer(writeQuery('begin'), client(), 5)!
  return { ...answered.begun!, hasFailed }
}

const codes = (answer: Buffer = Buffer.alloc(0)): string => {
  let told = ''
  for (let at = 0; at < answer.length; at += 1 + answer.readUInt32BE(at + 1))
    told += String.fromCharCode(answer[at]!)
  return told
}

test('a transaction is begun once, and ended only when it was begun here', () => {
  const answered = desk().answer(writeQuery('begin read only'), client(), 7)
  assert.equal(codes(answered?.answer), 'CZ')
  assert.equal(answered?.begun?.sinceMs, 7)
  assert.equal(answered?.begun?.statement.body.toString(), 'BEGIN READ ONLY\0\0\0')
  assert.equal(desk().answer(writeQuery('begin'), client({ begun: begun() }), 8), undefined)
  assert.equal(desk().answer(writeQuery('commit'), client(), 8), undefined)
  const ended = desk().answer(writeQuery('commit'), client({ begun: begun() }), 8)
  assert.deepEqual([ended?.begun, codes(ended?.answer)], [undefined, 'CZ'])
})

test('equal forms are one statement to the servers', () => {
  const one = desk()
  const first = one.answer(writeQuery('begin read only isolation level serializable'), client(), 0)
  const second = one.answer(
    writeQuery('START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY'),
    client(),
    0,
  )
  assert.equal(first?.begun?.statement, second?.begun?.statement)
  assert.ok(first?.answer.includes('BEGIN\0'))
  assert.ok(second?.answer.includes('START TRANSACTION\0'))
})

test('a transaction that has failed is rolled back by its COMMIT', () => {
  const ended = desk().answer(writeQuery('commit'), client({ begun: begun(true) }), 8)
  assert.ok(ended?.answer.includes('ROLLBACK\0'))
})

test('the unnamed statement follows', () => {
  const one = client()
  const unit = Buffer.concat([writeParse('', 'begin', []), writeBind('', ''), writeExecute(''), sync])
  assert.equal(codes(desk().answer(unit, one, 0)?.answer), '12CZ')
  assert.equal(one.session.unnamed?.body.toString(), 'begin\0\0\0')
  desk().answer(writeQuery('commit'), { ...one, begun: begun() }, 0)
  assert.equal(one.session.unnamed, undefined)
})

test('what is off, for another mode, or refused by standbys goes to a server', () => {
  assert.equal(desk(false).answer(writeQuery('begin'), client(), 0), undefined)
  assert.equal(desk().answer(writeQuery('begin'), client({ mode: 'statement' }), 0), undefined)
  assert.equal(desk().answer(writeQuery('begin read write'), client({ route: 'replica' }), 0), undefined)
  assert.ok(desk().answer(writeQuery('begin'), client({ route: 'replica' }), 0))
  // Whoever has begun before it was turned off ends it here.
  assert.ok(desk(false).answer(writeQuery('rollback'), client({ begun: begun() }), 0))
})

test('what is cut short or goes on is left to a server', () => {
  const unit = Buffer.concat([writeParse('', 'begin', []), writeBind('', ''), writeExecute(''), sync])
  for (let end = 0; end < unit.length; end++)
    assert.equal(desk().answer(unit.subarray(0, end), client(), 0), undefined, `${end} bytes`)
  const two = Buffer.concat([writeQuery('begin'), writeQuery('select 1')])
  assert.equal(desk().answer(two, client(), 0), undefined)
  const flushed = Buffer.concat([unit.subarray(0, -5), frame(0x48, Buffer.alloc(0))])
  assert.equal(desk().answer(flushed, client(), 0), undefined)
})
