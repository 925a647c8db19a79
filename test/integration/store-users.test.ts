import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { Access } from '../../src/store/access.ts'
import { openEtcdAccess } from '../../src/store/etcd-access.ts'
import type { Store, Write } from '../../src/store/store.ts'
import { identityOf } from '../../src/topology/access.ts'
import { keysOf } from '../../src/topology/keys.ts'
import type { Topology } from '../../src/topology/types.ts'
import { type Cli, cliJson, runCli, startCli } from '../support/cli.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { rejects } from '../support/store-conformance.ts'
import { openEtcd, put, realWorld, write } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const run = promisify(execFile)
const cluster = 'demo'
const keys = keysOf(cluster)
const user = (identity: string): string => `pgherd.${identity}@${cluster}`

/** An etcd with authentication, as `pgherd store init` leaves it. */
describe('etcd with a user for everybody', need('etcd', 'etcdctl'), () => {
  let etcd: EtcdCluster
  let folder: string
  const stores: Store[] = []
  const initFlags = ['--node', 'a=127.0.0.1:1', '--node', 'b=127.0.0.1:2', '--proxy', 'p1', '--proxy', 'p2']

  const environment = (as?: string): { env: Record<string, string> } => ({
    env: {
      PGHERD_CLUSTER: cluster,
      PGHERD_STORE_KIND: 'etcd',
      PGHERD_STORE_ENDPOINTS: etcd.endpoints.join(','),
      ...(as !== undefined && {
        PGHERD_STORE_USER: as,
        PGHERD_STORE_PASSWORD_FILE: join(folder, as),
      }),
    },
  })
  const openAs = async (as: string): Promise<Store> => {
    const password = (await readFile(join(folder, as), 'utf8')).trim()
    const store = await openEtcd(etcd.endpoints, { user: as, password })
    stores.push(store)
    return store
  }
  const readAccess = async (at: EtcdCluster, as?: string): Promise<Access> => {
    const password = as === undefined ? undefined : (await readFile(join(folder, as), 'utf8')).trim()
    const options = { ...realWorld, endpoints: at.endpoints, user: as, password, requestTimeoutMs: 2_000 }
    const access = await openEtcdAccess(options)
    const found = await access.read(name => name === 'root' || identityOf(cluster, name) !== undefined)
    access.close()
    return found
  }

  before(async () => {
    folder = join(await mkdtemp(join(tmpdir(), 'pgherd-users-')), 'passwords')
    etcd = await EtcdCluster.start()
    const flags = [...initFlags, '--passwords', folder, '--enable-auth']
    const { code, out, err } = await runCli(['store', 'init', ...flags], environment())
    assert.equal(code, 0, err)
    assert.match(out, /^user pgherd\.agent\.b@demo: made$/m)
    assert.match(out, /^authentication: on$/m)
  })
  after(async () => {
    await Promise.all(stores.map(store => store.close()))
    await etcd?.stop()
    await rm(join(folder, '..'), { recursive: true, force: true })
  })

  test('the passwords are nobody else’s to read, and are printed nowhere', async () => {
    const files = await readdir(folder)
    assert.deepEqual(
      files.sort(),
      [...['agent.a', 'agent.b', 'operator', 'proxy.p1', 'proxy.p2'].map(user), 'root'].sort(),
    )
    for (const file of files) assert.equal((await stat(join(folder, file))).mode & 0o777, 0o600)
    assert.equal((await stat(folder)).mode & 0o777, 0o700)
    const again = await runCli(
      ['store', 'init', ...initFlags, '--passwords', folder, '--enable-auth'],
      environment('root'),
    )
    assert.equal(again.code, 0, again.err)
    assert.match(again.out, /there already/)
    assert.doesNotMatch(again.out, /made|may|written/)
    const password = await readFile(join(folder, 'root'), 'utf8')
    assert.ok(!`${again.out}${again.err}`.includes(password.trim()))
  })

  test('nobody gets in without a user, and who is not root makes no users', async () => {
    const nobody = await runCli(['store', 'dump'], environment())
    assert.deepEqual([nobody.code, nobody.out], [1, ''])
    assert.match(nobody.err, /^error: etcd denied a request/)
    const operator = await runCli(['store', 'user', 'list'], environment(user('operator')))
    assert.deepEqual([operator.code, operator.out], [1, ''])
    assert.match(operator.err, /^error: etcd denied a request.*\nhint: .*role root/)
  })

  test('each may read the cluster, and nothing outside', async () => {
    for (const identity of ['agent.a', 'proxy.p1', 'operator']) {
      const store = await openAs(user(identity))
      assert.ok((await store.list(keys.root)).entries.length > 0)
      await rejects(store.list('/pgherd/'), 'denied')
      await rejects(store.get('/pgherd/demo2/intent/settings'), 'denied')
    }
  })

  test('an agent writes the status of its node and nothing else', async () => {
    const store = await openAs(user('agent.a'))
    const lease = await store.grantLease(5_000)
    await write(store, put(keys.nodeStatus('a'), '{}', lease.id))
    await refusesAll(store, [
      keys.nodeStatus('b'),
      `${keys.nodeStatus('a')}b`,
      keys.nodeIntent('a'),
      keys.settings,
      keys.generation,
      keys.leader,
      keys.proxyStatus('p1'),
    ])
    await rejects(write(store, put(keys.nodeStatus('a'), '{}'), put(keys.nodeStatus('b'), '{}')), 'denied')
    // Another's status can be ended by ending its lease: that takes the right to write it.
    const other = await openAs(user('agent.b'))
    const others = await other.grantLease(5_000)
    await write(other, put(keys.nodeStatus('b'), '{}', others.id))
    await assert.rejects(etcdctlAs(user('agent.a'), ['lease', 'revoke', BigInt(others.id).toString(16)]))
    assert.ok((await other.get(keys.nodeStatus('b'))).entry)
    await Promise.all([lease.revoke(), others.revoke()])
  })

  test('a proxy writes its own row and nothing else', async () => {
    const store = await openAs(user('proxy.p1'))
    await write(store, put(keys.proxyStatus('p1'), '{}'))
    await refusesAll(store, [
      keys.proxyStatus('p2'),
      keys.nodeStatus('a'),
      keys.nodeIntent('a'),
      keys.settings,
      keys.leader,
    ])
    await write(store, { kind: 'delete', key: keys.proxyStatus('p1') })
  })

  test('an operator writes the intent, and no status', async () => {
    const store = await openAs(user('operator'))
    await write(store, put(keys.nodeIntent('x'), '{}'), put(keys.historyEntry(1), '{}'))
    await write(
      store,
      { kind: 'delete', key: keys.nodeIntent('x') },
      { kind: 'delete', key: keys.historyEntry(1) },
    )
    await refusesAll(store, [keys.nodeStatus('a'), keys.proxyStatus('p1'), keys.leader])
    const { code, err } = await runCli(['node', 'weight', 'a', '2'], environment(user('operator')))
    assert.equal(code, 0, err)
  })

  test('users come and go; a role that has got too much is put right', async () => {
    const root = environment('root')
    const passwordFile = join(folder, 'one')
    await writeFile(passwordFile, 'secret of c\n', { mode: 0o600 })
    const add = ['store', 'user', 'add', 'agent', 'c']
    assert.equal((await runCli([...add, '--password-file', passwordFile], root)).code, 0)
    const c = await openEtcd(etcd.endpoints, { user: user('agent.c'), password: 'secret of c' })
    stores.push(c)
    await refusesAll(c, [keys.nodeStatus('a')])
    const grant = ['role', 'grant-permission', user('agent.c'), 'write', keys.nodeStatus('a')]
    await etcdctlAs('root', grant)
    await write(c, put(keys.nodeStatus('a'), '{}'), { kind: 'delete', key: keys.nodeStatus('c') })
    const repaired = await runCli(add, root)
    assert.match(
      repaired.out,
      /^role pgherd\.agent\.c@demo: may no longer write \/pgherd\/demo\/status\/nodes\/a\n$/,
    )
    await refusesAll(c, [keys.nodeStatus('a')])
    const withPassword = { env: { ...root.env, PGHERD_NEW_PASSWORD: 'secret of ada' } }
    assert.equal((await runCli(['store', 'user', 'add', 'operator', 'ada'], withPassword)).code, 0)
    const listed = await cliJson<{ users: { user: string; writes: string[] }[] }>(
      ['store', 'user', 'list'],
      root,
    )
    const writes = new Map(listed.users.map(each => [each.user, each.writes]))
    assert.deepEqual(writes.get(user('operator.ada')), [`${keys.intent}*`])
    assert.deepEqual(writes.get(user('agent.c')), [keys.nodeStatus('c')])
    for (const identity of [
      ['agent', 'c'],
      ['operator', 'ada'],
    ]) {
      const { code, err } = await runCli(['store', 'user', 'remove', ...identity], root)
      assert.equal(code, 0, err)
    }
    await rejects(c.get(keys.settings), 'denied')
    const gone = await runCli(['store', 'user', 'remove', 'agent', 'c'], root)
    assert.match(gone.err, /^error: there is no etcd user pgherd\.agent\.c@demo/)
    const unsaid = await runCli(add, root)
    assert.equal(unsaid.code, 2)
    assert.match(unsaid.err, /^error: there is no password for .*\nhint: .*--password-file/)
  })

  test('the commands that are printed for etcdctl do the same', async () => {
    const other = await EtcdCluster.start()
    try {
      const flags = [...initFlags, '--passwords', folder, '--enable-auth', '--print-etcdctl']
      const { code, out, err } = await runCli(['store', 'init', ...flags], environment())
      assert.equal(code, 0, err)
      assert.equal((await readAccess(other)).users.length, 0)
      await run('sh', ['-e', '-c', out], {
        env: { ...process.env, ETCDCTL_API: '3', ETCDCTL_ENDPOINTS: other.endpoints.join(',') },
      })
      assert.deepEqual(await readAccess(other, 'root'), await readAccess(etcd, 'root'))
      const agent = await readFile(join(folder, user('agent.a')), 'utf8')
      const store = await openEtcd(other.endpoints, { user: user('agent.a'), password: agent.trim() })
      await write(store, put(keys.nodeStatus('a'), '{}'))
      await store.close()
    } finally {
      await other.stop()
    }
  })

  async function etcdctlAs(as: string, args: string[]): Promise<void> {
    const password = (await readFile(join(folder, as), 'utf8')).trim()
    await etcd.ctl(['--user', `${as}:${password}`, ...args])
  }
})

/** The whole product, each part with a user that may do no more than it needs. */
describe('agents, proxy and operator with a user each', need('etcd', 'etcdctl'), () => {
  let etcd: EtcdCluster
  let servers: TestCluster
  let folder: string
  const processes: Cli[] = []
  let port = 0
  let adminPort = 0

  const environment = (as: string): { env: Record<string, string> } => ({
    env: {
      PGHERD_CLUSTER: cluster,
      PGHERD_STORE_KIND: 'etcd',
      PGHERD_STORE_ENDPOINTS: etcd.endpoints.join(','),
      PGHERD_STORE_USER: as,
      PGHERD_STORE_PASSWORD_FILE: join(folder, as),
      PGHERD_ADMIN_URL: `http://127.0.0.1:${adminPort}`,
    },
  })

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgherd-users-'))
    // Tokens that run out again and again.
    ;[servers, etcd] = await Promise.all([
      startTestCluster({ replicas: 1 }),
      EtcdCluster.start({ authTokenTtl: 1 }),
    ])
    const nodes = [servers.primary, ...servers.replicas]
    const flags = nodes.flatMap(node => ['--node', `${node.name}=127.0.0.1:${node.port}`])
    const init = ['store', 'init', '--cluster', cluster, '--etcd', etcd.endpoints.join(','), ...flags]
    const made = await runCli([...init, '--proxy', 'p1', '--passwords', folder, '--enable-auth'])
    assert.equal(made.code, 0, made.err)
    const [readPort] = ([port = 0, , adminPort = 0] = await freePorts(3)).slice(1)
    for (const node of nodes) {
      const postgres = ['--node', node.name, '--postgres', `127.0.0.1:${node.port}`]
      const ports = ['--http-port', '0', '--check-port', '0']
      processes.push(
        await startCli(['agent', ...postgres, ...ports], environment(user(`agent.${node.name}`))),
      )
    }
    const ports = ['--port', `${port}`, '--read-port', `${readPort}`, '--admin-port', `${adminPort}`]
    const proxy = ['proxy', '--id', 'p1', '--workers', '1', ...ports]
    processes.push(await startCli(proxy, environment(user('proxy.p1'))))
  })
  after(async () => {
    try {
      await Promise.all(processes.map(process => process.stop()))
    } finally {
      await Promise.all([etcd?.stop(), servers?.stop()])
      await rm(folder, { recursive: true, force: true })
    }
  })

  test('agents report, the proxy serves, operators steer', async () => {
    const operator = environment(user('operator'))
    const status = (): Promise<{ topology: Topology; proxies: { id: string }[] | null }> =>
      cliJson(['status'], operator)
    await until('both nodes to be told by their agents', async () => {
      const { topology, proxies } = await status()
      return topology.nodes.every(node => node.source === 'agent') && proxies?.length === 1
    })
    assert.deepEqual(await query(port, 'select 1 as one'), [{ one: 1 }])
    const drained = await runCli(['node', 'drain', 'b'], operator)
    assert.equal(drained.code, 0, drained.err)
    assert.match(drained.out, /1 proxy has applied it/)
    assert.equal((await runCli(['node', 'resume', 'b'], operator)).code, 0)
    const asProxy = await runCli(['node', 'drain', 'b'], environment(user('proxy.p1')))
    assert.equal(asProxy.code, 1)
    assert.match(asProxy.err, /^error: etcd denied a request \(.*permission denied.*\)/)
  })

  test('they go on when tokens run out, and when a restart of etcd has forgotten all of them', async () => {
    const operator = environment(user('operator'))
    const [member] = etcd.members
    await member?.kill()
    member?.start()
    await until('a change to be applied after the restart', async () => {
      const { code, err } = await runCli(['node', 'weight', 'b', '2', '--timeout', '5s'], operator)
      return code === 0 || err
    })
    for (const process of processes) assert.doesNotMatch(process.err, /denied/)
    for (const process of processes) {
      for (const file of await readdir(folder)) {
        const password = (await readFile(join(folder, file), 'utf8')).trim()
        assert.ok(!`${process.out}${process.err}`.includes(password))
      }
    }
  })
})

async function refusesAll(store: Store, keys: string[]): Promise<void> {
  for (const key of keys) {
    const writes: Write[] = [put(key, '{}'), { kind: 'delete', key }]
    for (const each of writes) {
      await rejects(write(store, each), 'denied')
    }
  }
}
