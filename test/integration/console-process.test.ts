import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { DatabaseError } from 'pg'
import { serverAccount } from '../../src/demo/account.ts'
import { Cli } from '../support/cli.ts'
import { freePorts } from '../support/ports.ts'
import { connect, query, startTestCluster, type TestCluster, temporaryFolder } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

let cluster: TestCluster
let folder: string
let file: string
let port: number
let adminPort: number
let up: Cli

before(async () => {
  cluster = await startTestCluster()
  folder = await temporaryFolder(await serverAccount())
})

after(async () => {
  await cluster?.stop()
  if (folder) await rm(folder, { recursive: true, force: true })
})

/** A proxy that checks logins itself, and believes whoever comes from this machine. */
async function write(more: string): Promise<void> {
  const text = `proxy:
  port: ${port}
  read_port: 0
  workers: 2
  pool_mode: auto
  shutdown_timeout: 5s
  auth:
    method: proxy
    rules: [{type: host, database: all, user: all, address: 127.0.0.0/8, method: trust}]
  console: {admin_users: [root], stats_users: [viewer]}
  ${more}
admin: {port: ${adminPort}}
store: {path: ":memory:"}
nodes: [{name: a, host: 127.0.0.1, port: ${cluster.primary.port}}]
`
  await writeFile(file, text, { mode: 0o600 })
}

beforeEach(async () => {
  ;[port, adminPort] = (await freePorts(2)) as [number, number]
  file = join(folder, 'pgherd.yaml')
  await write('')
  up = new Cli(['up', '--config', file])
  await up.ready()
})

afterEach(() => up.stop())

function ask(sql: string, user = 'root'): Promise<Record<string, unknown>[]> {
  return query(port, sql, { database: 'pgherd', user })
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (cause) {
    if (cause instanceof DatabaseError) return `${cause.code} ${cause.message}`
    throw cause
  }
  return 'none'
}

test('users of admin_users may do all, those of stats_users may look, others may not come in', async () => {
  assert.equal((await ask('SHOW VERSION', 'viewer')).length, 1)
  assert.match(await refusal(ask('PAUSE', 'viewer')), /^42501 user "viewer" may only use SHOW$/)
  assert.match(await refusal(ask('SHOW VERSION', 'somebody')), /^28000 .*"somebody" may not use the console$/)
  assert.equal(await refusal(ask('PAUSE')), 'none')
  assert.equal(await refusal(ask('RESUME')), 'none')
})

test('RELOAD applies the configuration before it answers, and says what is wrong with it', async () => {
  const limit = async (): Promise<unknown> =>
    (await ask('SHOW CONFIG')).find(row => row['key'] === 'max_client_conn')
  assert.deepEqual(await limit(), {
    key: 'max_client_conn',
    value: '10000',
    default: '10000',
    changeable: 'yes',
  })
  await write('max_client_conn: 77')
  await ask('RELOAD')
  assert.deepEqual(await limit(), {
    key: 'max_client_conn',
    value: '77',
    default: '10000',
    changeable: 'yes',
  })
  await write('max_client_con: 78')
  assert.match(
    await refusal(ask('RELOAD')),
    /^58000 nothing was changed: .*pgherd\.yaml:\d+:\d+: `proxy\.max_client_con`/,
  )
  const wait = (await ask('SHOW CONFIG')).find(row => row['key'] === 'query_wait_timeout')
  assert.equal(wait?.['value'], '120')
})

test('a PAUSE that is interrupted in psql is taken back', async () => {
  const client = await connect(port)
  await client.query('BEGIN; SELECT 1')
  const args = ['-X', '-h', '127.0.0.1', '-p', String(port), '-U', 'root', 'pgherd', '-c', 'PAUSE']
  const psql = spawn('psql', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  psql.stderr.on('data', chunk => {
    said += String(chunk)
  })
  const isPaused = async (): Promise<boolean> => (await ask('SHOW STATE'))[1]?.['value'] === 'yes'
  await until('it is paused', isPaused)
  psql.kill('SIGINT')
  await once(psql, 'close')
  assert.match(said, /cancelled/)
  assert.equal(await isPaused(), false)
  assert.equal((await client.query('SELECT 1')).rowCount, 1)
  await client.end()
})

test('SHUTDOWN ends the process at once', async () => {
  const client = await connect(port)
  await client.query('BEGIN; SELECT 1')
  const ended = new Promise<Error>(resolve => client.once('error', resolve))
  await ask('SHUTDOWN')
  assert.equal(((await ended) as DatabaseError).code, '57P01')
  assert.equal(await up.exited, 0)
})

test('SHUTDOWN WAIT_FOR_CLIENTS takes nobody new and ends when the last client has gone', async () => {
  const client = await connect(port)
  await ask('SHUTDOWN WAIT_FOR_CLIENTS')
  await assert.rejects(connect(port), { code: 'ECONNREFUSED' })
  for (let i = 0; i < 20; i++) assert.equal((await client.query('SELECT 1')).rowCount, 1)
  await client.end()
  assert.equal(await up.exited, 0)
})

test('SHUTDOWN WAIT_FOR_SERVERS lets transactions end', async () => {
  const client = await connect(port)
  await client.query('BEGIN; SELECT 1')
  const ended = new Promise<Error>(resolve => client.once('error', resolve))
  await ask('SHUTDOWN WAIT_FOR_SERVERS')
  for (let i = 0; i < 20; i++) assert.equal((await client.query('SELECT 1')).rowCount, 1)
  assert.equal((await client.query('COMMIT')).command, 'COMMIT')
  assert.equal(((await ended) as DatabaseError).code, '57P01')
  assert.equal(await up.exited, 0)
})
