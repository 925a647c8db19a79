import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Cli, cliJson, runCli, startCli } from '../support/cli.ts'
import { freePorts } from '../support/ports.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'

let cluster: TestCluster
let folder: string
let port: number
let proxy: Cli | undefined

before(async () => {
  cluster = await startTestCluster()
  folder = await mkdtemp(join(tmpdir(), 'pgherd-import-'))
  const [listenPort, adminPort] = await freePorts(2)
  port = listenPort!
  const server = cluster.primary.port
  await query(server, 'create role alice login')
  await query(server, 'create database shop_v2 owner alice')
  await writeFile(join(folder, 'userlist.txt'), '"alice" "wonder""land"\n', { mode: 0o600 })
  await writeFile(join(folder, 'limits.ini'), 'default_pool_size = 7\nquery_wait_timeout = 20\n')
  // As a package leaves it, with what people change.
  await writeFile(
    join(folder, 'pgbouncer.ini'),
    `;;; database name = connect string
[databases]
shop = host=127.0.0.1 port=${server} dbname=shop_v2 pool_size=3 connect_query='select 1'
;unused = host=10.9.9.9
books = host=127.0.0.1 port=${server} dbname=postgres

[users]
alice = max_user_connections=2 query_timeout=30

[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir = /var/run/postgresql
auth_type = scram-sha-256
auth_file = ${join(folder, 'userlist.txt')}
admin_users = postgres
pool_mode = transaction
server_tls_sslmode = disable
%include ${join(folder, 'limits.ini')}
`,
  )
  const { code, err } = await runCli([
    'import',
    join(folder, 'pgbouncer.ini'),
    '--output',
    join(folder, 'pgherd.yaml'),
  ])
  assert.equal(code, 0, err)
  const env = { PGHERD_STORE_PATH: ':memory:', PGHERD_ADMIN_PORT: String(adminPort) }
  proxy = await startCli(['up', '--config', join(folder, 'pgherd.yaml')], { env })
})

after(async () => {
  await proxy?.stop()
  await cluster?.stop()
  await rm(folder, { recursive: true, force: true })
})

test('the configuration says what PgBouncer’s said', async () => {
  const { config } = await cliJson<{ config: { proxy: Record<string, unknown>; nodes: unknown[] } }>([
    'config',
    'show',
    join(folder, 'pgherd.yaml'),
  ])
  const { pool_mode, default_pool_size, query_wait_timeout, databases, users } = config.proxy
  assert.deepEqual(
    { pool_mode, default_pool_size, query_wait_timeout, databases, users },
    {
      pool_mode: 'transaction',
      default_pool_size: 7,
      query_wait_timeout: '20s',
      databases: { shop: { dbname: 'shop_v2', pool_size: 3 }, books: { dbname: 'postgres' } },
      users: { alice: { max_user_connections: 2, query_timeout: '30s' } },
    },
  )
})

test('a client finds its database under the name that PgBouncer gave it, and gets in with its password', async () => {
  const alice = { user: 'alice', password: 'wonder"land', database: 'shop' }
  const [row] = await query(port, 'select current_database() as database, current_user::text as user', alice)
  assert.deepEqual(row, { database: 'shop_v2', user: 'alice' })
  const [other] = await query(port, 'select current_database() as database', {
    ...alice,
    database: 'books',
  })
  assert.deepEqual(other, { database: 'postgres' })
})

test('nobody gets in with another password, though the server would let them', async () => {
  const wrong = { user: 'alice', password: 'wonder', database: 'shop' }
  await query(cluster.primary.port, 'select 1', { ...wrong, database: 'shop_v2' })
  await assert.rejects(query(port, 'select 1', wrong), { code: '28P01' })
})

test('a database that PgBouncer was not told of stays out of reach', async () => {
  const alice = { user: 'alice', password: 'wonder"land', database: 'postgres' }
  await assert.rejects(query(port, 'select 1', alice), { code: '28000' })
})
