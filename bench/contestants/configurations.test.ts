import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import type { Contestant, Setup } from './contestant.ts'
import { haproxy, haproxyLeastconn } from './haproxy.ts'
import { odyssey } from './odyssey.ts'
import { findPeer, peerNames } from './peers.ts'
import { pgbouncer } from './pgbouncer.ts'
import { pgcat } from './pgcat.ts'
import { pgdog } from './pgdog.ts'
import { pgherd } from './pgherd.ts'
import { pgpool } from './pgpool.ts'

const setup: Setup = {
  dir: '/tmp/x',
  ports: [7001, 7002, 7003],
  serverPort: 7000,
  replicaPorts: [],
  usersFile: '/tmp/users.txt',
  verifier: 'SCRAM-SHA-256$4096:salt$stored:server',
  poolSize: 20,
  clientsMax: 300,
  login: 'trust',
  keepsStatements: false,
  workers: undefined,
}

function textOf(contestant: Contestant, changes: Partial<Setup> = {}): string {
  return Object.values(contestant.launch!({ ...setup, ...changes }).files)[0]!
}

function settingsOf(contestant: Contestant, changes: Partial<Setup> = {}): Record<string, string> {
  const lines = textOf(contestant, changes).matchAll(/^(\w+) = '?([^'\n]*)'?$/gm)
  return Object.fromEntries([...lines].map(([, key, value]) => [key, value]))
}

test('PgBouncer pools transactions within the same limits', () => {
  const { pool_mode, default_pool_size, max_client_conn, auth_type } = settingsOf(pgbouncer('p', '1.18.0'))
  assert.deepEqual(
    [pool_mode, default_pool_size, max_client_conn, auth_type],
    ['transaction', '20', '300', 'trust'],
  )
  assert.equal(settingsOf(pgbouncer('p', '1.18.0'), { login: 'scram' })['auth_type'], 'scram-sha-256')
})

test('PgBouncer before 1.21 pools sessions where statements are kept, and says so', () => {
  const old = pgbouncer('p', '1.18.0')
  const settings = settingsOf(old, { keepsStatements: true })
  assert.deepEqual([settings['pool_mode'], settings['default_pool_size']], ['session', '300'])
  assert.match(old.statementsRemark!, /1\.18\.0/)
  const newer = pgbouncer('p', '1.24.1')
  const { pool_mode, max_prepared_statements } = settingsOf(newer, { keepsStatements: true })
  assert.deepEqual([pool_mode, max_prepared_statements], ['transaction', '200'])
  assert.equal(newer.statementsRemark, undefined)
})

test('Odyssey pools transactions within the same limits and keeps statements', () => {
  const text = textOf(odyssey('o', '1.5.1'))
  assert.match(text, /^client_max 300$/m)
  assert.match(text, /^ {4}pool "transaction"\n {4}pool_size 20$/m)
  assert.match(text, /^ {4}pool_reserve_prepared_statement yes$/m)
  assert.match(text, /^ {4}authentication "none"$/m)
  assert.doesNotMatch(text, /workers|password/)
  const asked = textOf(odyssey('o', '1.5.1'), { login: 'scram', workers: 3 })
  assert.match(asked, /^workers 3$/m)
  assert.match(asked, /^ {4}authentication "scram-sha-256"\n {4}password "SCRAM-SHA-256\$4096:salt\$/m)
})

test('PgCat pools transactions within the same limits and keeps statements, and asks nobody', () => {
  const contestant = pgcat('p', '1.3.0')
  const { pool_mode, pool_size, auth_type, prepared_statements_cache_size } = settingsOf(contestant)
  assert.deepEqual(
    [pool_mode, pool_size, auth_type, prepared_statements_cache_size],
    ['"transaction"', '20', '"trust"', '500'],
  )
  assert.equal(settingsOf(contestant, { workers: 3 })['worker_threads'], '3')
  assert.equal(contestant.checksPasswords, false)
})

test('PgDog pools transactions within the same limits and keeps statements', () => {
  const contestant = pgdog('p', '0.1.54')
  const { pooler_mode, default_pool_size, auth_type, prepared_statements } = settingsOf(contestant)
  assert.deepEqual(
    [pooler_mode, default_pool_size, auth_type, prepared_statements],
    ['"transaction"', '20', '"trust"', '"extended"'],
  )
  const asked = settingsOf(contestant, { login: 'scram', workers: 3 })
  assert.deepEqual([asked['auth_type'], asked['workers']], ['"scram"', '3'])
  const users = contestant.launch!(setup).files['users.toml']!
  assert.match(users, /^password_hash = "SCRAM-SHA-256\$4096:salt\$stored:server"$/m)
})

test('those that are told where to listen do so on the loopback interface only', () => {
  for (const contestant of [odyssey('o', '1'), pgcat('p', '1'), pgdog('p', '1')]) {
    const text = textOf(contestant)
    assert.match(text, /host (= )?"127\.0\.0\.1"\n *port (= )?7001$/m)
    assert.doesNotMatch(text, /0\.0\.0\.0|\*/)
  }
})

test('HAProxy and Pgpool-II take as many clients as come', () => {
  assert.match(textOf(haproxy('h', '2.6')), /^ {2}maxconn 300$/m)
  assert.match(textOf(haproxy('h', '2.6'), { workers: 3 }), /^ {2}nbthread 3$/m)
  assert.equal(settingsOf(pgpool('p', '4.3'))['num_init_children'], '300')
})

test('where reads are balanced, all have the same replicas, and clients come to the same port', () => {
  const replicaPorts = [7011, 7012]
  const servers = /^ {2}server r1 127\.0\.0\.1:7011\n {2}server r2 127\.0\.0\.1:7012$/m
  for (const [contestant, algorithm] of [
    [haproxy('h', '2.6'), 'roundrobin'],
    [haproxyLeastconn('h', '2.6'), 'leastconn'],
  ] as const) {
    const text = textOf(contestant, { replicaPorts })
    assert.match(text, servers)
    assert.match(text, new RegExp(`^ {2}balance ${algorithm}$`, 'm'))
  }
  const pool = settingsOf(pgpool('p', '4.3'), { replicaPorts })
  assert.equal(pool['statement_level_load_balance'], 'on')
  const backends = [0, 1, 2].map(at => [pool[`backend_port${at}`], pool[`backend_weight${at}`]])
  assert.deepEqual(backends, [
    ['7000', '0'],
    ['7011', '1'],
    ['7012', '1'],
  ])
  const own = pgherd({ name: 'p', version: '1', main: 'main.js', settings: {}, nodeOptions: [] })
  const { nodes, proxy } = JSON.parse(textOf(own, { replicaPorts })) as Record<string, never> & {
    nodes: { port: number }[]
    proxy: { port: number; read_port: number }
  }
  assert.deepEqual(
    nodes.map(({ port }) => port),
    [7000, 7011, 7012],
  )
  assert.deepEqual([proxy.read_port, proxy.port], [7001, 7002])
})

test('a configuration of pgherd is one that it loads, with the settings of a variant', () => {
  const settings = { 'proxy.pool_mode': 'session', 'proxy.query_wait_queue_max': 7 }
  const variant = pgherd({ name: 'v', version: '1', main: 'main.js', settings, nodeOptions: [] })
  const loaded = loadConfig({
    text: textOf(variant, { workers: 3 }),
    file: undefined,
    env: {},
    readFile: () => ({ text: '"bench" "secret"\n', mode: 0o600 }),
    hostName: 'test',
  })
  assert.ok(loaded.ok, JSON.stringify(loaded))
  const { proxy } = loaded.config
  assert.deepEqual(
    [proxy.pool_mode, proxy.query_wait_queue_max, proxy.default_pool_size, proxy.workers],
    ['session', 7, 20, 3],
  )
})

test('a peer that is not there is left out by name', async () => {
  for (const name of peerNames) {
    const found = await findPeer(name, undefined, () => undefined)
    assert.match(
      'missing' in found ? found.missing : '',
      new RegExp(`^${name} is left out: no .*${name}=PATH$`),
    )
  }
  await assert.rejects(findPeer('nobody', undefined), { code: 'usage' })
  await assert.rejects(findPeer('haproxy', '/nowhere/haproxy'), { code: 'not_started' })
})
