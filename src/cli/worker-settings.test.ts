import assert from 'node:assert/strict'
import { test } from 'node:test'
import { loadConfig } from '../config/load.ts'
import { limitsFor } from '../proxy/pool/limits.ts'
import { workerSettings } from './worker-settings.ts'

function settings(text: string) {
  const readFile = () => ({ text: 'pw\n', mode: 0o600 })
  const loaded = loadConfig({ text, file: '/etc/p.yaml', env: {}, hostName: 'box', readFile })
  assert.ok(loaded.ok, JSON.stringify(loaded))
  return workerSettings(loaded.config, 'json')
}

test('what is not said of a database or a user is not there, so that it hides nothing', () => {
  const made = settings(`proxy:
  query_timeout: 5s
  databases: {app: {pool_size: 2}}
  users: {bob: {pool_mode: session}}
`)
  assert.deepEqual(made.databases, { app: { poolSize: 2 } })
  assert.deepEqual(made.users, { bob: { mode: 'session' } })
  const limits = limitsFor(made, 'app', 'bob')
  assert.deepEqual([limits.poolSize, limits.mode, limits.queryTimeoutMs], [2, 'session', 5000])
})

test('it survives the way to a worker', () => {
  const made = settings(`proxy:
  auth:
    method: proxy
    query_user: asker
    query_password_file: pw
    rules: [{type: host, database: all, user: all, address: all, method: md5}]
  tls:
    cert_file: c
    key_file: k
    certificates: [{server_name: DB.example, cert_file: c2, key_file: k2}]
`)
  assert.deepEqual(JSON.parse(JSON.stringify(made)), {
    ...JSON.parse(JSON.stringify(settings(''))),
    auth: {
      maps: [],
      method: 'proxy',
      rules: [{ type: 'host', database: 'all', user: 'all', address: 'all', method: 'md5' }],
      query: { text: made.auth.query?.text, user: 'asker', password: 'pw' },
    },
    tls: {
      mode: 'allow',
      certFile: '/etc/c',
      keyFile: '/etc/k',
      minVersion: 'TLSv1.2',
      certificates: [{ serverName: 'db.example', certFile: '/etc/c2', keyFile: '/etc/k2' }],
    },
  })
  assert.match(made.auth.query?.text ?? '', /\$1/)
  assert.equal(settings('').auth.query, undefined)
})
