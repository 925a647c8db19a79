import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { namePattern } from '../config/names.ts'
import { accessOf, type Identity, identityOf, userName } from './access.ts'

const name = fc.stringMatching(namePattern)
const identity: fc.Arbitrary<Identity> = fc.oneof(
  fc.record({ kind: fc.constant('agent' as const), name }),
  fc.record({ kind: fc.constant('proxy' as const), name }),
  fc.record({ kind: fc.constant('operator' as const), name: fc.option(name, { nil: undefined }) }),
)

test('a user stands for one identity of one cluster', () => {
  fc.assert(
    fc.property(name, identity, name, (cluster, who, other) => {
      const user = userName(cluster, who)
      assert.deepEqual(identityOf(cluster, user), { ...who })
      if (other !== cluster) assert.equal(identityOf(other, user), undefined)
    }),
  )
})

test('users of others are nobody', () => {
  for (const user of [
    'root',
    'pgherd',
    'pgherd.agent@demo',
    'pgherd.agent.@demo',
    'pgherd.other.a@demo',
    'a@demo',
  ])
    assert.equal(identityOf('demo', user), undefined, user)
})

test('everybody reads the cluster, and writes only what is its own', () => {
  const identities: Identity[] = [
    { kind: 'agent', name: 'a' },
    { kind: 'proxy', name: 'p1' },
    { kind: 'operator' },
    { kind: 'operator', name: 'ada' },
  ]
  const { roles, users } = accessOf('demo', identities, { managed: false })
  assert.deepEqual(
    roles.map(role => role.permissions.map(each => `${each.kind} ${each.key} ${each.rangeEnd ?? 'alone'}`)),
    [
      ['read /pgherd/demo/ /pgherd/demo0', 'write /pgherd/demo/status/nodes/a alone'],
      ['read /pgherd/demo/ /pgherd/demo0', 'write /pgherd/demo/status/proxies/p1 alone'],
      ['read /pgherd/demo/ /pgherd/demo0', 'write /pgherd/demo/intent/ /pgherd/demo/intent0'],
    ],
  )
  assert.deepEqual(
    users.map(user => [user.name, ...user.roles]),
    [
      ['pgherd.agent.a@demo', 'pgherd.agent.a@demo'],
      ['pgherd.proxy.p1@demo', 'pgherd.proxy.p1@demo'],
      ['pgherd.operator@demo', 'pgherd.operator@demo'],
      ['pgherd.operator.ada@demo', 'pgherd.operator@demo'],
    ],
  )
  const [agent] = accessOf('demo', identities, { managed: true }).roles
  assert.ok(agent?.permissions.some(({ kind, key }) => kind === 'write' && key === '/pgherd/demo/leader'))
})
