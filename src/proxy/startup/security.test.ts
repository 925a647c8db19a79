import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { testSettings } from '../../../test/support/worker-settings.ts'
import { createLogger } from '../../runtime/log.ts'
import { seededRandom } from '../../runtime/random.ts'
import type { AuthSettings, WorkerSettings } from '../control/ipc.ts'
import { Security } from './security.ts'

let dir: string
let hbaFile: string
let usersFile: string
let logged: string
let settings: WorkerSettings

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgherd-security-'))
  hbaFile = join(dir, 'hba.conf')
  usersFile = join(dir, 'users.txt')
  await writeFile(hbaFile, 'host all all all trust\n')
  await writeFile(usersFile, '"ada" "pencil"\n')
  logged = ''
  settings = testSettings({ auth: authOf({}) })
})

afterEach(() => rm(dir, { recursive: true, force: true }))

function authOf(more: Partial<AuthSettings>): AuthSettings {
  return { method: 'proxy', hbaFile, rules: [], maps: [], usersFile, query: undefined, ...more }
}

function securityOf(): Security {
  const time = new FakeTime()
  const log = createLogger({
    level: 'info',
    format: 'text',
    write: line => {
      logged += line
    },
  })
  const [clock, timers, random] = [time, time, seededRandom(1)]
  return new Security({
    settings,
    mockSecret: Buffer.alloc(32),
    targets: () => [],
    clock,
    timers,
    random,
    log,
  })
}

const passwordOf = async (security: Security, user: string): Promise<unknown> => {
  const secret = await security.rules?.secrets.find(user, 'shop')
  return secret?.kind === 'plain' ? secret.password : undefined
}

test('files are read again at a reload, also under the same names', async () => {
  const security = securityOf()
  await writeFile(usersFile, '"ada" "brush"\n"bob" "chalk"\n')
  await writeFile(hbaFile, 'host all all all reject\n')
  assert.equal(await passwordOf(security, 'ada'), 'pencil')
  security.reload()
  assert.equal(await passwordOf(security, 'ada'), 'brush')
  assert.equal(await passwordOf(security, 'bob'), 'chalk')
  assert.equal(security.rules?.rules[0]?.method, 'reject')
})

test('settings of the fleet are taken over without reading files, which nobody has said are ready', async () => {
  const security = securityOf()
  await writeFile(usersFile, '"ada" "brush"\n')
  settings.proxyProtocolFrom = ['10.0.0.0/8']
  security.takeBalancers()
  assert.deepEqual([security.isBalancer('10.1.1.1'), security.isBalancer('11.1.1.1')], [true, false])
  assert.equal(await passwordOf(security, 'ada'), 'pencil')
})

test('rules that cannot be used leave the old ones in force, with the secrets that belong to them', async () => {
  const security = securityOf()
  const broken = ['host all all all trust\nhost all all all gss\n', 'hostssl all all all cert map=nowhere\n']
  for (const text of broken) {
    await writeFile(hbaFile, text)
    await writeFile(usersFile, '"ada" "brush"\n')
    security.reload()
    assert.equal(security.rules?.rules.length, 1)
    assert.equal(await passwordOf(security, 'ada'), 'pencil')
  }
  assert.match(logged, /the rules of logins stay as they were: .*hba\.conf, line 2: the method "gss"/)
  assert.match(logged, /line 1: there is no map "nowhere"/)
  await rm(hbaFile)
  security.reload()
  assert.match(logged, /hba\.conf cannot be read \(ENOENT\)/)
  assert.equal(security.rules?.rules.length, 1)
})

test('a proxy does not start with what it cannot use', async () => {
  await writeFile(hbaFile, 'host all all all gss\n')
  assert.throws(securityOf, { name: 'SecurityError', code: 'broken_rules' })
  await rm(hbaFile)
  assert.throws(securityOf, { name: 'SecurityError', code: 'unreadable' })
  settings = testSettings({ auth: authOf({ hbaFile: undefined, usersFile: join(dir, 'nowhere') }) })
  assert.throws(securityOf, { name: 'SecurityError', code: 'unreadable' })
})

test('a broken line of the users file is left out, and told without what is in it', async () => {
  await writeFile(usersFile, '"ada" "pencil"\n"bob" hunter2\n')
  const security = securityOf()
  assert.equal(await passwordOf(security, 'ada'), 'pencil')
  assert.match(logged, /users\.txt, line 2/)
  assert.doesNotMatch(logged, /hunter2/)
})

test('nothing of it is used where logins are passed through', () => {
  settings = testSettings({ auth: authOf({ method: 'passthrough', hbaFile: join(dir, 'nowhere') }) })
  assert.equal(securityOf().rules, undefined)
})

test('balancers are known by their address, IPv4 within IPv6 included', () => {
  settings = testSettings({ proxyProtocolFrom: ['10.0.0.0/8', '2001:db8::/32'] })
  const security = securityOf()
  for (const address of ['10.1.2.3', '::ffff:10.1.2.3', '2001:db8::7'])
    assert.ok(security.isBalancer(address))
  for (const address of ['11.1.2.3', '::1', undefined, '?']) assert.ok(!security.isBalancer(address))
  settings.proxyProtocolFrom = []
  security.reload()
  assert.ok(!security.isBalancer('10.1.2.3'))
})
