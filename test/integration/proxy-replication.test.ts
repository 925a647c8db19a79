import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { baseEnvironment, type Child, runCommand, startChild } from '../../src/runtime/process.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import { operationsOn, startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need, programPath } from '../support/need.ts'
import { caughtUp, killServer, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { askForPasswords, psql } from '../support/server-auth.ts'
import { until } from '../support/wait.ts'

/** Base backups, WAL receivers and logical replication through the proxy, in pool mode `auto`. */
let cluster: TestCluster
let subscriber: TestCluster
let host: Host
let port: number
let readPort: number
let dir: string
const children: Child[] = []

const servers = () => [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgherd-replication-'))
  ;[cluster, subscriber] = await Promise.all([
    startTestCluster({ replicas: 1, settings: { wal_level: 'logical', hot_standby_feedback: 'on' } }),
    startTestCluster(),
  ])
  await cluster.primary.query('create table entries (id int primary key, told text)')
  const config = await testConfig(servers())
  assert.equal(config.proxy.pool_mode, 'auto')
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
  port = config.proxy.port
  readPort = config.proxy.read_port
})

afterEach(async () => {
  await Promise.all(children.splice(0).map(child => child.stop('SIGINT', 5000)))
})

after(async () => {
  // It could not say goodbye to a publisher that is gone.
  await subscriber?.stop()
  await host?.stop()
  await cluster?.stop()
  await rm(dir, { recursive: true, force: true })
})

const connection = (at: number, more = ''): string =>
  `host=127.0.0.1 port=${at} user=postgres dbname=postgres ${more}`

const optionsOf = (name: string, args: string[]) => ({
  command: programPath(name)!,
  args,
  env: baseEnvironment(),
})

async function run(name: string, ...args: string[]): Promise<void> {
  const { code, tail } = await runCommand(optionsOf(name, args), 20_000)
  assert.equal(code, 0, `${name}: ${tail.join('\n')}`)
}

/** As the server's own programs see it: they are the ones of its version. */
async function verify(backup: string): Promise<void> {
  const command = join(cluster.binaries.folder, 'pg_verifybackup')
  const { code, tail } = await runCommand({ command, args: [backup], env: baseEnvironment() }, 20_000)
  assert.equal(code, 0, tail.join('\n'))
}

async function start(name: string, ...args: string[]): Promise<Child> {
  const child = await startChild(optionsOf(name, args))
  children.push(child)
  return child
}

/** WAL senders that the program of this name is served by, on the server itself. */
async function sendersOf(name: string, server = cluster.primary): Promise<{ pid: number; state: string }[]> {
  return server.query(`select pid, state from pg_stat_replication where application_name = '${name}'`)
}

const untilStreaming = (name: string, server = cluster.primary): Promise<unknown> =>
  until(`${name} streams`, async () => (await sendersOf(name, server))[0]?.state === 'streaming')

/** Streams, and has all that there is: nothing is half-way. */
const untilReceived = (server = cluster.primary): Promise<unknown> =>
  until('the receiver has all there is', async () => {
    const all = `state = 'streaming' and flush_lsn = sent_lsn`
    return (
      (
        await server.query(
          `select from pg_stat_replication where application_name = 'pg_receivewal' and ${all}`,
        )
      ).length === 1
    )
  })

const untilNoSender = (name: string, server = cluster.primary): Promise<unknown> =>
  until(`the WAL sender of ${name} has gone`, async () => (await sendersOf(name, server)).length === 0)

describe('base backups', need('pg_basebackup'), () => {
  for (const method of ['stream', 'fetch']) {
    test(`with -X ${method} they are complete`, async () => {
      const target = join(dir, `backup-${method}`)
      await run('pg_basebackup', '-d', connection(port), '-D', target, '-X', method, '-c', 'fast')
      await verify(target)
      await untilNoSender('pg_basebackup')
    })
  }

  test('through the read port they are taken from a replica', async () => {
    const [replica] = cluster.replicas
    const target = join(dir, 'backup-replica')
    await run('pg_basebackup', '-d', connection(readPort), '-D', target, '-X', 'stream', '-c', 'fast')
    await verify(target)
    await stat(join(target, 'standby.signal'))
    await untilNoSender('pg_basebackup', replica)
  })
})

describe('pg_receivewal', need('pg_receivewal'), () => {
  const bytesIn = async (folder: string): Promise<Buffer> =>
    Buffer.concat(await Promise.all((await readdir(folder)).map(name => readFile(join(folder, name)))))

  test('it gets what is written, with a slot, until it is stopped', async () => {
    const folder = await mkdtemp(join(dir, 'wal-'))
    const args = ['-d', connection(port), '-D', folder, '-S', 'archive']
    await run('pg_receivewal', ...args, '--create-slot')
    const child = await start('pg_receivewal', ...args, '--synchronous')
    await untilStreaming('pg_receivewal')
    await query(port, `insert into entries values (1, 'a-line-in-the-log')`)
    await until('the row is in the WAL received', async () =>
      (await bytesIn(folder)).includes('a-line-in-the-log'),
    )
    assert.equal((await child.stop('SIGINT', 5000)).code, 0)
    await untilNoSender('pg_receivewal')
    await run('pg_receivewal', ...args, '--drop-slot')
  })

  test('through the read port it follows a replica', async () => {
    const replica = cluster.replicas[0]!
    const folder = await mkdtemp(join(dir, 'wal-'))
    await start('pg_receivewal', '-d', connection(readPort), '-D', folder, '--synchronous')
    await untilStreaming('pg_receivewal', replica)
    assert.deepEqual(await sendersOf('pg_receivewal'), [])
    await query(port, `insert into entries values (2, 'by-way-of-a-replica')`)
    await until('the row is in the WAL received', async () =>
      (await bytesIn(folder)).includes('by-way-of-a-replica'),
    )
  })

  test('one that dies without a word leaves no WAL sender behind', async () => {
    const folder = await mkdtemp(join(dir, 'wal-'))
    const child = await start('pg_receivewal', '-d', connection(port), '-D', folder, '-n')
    await untilStreaming('pg_receivewal')
    await child.stop('SIGKILL', 5000)
    await untilNoSender('pg_receivewal')
  })
})

describe('pg_recvlogical', need('pg_recvlogical'), () => {
  test('it gets the changes', async () => {
    const file = join(dir, 'changes')
    await cluster.primary.query('create publication lines for table entries')
    const args = ['-d', connection(port), '-S', 'changes', '-P', 'pgoutput']
    await run('pg_recvlogical', ...args, '--create-slot')
    const options = ['-o', 'proto_version=1', '-o', 'publication_names=lines']
    const child = await start('pg_recvlogical', ...args, '--start', ...options, '-f', file, '-n')
    await untilStreaming('pg_recvlogical')
    await query(port, `insert into entries values (3, 'a-decoded-line')`)
    await until('the row has come', async () => (await readFile(file)).includes('a-decoded-line'))
    await child.stop('SIGINT', 5000)
    await untilNoSender('pg_recvlogical')
    await run('pg_recvlogical', '-d', connection(port), '-S', 'changes', '--drop-slot')
  })
})

describe('statements of a replication connection', need('psql'), () => {
  for (const kind of ['true', 'database']) {
    test(`with replication=${kind} they stay on one server connection of its own`, async () => {
      const slots = `CREATE_REPLICATION_SLOT kept TEMPORARY PHYSICAL`
      const shown = 'SHOW application_name'
      const own = connection(port, `replication=${kind} application_name=commands`)
      const script = ['-c', slots, '-c', shown, '-c', 'READ_REPLICATION_SLOT kept', own]
      const { code, tail } = await runCommand(optionsOf('psql', ['-XAtq', ...script]), 10_000)
      assert.equal(code, 0, tail.join('\n'))
      assert.match(tail.join('\n'), /^kept\|.*\ncommands\nphysical\|/)
      const left = `select from pg_stat_activity where application_name = 'commands'`
      await until(
        'its server connection is gone',
        async () => (await cluster.primary.query(left)).length === 0,
      )
    })
  }

  test('one in a database may run SQL between its commands', async () => {
    const own = connection(port, 'replication=database')
    const { out } = await psql(own, 'select count(*) > 0 from pg_class')
    assert.equal(out, 't')
  })

  test('what it needed is nobody else’s to have', async () => {
    const pids = async (more: string): Promise<string> =>
      (await psql(connection(port, `replication=database ${more}`), 'select pg_backend_pid()')).out
    const [first, second] = [await pids(''), await pids('')]
    assert.notEqual(first, second)
    const [plain] = await query<{ pid: number }>(port, 'select pg_backend_pid() as pid')
    assert.ok(![first, second].includes(String(plain?.pid)))
  })
})

test('a subscription follows through the proxy, and goes on after it was disabled', async () => {
  const { primary } = subscriber
  await cluster.primary.query('create table items (id int primary key)')
  await cluster.primary.query('insert into items select generate_series(1, 1000)')
  await cluster.primary.query('create publication stock for table items')
  await primary.query('create table items (id int primary key)')
  await primary.query(`create subscription stock connection '${connection(port)}' publication stock`)
  const count = async (): Promise<number> =>
    (await primary.query<{ n: number }>('select count(*)::int as n from items'))[0]!.n
  await until('the table was copied', async () => (await count()) === 1000)
  await query(port, 'insert into items values (1001)')
  await until('a change has come', async () => (await count()) === 1001)

  // The worker leaves without ending its stream; a slot that stayed in use would keep the next one out.
  await primary.query('alter subscription stock disable')
  const inUse = `select from pg_replication_slots where slot_name = 'stock' and active`
  await until('the slot is free', async () => (await cluster.primary.query(inUse)).length === 0, 5000)
  await query(port, 'insert into items values (1002)')
  await primary.query('alter subscription stock enable')
  await until('it goes on', async () => (await count()) === 1002)
})

test('with logins at the proxy the access rules for replication count', need('psql'), async () => {
  const { primary } = cluster
  await primary.query(`create role ada login replication password 'ada-Geheim'`)
  await primary.query(`create role bob login replication password 'bob-Geheim'`)
  await askForPasswords(primary, [
    'host replication postgres 127.0.0.1/32 trust',
    'host all,replication all all scram-sha-256',
  ])
  const rule = { type: 'host', address: '127.0.0.0/8', method: 'scram-sha-256' }
  const config = await testConfig(servers(), {
    'proxy.auth.method': 'proxy',
    'proxy.auth.query_user': 'postgres',
    'proxy.auth.rules': [
      { ...rule, database: 'replication', user: 'ada' },
      { ...rule, database: 'postgres', user: 'bob' },
    ],
  })
  const other = await startTestHost(config)
  try {
    await untilRolesAreKnown(other)
    const as = (user: string, replication: string) =>
      psql(
        `host=127.0.0.1 port=${config.proxy.port} user=${user} dbname=postgres ${replication}`,
        'IDENTIFY_SYSTEM',
        {
          PGPASSWORD: `${user}-Geheim`,
        },
      )
    assert.match((await as('ada', 'replication=true')).out, /^\d+\|1\|/)
    assert.match((await as('ada', 'replication=database')).err, /no entry in pgherd's access rules .*"ada"/)
    assert.match((await as('bob', 'replication=true')).err, /no entry .* replication connection .*"bob"/)
    assert.match((await as('bob', 'replication=database')).out, /^\d+\|1\|.*\|postgres$/)
  } finally {
    await other.stop()
  }
})

describe('the end of a stream', need('pg_receivewal'), () => {
  const receive = async (at: number): Promise<Child> => {
    const folder = await mkdtemp(join(dir, 'wal-'))
    return start('pg_receivewal', '-d', connection(at), '-D', folder, '-n', '--synchronous')
  }
  const isEnded = (child: Child, how: RegExp): Promise<void> =>
    until('the receiver has ended', () => child.exit).then(() => assert.match(child.tail.join('\n'), how))

  test('a node that is drained ends it when the time is over, and a proxy that stops at once', async () => {
    const config = await testConfig(servers(), {
      'routing.drain_timeout': '300ms',
      'proxy.shutdown_timeout': '30s',
      'proxy.min_pool_size': 2,
    })
    // What pg_receivewal gives for the name of its database.
    await cluster.primary.query('create database replication', 10_000)
    const other = await startTestHost(config)
    const [replica] = cluster.replicas
    try {
      await untilRolesAreKnown(other)
      const drained = await receive(config.proxy.read_port)
      await untilReceived(replica)
      await setNodeState(operationsOn(other), 'b', 'drain', true)
      await isEnded(drained, /b is being drained/)
      const spare = `select from pg_stat_activity where datname = 'replication'`
      assert.deepEqual(await replica!.query(spare), [], 'what it names is no database for spare connections')
      const stopped = await receive(config.proxy.port)
      await untilReceived()
      const startedMs = systemClock.nowMs()
      await other.stop()
      await isEnded(stopped, /the proxy is shutting down/)
      assert.ok(systemClock.nowMs() - startedMs < 10_000, 'nobody waits for the end of a stream')
    } finally {
      await other.stop()
    }
  })

  test('it ends with the primary that is lost, and the next one comes from the new primary', async () => {
    const [replica] = cluster.replicas
    const child = await receive(port)
    await untilReceived()
    await caughtUp(cluster.primary, replica!)
    await killServer(cluster.primary)
    await isEnded(child, /connection to a was lost|terminating connection|closed the connection/)
    await replica!.promote()
    await until('it is the primary for all', () => host.watcher.current().nodes[1]?.writable)
    await receive(port)
    await untilReceived(replica)
  })
})
