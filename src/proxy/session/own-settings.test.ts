import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refusalOfSet, setsOwn, showsToken } from './own-settings.ts'

test('a SET of what cannot be is refused, everything else is the server’s', () => {
  for (const text of [
    `set pgherd.route = primary`,
    `SET SESSION pgherd.route TO 'Replica';`,
    `set local pgherd.consistency = 'bounded:20'`,
    `set pgherd.token = '0/3000148'`,
    `set pgherd.token = ''`,
    `set pgherd.route to default`,
    `set app.tenant = 'x'`,
    `select set_config('pgherd.route', 'x', false)`,
  ])
    assert.equal(refusalOfSet(text), undefined, text)
  for (const text of [
    `set pgherd.route = standby`,
    `set pgherd.consistency = 'often'`,
    `set pgherd.token = 'x'`,
    `set pgherd.rout = 'auto'`,
  ])
    assert.ok(refusalOfSet(text)?.includes('pgherd.'), text)
})

test('names and the question for the token are known', () => {
  assert.ok(setsOwn(['app.x', 'pgherd.route']))
  assert.ok(!setsOwn(['app.x', 'pgherdx.y']))
  const asks = (text: string): boolean => showsToken(Buffer.from(text), 0, Buffer.byteLength(text))
  assert.ok(asks('show pgherd.token'))
  assert.ok(asks('SHOW pgherd.token ;'))
  for (const text of ['show pgherd.route', 'select 1', 'sh', '', 'show pgherd.token, x'])
    assert.ok(!asks(text), text)
})
