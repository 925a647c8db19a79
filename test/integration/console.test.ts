import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { type Client, DatabaseError } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import {
  frame,
  sync,
  writeBind,
  writeCloseStatement,
  writeExecute,
  writeParse,
} from '../../src/wire/messages.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const run = promisify(execFile)
type Row = Record<string, unknown>

let cluster: TestCluster
let host: Host
let port: number
let adminPort: number

before(async () => {
  cluster = await startTestCluster()
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], {
    'proxy.pool_mode': 'auto',
    'proxy.query_wait_timeout': '1s',
    'proxy.databases': { shop: { dbname: 'postgres', pool_size: 4, pool_mode: 'transaction' } },
  })
  port = config.proxy.port
  adminPort = config.admin.port
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

/** One command on the console, as an administrator of this machine. */
function ask(sql: string, database = 'pgherd'): Promise<Row[]> {
  return query(port, sql, { database, user: 'operator' })
}

/** The names of the columns of a table that may have no rows. */
async function columnsOf(table: string, database: string): Promise<string[]> {
  const client = await connect(port, { database, user: 'operator' })
  try {
    return (await client.query(`SHOW ${table}`)).fields.map(({ name }) => name)
  } finally {
    await client.end()
  }
}

function clientsOf(pool: Row): number {
  return Number(pool['cl_active']) + Number(pool['cl_waiting'])
}

async function withClient<T>(database: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = await connect(port, { database })
  try {
    return await use(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function sqlstateOf(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work
  } catch (cause) {
    if (cause instanceof DatabaseError) return cause.code
    throw cause
  }
  return undefined
}

const sockets = `type user database replication state addr port local_addr local_port connect_time request_time wait
  wait_us close_needed ptr link remote_pid tls application_name prepared_statements id`
const buffers = 'recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail'

/** The tables of PgBouncer 1.25 with their columns. */
const pgbouncerTables: Record<string, string> = {
  active_sockets: `${sockets} ${buffers}`,
  clients: sockets,
  config: 'key value default changeable',
  databases: `name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode
    load_balance_hosts max_connections current_connections max_client_connections current_client_connections paused
    disabled`,
  dns_hosts: 'hostname ttl addrs',
  dns_zones: 'zonename serial count',
  lists: 'list items',
  mem: 'name size used free memtotal',
  peer_pools: 'peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login',
  peers: 'peer_id host port pool_size',
  pools: `database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel
    sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts`,
  servers: sockets,
  sockets: `${sockets} ${buffers}`,
  state: 'key value',
  stats: `database total_server_assignment_count total_xact_count total_query_count total_received total_sent
    total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count
    total_bind_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time
    avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count`,
  stats_averages: `database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time
    query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count`,
  stats_totals: `database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time
    query_time wait_time client_parse_count server_parse_count bind_count`,
  totals: 'name value',
  users: `name pool_size reserve_pool_size pool_mode max_user_connections current_connections
    max_user_client_connections current_client_connections`,
  version: 'version',
}

/** What stands behind them for who connects to `pgherd`. */
const ownColumns: Record<string, string> = {
  active_sockets: 'node pool_mode route pins worker',
  clients: 'node pool_mode route pins worker',
  pools: 'cl_pinned nodes',
  servers: 'node worker',
  sockets: 'node pool_mode route pins worker',
}

test('every table has PgBouncer’s columns, and its own only behind them and under its own name', async () => {
  for (const [table, columns] of Object.entries(pgbouncerTables)) {
    const expected = columns.split(/\s+/)
    assert.deepEqual(await columnsOf(table, 'pgbouncer'), expected, table)
    const own = ownColumns[table]?.split(' ') ?? []
    assert.deepEqual(await columnsOf(table, 'pgherd'), [...expected, ...own], table)
  }
})

test('psql: several commands at once, help, and an error that lists the commands', async () => {
  const args = ['-X', '-At', '-h', '127.0.0.1', '-p', String(port), '-U', 'x', 'pgherd']
  const both = await run('psql', [...args, '-c', 'SHOW VERSION; SELECT 1;', '-c', 'SHOW STATE'])
  assert.match(both.stdout, /^pgherd \d+\.\d+\.\d+\n1\nactive\|yes\n/)
  const help = await run('psql', [...args, '-c', 'SHOW HELP'])
  assert.match(help.stderr, /WAIT_CLOSE \[db\]/)
  const wrong = await run('psql', [...args, '-v', 'VERBOSITY=verbose', '-c', 'TRUNCATE x']).catch(
    (cause: { stderr: string }) => cause,
  )
  assert.match(
    wrong.stderr,
    /42601: unknown command "TRUNCATE"\nHINT: {2}The commands are: SHOW ACTIVE_SOCKETS/,
  )
  for (const [sql, sqlstate] of [
    ['SHOW FDS', '0A000'],
    ['SUSPEND', '0A000'],
    ['PAUSE pgbouncer', '55000'],
    ['RESUME nothing', '55000'],
    ['KILL_CLIENT 1', '42704'],
    ['RELOAD', '0A000'],
    ['DISABLE', '42601'],
  ] as const) {
    assert.equal(await sqlstateOf(ask(sql)), sqlstate, sql)
  }
})

test('extended protocol: rows by portions, portals that end, errors until Sync, and what is malformed', async () => {
  const client = await WireClient.open(port, { database: 'pgherd' })
  const ask = async (...messages: Buffer[]): Promise<string> => {
    const from = client.received.length
    client.send(Buffer.concat([...messages, sync]))
    await until('ReadyForQuery', () => client.received.slice(from).some(({ code }) => code === 'Z'))
    return client.received
      .slice(from)
      .map(({ code }) => code)
      .join('')
  }
  const describe = frame(0x44, Buffer.from('Slists\0'))
  const two = frame(0x45, Buffer.from('\0\0\0\0\x02'))
  const prepare = writeParse('lists', 'SHOW LISTS', [])
  const bind = writeBind('', 'lists')
  assert.equal(
    await ask(prepare, describe, bind, two, two, writeExecute('')),
    `1tT2DDsDDs${'D'.repeat(10)}CZ`,
  )
  assert.equal(await ask(writeExecute('')), 'EZ')
  assert.equal(await ask(prepare, bind, writeExecute('')), 'EZ')
  assert.equal(await ask(writeCloseStatement('lists'), bind, writeExecute('')), '3EZ')
  assert.equal(await ask(writeParse('', '', []), writeBind('', ''), writeExecute('')), '12IZ')
  for (const wrong of ['SHOW LISTS; SHOW POOLS', 'SELECT 1 + 1', 'SHOW "']) {
    assert.equal(await ask(writeParse('', wrong, []), bind), 'EZ', wrong)
  }
  for (const body of ['', 'x', '\0', '\0\0', '\0\0\0\x09', '\0\0\0\0\0\x01']) {
    assert.equal(await ask(frame(0x42, Buffer.from(body)), writeExecute('')), 'EZ', JSON.stringify(body))
    assert.equal(client.error?.get('C'), '08P01')
  }
  assert.equal((await client.query('SHOW STATE')).map(({ code }) => code).join(''), 'TDDDCZ')
  client.send(Buffer.from('?\0\0\0\x04'))
  assert.equal((await client.refused()).get('C'), '08P01')
})

test('a program that takes it for PgBouncer finds its version and no column more', async () => {
  const [row] = await ask('SHOW VERSION', 'pgbouncer')
  assert.match(String(row?.['version']), /^PgBouncer 1\.25\.\d+ /)
})

test('clients, servers, pools and pins are shown with their figures, over both workers', async () => {
  const clients = await Promise.all(Array.from({ length: 4 }, () => connect(port, { database: 'postgres' })))
  const pinned = clients[0]!
  try {
    await pinned.query('CREATE TEMPORARY TABLE kept (a int)')
    await pinned.query('LISTEN news')
    const [backend] = (await pinned.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows
    for (const client of clients.slice(1)) await client.query('SELECT 1')
    const shown = (await ask('SHOW CLIENTS')).filter(row => row['database'] === 'postgres')
    assert.equal(shown.length, 4)
    assert.equal(new Set(shown.map(row => row['worker'])).size, 2)
    assert.equal(new Set(shown.map(row => row['id'])).size, 4)
    assert.deepEqual(shown.map(row => row['state']).sort(), ['active', 'idle', 'idle', 'idle'])
    const kept = shown.find(row => row['pins'] !== '')
    assert.equal(kept?.['pins'], 'listen, temporary_object')
    assert.equal(kept?.['node'], 'a')
    const server = (await ask('SHOW SERVERS')).find(row => row['ptr'] === kept?.['link'])
    assert.equal(server?.['remote_pid'], backend?.pid)
    assert.equal(server?.['link'], kept?.['ptr'])
    const pool = await until('the others have given back what they had', async () =>
      (await ask('SHOW POOLS')).find(
        row => row['database'] === 'postgres' && Number(row['sv_idle']) > 0 && Number(row['sv_active']) === 1,
      ),
    )
    assert.equal(pool['cl_active'], 4)
    assert.equal(pool['cl_pinned'], 1)
    assert.equal(pool['sv_active'], 1)
    const [pin] = await ask('SHOW PINS')
    assert.equal(pin?.['server_pid'], backend?.pid)
    assert.equal(pin?.['pins'], 'listen, temporary_object')
    const listen = (await ask('SHOW PIN_TOTALS')).find(row => row['reason'] === 'listen')
    assert.equal(listen?.['pinned'], 1)
    await until('the metrics tell it', async () => (await proxyCounters(adminPort)).pinned.listen === 1)
    const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text()
    assert.match(metrics, /pgherd_pins_total\{reason="listen"\} [1-9]/)
    assert.match(metrics, /pgherd_pinned_clients\{reason="temporary_object"\} 1\n/)
    assert.match(
      metrics,
      /pgherd_pool_connections\{database="postgres",user="postgres",node="a",state="active"\} 1\n/,
    )
    const used = (await ask('SHOW LISTS')).find(row => row['list'] === 'used_clients')
    assert.equal(used?.['items'], 5)
    const [node] = await ask('SHOW NODES')
    assert.equal(node?.['role'], 'primary')
    assert.equal(node?.['writable'], 'yes')
  } finally {
    await Promise.all(clients.map(client => client.end()))
  }
  await until('the pin has ended', async () => (await proxyCounters(adminPort)).pinned.listen === 0)
})

test('statistics count what was done for each database', async () => {
  const figures = async (): Promise<Record<string, number>> => {
    const row = (await ask('SHOW STATS')).find(each => each['database'] === 'shop')
    return Object.fromEntries(Object.entries(row ?? {}).map(([name, value]) => [name, Number(value)]))
  }
  await query(port, 'SELECT 1', { database: 'shop' })
  const before = await figures()
  await withClient('shop', async client => {
    for (let i = 0; i < 10; i++) await client.query('BEGIN; SELECT 1; COMMIT')
    await client.query('BEGIN')
    await client.query({ name: 'one', text: 'SELECT $1::int', values: [1] })
    await client.query('SELECT pg_sleep(0.05)')
    await client.query('COMMIT')
  })
  const now = await figures()
  const grown = (name: string): number => (now[name] ?? 0) - (before[name] ?? 0)
  assert.equal(grown('total_query_count'), 14)
  assert.equal(grown('total_xact_count'), 11)
  assert.equal(grown('total_client_parse_count'), 1)
  assert.equal(grown('total_bind_count'), 1)
  assert.ok(grown('total_server_assignment_count') >= 11)
  assert.ok(grown('total_query_time') >= 50_000 && grown('total_query_time') < 5_000_000)
  assert.ok(grown('total_xact_time') >= grown('total_query_time'))
  assert.ok(grown('total_received') > 300 && grown('total_sent') > 300)
  assert.ok((now['avg_query_time'] ?? 0) > 0)
  const database = (await ask('SHOW DATABASES')).find(row => row['name'] === 'shop')
  assert.equal(database?.['database'], 'postgres')
  assert.equal(database?.['pool_mode'], 'transaction')
  assert.equal(database?.['pool_size'], 4)
})

// A thread for each client: one thread would stand still with the first client that has to wait.
test('PAUSE waits for transactions, holds clients longer than query_wait_timeout, and RESUME loses nothing', async () => {
  const args = ['-h', '127.0.0.1', '-p', String(port), '-U', 'postgres', 'shop']
  await run('pgbench', [...args, '-i', '-s', '1', '-q', '--no-vacuum'])
  const load = run('pgbench', [...args, '-n', '-c', '10', '-j', '10', '-T', '5', '-M', 'prepared'])
  await until('the load runs', async () => {
    const rows = await ask('SHOW POOLS')
    const clients = rows.map(row => (row['database'] === 'shop' ? clientsOf(row) : 0))
    return clients.includes(10)
  })
  await ask('PAUSE shop')
  const shop = async (table: string): Promise<Row | undefined> =>
    (await ask(`SHOW ${table}`)).find(row => row['database'] === 'shop' || row['name'] === 'shop')
  assert.deepEqual(
    (await ask('SHOW SERVERS')).filter(row => row['database'] === 'shop'),
    [],
  )
  assert.equal((await shop('DATABASES'))?.['paused'], 1)
  assert.equal(await sqlstateOf(ask('PAUSE shop')), '55000')
  await query(port, 'SELECT 1', { database: 'postgres' })
  // Twice as long as they may wait for a server that is not paused.
  await until('they have waited', async () => Number((await shop('POOLS'))?.['maxwait']) >= 2)
  assert.equal((await shop('POOLS'))?.['cl_waiting'], 10)
  await ask('RESUME shop')
  const { stdout, stderr } = await load
  assert.match(stdout, /number of failed transactions: 0 /)
  assert.equal(/abort|error|lost/i.test(stderr), false, stderr)
})

test('PAUSE without a name is about all, is known to new workers, and a cancelled one is taken back', async () => {
  await withClient('postgres', async client => {
    await client.query('BEGIN; SELECT 1')
    const console = await connect(port, { database: 'pgherd', user: 'operator' })
    const paused = sqlstateOf(console.query('PAUSE'))
    await until('it is paused', async () => (await ask('SHOW STATE'))[0]?.['value'] === 'no')
    await console.end()
    assert.ok(await paused.catch(() => 'gone'))
    await until('it goes on', async () => (await ask('SHOW STATE'))[0]?.['value'] === 'yes')
    await client.query('COMMIT')
    assert.equal((await client.query('SELECT 1')).rowCount, 1)
  })
  await ask('PAUSE')
  const [worker] = host.proxy!.workers
  process.kill(worker!.pid, 'SIGKILL')
  await until('it is replaced', async () => {
    const now = host.proxy!.workers.find(({ index }) => index === worker!.index)
    if (now === undefined || now.pid === worker!.pid) return false
    return (await ask('SHOW MEM')).some(row => row['name'] === `worker_${now.index}_heap`)
  })
  const waiting = Array.from({ length: 6 }, () => query(port, 'SELECT 1 AS one', { database: 'postgres' }))
  await until('all wait, in both workers', async () => {
    const rows = (await ask('SHOW CLIENTS')).filter(row => row['state'] === 'waiting')
    return rows.length === 6 && new Set(rows.map(row => row['worker'])).size === 2
  })
  await ask('RESUME')
  for (const rows of await Promise.all(waiting)) assert.deepEqual(rows, [{ one: 1 }])
})

test('RECONNECT closes connections when they come free, and WAIT_CLOSE waits for that', async () => {
  await withClient('postgres', async client => {
    const pid = async (): Promise<unknown> =>
      (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
    await client.query('BEGIN')
    const before = await pid()
    await ask('RECONNECT postgres')
    const server = (await ask('SHOW SERVERS')).find(row => row['remote_pid'] === before)
    assert.equal(server?.['close_needed'], 1)
    let isOver = false
    const closed = ask('WAIT_CLOSE postgres').then(() => {
      isOver = true
    })
    assert.equal(await pid(), before)
    assert.equal(isOver, false)
    await client.query('COMMIT')
    await closed
    assert.notEqual(await pid(), before)
  })
})

test('KILL ends clients and servers of one database, and new ones wait for RESUME', async () => {
  const other = await connect(port, { database: 'postgres' })
  const victim = await connect(port, { database: 'shop' })
  const running = sqlstateOf(victim.query('SELECT pg_sleep(30)'))
  await until('it runs', async () =>
    (await ask('SHOW SERVERS')).some(row => row['database'] === 'shop' && row['state'] === 'active'),
  )
  await ask('KILL shop')
  assert.equal(await running, '57P01')
  assert.equal(
    (await ask('SHOW SERVERS')).some(row => row['database'] === 'shop'),
    false,
  )
  const late = query(port, 'SELECT 2 AS two', { database: 'shop' })
  await until('it waits', async () => (await ask('SHOW CLIENTS')).some(row => row['state'] === 'waiting'))
  await ask('RESUME shop')
  assert.deepEqual(await late, [{ two: 2 }])
  assert.equal((await other.query('SELECT 1')).rowCount, 1)
  await other.end()
  await until('its backend is gone', async () => {
    const sql = `SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND state = 'active'`
    return (await cluster.primary.query(sql)).length === 0
  })
})

test('KILL_CLIENT ends one client, by its id or its ptr', async () => {
  for (const column of ['id', 'ptr']) {
    const victim = await connect(port, { database: 'postgres' })
    const ended = new Promise<Error>(resolve => victim.once('error', resolve))
    const row = (await ask('SHOW CLIENTS')).find(each => each['database'] === 'postgres')
    await ask(`KILL_CLIENT ${String(row?.[column])}`)
    assert.equal(((await ended) as DatabaseError).code, '57P01')
    await victim.end().catch(() => undefined)
  }
})

test('DISABLE refuses new clients until ENABLE, and leaves those that are there', async () => {
  await withClient('shop', async client => {
    await ask('DISABLE shop')
    assert.equal(await sqlstateOf(query(port, 'SELECT 1', { database: 'shop' })), '08P01')
    assert.equal((await client.query('SELECT 1')).rowCount, 1)
    const row = (await ask('SHOW DATABASES')).find(each => each['name'] === 'shop')
    assert.equal(row?.['disabled'], 1)
  })
  await ask('ENABLE shop')
  assert.equal((await query(port, 'SELECT 1', { database: 'shop' })).length, 1)
})
