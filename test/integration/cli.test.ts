import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { systemClock } from '../../src/runtime/clock.ts'
import { isAlive } from '../../src/runtime/process.ts'
import type { NodeIntent, Topology } from '../../src/topology/types.ts'
import { Cli, cliJson, runCli, startCli } from '../support/cli.ts'
import { freePorts } from '../support/ports.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

interface StatusJson {
  topology: Omit<Topology, 'nodes'> & { nodes: (Topology['nodes'][number] & { sessions: number })[] }
  proxies: { id: string; appliedRevision: number }[]
}

let cluster: TestCluster
let folder: string

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
  folder = await mkdtemp(join(tmpdir(), 'pgherd-cli-'))
  // The demo's servers may run as somebody else.
  await chmod(folder, 0o755)
})

after(async () => {
  await cluster.stop()
  await rm(folder, { recursive: true, force: true })
})

function nodeFlags(): string[] {
  const servers = [cluster.primary, ...cluster.replicas]
  return servers.flatMap(({ name, port }) => ['--node', `${name}=127.0.0.1:${port}`])
}

interface Ports {
  port: number
  readPort: number
  adminPort: number
  flags: string[]
  /** For the commands that ask this one. */
  env: Record<string, string>
}

async function takePorts(): Promise<Ports> {
  const [port = 0, readPort = 0, adminPort = 0] = await freePorts(3)
  const flags = ['--port', `${port}`, '--read-port', `${readPort}`, '--admin-port', `${adminPort}`]
  return { port, readPort, adminPort, flags, env: { PGHERD_ADMIN_URL: `http://127.0.0.1:${adminPort}` } }
}

describe('a demo that cannot start', () => {
  const demo = async (folder: string, env: Record<string, string> = {}): ReturnType<typeof runCli> => {
    const { flags } = await takePorts()
    return runCli(['demo', ...flags, '--data', folder], { env })
  }

  test('says only why, and leaves nothing behind', async () => {
    const made = join(folder, 'new', 'data')
    const { code, out, err } = await demo(made, { PGHERD_POSTGRES_BIN: '/no/such/folder' })
    assert.deepEqual([code, out], [1, ''])
    assert.match(err, /^error: PGHERD_POSTGRES_BIN is \/no\/such\/folder.*\n$/)
    assert.equal(existsSync(join(folder, 'new')), false)
  })

  test('leaves a folder of other data as it was', async () => {
    const data = join(folder, 'other')
    await mkdir(join(data, 'servers', 'b'), { recursive: true })
    await writeFile(join(data, 'servers', 'b', 'PG_VERSION'), '')
    const { code, out, err } = await demo(data)
    assert.deepEqual([code, out], [1, ''])
    assert.match(err, /^error: .*servers\/b is no PostgreSQL data folder, or is damaged: .*\n$/)
    assert.deepEqual((await readdir(data, { recursive: true })).sort(), [
      'servers',
      'servers/b',
      'servers/b/PG_VERSION',
    ])
  })
})

describe('pgherd up straight from flags', () => {
  let ports: Ports
  let up: Cli

  before(async () => {
    ports = await takePorts()
    up = await startCli(['up', ...nodeFlags(), ...ports.flags, '--workers', '2', '--id', 'p1'], {
      cwd: folder,
      // Clients keep a server connection, so that there are sessions to leave a node.
      env: { PGHERD_PROXY_POOL_MODE: 'session' },
    })
  })
  after(() => up.stop())

  const status = (): Promise<StatusJson> => cliJson(['status'], { env: ports.env })

  test('it says where, finds the roles by itself, and serves', async () => {
    const { port, readPort, adminPort } = ports
    const places = `reads and writes on 127.0.0.1:${port}, reads on ${readPort}, admin on http://127.0.0.1:${adminPort}`
    assert.equal(up.out, `pgherd is ready: ${places}\n`)
    const rows = await query<{ standby: boolean }>(port, 'select pg_is_in_recovery() as standby')
    assert.equal(rows[0]?.standby, false)
    await until('both replicas to take reads', async () => {
      const { topology } = await status()
      return topology.nodes.filter(({ readable }) => readable).length === 2
    })
    const { topology, proxies } = await status()
    assert.equal(topology.primary, 'a')
    assert.deepEqual(
      topology.nodes.map(({ name, role, port }) => [name, role, port]),
      [cluster.primary, ...cluster.replicas].map(({ name, port }, index) => [
        name,
        index === 0 ? 'primary' : 'replica',
        port,
      ]),
    )
    assert.deepEqual(
      proxies.map(({ id }) => id),
      ['p1'],
    )
    assert.equal(existsSync(join(folder, 'pgherd-store')), false, 'the store is in memory')
  })

  test('a node is drained, resumed and weighed, and the command waits until the proxy has it', async () => {
    const [replica] = cluster.replicas
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect(ports.readPort)))
    const onReplica = async (): Promise<number> =>
      (await status()).topology.nodes.find(({ name }) => name === 'b')?.sessions ?? -1
    await until('sessions on both replicas', async () => (await onReplica()) === 2)

    const drained = await runCli(['node', 'drain', 'b'], { env: ports.env })
    assert.match(
      drained.out,
      /^b takes nothing new; 1 proxy has applied it \(change \d+, revision \d+, [\d.]+ ms\); /,
    )
    await until('no session on b', async () => (await onReplica()) === 0)
    for (const client of clients) {
      const { rows } = await client.query<{ port: number }>('select inet_server_port() as port')
      assert.notEqual(rows[0]?.port, replica?.port)
    }
    const { revision } = await cliJson<{ revision: number }>(['node', 'resume', 'b'], { env: ports.env })
    const weighed = await cliJson<{ node: string; appliedBy: string[]; notAppliedBy: string[] }>(
      ['node', 'weight', 'b', '7'],
      { env: ports.env },
    )
    assert.deepEqual([weighed.node, weighed.appliedBy, weighed.notAppliedBy], ['b', ['p1'], []])
    const { topology, proxies } = await status()
    const [, b] = topology.nodes
    assert.deepEqual([b?.name, b?.state, b?.weight, b?.readable], ['b', 'active', 7, true])
    assert.ok((proxies[0]?.appliedRevision ?? 0) > revision)
    await Promise.all(clients.map(client => client.end()))
  })

  test('a watch shows the status every second, also as JSON', async () => {
    for (const more of [[], ['--json']]) {
      const watch = new Cli(['status', '--watch', ...more], { env: ports.env })
      const frames = (): number => watch.out.split(/^cluster main|^\{/m).length - 1
      await until('the first frame', () => frames() > 0)
      const startedMs = systemClock.nowMs()
      await until('two more frames', () => frames() > 2)
      const tookMs = systemClock.nowMs() - startedMs
      assert.ok(tookMs > 1500, `${tookMs} ms for two more`)
      await watch.stop()
    }
  })

  test('what is not safe is refused with a sentence and exit code 1', async () => {
    const { env } = ports
    const refusals: [args: string[], sentence: RegExp][] = [
      [['node', 'drain', 'a'], /^error: node a is the primary.*\nhint: .*--force/],
      [['node', 'drain', 'zz'], /^error: there is no node zz\nhint: Known nodes: a, b, c\.\n$/],
      [['node', 'add', 'd', `127.0.0.1:${cluster.primary.port}`], /is already the address of node a/],
      [['node', 'add', 'd', '127.0.0.1:1'], /could not be asked who it is.*\nhint: .*--no-check/],
    ]
    for (const [args, sentence] of refusals) {
      const { code, out, err } = await runCli(args, { env })
      assert.deepEqual([code, out], [1, ''], args.join(' '))
      assert.match(err, sentence)
    }
  })

  test('a node is added unseen, listed and removed', async () => {
    const { env } = ports
    const more = ['--no-check', '--tag', 'disk=ssd', '--zone', 'east', '--priority', '0']
    const added = await runCli(['node', 'add', 'd', '127.0.0.1:1', ...more], { env })
    assert.match(added.out, /^d is added; 1 proxy has applied it/)
    const { nodes } = await cliJson<{ nodes: (NodeIntent & { name: string; role: string })[] }>(
      ['node', 'list'],
      { env },
    )
    assert.deepEqual(
      nodes.map(({ name, role }) => [name, role]),
      [
        ['a', 'primary'],
        ['b', 'replica'],
        ['c', 'replica'],
        ['d', 'unknown'],
      ],
    )
    const [, , , d] = nodes
    assert.deepEqual([d?.zone, d?.priority, d?.tags, d?.state], ['east', 0, { disk: 'ssd' }, 'active'])
    assert.equal((await runCli(['node', 'remove', 'd'], { env })).code, 0)
    const { entries } = await cliJson<{ entries: { key: string }[] }>(
      ['store', 'dump', '--prefix', 'intent/nodes/'],
      { env },
    )
    assert.deepEqual(
      entries.map(({ key }) => key),
      ['a', 'b', 'c'].map(name => `/pgherd/main/intent/nodes/${name}`),
    )
  })

  test('a port that is taken: one sentence, exit code 1, nothing begun', async () => {
    const { adminPort } = await takePorts()
    const flags = ['--port', `${ports.port}`, '--read-port', '0', '--admin-port', `${adminPort}`]
    const args = ['up', ...nodeFlags(), ...flags, '--store-path', join(folder, 'never')]
    const { code, out, err } = await runCli(args, { cwd: folder })
    assert.deepEqual([code, out], [1, ''])
    assert.equal(
      err,
      `error: port ${ports.port} on 127.0.0.1 is taken by another program\n` +
        'hint: stop that program, or choose another port with --port or the key proxy.port\n',
    )
    assert.equal(existsSync(join(folder, 'never')), false)
  })

  test('SIGTERM ends it with 0, the workers and idle sessions with it', async () => {
    const client = await connect(ports.port)
    const ended = new Promise(resolve => client.once('end', resolve))
    const workers = await up.workers()
    assert.equal(workers.length, 2)
    up.signal('SIGTERM')
    assert.equal(await up.exited, 0)
    await ended
    await until('the workers to be gone', () => !workers.some(isAlive))
    const asked = await runCli(['status'], { env: ports.env })
    assert.equal(asked.code, 1)
    const sentence = `no pgherd answers at http://127.0.0.1:${ports.adminPort} (connection refused)`
    assert.ok(asked.err.startsWith(`error: ${sentence}\nhint: `), asked.err)
  })
})

test('a second signal ends it at once, whatever sessions are doing', async () => {
  const ports = await takePorts()
  const up = await startCli(['up', ...nodeFlags(), ...ports.flags, '--workers', '1'])
  try {
    const client = await connect(ports.port)
    await client.query('begin')
    const workers = await up.workers()
    up.signal('SIGTERM')
    await until('it to begin stopping', () => up.err.includes('"process.stopping"'))
    assert.ok(workers.every(isAlive), 'a transaction may end first')
    up.signal('SIGTERM')
    assert.equal(await up.exited, 143)
    await until('the workers to be gone', () => !workers.some(isAlive))
  } finally {
    await up.stop()
  }
})

test('SIGHUP reads the file again: live changes count at once, others wait, a broken file changes nothing', async () => {
  const { port, readPort, adminPort, env } = await takePorts()
  const file = join(folder, 'reload.yaml')
  const write = (proxyMore: string, more = ''): Promise<void> =>
    writeFile(
      file,
      `proxy: {port: ${port}, read_port: ${readPort}, workers: 1${proxyMore}}
admin: {port: ${adminPort}}
store: {path: ${join(folder, 'reload-store')}}
nodes:
  - {name: a, host: 127.0.0.1, port: ${cluster.primary.port}}
${more}`,
      { mode: 0o600 },
    )
  await write('')
  const up = await startCli(['up', '--config', file])
  try {
    const said = (sentence: string): boolean => up.err.includes(`"msg":"${sentence}`)
    const [replica] = cluster.replicas
    const first = await connect(port)
    await write(
      `, max_client_conn: 1, pool_mode: session, zone: east`,
      `  - {name: b, host: 127.0.0.1, port: ${replica?.port}}\n`,
    )
    up.signal('SIGHUP')
    await until('the report', () => said('needs a restart: proxy.zone'))
    assert.ok(said('applied: proxy.max_client_conn changed from 10000 to 1'), up.err)
    assert.ok(said('applied: nodes.b set to'), up.err)
    await assert.rejects(connect(port), /max_client_conn/)
    const { topology } = await cliJson<StatusJson>(['status'], { env })
    assert.deepEqual(
      topology.nodes.map(({ name }) => name),
      ['a', 'b'],
    )

    await write(', max_client_conn: 5, prt: 1')
    up.signal('SIGHUP')
    await until('the refusal', () => said('nothing was applied: the configuration has 1 problem'))
    assert.match(up.err, /reload\.yaml:1:\d+: `proxy\.prt` is not a known key/)
    await assert.rejects(connect(port), /max_client_conn/)

    await write(', max_client_conn: 2')
    up.signal('SIGHUP')
    await until('the node that stays', () => said('nodes.b stays as it is in the store'))
    const second = await connect(port)
    await Promise.all([first.end(), second.end()])
  } finally {
    await up.stop()
  }
})

test('the embedded store of no running process is opened where it lies, and kept by it while one runs', async () => {
  const ports = await takePorts()
  const env = { PGHERD_STORE_PATH: join(folder, 'kept-store'), PGHERD_ADMIN_PORT: `${ports.adminPort}` }
  const node = ['--node', `a=127.0.0.1:${cluster.primary.port}`]
  const nothing = await runCli(['up', '--port', `${ports.port}`], { env })
  assert.equal(nothing.code, 2)
  assert.match(nothing.err, /^error: there is no PostgreSQL server to use\nhint: /)

  const first = await runCli(['store', 'init', ...node], { env })
  assert.match(first.out, /^the embedded store can be reached\nsettings: written\nnode a at .*: written\n$/)
  const again = await runCli(['store', 'init', ...node], { env })
  assert.match(again.out, /settings: there already\nnode a at .*: there already\n$/)

  const up = await startCli(['up', ...ports.flags, '--workers', '1'], { env })
  try {
    assert.equal((await query(ports.port, 'select 1 as one')).length, 1)
    const { entries } = await cliJson<{ entries: { key: string; leaseId: string | null }[] }>(
      ['store', 'dump'],
      { env },
    )
    const proxy = entries.find(({ key }) => key.startsWith('/pgherd/main/status/proxies/'))
    assert.notEqual(proxy?.leaseId ?? null, null)
  } finally {
    await up.stop()
  }
  const { out } = await runCli(['store', 'dump'], { env })
  assert.match(
    out,
    /^\/pgherd\/main\/intent\/generation [^]*\n\/pgherd\/main\/intent\/nodes\/a {2}revision \d+\n {2}\{\n {4}"v": 1,/,
  )
  assert.doesNotMatch(out, /status\/proxies/)
})
