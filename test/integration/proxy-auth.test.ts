import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { md5Secret } from '../../src/auth/md5.ts'
import { formatVerifier, makeVerifier } from '../../src/auth/scram.ts'
import { Host } from '../../src/cli/host.ts'
import type { LoginRefusal } from '../../src/proxy/startup/login-refusals.ts'
import { createLogger } from '../../src/runtime/log.ts'
import { proxyCounters } from '../support/counters.ts'
import { testConfig, untilRolesAreKnown } from '../support/host.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { askForPasswords, psql } from '../support/server-auth.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Logins that the proxy checks itself, and what it logs in to the servers with. */
let cluster: TestCluster
let host: Host
let port: number
let dir: string
let logged = ''

/** None of them may ever turn up in what the processes write. */
const passwords = {
  ada: 'ada-Geheim-1',
  bob: 'bob-Geheim-2',
  cleo: 'cleo-Geheim-3',
  dora: 'dora-Geheim-4',
  emil: 'emil-Geheim-5',
  frida: 'frida-Geheim-6',
  asker: 'asker-Geheim-7',
}
const wrong = 'wrong-Geheim-0'

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgherd-auth-'))
  cluster = await startTestCluster()
  const { primary } = cluster
  const roles = [
    `create role ada login replication password '${passwords.ada}'`,
    `set password_encryption = 'md5'; create role bob login password '${passwords.bob}'`,
    `set password_encryption = 'scram-sha-256'; create role cleo login password '${passwords.cleo}'`,
    `create role dora login password '${passwords.dora}'`,
    `create role emil login password '${passwords.emil}' valid until '2020-01-01'`,
    `create role frida login password '${passwords.frida}'`,
    `create role asker login superuser password '${passwords.asker}'`,
  ]
  for (const sql of roles) await primary.query(sql)
  await askForPasswords(primary, [
    'host all bob all md5',
    'host all dora all password',
    'host all,replication all all scram-sha-256',
  ])
  const frida = await makeVerifier(passwords.frida, Buffer.from('some other salt!'))
  const users = [
    `"bob" "${md5Secret('bob', passwords.bob)}"`,
    `"cleo" "${passwords.cleo}"`,
    `"dora" "${passwords.dora}"`,
    `"frida" "${formatVerifier(frida)}"`,
    `"nologin" ""`,
  ]
  const usersFile = join(dir, 'userlist.txt')
  await writeFile(usersFile, `${users.join('\n')}\n`, { mode: 0o600 })
  const config = await testConfig([{ name: 'a', port: primary.port }], {
    'log.level': 'debug',
    'proxy.auth.method': 'proxy',
    'proxy.auth.users_file': usersFile,
    'proxy.auth.query_user': 'asker',
    'proxy.auth.query_password': passwords.asker,
    'proxy.auth.rules': [
      { type: 'host', database: 'all', user: 'mallory', address: 'all', method: 'reject' },
      { type: 'host', database: 'all', user: 'bob', address: '127.0.0.0/8', method: 'md5' },
      { type: 'host', database: 'all', user: 'dora', address: '127.0.0.0/8', method: 'password' },
      { type: 'host', database: 'all', user: 'postgres', address: '127.0.0.0/8', method: 'trust' },
      { type: 'host', database: 'replication', user: 'ada', address: '127.0.0.0/8', method: 'scram-sha-256' },
      { type: 'host', database: 'postgres', user: 'all', address: '127.0.0.0/8', method: 'scram-sha-256' },
    ],
  })
  const write = (line: string): void => {
    logged += line
  }
  process.env['PGHERD_PROXY_AUTH_QUERY_PASSWORD'] = passwords.asker
  const log = createLogger({ level: 'debug', format: 'text', write })
  const parts = { agent: false, proxy: true, admin: true }
  host = await Host.start({ config, origins: new Map(), parts, log, writeLog: write, logFormat: 'text' })
  port = config.proxy.port
  await untilRolesAreKnown(host)
})

after(async () => {
  delete process.env['PGHERD_PROXY_AUTH_QUERY_PASSWORD']
  await host?.stop()
  await cluster?.stop()
  await rm(dir, { recursive: true, force: true })
})

const connection = (user: string, more = ''): string =>
  `host=127.0.0.1 port=${port} user=${user} dbname=postgres sslmode=disable ${more}`

const refusals = async (reason: LoginRefusal): Promise<number> =>
  (await proxyCounters(host.config.admin.port)).loginRefusals[reason]

async function isRefused(
  reason: LoginRefusal,
  attempt: () => Promise<string>,
  message: RegExp,
): Promise<void> {
  const before = await refusals(reason)
  assert.match(await attempt(), message)
  await until(`${reason} is counted`, async () => (await refusals(reason)) > before)
}

const whoAmI = 'select current_user'

test('psql logs in with a password that only the servers know, and the servers see the user', async () => {
  const result = await psql(connection('ada'), whoAmI, { PGPASSWORD: passwords.ada })
  assert.deepEqual(result, { code: 0, out: 'ada', err: '' })
})

test('psql logs in with md5, in clear, and by a plain secret of the users file', async () => {
  for (const user of ['bob', 'cleo', 'dora'] as const) {
    const result = await psql(connection(user), whoAmI, { PGPASSWORD: passwords[user] })
    assert.deepEqual(result, { code: 0, out: user, err: '' })
  }
})

test('node-postgres logs in, again and again', async () => {
  for (let i = 0; i < 5; i++) {
    const rows = await query(port, 'select current_user::text as me', {
      user: 'ada',
      password: passwords.ada,
    })
    assert.deepEqual(rows, [{ me: 'ada' }])
  }
})

test('clients who were checked share server connections', async () => {
  const connects = async (): Promise<number> =>
    (await proxyCounters(host.config.admin.port)).nodes['a']?.connects ?? 0
  const before = await connects()
  for (let i = 0; i < 10; i++) await query(port, 'select 1', { user: 'ada', password: passwords.ada })
  assert.ok((await connects()) - before < 10)
})

test('nobody else learns whether a user exists', async () => {
  const told = new Set<string>()
  for (const [user, password] of [
    ['ada', wrong],
    ['cleo', wrong],
    ['emil', passwords.emil],
    ['nologin', wrong],
    ['nobody', wrong],
  ] as const) {
    await isRefused(
      'wrong_password',
      async () => {
        const { err } = await psql(connection(user), whoAmI, { PGPASSWORD: password })
        told.add(err.replaceAll(user, 'USER').replace(/port \d+ /, ''))
        return err
      },
      /password authentication failed for user/,
    )
  }
  assert.equal(told.size, 1, [...told].join('\n'))
})

test('a rule refuses before any question, and so does no rule', async () => {
  await isRefused(
    'rejected',
    async () => (await psql(connection('mallory'), whoAmI)).err,
    /access rules reject/,
  )
  const elsewhere = connection('ada').replace('dbname=postgres', 'dbname=template1')
  await isRefused(
    'no_rule',
    async () => (await psql(elsewhere, whoAmI)).err,
    /no entry in pgherd's access rules .* host "127.0.0.1", user "ada", database "template1", no encryption/,
  )
})

test('a secret that is not the server’s lets nobody in there, and says what to do', async () => {
  const { code, err } = await psql(connection('frida'), whoAmI, { PGPASSWORD: passwords.frida })
  assert.equal(code, 2)
  assert.match(err, /store the same one/)
  assert.match(logged, /refused the login of "frida"/)
})

test('a changed password counts after a few seconds', async () => {
  await cluster.primary.query(`create role greta login password 'greta-Geheim-8'`)
  const login = async (password: string): Promise<number> =>
    (await psql(connection('greta'), whoAmI, { PGPASSWORD: password })).code
  assert.equal(await login('greta-Geheim-8'), 0)
  await cluster.primary.query(`alter role greta password 'greta-Geheim-9'`)
  await until('the new password is taken', async () => (await login('greta-Geheim-9')) === 0, 15_000)
  await until('the old password is refused', async () => (await login('greta-Geheim-8')) === 2, 15_000)
})

test('replication has rules of its own', async () => {
  const connect = (user: 'ada' | 'cleo') =>
    psql(connection(user, 'replication=true'), 'IDENTIFY_SYSTEM', { PGPASSWORD: passwords[user] })
  assert.match((await connect('ada')).out, /^\d+\|1\|/)
  assert.match((await connect('cleo')).err, /no entry .* for replication connection from host "127.0.0.1"/)
})

test('messages that are none of the login end it', async () => {
  await isRefused(
    'malformed',
    async () => {
      const client = new WireClient(port)
      client.startup({ user: 'ada', database: 'postgres' })
      await until('a challenge', () => client.received.some(({ code }) => code === 'R'))
      client.send(Buffer.from([0x51, 0, 0, 0, 5, 0]))
      return (await client.refused()).get('M') ?? ''
    },
    /a message 'Q' came instead of the answer/,
  )
})

test('no secret is in the log, or in the environment or the arguments of a worker', {
  skip: process.platform !== 'linux',
}, async () => {
  assert.match(logged, /password authentication failed for user "nobody"/)
  for (const password of [...Object.values(passwords), wrong, 'greta-Geheim']) {
    assert.ok(!logged.includes(password), `${password.split('-')[0]}'s password is in the log`)
  }
  assert.doesNotMatch(logged, /SCRAM-SHA-256\$|md5[0-9a-f]{32}/)
  for (const { pid } of host.proxy?.workers ?? []) {
    const told =
      (await readFile(`/proc/${pid}/environ`, 'latin1')) + (await readFile(`/proc/${pid}/cmdline`, 'latin1'))
    assert.match(told, /PATH=/)
    assert.doesNotMatch(told, /Geheim/)
  }
})

test('the query may be a function that gives away no more than it has to, and is taken over at a reload', async () => {
  const { primary } = cluster
  const statements = [
    `create role narrow login password '${passwords.asker}'`,
    'create schema pgherd',
    `create function pgherd.secret_of(name text) returns table (username name, secret text)
       language sql security definer set search_path = pg_catalog as $$
         select rolname, case when rolvaliduntil < now() then null else rolpassword end
         from pg_authid where rolname = $1 and rolcanlogin and not rolsuper
       $$`,
    'revoke all on function pgherd.secret_of from public',
    'grant usage on schema pgherd to narrow',
    'grant execute on function pgherd.secret_of to narrow',
  ]
  for (const sql of statements) await primary.query(sql)
  const { proxy } = host.config
  const query = 'SELECT username, secret FROM pgherd.secret_of($1)'
  const auth = { ...proxy.auth, query, query_user: 'narrow' }
  await host.reload({ ...host.config, proxy: { ...proxy, auth } }, new Map())
  const login = (user: 'ada' | 'asker' | 'emil') =>
    psql(connection(user), whoAmI, { PGPASSWORD: passwords[user] })
  await until('superusers are not given away any more', async () => (await login('asker')).code === 2)
  assert.equal((await login('ada')).out, 'ada')
  assert.match((await login('emil')).err, /password authentication failed/)
})

test('whom the servers have to check again gets no connection that pgherd has logged in', async () => {
  const login = (password: string) => psql(connection('ada'), whoAmI, { PGPASSWORD: password })
  assert.equal((await login(passwords.ada)).code, 0)
  const { proxy } = host.config
  const auth = { ...proxy.auth, method: 'passthrough' as const }
  await host.reload({ ...host.config, proxy: { ...proxy, auth } }, new Map())
  for (let i = 0; i < 4; i++) {
    // The words of the server, and not of pgherd.
    assert.match((await login(wrong)).err, /FATAL: {2}password authentication failed for user "ada"/)
  }
  assert.equal((await login(passwords.ada)).out, 'ada')
})
