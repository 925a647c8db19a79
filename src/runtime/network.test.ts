import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { test } from 'node:test'
import { reachableHost } from './network.ts'

test('a host that is listened on is where it is reached, unless it stands for all of them', () => {
  assert.equal(reachableHost('10.0.0.7'), '10.0.0.7')
  assert.equal(reachableHost('db.example'), 'db.example')
  for (const wildcard of ['0.0.0.0', '::', '*']) {
    const found = reachableHost(wildcard)
    assert.ok(found === hostname() || (found !== wildcard && !found.startsWith('127.')), found)
  }
})
