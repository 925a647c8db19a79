import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import type { Host } from '../../src/cli/host.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig } from '../support/host.ts'
import { need, programPath } from '../support/need.ts'
import { caughtUp, connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const run = promisify(execFile)

let cluster: TestCluster
let host: Host
let port: number
let readPort: number

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
  const servers = [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))
  const config = await testConfig(servers, { 'proxy.pool_mode': 'session', 'proxy.default_pool_size': 20 })
  host = await startTestHost(config)
  port = config.proxy.port
  readPort = config.proxy.read_port
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const serverPort = async (at: number): Promise<number | undefined> =>
  (await query<{ port: number }>(at, 'select inet_server_port() as port'))[0]?.port

test('the one port leads to the primary, the other to the replicas in turn', async () => {
  assert.equal(await serverPort(port), cluster.primary.port)
  const ports = await Promise.all(Array.from({ length: 8 }, () => connect(readPort)))
  const seen = await Promise.all(
    ports.map(async client => {
      const { rows } = await client.query<{ port: number; standby: boolean }>(
        'select inet_server_port() as port, pg_is_in_recovery() as standby',
      )
      assert.equal(rows[0]?.standby, true)
      return rows[0]?.port
    }),
  )
  await Promise.all(ports.map(client => client.end()))
  for (const replica of cluster.replicas) {
    assert.equal(seen.filter(each => each === replica.port).length, 4, `sessions on ${replica.name}`)
  }
})

test('what a session sets at its start reaches the server, and other sessions see nothing of it', async () => {
  const special = await WireClient.open(port, {
    application_name: 'special',
    options: '-c statement_timeout=12345 -c search_path=pg_catalog',
  })
  const sql = "select current_setting('statement_timeout'), current_setting('application_name')"
  const row = (await special.query(sql)).find(({ code }) => code === 'D')
  assert.match(row?.body.toString() ?? '', /12345ms.*special/)
  special.close()
  const [plain] = await query<{ timeout: string }>(
    port,
    "select current_setting('statement_timeout') as timeout",
  )
  assert.equal(plain?.timeout, '0')
})

test('a connection is used again, and carries nothing over', async () => {
  const pids = new Set<number>()
  for (let round = 0; round < 6; round++) {
    const client = await connect(port)
    const { rows } = await client.query<{ pid: number; path: string; tables: number; prepared: number }>(
      `select pg_backend_pid() as pid, current_setting('search_path') as path,
              (to_regclass('pg_temp.left_behind') is not null)::int as tables,
              (select count(*)::int from pg_prepared_statements) as prepared`,
    )
    const [row] = rows
    assert.deepEqual(
      { path: row?.path, tables: row?.tables, prepared: row?.prepared },
      { path: '"$user", public', tables: 0, prepared: 0 },
    )
    pids.add(row!.pid)
    await client.query('set search_path = nowhere')
    await client.query('create temporary table left_behind ()')
    await client.query('prepare left_behind as select 1')
    await client.query('begin')
    await client.query('select 1/1')
    await client.end()
  }
  assert.ok(pids.size <= 4, `connections are used again: ${pids.size} for 6 sessions`)
})

test('a session that broke off in the middle of a request leaves no connection in an unknown state', async () => {
  for (const bytes of [
    Buffer.from([0x51, 0, 0, 0, 40, 0x73]), // a Query of which the rest never comes
    Buffer.from([0x50, 0, 0, 0, 8, 0, 0, 0, 0]), // a Parse without a Sync
    Buffer.from([0x58, 0, 0]), // a part of a Terminate
  ]) {
    const client = await WireClient.open(port)
    client.send(bytes)
    client.socket.end()
    await until('the session is closed', () => client.closed)
  }
  for (let round = 0; round < 4; round++) {
    assert.deepEqual(await query(port, 'select 42 as answer'), [{ answer: 42 }])
  }
})

test('what was sent before a goodbye is done, and a client that half-closes gets its answer', async () => {
  await query(port, 'create table left_work (n int)')
  const hasty = await WireClient.open(port)
  hasty.send(
    Buffer.concat([
      q('select pg_sleep(0.2); insert into left_work values (1)'),
      Buffer.from([0x58, 0, 0, 0, 4]),
    ]),
  )
  await until('the work is done', async () => (await query(port, 'table left_work')).length === 1)
  const halved = await WireClient.open(port)
  halved.send(q('select pg_sleep(0.2); select 42 as answer'))
  halved.socket.end()
  await until('the connection is closed', () => halved.closed)
  assert.ok(halved.received.some(({ code, body }) => code === 'D' && body.toString().endsWith('42')))
  await query(port, 'drop table left_work')
})

test('a broken connection and a cancel request stop also what was sent with Flush instead of Sync', async () => {
  const message = (code: number, body: string): Buffer => {
    const bytes = Buffer.from(body)
    const head = Buffer.from([code, 0, 0, 0, 0])
    head.writeUInt32BE(bytes.length + 4, 1)
    return Buffer.concat([head, bytes])
  }
  const flushed = Buffer.concat([
    message(0x50, '\0select pg_sleep(30), 11\0\0\0'),
    message(0x42, '\0\0\0\0\0\0\0\0'),
    message(0x45, '\0\0\0\0\0'),
    message(0x48, ''),
  ])
  const sleeping = async (): Promise<number> =>
    (
      await cluster.primary.query(
        "select 1 from pg_stat_activity where query like '%pg_sleep(30), 11' and wait_event = 'PgSleep'",
      )
    ).length
  for (const stop of ['break', 'cancel']) {
    const client = await WireClient.open(port)
    client.send(flushed)
    await until('it sleeps', async () => (await sleeping()) === 1)
    if (stop === 'break') client.socket.resetAndDestroy()
    else {
      const canceller = new WireClient(port)
      canceller.send(writeCancelRequest(client.processId, client.secret))
    }
    await until('it does not sleep any more', async () => (await sleeping()) === 0)
    client.close()
  }
})

test('a cancel reaches its own query, through any worker', async () => {
  for (let round = 0; round < 4; round++) {
    const client = await WireClient.open(port)
    const bystander = await WireClient.open(port)
    const pid = (await client.query('select pg_backend_pid()')).find(({ code }) => code === 'D')
    assert.ok(
      pid?.body.toString().includes(String(client.processId)),
      'the client knows its server’s process id',
    )
    const running = assert.rejects(
      client.query('select pg_sleep(20)'),
      /canceling statement due to user request/,
    )
    const other = bystander.query('select pg_sleep(0.4)')
    await until('the query runs', async () => {
      const rows = await cluster.primary.query(
        "select 1 from pg_stat_activity where query = 'select pg_sleep(20)' and wait_event = 'PgSleep'",
      )
      return rows.length === 1
    })
    const canceller = new WireClient(port)
    canceller.send(writeCancelRequest(client.processId, client.secret))
    await until('the cancel connection is closed', () => canceller.closed)
    await running
    assert.ok(
      (await other).some(({ code }) => code === 'C'),
      'the bystander goes on',
    )
    client.close()
    bystander.close()
  }
})

test('a cancel with a wrong secret, or one that has outlived its session, cancels nothing', async () => {
  const client = await WireClient.open(port)
  const { processId, secret } = client
  client.close()
  const next = await WireClient.open(port)
  const running = next.query('select pg_sleep(0.5)')
  for (const key of [secret, Buffer.from([1, 2, 3, 4])]) {
    const canceller = new WireClient(port)
    canceller.send(writeCancelRequest(processId, key))
    await until('the cancel connection is closed', () => canceller.closed)
  }
  assert.ok((await running).some(({ code }) => code === 'C'))
  next.close()
})

test('COPY in both directions, also by extended messages, keeps the connection usable', async () => {
  const client = await WireClient.open(port)
  await client.query('create table if not exists copied (n int)')
  client.send(
    Buffer.concat([q('copy copied from stdin'), d('1\n2\n'), d('3\n'), Buffer.from([0x63, 0, 0, 0, 4])]),
  )
  await client.ready(client.received.length)
  const out = await client.query('copy copied to stdout')
  assert.equal(out.filter(({ code }) => code === 'd').length, 3)
  // Parse, Bind, Execute, Sync: the Sync is swallowed by copy-in mode, and the one after CopyDone counts.
  const parse = Buffer.from([0x50, 0, 0, 0, 0, ...Buffer.from('\0copy copied from stdin\0'), 0, 0])
  parse.writeUInt32BE(parse.length - 1, 1)
  const bind = Buffer.from([0x42, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0])
  const execute = Buffer.from([0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0])
  const sync = Buffer.from([0x53, 0, 0, 0, 4])
  const from = client.received.length
  client.send(Buffer.concat([parse, bind, execute, sync]))
  await until('copy-in mode', () => client.received.slice(from).some(({ code }) => code === 'G'))
  client.send(Buffer.concat([d('4\n'), Buffer.from([0x63, 0, 0, 0, 4]), sync]))
  await client.ready(from)
  const row = (await client.query('select count(*) from copied')).find(({ code }) => code === 'D')
  assert.match(row?.body.toString() ?? '', /4$/)
  const before = (await proxyCounters(host.config.admin.port)).nodes['a']!.connects
  client.send(Buffer.from([0x58, 0, 0, 0, 4]))
  for (let round = 0; round < 2; round++) await query(port, 'drop table if exists copied')
  assert.ok((await proxyCounters(host.config.admin.port)).nodes['a']!.connects <= before + 1)
})

test('a client that does not read stalls only itself, and takes no memory here', async () => {
  const lazy = await WireClient.open(port)
  lazy.socket.pause()
  lazy.send(q("select repeat('x', 1000000) from generate_series(1, 300)"))
  const started = process.memoryUsage().rss
  for (let round = 0; round < 20; round++)
    assert.deepEqual(await query(port, 'select 1 as one'), [{ one: 1 }])
  const [worker] = host.proxy!.workers
  const status = await readFile(`/proc/${worker!.pid}/status`, 'utf8').catch(() => '')
  const rssKb = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0)
  assert.ok(rssKb < 250_000, `a worker takes ${rssKb} kB`)
  assert.ok(process.memoryUsage().rss - started < 100e6)
  lazy.socket.resume()
  await lazy.ready()
  await until('300 rows', () => lazy.received.filter(({ code }) => code === 'D').length === 300, 20_000)
  lazy.close()
})

test('a password is asked for by the server, answered by the client, and the connection is nobody else’s', async () => {
  const hba = join(cluster.primary.folder, 'pg_hba.conf')
  const before = await readFile(hba, 'utf8')
  await cluster.primary.query("create role guarded login password 'right one'")
  await cluster.primary.query("set password_encryption = 'md5'; create role older login password 'old one'")
  try {
    await writeFile(hba, `host all guarded all scram-sha-256\nhost all older all md5\n${before}`)
    await cluster.primary.query('select pg_reload_conf()')
    for (const [user, password] of [
      ['guarded', 'right one'],
      ['older', 'old one'],
    ] as const) {
      await until('the password is asked for', async () => {
        await assert.rejects(
          query(port, 'select 1', { user, password: 'wrong' }),
          /password authentication failed/,
        )
        return true
      })
      assert.deepEqual(await query(port, 'select current_user as who', { user, password }), [{ who: user }])
      await assert.rejects(
        query(port, 'select 1', { user, password: 'wrong' }),
        /password authentication failed/,
      )
    }
  } finally {
    await writeFile(hba, before)
    await cluster.primary.query('select pg_reload_conf()')
  }
})

test('psql and pgbench work through both ports', need('psql', 'pgbench'), async () => {
  const connection = (at: number): string[] => ['-h', '127.0.0.1', '-p', String(at), '-U', 'postgres']
  const psql = await run(programPath('psql')!, [
    ...connection(readPort),
    '-Atc',
    'select pg_is_in_recovery()',
    'postgres',
  ])
  assert.equal(psql.stdout.trim(), 't')
  const pgbench = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
    run(programPath('pgbench')!, [...args, 'postgres'])
  await pgbench('-i', '-s', '1', '-q', ...connection(port))
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
  const before = await proxyCounters(host.config.admin.port)
  for (const mode of ['simple', 'extended', 'prepared']) {
    const { stdout } = await pgbench('-n', '-M', mode, '-c', '4', '-t', '50', ...connection(port))
    assert.match(stdout, /number of transactions actually processed: 200\/200/)
    const reads = await pgbench('-n', '-S', '-M', mode, '-c', '8', '-t', '100', ...connection(readPort))
    assert.match(reads.stdout, /number of transactions actually processed: 800\/800/)
  }
  await until('the reads are spread evenly', async () => {
    const now = await proxyCounters(host.config.admin.port)
    const [b, c] = ['b', 'c'].map(
      name => (now.nodes[name]?.queries ?? 0) - (before.nodes[name]?.queries ?? 0),
    )
    return b! + c! >= 2400 && Math.abs(b! - c!) < 100
  })
})

function q(sql: string): Buffer {
  const body = Buffer.from(`${sql}\0`)
  const message = Buffer.alloc(5)
  message[0] = 0x51
  message.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([message, body])
}

function d(data: string): Buffer {
  const message = Buffer.alloc(5)
  message[0] = 0x64
  message.writeUInt32BE(data.length + 4, 1)
  return Buffer.concat([message, Buffer.from(data)])
}
