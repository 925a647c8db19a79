import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clusterSettings, collectNode, overridesOf, readDuration, readServer } from './settings.ts'

test('options become overrides that carry their names; --etcd also chooses the kind of store', () => {
  assert.deepEqual(overridesOf(clusterSettings, { cluster: 'x', etcd: 'a:1,b:2', json: true }), {
    cluster: { value: 'x', flag: '--cluster' },
    'store.endpoints': { value: 'a:1,b:2', flag: '--etcd' },
    'store.kind': { value: 'etcd', flag: '--etcd' },
  })
  assert.deepEqual(overridesOf(clusterSettings, {}), {})
})

test('a node is HOST, HOST:PORT or NAME=HOST:PORT, and is added to those before', () => {
  const first = collectNode('10.0.0.1', undefined)
  assert.deepEqual(first, [{ host: '10.0.0.1', port: 5432 }])
  assert.deepEqual(collectNode('b=[::1]:5433', first), [
    { host: '10.0.0.1', port: 5432 },
    { name: 'b', host: '::1', port: 5433 },
  ])
  for (const text of ['', 'a b', 'x:0', 'x:70000', '=x', 'a b=x', 'a=']) {
    assert.throws(() => collectNode(text, undefined), { code: 'commander.invalidArgument' }, text)
  }
})

test('a server may be the folder of a Unix socket', () => {
  assert.deepEqual(readServer('/var/run/postgresql'), { host: '/var/run/postgresql', port: 5432 })
  assert.deepEqual(readServer('/tmp:5433'), { host: '/tmp', port: 5433 })
  assert.deepEqual(readServer('db.example:5433'), { host: 'db.example', port: 5433 })
})

test('a duration has a unit, or counts as seconds', () => {
  assert.deepEqual(['5s', '500ms', '2', '0.5'].map(readDuration), [5000, 500, 2000, 500])
  for (const text of ['', 'x', '0', '-1s']) assert.throws(() => readDuration(text), /Expected a duration/)
})
