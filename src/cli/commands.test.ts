import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type RecordingIo, recordingIo } from '../../test/support/command.ts'
import { loaded } from '../../test/support/config.ts'
import { freePorts } from '../../test/support/ports.ts'
import { openEmbedded, realWorld } from '../../test/support/stores.ts'
import { startAdmin } from '../admin/admin.ts'
import { type AdminServer } from '../admin/http.ts'
import type { EmbeddedStore } from '../store/embedded.ts'
import { encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import { ClusterState } from '../topology/state.ts'
import type { Topology } from '../topology/types.ts'
import { addAgentCommand } from './agent.ts'
import { readCluster, topologyFromStore } from './cluster-view.ts'
import { addConfigCommands } from './config-commands.ts'
import { addNodeCommands } from './node.ts'
import { addProxyCommand } from './proxy.ts'
import { addStatusCommand } from './status.ts'
import { addStoreCommands } from './store.ts'
import { createProgram, runProgram } from './terminal.ts'
import { addUpCommand } from './up.ts'

async function run(io: RecordingIo, ...args: string[]): Promise<number> {
  const program = createProgram(io, '0')
  const adders = [addUpCommand, addAgentCommand, addProxyCommand, addNodeCommands, addStatusCommand]
  for (const add of [...adders, addStoreCommands, addConfigCommands]) add(program, io)
  return runProgram(program, args, io)
}

describe('commands that stay say what they miss, with exit code 2', () => {
  const cases: [args: string[], sentence: RegExp][] = [
    [
      ['up', '--store-path', '/nonexistent/x'],
      /^error: there is no PostgreSQL server to use\nhint: .*--node HOST/,
    ],
    [['proxy'], /^error: a proxy alone needs a store that others can reach.*\nhint: .*--etcd/],
    [['agent', '--node', 'a'], /^error: an agent alone needs a store that others can reach/],
    [['agent', '--etcd', '127.0.0.1:1'], /^error: an agent needs the name of its node\nhint: .*--node NAME/],
    [['up', '--node', 'x:0'], /^error: option '--node <address>' argument 'x:0' is invalid/],
    [['up', '--node', 'a', '--node', 'a'], /^command line: `--node` .* already\nerror: /],
    [['up', '--node', 'a', '--port', 'x'], /^command line: `--port` must be a port/],
    [
      ['up', '--node', 'a', '--port', '7000', '--admin-port', '7000'],
      /proxy\.port and admin\.port are both 7000/,
    ],
    [['node', 'weight', 'b', '1001'], /Expected a whole number from 0 to 1000/],
    [['store', 'init', '--proxy', 'p1'], /^error: it is not said how the users .*\nhint: .*--certificates/],
    [
      ['store', 'init', '--proxy', 'p1', '--certificates'],
      /^error: only etcd has users and roles\nhint: .*--etcd/,
    ],
    [['store', 'user', 'add', 'agent', '--etcd', 'h:1'], /^error: an agent needs a name\nhint: .*its node/],
    [['store', 'user', 'add', 'proxy', 'a@b', '--etcd', 'h:1'], /^error: "a@b" cannot be a name here/],
    [['store', 'user', 'add', 'boss'], /Allowed choices are agent, proxy, operator/],
    [['node', 'add', 'b'], /missing required argument 'address'/],
  ]
  for (const [args, sentence] of cases) {
    test(args.join(' '), async () => {
      const io = recordingIo()
      assert.equal(await run(io, ...args), 2)
      assert.equal(io.out, '')
      assert.match(io.err, sentence)
    })
  }
})

test('every command has an example in its help', async () => {
  const commands = ['up', 'proxy', 'agent', 'status', 'store init', 'store dump']
  const nodes = ['list', 'add', 'remove', 'drain', 'resume', 'maintenance', 'weight']
  const settings = ['set', 'unset', 'edit', 'history', 'diff', 'rollback']
  const users = ['add', 'remove', 'list'].map(name => `store user ${name}`)
  const below = [...nodes.map(name => `node ${name}`), ...settings.map(name => `config ${name}`), ...users]
  for (const command of [...commands, ...below]) {
    const io = recordingIo()
    assert.equal(await run(io, ...command.split(' '), '--help'), 0)
    assert.match(io.out, new RegExp(`Example:\n {2}pgherd ${command}`), command)
  }
})

describe('against the admin interface of a process', () => {
  let store: EmbeddedStore
  let admin: AdminServer
  let topology: Topology
  const config = loaded('')
  const { log, timers } = realWorld
  const io = (): RecordingIo => recordingIo({ env: { PGHERD_ADMIN_URL: admin.url } })
  let restarts = 0

  test('proxy restart-workers has it done, once', async () => {
    const asking = io()
    assert.equal(await run(asking, 'proxy', 'restart-workers'), 0, asking.err)
    assert.equal(restarts, 1)
    assert.match(asking.out, /^2 data workers are replaced, one after the other/)
    const asked = await fetch(`${admin.url}/api/proxy/restart-workers`)
    assert.deepEqual([asked.status, restarts], [405, 1])
  })

  before(async () => {
    store = await openEmbedded()
    const refresh = async (): Promise<void> => {
      topology = topologyFromStore(await readCluster(store, 'main'), { config, origins: new Map() })
    }
    await refresh()
    store.watch('/pgherd/main/', 1, { onEvents: () => void refresh(), onCompacted: () => undefined })
    const connection = { up: true, sinceMs: 0, reason: undefined }
    admin = await startAdmin({
      listen: '127.0.0.1',
      port: 0,
      token: undefined,
      sources: { version: '0', topology: () => topology, store: () => connection, proxy: undefined },
      proxies: () => [],
      notReady: () => undefined,
      restartWorkers: () => {
        restarts++
        return 2
      },
      store,
      timers,
      log,
    })
  })
  after(async () => {
    await admin.close()
    await store.close()
  })

  test('a node is added, drained and shown', async () => {
    const empty = io()
    assert.equal(await run(empty, 'node', 'list'), 0)
    assert.deepEqual(
      [empty.out, empty.err],
      ['', 'no node is known yet: pgherd node add NAME HOST declares one\n'],
    )
    const added = io()
    assert.equal(await run(added, 'node', 'add', 'b', '10.0.0.2', '--no-check', '--tag', 'k=v'), 0, added.err)
    assert.match(
      added.out,
      /^b is added; no proxy runs that would have to know \(change \d+, revision \d+\)\n$/,
    )
    assert.equal(await run(io(), 'node', 'drain', 'b'), 0)
    const listed = io()
    await run(listed, 'node', 'list')
    assert.equal(
      listed.out,
      `NODE  ADDRESS        STATE  ROLE     WEIGHT  PRIORITY  ZONE  AGENT  TAGS
b     10.0.0.2:5432  drain  unknown       1         1  -     -      k=v
`,
    )
    const shown = io()
    assert.equal(await run(shown, 'status'), 0)
    assert.match(shown.out, /^cluster main, revision \d+, store up\n\nNODE /m)
    assert.match(shown.out, /^b: does not accept connections: nobody has reached it yet$/m)
  })

  test('a drain says what is left, and --wait fails while something is', async () => {
    const row = {
      id: 'p1',
      address: 'x:1',
      adminUrl: '',
      appliedRevision: 1e6,
      clients: 0,
      version: '0',
      at: '',
    }
    const key = keysOf('main').proxyStatus('p1')
    const report = (sessions: Record<string, number>): Promise<unknown> =>
      store.transact({
        compares: [],
        writes: [{ kind: 'put', key, value: encode({ v: 1, ...row, sessions }) }],
      })
    await report({ b: 3 })
    const drained = io()
    assert.equal(await run(drained, 'node', 'drain', 'b', '--wait', '50ms'), 1)
    assert.match(
      drained.out,
      /^b takes nothing new; 1 proxy has applied it \(nothing had to be changed, revision \d+, .* ms\); 3 sessions remain: they end with their transactions, or after drain_timeout\n$/,
    )
    assert.match(drained.err, /^error: b still has 3 sessions after 50 ms\nhint: the change stands/)
    const looked = io()
    assert.equal(await run(looked, 'node', 'drain', 'b', '--json'), 0, 'only --wait makes it fail')
    assert.equal((JSON.parse(looked.out) as { sessions: number }).sessions, 3)
    await report({ b: 0 })
    const empty = io()
    assert.equal(await run(empty, 'node', 'maintenance', 'b', '--wait'), 0, empty.err)
    assert.match(empty.out, /^b is in maintenance and takes nothing new; .*; no session is left on it\n$/)
    const resumed = io()
    assert.equal(await run(resumed, 'node', 'resume', 'b'), 0)
    assert.match(resumed.out, /^b is active; 1 proxy has applied it \([^;]*\)\n$/)
    await run(io(), 'node', 'drain', 'b')
    await store.transact({ compares: [], writes: [{ kind: 'delete', key }] })
  })

  test('what an operation refuses is one sentence and its hint', async () => {
    const twice = io()
    assert.equal(await run(twice, 'node', 'add', 'b', '10.0.0.3', '--no-check'), 1)
    assert.match(twice.err, /^error: node b exists already\nhint: /)
    const gone = io()
    assert.equal(await run(gone, 'node', 'remove', 'x'), 1)
    assert.equal(gone.err, 'error: there is no node x\nhint: Known nodes: b.\n')
  })

  test('a primary that only a probe knows is not drained unless by force', async () => {
    const [b] = topology.nodes
    const asPrimary = { ...b!, state: 'active', role: 'primary', accepting: true } as const
    const real = topology
    topology = { ...real, primary: 'b', nodes: [asPrimary] }
    for (const args of [
      ['drain', 'b'],
      ['maintenance', 'b'],
      ['remove', 'b'],
    ]) {
      const refused = io()
      assert.equal(await run(refused, 'node', ...args), 1)
      assert.match(
        refused.err,
        /^error: node b is the primary: without it, writes wait\nhint: promote another/,
      )
    }
    assert.equal(await run(io(), 'node', 'drain', 'b', '--force'), 0)
  })

  test('a status of another cluster is no reason to refuse', async () => {
    topology = { ...topology, cluster: 'other', primary: 'b' }
    assert.equal(await run(io(), 'node', 'maintenance', 'b'), 0)
  })

  test('the first keys are written once', async () => {
    const first = io()
    assert.equal(await run(first, 'store', 'init', '--node', 'n=10.0.0.9'), 0)
    assert.equal(
      first.out,
      'the embedded store can be reached\nsettings: written\nnode n at 10.0.0.9:5432: written\n',
    )
    const again = io()
    await run(again, 'store', 'init', '--node', 'n=10.0.0.9', '--json')
    assert.deepEqual(JSON.parse(again.out), { cluster: 'main', store: 'embedded', written: [] })
    const other = io()
    assert.equal(await run(other, 'store', 'init', '--node', 'n=10.0.0.10'), 1)
    assert.match(other.err, /^error: node n is there already, at 10\.0\.0\.9:5432\nhint: /)
  })

  test('a dump has every key under the prefix; nothing there is no error', async () => {
    const dumped = io()
    await run(dumped, 'store', 'dump', '--prefix', 'intent/settings')
    assert.match(
      dumped.out,
      /^\/pgherd\/main\/intent\/settings {2}revision \d+\n {2}\{\n {4}"v": 1\n {2}\}\n$/,
    )
    const none = io()
    assert.equal(await run(none, 'store', 'dump', '--prefix', '/elsewhere/'), 0)
    assert.deepEqual([none.out, none.err], ['', 'there are no such keys\n'])
  })
})

test('where the keys of the asked one are in etcd, commands say how to name it', async () => {
  const { log, timers } = realWorld
  const topology = topologyFromStore(new ClusterState(keysOf('main')), {
    config: loaded(''),
    origins: new Map(),
  })
  const admin = await startAdmin({
    listen: '127.0.0.1',
    port: 0,
    token: undefined,
    sources: {
      version: '0',
      topology: () => topology,
      store: () => ({ up: true, sinceMs: 0, reason: undefined }),
      proxy: undefined,
    },
    proxies: () => [],
    notReady: () => undefined,
    restartWorkers: undefined,
    store: undefined,
    timers,
    log,
  })
  for (const args of [
    ['node', 'list'],
    ['node', 'drain', 'b'],
    ['store', 'dump'],
  ]) {
    const io = recordingIo({ env: { PGHERD_ADMIN_URL: admin.url } })
    assert.equal(await run(io, ...args), 1)
    const sentence = 'this pgherd keeps its keys in etcd: name it with --etcd HOST:PORT or --config FILE'
    assert.deepEqual([io.out, io.err], ['', `error: ${sentence}\n`])
  }
  await admin.close()
})

test('with nobody there every command says so and what to do', async () => {
  const [port] = await freePorts(1)
  const env = { PGHERD_ADMIN_URL: `http://127.0.0.1:${port}` }
  for (const args of [
    ['status'],
    ['node', 'list'],
    ['node', 'drain', 'b'],
    ['store', 'dump'],
    ['proxy', 'restart-workers'],
  ]) {
    const io = recordingIo({ env })
    assert.equal(await run(io, ...args), 1)
    assert.equal(io.out, '')
    const sentence = `error: no pgherd answers at http://127.0.0.1:${port} (connection refused)\nhint: `
    assert.ok(io.err.startsWith(sentence), io.err)
  }
})
