import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import type { Contestant, Setup } from './contestant.ts'
import { haproxy, haproxyLeastconn } from './haproxy.ts'
import { findPeer } from './peers.ts'
import { pgbouncer } from './pgbouncer.ts'
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

test('a peer that is not there, or was never tried, is left out by name', async () => {
  assert.deepEqual(await findPeer('odyssey', undefined), {
    missing: 'odyssey is left out: there is no configuration for it yet',
  })
  await assert.rejects(findPeer('nobody', undefined), { code: 'usage' })
  await assert.rejects(findPeer('haproxy', '/nowhere/haproxy'), { code: 'not_started' })
})
