import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { type Account, runAs, serverAccount } from '../../src/demo/account.ts'
import { type Cluster, type ClusterOptions, startCluster } from '../../src/demo/cluster.ts'
import { runningPid } from '../../src/demo/folder.ts'
import type { NodeState } from '../../src/demo/supervisor.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { createLogger } from '../../src/runtime/log.ts'
import { childrenOf, isAlive, signalProcess } from '../../src/runtime/process.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { mayLack } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { query, temporaryFolder } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

const names = ['a', 'b', 'c']

/** A cluster with what it logged, and the folder above it that is removed at the end. */
async function start(options: Partial<ClusterOptions> = {}): Promise<{ cluster: Cluster; lines: string[] }> {
  const lines: string[] = []
  const { PATH = '', PGHERD_POSTGRES_BIN } = process.env
  const cluster = await startCluster({
    nodes: names,
    ports: await freePorts(names.length),
    programs: { path: PATH, folder: PGHERD_POSTGRES_BIN },
    clock: systemClock,
    timers: systemTimers,
    log: createLogger({ level: 'info', format: 'text', write: line => lines.push(line) }),
    ...options,
  })
  return { cluster, lines }
}

function node(cluster: Cluster, name: string): NodeState {
  const state = cluster.nodes().find(state => state.name === name)
  assert.ok(state, `no node ${name}`)
  return state
}

/** Port that a replica streams from now, as its primary confirms it. */
async function streamsFrom(cluster: Cluster, name: string): Promise<number | undefined> {
  const sql = `select sender_port from pg_stat_wal_receiver where status = 'streaming'`
  const [row] = await query<{ sender_port: number }>(node(cluster, name).port, sql)
  return row?.sender_port
}

async function pgCtl(cluster: Cluster, account: Account, command: string, name: string): Promise<void> {
  const { folder } = node(cluster, name)
  // `-l` because a server started by hand would hold on to our pipe.
  const args = [command, '-D', folder, '-w', ...(command === 'start' ? ['-l', '/dev/null'] : [])]
  const result = await runAs(account, cluster.binaries.pgCtl, args, 30_000)
  assert.equal(result.code, 0, result.tail.join('; '))
}

async function kill(pid: number | undefined): Promise<void> {
  assert.ok(pid !== undefined)
  for (const each of [pid, ...(await childrenOf(pid))]) signalProcess(each, 'SIGKILL')
}

describe('a local cluster', async () => {
  const account = await serverAccount()
  const { cluster, lines } = await start()
  after(() => cluster.stop())

  const said = (text: string) => until(`the log says: ${text}`, () => lines.some(line => line.includes(text)))
  const insertAndRead = async (from: string, to: string): Promise<void> => {
    const value = String(systemClock.wallMs())
    await query(node(cluster, from).port, `create table if not exists t (x text)`)
    await query(node(cluster, from).port, `insert into t values ('${value}')`)
    await until(`${to} has what was written to ${from}`, async () => {
      return (await query(node(cluster, to).port, `select from t where x = '${value}'`)).length > 0
    })
  }

  it('is a primary with two streaming replicas', async () => {
    assert.deepEqual(
      cluster.nodes().map(({ name, role, state }) => [name, role, state]),
      [
        ['a', 'primary', 'running'],
        ['b', 'replica', 'running'],
        ['c', 'replica', 'running'],
      ],
    )
    await insertAndRead('a', 'b')
    await insertAndRead('a', 'c')
    const applications = await query(
      node(cluster, 'a').port,
      'select application_name from pg_stat_replication order by 1',
    )
    assert.deepEqual(applications, [{ application_name: 'b' }, { application_name: 'c' }])
  })

  it('brings a killed replica back', async () => {
    const { pid } = node(cluster, 'c')
    await kill(pid)
    await until(
      'c runs again',
      () => node(cluster, 'c').state === 'running' && node(cluster, 'c').pid !== pid,
    )
    await insertAndRead('a', 'c')
  })

  it('brings a killed primary back as the primary', async () => {
    const { pid } = node(cluster, 'a')
    await kill(pid)
    await until(
      'a runs again',
      () => node(cluster, 'a').state === 'running' && node(cluster, 'a').pid !== pid,
    )
    await insertAndRead('a', 'b')
  })

  it('leaves a stopped primary down, and lets the rest follow a promotion by hand', async () => {
    await pgCtl(cluster, account, 'stop', 'a')
    await said('a was stopped by hand')
    await pgCtl(cluster, account, 'promote', 'b')
    await until('c follows b', async () => (await streamsFrom(cluster, 'c')) === node(cluster, 'b').port)
    assert.equal(node(cluster, 'b').role, 'primary')
    assert.equal(node(cluster, 'a').state, 'stopped')
    await insertAndRead('b', 'c')
  })

  it('makes the old primary a replica when it is started again', async () => {
    await pgCtl(cluster, account, 'start', 'a')
    await until(
      'a follows b',
      async () => (await streamsFrom(cluster, 'a')) === node(cluster, 'b').port,
      20_000,
    )
    await insertAndRead('b', 'a')
  })

  it('makes a primary that crashes beside its successor a replica', async () => {
    await pgCtl(cluster, account, 'promote', 'c')
    await said('c was promoted while b is still a primary')
    await kill(node(cluster, 'b').pid)
    await until(
      'b follows c',
      async () => (await streamsFrom(cluster, 'b')) === node(cluster, 'c').port,
      20_000,
    )
    await until('a follows c', async () => (await streamsFrom(cluster, 'a')) === node(cluster, 'c').port)
    await insertAndRead('c', 'b')
  })

  it('leaves no process, port or file behind', async () => {
    await pgCtl(cluster, account, 'stop', 'a')
    await pgCtl(cluster, account, 'start', 'a')
    signalProcess(node(cluster, 'b').pid ?? 0, 'SIGSTOP')
    const pids = (await Promise.all(cluster.nodes().map(state => runningPid(state.folder)))).filter(
      pid => pid !== undefined,
    )
    assert.equal(pids.length, 3)
    const children = (await Promise.all(pids.map(childrenOf))).flat()
    assert.ok(children.length > 6)
    await cluster.stop()
    assert.deepEqual([...pids, ...children].filter(isAlive), [])
    assert.ok(!existsSync(cluster.dir))
    for (const { port } of cluster.nodes())
      await assert.rejects(query(port, 'select 1'), { code: 'ECONNREFUSED' })
  })
})

describe('a local cluster in a folder of its own', async () => {
  const account = await serverAccount()
  const parent = await temporaryFolder(account)
  const dir = join(parent, 'data')
  after(() => rm(parent, { recursive: true, force: true }))

  it('starts again with its roles and data, on other ports', async () => {
    const first = await start({ dir })
    await query(node(first.cluster, 'a').port, 'create table kept as select 42 as answer')
    await pgCtl(first.cluster, account, 'stop', 'a')
    await pgCtl(first.cluster, account, 'promote', 'b')
    await until(
      'c follows b',
      async () => (await streamsFrom(first.cluster, 'c')) === node(first.cluster, 'b').port,
    )
    await first.cluster.stop()
    const second = await start({ dir })
    try {
      assert.deepEqual(
        second.cluster.nodes().map(({ role }) => role),
        ['replica', 'primary', 'replica'],
      )
      for (const { port } of second.cluster.nodes()) {
        assert.deepEqual(await query(port, 'select answer from kept'), [{ answer: 42 }])
      }
      for (const name of ['a', 'c']) {
        const { port } = node(second.cluster, 'b')
        await until(`${name} follows b`, async () => (await streamsFrom(second.cluster, name)) === port)
      }
    } finally {
      await second.cluster.stop()
    }
    assert.ok(existsSync(join(dir, 'b', 'PG_VERSION')))
  })

  it('makes a replica anew that has missed too much', async () => {
    const settings = { wal_keep_size: '32MB' }
    const first = await start({ dir, settings })
    await pgCtl(first.cluster, account, 'stop', 'c')
    const { port } = node(first.cluster, 'b')
    for (let i = 0; i < 6; i++) {
      await query(port, `insert into kept values (43)`)
      await query(port, `select pg_switch_wal()`)
    }
    await query(port, 'checkpoint')
    await first.cluster.stop()
    const second = await start({ dir, settings })
    try {
      const { lines } = second
      await until('the log says why', () =>
        lines.some(line => /making it anew: .*already been removed/.test(line)),
      )
      await until('c has what it missed', async () => {
        return (
          (await query(node(second.cluster, 'c').port, 'select from kept where answer = 43')).length === 6
        )
      })
    } finally {
      await second.cluster.stop()
    }
  })

  it('refuses a folder of another demo, and one that a demo left servers on, and leaves them alone', async () => {
    const first = await start({ dir })
    try {
      const other = new RegExp(`a pgherd demo \\(process ${process.pid}\\) is running on ${dir}: `)
      await assert.rejects(start({ dir }), { code: 'folder_in_use', message: other })
      // As after a kill -9 of the demo, whose servers then run on.
      await rm(join(dir, 'lock'))
      const pids = await Promise.all(names.map(name => runningPid(join(dir, name))))
      await assert.rejects(start({ dir }), (error: Error) => {
        for (const [index, pid] of pids.entries()) {
          assert.ok(error.message.includes(`${join(dir, names[index]!)} (process ${pid})`), error.message)
        }
        assert.ok(error.message.includes(`kill -INT ${pids.join(' ')}`), error.message)
        return true
      })
      assert.deepEqual(await query(node(first.cluster, 'a').port, 'select 1 as one'), [{ one: 1 }])
    } finally {
      await first.cluster.stop()
    }
    assert.ok(!existsSync(join(dir, 'lock')))
  })

  it('refuses data of another version', async () => {
    const file = join(dir, 'c', 'PG_VERSION')
    const version = await readFile(file, 'utf8')
    await writeFile(file, '9\n')
    await assert.rejects(start({ dir }), {
      code: 'version_mismatch',
      message: /made by PostgreSQL 9, but the programs/,
    })
    await writeFile(file, version)
    assert.equal(await runningPid(join(dir, 'a')), undefined)
  })

  it('refuses a folder with something else in it, and leaves it as it was', async () => {
    const other = join(parent, 'other')
    await mkdir(join(other, 'b'), { recursive: true })
    await writeFile(join(other, 'b', 'letter.txt'), 'dear')
    await assert.rejects(start({ dir: other }), {
      code: 'folder_unusable',
      message: /not a PostgreSQL data folder/,
    })
    assert.equal(await readFile(join(other, 'b', 'letter.txt'), 'utf8'), 'dear')
  })
})

describe('a local cluster that cannot start', async () => {
  const account = await serverAccount()

  it('names the port that is taken and starts nothing', async () => {
    const server = createServer()
    const ports = await freePorts(3)
    await new Promise<void>(resolve => server.listen(ports[1], '127.0.0.1', resolve))
    await assert.rejects(start({ ports }), {
      code: 'port_taken',
      message: new RegExp(`port ${ports[1]}.*taken`),
    })
    await new Promise(resolve => server.close(resolve))
    for (const port of ports) await assert.rejects(query(port, 'select 1'), { code: 'ECONNREFUSED' })
  })

  it('says where PostgreSQL was looked for', async () => {
    const programs = { path: '', folder: '/no/such/folder' }
    await assert.rejects(start({ programs }), {
      code: 'no_binaries',
      message: /PGHERD_POSTGRES_BIN is \/no\/such\/folder/,
    })
  })

  it('passes on what the server said, and leaves nothing running', async () => {
    const ports = await freePorts(3)
    const settings = { max_connections: 'many' }
    await assert.rejects(start({ ports, settings }), { code: 'start_failed', message: /max_connections/ })
    for (const port of ports) await assert.rejects(query(port, 'select 1'), { code: 'ECONNREFUSED' })
  })

  it('gives up when told to', async () => {
    const parent = await temporaryFolder(account)
    const dir = join(parent, 'data')
    const aborter = new AbortController()
    const starting = start({ dir, signal: aborter.signal })
    await until('a is running', () => runningPid(join(dir, 'a')).catch(() => undefined))
    aborter.abort()
    await assert.rejects(starting)
    for (const name of names) assert.equal(await runningPid(join(dir, name)), undefined)
    await rm(parent, { recursive: true })
  })
})

describe('the PostgreSQL of the npm package', async () => {
  const options = { programs: { path: '', packageOnly: true } }

  it('makes a cluster too', async t => {
    const started = await start(options).catch((cause: Error & { code?: string }) => {
      if (cause.code === 'no_binaries') return t.skip(mayLack(`no platform package: ${cause.message}`))
      throw cause
    })
    if (!started) return
    const { cluster } = started
    try {
      assert.match(dirname(cluster.binaries.postgres), /native\/bin$|postgresql-/)
      await query(node(cluster, 'a').port, 'create table t as select 1 as x')
      await until(
        'c has it',
        async () => (await query(node(cluster, 'c').port, 'select x from t')).length > 0,
      )
    } finally {
      await cluster.stop()
    }
  })

  it('is not copied into a folder of another version for good', async t => {
    const dir = await temporaryFolder(await serverAccount())
    await mkdir(join(dir, 'a'))
    await writeFile(join(dir, 'a', 'PG_VERSION'), '9\n')
    const failed: Error & { code?: string } = await start({ dir, ...options }).then(
      () => assert.fail('it started'),
      (cause: Error) => cause,
    )
    const left = await readdir(dir)
    await rm(dir, { recursive: true })
    if (failed.code === 'no_binaries') return t.skip(mayLack(`no platform package: ${failed.message}`))
    assert.equal(failed.code, 'version_mismatch')
    assert.deepEqual(left, ['a'])
  })
})
