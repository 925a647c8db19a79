import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Client } from 'pg'
import type { ProxyAnswer } from '../../src/cli/status-view.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import type { Store } from '../../src/store/store.ts'
import { keysOf } from '../../src/topology/keys.ts'
import type { Topology } from '../../src/topology/types.ts'
import { type Cli, cliJson, runCli, startCli } from '../support/cli.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { openEtcd } from '../support/stores.ts'
import { until } from '../support/wait.ts'

interface StatusJson {
  source: string
  store: { up: boolean }
  topology: Topology
  proxies: { id: string; appliedRevision: number }[] | null
}

interface Proxy {
  id: string
  port: number
  readPort: number
  adminUrl: string
  process: Cli
}

/** What a drain may take from the write in the store until both proxies say that no session is left. */
const drainLimitMs = 200
/** On top of it, for a machine that is busy with other tests. */
const slackMs = 800
const idlePerProxy = 6

describe('three agents and two proxies share an etcd', need('etcd', 'etcdctl'), () => {
  let cluster: TestCluster
  let etcd: EtcdCluster
  let store: Store
  const agents: Cli[] = []
  const proxies: Proxy[] = []

  before(async () => {
    ;[cluster, etcd] = await Promise.all([startTestCluster({ replicas: 2 }), EtcdCluster.start()])
    // Clients keep a server connection, so that there are sessions to leave a node.
    const env = { PGHERD_CLUSTER: 'fleet', PGHERD_PROXY_POOL_MODE: 'session' }
    const etcdFlags = ['--etcd', etcd.endpoints.join(',')]
    store = await openEtcd(etcd.endpoints)
    for (const { name, port } of [cluster.primary, ...cluster.replicas]) {
      const [httpPort] = await freePorts(1)
      const flags = ['--node', name, '--postgres', `127.0.0.1:${port}`, '--http-port', `${httpPort}`]
      agents.push(await startCli(['agent', ...etcdFlags, ...flags, '--check-port', '0'], { env }))
    }
    for (const id of ['p1', 'p2']) {
      const [port = 0, readPort = 0, adminPort = 0] = await freePorts(3)
      const flags = ['--port', `${port}`, '--read-port', `${readPort}`, '--admin-port', `${adminPort}`]
      const process = await startCli(['proxy', ...etcdFlags, ...flags, '--id', id, '--workers', '1'], { env })
      proxies.push({ id, port, readPort, adminUrl: `http://127.0.0.1:${adminPort}`, process })
    }
  })

  after(async () => {
    try {
      await Promise.all([...proxies.map(proxy => proxy.process.stop()), ...agents.map(agent => agent.stop())])
    } finally {
      await store?.close()
      await Promise.all([etcd?.stop(), cluster?.stop()])
    }
  })

  const access = (proxy: Proxy): { env: Record<string, string> } => ({
    env: {
      PGHERD_CLUSTER: 'fleet',
      PGHERD_STORE_KIND: 'etcd',
      PGHERD_STORE_ENDPOINTS: etcd.endpoints.join(','),
      PGHERD_ADMIN_URL: proxy.adminUrl,
    },
  })
  const status = (proxy: Proxy): Promise<StatusJson> => cliJson(['status'], access(proxy))

  test('each proxy knows every node from its agent, and of the other proxy', async () => {
    for (const proxy of proxies) {
      const { topology, proxies: rows } = await until('the fleet to be complete', async () => {
        const shown = await status(proxy)
        const usable = shown.topology.nodes.filter(node => node.readable || node.writable)
        return usable.length === 3 ? shown : undefined
      })
      assert.deepEqual(
        topology.nodes.map(({ name, role, source, declared }) => [name, role, source, declared]),
        [
          ['a', 'primary', 'agent', false],
          ['b', 'replica', 'agent', false],
          ['c', 'replica', 'agent', false],
        ],
      )
      assert.deepEqual(rows?.map(({ id }) => id).sort(), ['p1', 'p2'])
    }
  })

  test('where no proxy answers, status shows what etcd has', async () => {
    const [anyProxy] = proxies
    const { env } = access(anyProxy!)
    const shown = await cliJson<StatusJson>(['status', '--admin-url', 'http://127.0.0.1:1'], { env })
    assert.deepEqual([shown.source, shown.topology.primary], ['store', 'a'])
  })

  test('a drain empties the node on both proxies at once', async t => {
    const clients = await openIdleSessions(proxies)
    const sessionsOnB = async (): Promise<number> => {
      const answers = await Promise.all(proxies.map(proxyAnswer))
      return answers.reduce((sum, { counters }) => sum + (counters.nodes['b']?.sessions ?? 0), 0)
    }
    // Half of them, or less on a machine that is busy with other things: that is when they are shared out.
    await until('sessions on b', async () => (await sessionsOnB()) > 0)

    const { revision } = await store.get(keysOf('fleet').nodeIntent('b'))
    let writtenMs = 0
    const watch = store.watch(keysOf('fleet').nodeIntent('b'), revision + 1, {
      onEvents: () => {
        writtenMs ||= systemClock.nowMs()
      },
      onCompacted: () => undefined,
    })
    const command = runCli(['node', 'drain', 'b'], access(proxies[0]!))
    let emptyMs = 0
    const deadlineMs = systemClock.nowMs() + 10_000
    while (emptyMs === 0 && systemClock.nowMs() < deadlineMs) {
      if ((await sessionsOnB()) === 0) emptyMs = systemClock.nowMs()
      else await pause(systemTimers, 5)
    }
    const { code, out, err } = await command
    await until('the watch', () => writtenMs > 0)
    watch.close()
    assert.equal(code, 0, err)
    assert.match(
      out,
      /^b takes nothing new; 2 proxies have applied it \(change \d+, revision \d+, [\d.]+ ms\); /,
    )
    const tookMs = Math.round(emptyMs - writtenMs)
    t.diagnostic(`b was empty on both proxies ${tookMs} ms after the write (limit ${drainLimitMs} ms)`)
    assert.ok(emptyMs > 0 && tookMs < drainLimitMs + slackMs, `${tookMs} ms`)

    const [replica] = cluster.replicas
    for (const client of clients) {
      const { rows } = await client.query<{ port: number }>('select inet_server_port() as port')
      assert.notEqual(rows[0]?.port, replica?.port)
    }
    await Promise.all(clients.map(client => client.end()))
    assert.equal((await runCli(['node', 'resume', 'b'], access(proxies[1]!))).code, 0)
  })

  test('etcd is killed and comes back: no query fails', async () => {
    const [first, second] = proxies
    const clients = await Promise.all(
      [first!.port, first!.readPort, second!.port, second!.readPort].map(port => connect(port)),
    )
    const stop = new AbortController()
    const counts = clients.map(client => keepAsking(client, stop.signal))
    const newcomers = keepConnecting(first!.readPort, stop.signal)
    const [member] = etcd.members
    await member!.kill()
    await until('the proxies to notice', async () => !(await status(first!)).store.up)
    await pause(systemTimers, 2000)
    const refused = await runCli(['node', 'drain', 'b'], access(first!))
    assert.equal(refused.code, 1)
    assert.match(refused.err, /^error: etcd at .* cannot be reached/)
    member!.start()
    await member!.healthy()
    await until('the proxies to be back', async () => (await status(second!)).store.up)
    stop.abort()
    for (const count of [...(await Promise.all(counts)), await newcomers]) assert.ok(count > 20, `${count}`)
    await Promise.all(clients.map(client => client.end()))
    const changed = await runCli(['node', 'weight', 'b', '2', '--timeout', '10s'], access(first!))
    assert.match(changed.out, /2 proxies have applied it/, changed.err)
  })

  test('a proxy that does not answer is named, and the change stands', async () => {
    const [first, second] = proxies
    second!.process.signal('SIGSTOP')
    try {
      const { code, out, err } = await runCli(
        ['node', 'weight', 'b', '3', '--timeout', '500ms'],
        access(first!),
      )
      assert.deepEqual([code, out], [1, ''])
      assert.match(
        err,
        /^error: b has the weight 3 \(change \d+, revision \d+\), .* it was not applied by p2\nhint: the change stands/,
      )
      const { topology } = await status(first!)
      assert.equal(topology.nodes.find(({ name }) => name === 'b')?.weight, 3)
    } finally {
      second!.process.signal('SIGCONT')
    }
  })

  test('two proxies of one id are told of each other, and for as long as both live', async () => {
    const [, p2] = proxies
    const [port = 0, adminPort = 0] = await freePorts(2)
    const flags = ['--etcd', etcd.endpoints.join(','), '--port', `${port}`, '--admin-port', `${adminPort}`]
    const twin: Proxy = {
      ...p2!,
      port,
      adminUrl: `http://127.0.0.1:${adminPort}`,
      process: await startCli(['proxy', ...flags, '--read-port', '0', '--id', 'p2', '--workers', '1'], {
        env: { PGHERD_CLUSTER: 'fleet' },
      }),
    }
    const says = async (proxy: Proxy, words: string): Promise<boolean> =>
      (await status(proxy)).topology.alarms.some(alarm => alarm.includes(words))
    try {
      await until('the old one to know', () => says(p2!, `:${twin.port}, is named p2 too`))
      await until('the new one to know', () => says(twin, `:${p2!.port}, is named p2 too`))
    } finally {
      await twin.process.stop()
    }
    await until('the alarm to end', async () => !(await says(p2!, 'is named p2 too')), 20_000)
    const rows = (await status(p2!)).proxies
    assert.deepEqual(rows?.map(({ id }) => id).sort(), ['p1', 'p2'])
  })
})

async function openIdleSessions(proxies: Proxy[]): Promise<Client[]> {
  const ports = proxies.flatMap(({ readPort }) => Array.from({ length: idlePerProxy }, () => readPort))
  return Promise.all(ports.map(port => connect(port)))
}

async function proxyAnswer({ adminUrl }: Proxy): Promise<ProxyAnswer> {
  const response = await fetch(`${adminUrl}/api/proxy`)
  return (await response.json()) as ProxyAnswer
}

/** Queries one after the other until told to stop; any that fails fails the test. How many there were. */
async function keepAsking(client: Client, signal: AbortSignal): Promise<number> {
  let count = 0
  for (; !signal.aborted; count++) {
    await client.query('select 1')
    await pause(systemTimers, 10)
  }
  return count
}

/** The same with a new connection for every query. */
async function keepConnecting(port: number, signal: AbortSignal): Promise<number> {
  let count = 0
  for (; !signal.aborted; count++) {
    const client = await connect(port)
    await client.query('select 1')
    await client.end()
    await pause(systemTimers, 20)
  }
  return count
}
