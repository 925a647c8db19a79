import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  type Access,
  type AccessStep,
  accessSteps,
  etcdctlCommand,
  only,
  type Permission,
  under,
} from './access.ts'

const names = fc.constantFrom('x', 'y', 'z')
const permission: fc.Arbitrary<Permission> = fc.record({
  kind: fc.constantFrom('read', 'write', 'readwrite'),
  key: fc.constantFrom('/a/', '/b/'),
  rangeEnd: fc.constantFrom(undefined, '/a0', '/c'),
})
const rangeOf = ({ key, rangeEnd }: Permission): string => `${key} ${rangeEnd}`
const access: fc.Arbitrary<Access> = fc.record({
  roles: fc.uniqueArray(
    fc.record({ name: names, permissions: fc.uniqueArray(permission, { selector: rangeOf, maxLength: 3 }) }),
    { selector: role => role.name },
  ),
  users: fc.uniqueArray(fc.record({ name: names, roles: fc.uniqueArray(names) }), {
    selector: user => user.name,
  }),
})

/** What etcd does with a step; refuses what etcd refuses. */
function carryOut({ roles, users }: Access, step: AccessStep): void {
  const role = 'role' in step ? roles.find(({ name }) => name === step.role) : undefined
  const user = 'user' in step ? users.find(({ name }) => name === step.user) : undefined
  switch (step.kind) {
    case 'add_role':
      assert.equal(role, undefined)
      return void roles.push({ name: step.role, permissions: [] })
    case 'grant':
    case 'revoke': {
      assert.ok(role)
      const others = role.permissions.filter(each => rangeOf(each) !== rangeOf(step.permission))
      if (step.kind === 'revoke') assert.equal(others.length, role.permissions.length - 1)
      role.permissions = step.kind === 'grant' ? [...others, step.permission] : others
      return
    }
    case 'add_user':
      assert.equal(user, undefined)
      return void users.push({ name: step.user, roles: [] })
    case 'grant_role':
      assert.ok(user && !user.roles.includes(step.role))
      return void user.roles.push(step.role)
    case 'delete_user':
    case 'delete_role':
    case 'enable':
      assert.fail(`${step.kind} is no step of a plan`)
  }
}

test('steps: roles end up as wanted, users with all that is wanted, and nothing is left to do', () => {
  fc.assert(
    fc.property(access, access, (wanted, before) => {
      const actual = structuredClone(before)
      for (const step of accessSteps(wanted, actual)) carryOut(actual, step)
      for (const { name, permissions } of wanted.roles) {
        const has = actual.roles.find(each => each.name === name)?.permissions ?? []
        const sorted = (some: Permission[]): string[] =>
          some.map(each => `${each.kind} ${rangeOf(each)}`).sort()
        assert.deepEqual(sorted(has), sorted(permissions))
      }
      for (const { name, roles } of wanted.users) {
        const has = actual.users.find(each => each.name === name)?.roles ?? []
        assert.deepEqual(
          roles.filter(role => !has.includes(role)),
          [],
        )
      }
      assert.deepEqual(accessSteps(wanted, actual), [])
      const isWanted = (name: string): boolean => wanted.roles.some(each => each.name === name)
      assert.deepEqual(
        actual.roles.filter(({ name }) => !isWanted(name)),
        structuredClone(before).roles.filter(({ name }) => !isWanted(name)),
      )
    }),
  )
})

describe('etcdctl', () => {
  const steps: [AccessStep, command: string][] = [
    [{ kind: 'add_role', role: 'r@c' }, 'role add r@c'],
    [
      { kind: 'grant', role: 'r', permission: under('read', '/a/') },
      'role grant-permission --prefix=true r read /a/',
    ],
    [{ kind: 'grant', role: 'r', permission: only('write', '/a') }, 'role grant-permission r write /a'],
    [
      { kind: 'revoke', role: 'r', permission: { kind: 'read', key: '/a', rangeEnd: '/x' } },
      'role revoke-permission r /a /x',
    ],
    [{ kind: 'grant_role', user: "o'u", role: 'r' }, "user grant-role 'o'\\''u' r"],
    [{ kind: 'add_user', user: 'file' }, "user add file --interactive=false < '/a b/file'"],
    [{ kind: 'add_user', user: 'certificate' }, 'user add certificate --no-password'],
    [{ kind: 'add_user', user: 'ask' }, 'user add ask'],
    [{ kind: 'enable' }, 'auth enable'],
  ]
  for (const [step, command] of steps) {
    test(command, () => {
      const printed = etcdctlCommand(step, user => ({ kind: user, path: `/a b/${user}` }) as never)
      assert.equal(printed, `etcdctl ${command}`)
    })
  }
})
