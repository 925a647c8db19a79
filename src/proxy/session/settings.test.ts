import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readOptions, Settings, settingsChange, sortStartup } from './settings.ts'

test('options are split as a command line', () => {
  assert.deepEqual(
    readOptions('-c a=1 --search-path=x,y -cb.c=2'),
    new Map([
      ['a', '1'],
      ['search_path', 'x,y'],
      ['b.c', '2'],
    ]),
  )
  assert.deepEqual(readOptions('-c search_path=a\\ b\\\\c'), new Map([['search_path', 'a b\\c']]))
  assert.deepEqual(readOptions(''), new Map())
})

test('switches that only a server understands are left to it', () => {
  assert.equal(readOptions('-e'), undefined)
  assert.equal(readOptions('-c geqo'), undefined)
  assert.equal(readOptions('-c'), undefined)
  const sorted = sortStartup(
    new Map([
      ['user', 'u'],
      ['options', '-e -c a=1'],
      ['TimeZone', 'UTC'],
    ]),
  )
  assert.deepEqual(
    sorted.fixed,
    new Map([
      ['user', 'u'],
      ['options', '-e -c a=1'],
    ]),
  )
  assert.deepEqual(sorted.settings.values, new Map([['timezone', 'UTC']]))
})

test('what can only be set at the start stays with the connection', () => {
  const sorted = sortStartup(
    new Map([
      ['user', 'u'],
      ['options', '-c log_connections=on'],
      ['post_auth_delay', '0'],
    ]),
  )
  assert.deepEqual([...sorted.fixed.keys()], ['user', 'options', 'post_auth_delay'])
  assert.equal(sorted.settings, Settings.none)
})

test('a parameter of its own wins over options', () => {
  const sorted = sortStartup(
    new Map([
      ['options', '-c application_name=a'],
      ['application_name', 'b'],
    ]),
  )
  assert.equal(sorted.settings.values.get('application_name'), 'b')
})

test('equal settings have equal keys, in whatever order they were set', () => {
  const one = Settings.of(
    new Map([
      ['a', '1'],
      ['b', '2'],
    ]),
  )
  const other = Settings.of(
    new Map([
      ['b', '2'],
      ['a', '1'],
    ]),
  )
  assert.ok(one.equals(other))
  assert.ok(!one.equals(one.with('a', '2')))
  assert.equal(one.with('a', '1'), one)
})

test('a change resets what is gone and sets what differs', () => {
  const from = Settings.of(
    new Map([
      ['a', '1'],
      ['b', '2'],
      ['app.x', '3'],
    ]),
  )
  const to = Settings.of(
    new Map([
      ['b', "it's"],
      ['c', 'back\\slash'],
    ]),
  )
  assert.deepEqual(settingsChange(from, to), [
    'RESET "a"; RESET "app"."x"; ' +
      "SELECT pg_catalog.set_config('b', 'it''s', false), pg_catalog.set_config('c', E'back\\\\slash', false)",
  ])
  assert.deepEqual(settingsChange(from, from), [])
})

test('a role is left before anything else and taken last', () => {
  const from = Settings.of(
    new Map([
      ['role', 'r'],
      ['a', '1'],
    ]),
  )
  const to = Settings.of(
    new Map([
      ['role', 'r'],
      ['z', '1'],
    ]),
  )
  assert.deepEqual(settingsChange(from, to), [
    'RESET "role"; RESET "a"; ' +
      "SELECT pg_catalog.set_config('z', '1', false), pg_catalog.set_config('role', 'r', false)",
  ])
})

test('another encoding is set before text that needs it', () => {
  const from = Settings.of(new Map([['client_encoding', 'LATIN1']]))
  const [encoding] = settingsChange(from, Settings.of(new Map([['application_name', '\xc3\xa4']])))
  assert.equal(encoding, 'RESET "client_encoding"')
})

test('what is pgherd’s own is no difference to a server', () => {
  const of = (values: Record<string, string>): Settings => Settings.of(new Map(Object.entries(values)))
  const some = of({ work_mem: '64kB' })
  const more = some.with('pgherd.token', '0/1').with('pgherd.route', 'replica')
  assert.equal(more.serverKey, some.serverKey)
  assert.equal(of({ 'pgherd.route': 'auto' }).serverKey, Settings.none.serverKey)
  assert.equal(more.equals(some), false)
  assert.notEqual(some.with('app.tenant', '7').serverKey, some.serverKey)
})
