import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRouteWish, readHints } from './hints.ts'

test('a wish is one of three words', () => {
  assert.equal(parseRouteWish('Replica'), 'replica')
  assert.equal(parseRouteWish('standby'), undefined)
})

test('hints stand in a comment at the beginning', () => {
  const read = (text: string): unknown => readHints(Buffer.from(text), 0, Buffer.byteLength(text))
  const replica = { route: 'replica', consistency: undefined, explain: undefined }
  assert.deepEqual(read('/* pgherd: route=replica */ select 1'), replica)
  assert.deepEqual(read('\n /*pgherd:route=replica*/select 1'), replica)
  assert.deepEqual(read('/*+ PGHERD: ROUTE=replica */ select 1'), replica)
  assert.deepEqual(read('/* pgherd: consistency=bounded:20, route=auto */ select 1'), {
    route: 'auto',
    consistency: { level: 'bounded', staleMs: 20 },
    explain: undefined,
  })
  assert.deepEqual(read('/* pgherd: route=nowhere */ select 1'), {
    route: undefined,
    consistency: undefined,
    explain: undefined,
  })
  for (const text of [
    'select /* pgherd: route=replica */ 1',
    '/* route=replica */ select 1',
    '/',
    '',
    '/*',
    'x',
  ])
    assert.equal(read(text), undefined, text)
})

test('only the part of a buffer that is the statement is read', () => {
  const text = Buffer.from('x/* pgherd: route=primary */')
  assert.equal(readHints(text, 0, text.length), undefined)
  assert.equal(readHints(text, 1, text.length)?.route, 'primary')
  assert.equal(readHints(text, 1, 10), undefined)
})
