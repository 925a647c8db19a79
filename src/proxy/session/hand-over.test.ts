import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noEffects } from '../../sql/session-effects.ts'
import { type HandOver, packCredentials, unpackCredentials } from './hand-over.ts'
import { PooledSession } from './pooled-session.ts'
import { Settings } from './settings.ts'
import { StatementCache } from './statements.ts'

const overTheWire = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T

test('credentials are the same behind the way to another worker', () => {
  const keys = {
    iterations: 4096,
    salt: Buffer.from([0, 255, 1]),
    clientKey: Buffer.alloc(32, 200),
    serverKey: Buffer.alloc(32, 7),
  }
  const all = { password: 'p\u00e4ss', md5: 'md5abc', keys }
  const { password, ...rest } = unpackCredentials(overTheWire(packCredentials(all)))
  assert.equal(Buffer.from(password!).toString(), all.password)
  assert.deepEqual(rest, { md5: 'md5abc', keys })
  assert.deepEqual(unpackCredentials(overTheWire(packCredentials({}))), {
    password: undefined,
    md5: undefined,
    keys: undefined,
  })
})

test('a session takes its settings, statements and what it was told along', () => {
  const base = Settings.of(new Map([['application_name', 'b\u00fccher']]))
  const session = new PooledSession(base)
  session.settings = base.with('app.tenant', 'seven')
  session.told = new Map([['TimeZone', 'UTC']])
  session.note({ ...noEffects, customSettings: ['app.tenant'] })
  const statements = new StatementCache()
  const body = Buffer.from('select \xff\0\0\0', 'latin1')
  session.name('one', statements.of(body, 0, body.length, '')).shape = 'columns'
  const gone = overTheWire(session.handOver()) as HandOver['session']
  const arrived = new PooledSession(base)
  arrived.takeOver(gone, new StatementCache())
  assert.deepEqual([...arrived.settings.values], [...session.settings.values])
  assert.deepEqual([...arrived.told], [['TimeZone', 'UTC']])
  assert.deepEqual([...arrived.customNames], ['app.tenant'])
  assert.deepEqual(arrived.named('one')?.statement.body, body)
  assert.equal(arrived.named('one')?.shape, 'columns')
  assert.equal(arrived.unnamed, undefined)
  assert.deepEqual(overTheWire(arrived.handOver()), gone)
})

test('a session that has what cannot be carried along stays', () => {
  const session = new PooledSession(Settings.none)
  assert.ok(session.handOver())
  session.pins = ['temporary_object']
  assert.equal(session.handOver(), undefined)
  session.pins = []
  session.isDirty = true
  assert.equal(session.handOver(), undefined)
})
