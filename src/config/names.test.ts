import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { isHost, isLoopback, namePattern, nodeNameOf, parseAddress, toName } from './names.ts'

test('addresses are read with and without a port', () => {
  assert.deepEqual(parseAddress('db1'), { host: 'db1', port: 5432 })
  assert.deepEqual(parseAddress('10.0.0.1:5433'), { host: '10.0.0.1', port: 5433 })
  assert.deepEqual(parseAddress('::1'), { host: '::1', port: 5432 })
  assert.deepEqual(parseAddress('[fe80::1]:6000'), { host: 'fe80::1', port: 6000 })
  for (const text of ['', ':5432', 'a:0', 'a:65536', 'a b', '[db1]:5', 'a:1:2', '-a', '/run']) {
    assert.equal(parseAddress(text), undefined, text)
  }
})

test('a node without a name gets one from its address', () => {
  assert.equal(nodeNameOf({ host: '10.0.0.1', port: 5432 }), '10.0.0.1')
  assert.equal(nodeNameOf({ host: '10.0.0.1', port: 5433 }), '10.0.0.1-5433')
  assert.equal(nodeNameOf({ host: '::1', port: 5432 }), '1')
})

test('any text makes a valid name', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), text => assert.match(toName(text), namePattern)))
})

test('only this machine reaches loopback', () => {
  for (const host of ['localhost', '127.0.0.1', '127.9.9.9', '::1']) assert.ok(isLoopback(host), host)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.example.com']) assert.ok(!isLoopback(host), host)
})

test('hosts are names and addresses without a port', () => {
  for (const host of ['a', 'db-1.example.com', 'db_1', '10.0.0.1', '::1']) assert.ok(isHost(host), host)
  for (const host of ['', 'a:1', 'a/b', 'a b', '-a', 'a'.repeat(254)]) assert.ok(!isHost(host), host)
})
