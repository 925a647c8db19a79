import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inheritedRoutes } from './activation.ts'

const named = (...names: string[]): { fd: number; name: string }[] =>
  names.map((name, at) => ({ fd: 3 + at, name }))

test('sockets are for what their names say, else for what their order says', () => {
  assert.deepEqual(inheritedRoutes([]), [])
  assert.deepEqual(inheritedRoutes(named('replica', 'primary', 'primary')), [
    { fd: 3, route: 'replica' },
    { fd: 4, route: 'primary' },
    { fd: 5, route: 'primary' },
  ])
  assert.deepEqual(inheritedRoutes(named('pgherd-proxy.socket', 'pgherd-proxy.socket')), [
    { fd: 3, route: 'primary' },
    { fd: 4, route: 'replica' },
  ])
})

test('a socket that is for nothing is told, not left to hang', () => {
  assert.throws(() => inheritedRoutes(named('primary', 'other')), /socket 2 .*"other", is for nothing/)
  assert.throws(() => inheritedRoutes(named('x', 'x', 'x')), /socket 3 /)
})
