import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refusalOfSet, setsOwn, shownBy } from './own-settings.ts'

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

test('names and the questions for them are known', () => {
  assert.ok(setsOwn(['app.x', 'pgherd.route']))
  assert.ok(!setsOwn(['app.x', 'pgherdx.y']))
  const asked = (text: string): string | undefined => shownBy(Buffer.from(text), 0, Buffer.byteLength(text))
  assert.equal(asked('show pgherd.token'), 'pgherd.token')
  assert.equal(asked('SHOW pgherd.TOKEN ;'), 'pgherd.token')
  assert.equal(asked('show pgherd.route'), 'pgherd.route')
  assert.equal(asked('Show Pgherd.Consistency;'), 'pgherd.consistency')
  for (const text of ['show pgherd.rout', 'show search_path', 'select 1', 'sh', '', 'show pgherd.token, x'])
    assert.equal(asked(text), undefined, text)
})
