import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ConsoleVisitor, consoleAccess, isConsole } from './access.ts'

const nobody = { database: 'pgherd', adminUsers: [], statsUsers: [] }
const some = { database: 'pgherd', adminUsers: ['root', 'zoé'], statsUsers: ['viewer'] }

function rightsOf(visitor: Partial<ConsoleVisitor>, settings = some): string {
  const all = { address: '192.0.2.7:5000', user: 'root', isChecked: true, ...visitor }
  const rights = consoleAccess(all, settings)
  return typeof rights === 'string' ? rights : 'refused'
}

test('the console has its own name and that of PgBouncer', () => {
  assert.ok(isConsole('pgherd', some))
  assert.ok(isConsole('pgbouncer', some))
  assert.ok(!isConsole('postgres', some))
  assert.ok(!isConsole('pgherd', { ...some, database: 'admin' }))
})

test('where nobody is checked only this machine may come in, whoever it is', () => {
  for (const address of ['127.0.0.1:5', '[::1]:5', '[::ffff:127.0.0.1]:5']) {
    assert.equal(rightsOf({ isChecked: false, address, user: 'anybody' }), 'admin', address)
  }
  for (const address of ['192.0.2.7:5', '[2001:db8::1]:5', '128.0.0.1:5', '[::ffff:192.0.2.7]:5', '?:0']) {
    assert.equal(rightsOf({ isChecked: false, address }), 'refused', address)
  }
})

test('checked users have what the lists say', () => {
  assert.equal(rightsOf({}), 'admin')
  assert.equal(rightsOf({ user: 'viewer' }), 'stats')
  assert.equal(rightsOf({ user: 'other', address: '127.0.0.1:5' }), 'refused')
  assert.equal(rightsOf({ user: Buffer.from('zoé').toString('latin1') }), 'admin')
})

test('with both lists empty a checked user of this machine may do all', () => {
  assert.equal(rightsOf({ address: '127.0.0.1:5' }, nobody), 'admin')
  assert.equal(rightsOf({}, nobody), 'refused')
})
