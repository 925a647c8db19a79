import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { type CliResult, runCli } from '../support/cli.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { freePorts } from '../support/ports.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { askForPasswords } from '../support/server-auth.ts'

/** What `pgherd explain` says when it is not told where a statement goes: what went wrong, and what to do about that. */
let cluster: TestCluster
let host: Host

before(async () => {
  cluster = await startTestCluster()
  await cluster.primary.query(`create role app login password 'right'`)
  await askForPasswords(cluster.primary, ['host all app 127.0.0.1/32 scram-sha-256'])
  host = await startTestHost(
    await testConfig([{ name: 'a', port: cluster.primary.port }], { 'proxy.workers': 1 }),
  )
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

function explain(options: string[], env: Record<string, string> = {}, sql = 'select 1'): Promise<CliResult> {
  const port = String(host.config.proxy.port)
  return runCli(['explain', ...(options.includes('-p') ? [] : ['-p', port]), ...options, sql], { env })
}

async function refused(said: RegExp, options: string[], env?: Record<string, string>): Promise<void> {
  const { code, err, out } = await explain(options, env)
  assert.deepEqual([code, out], [1, ''])
  assert.match(err, said)
}

describe('what pgherd explain says when it cannot', () => {
  test('nobody listens', async () => {
    const [free] = await freePorts(1)
    await refused(/connection refused\nhint: start a proxy .* or name one with -h and -p\n/, [
      '-p',
      String(free),
    ])
  })

  test('an unknown host', () => refused(/unknown host\nhint: .* -h and -p/, ['-h', 'no.such.host.invalid']))

  test('the port of PostgreSQL', async () => {
    const { port } = cluster.primary
    await refused(/has run a comment that asks pgherd\nhint: -p must be .*not of PostgreSQL/, [
      '-p',
      String(port),
    ])
  })

  test('the port of the admin interface', () =>
    refused(/has closed the connection\nhint: .*not that of its admin/, [
      '-p',
      String(host.config.admin.port),
    ]))

  test('the console', () => refused(/hint: the database pgherd is the console/, ['-d', 'pgherd']))

  test('an unknown database', () =>
    refused(/database "nope" does not exist\nhint: -d names the database/, ['-d', 'nope']))

  test('an unknown user', () =>
    refused(/no pg_hba.conf entry .*, no encryption\nhint: -U names the user/, ['-U', 'nobody']))

  const app = ['-U', 'app', '-d', 'postgres']

  test('no password', () => refused(/asks for a password\nhint: set PGPASSWORD\n/, app))

  test('a wrong password', () =>
    refused(/password authentication failed .*\nhint: PGPASSWORD is not the password of app/, app, {
      PGPASSWORD: 'wrong',
    }))

  test('a session of its own', () =>
    refused(/has a server connection of its own\nhint: .*pool mode `session`, or a password/, app, {
      PGPASSWORD: 'right',
    }))

  test('no TLS', () => refused(/it takes no TLS\nhint: PGSSLMODE asks for TLS/, [], { PGSSLMODE: 'require' }))

  test('options that cannot be', async () => {
    for (const options of [
      ['-p', 'x'],
      ['-p', '65536'],
      ['--consistency', 'often'],
    ]) {
      const { code, err } = await explain(options)
      assert.equal(code, 2)
      assert.match(err, /^error: option .* is invalid. Expected /)
    }
  })

  test('a statement that is none is explained, with what is wrong with it', async () => {
    const { code, err, out } = await explain([], {}, 'selec 1')
    assert.equal(code, 0)
    assert.match(out, /it cannot be parsed\n.*\ngoes to +the primary a: /)
    assert.equal(err, 'warning: the statement cannot be parsed: syntax error at or near "selec"\n')
    assert.equal((await explain([])).err, '')
  })
})
