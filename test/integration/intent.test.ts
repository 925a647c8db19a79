import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Store } from '../../src/store/store.ts'
import { readIntent } from '../../src/topology/intent.ts'
import { keysOf } from '../../src/topology/keys.ts'
import { type Cli, cliJson, runCli, startCli } from '../support/cli.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { connect } from '../support/postgres.ts'
import { openEtcd } from '../support/stores.ts'
import { until } from '../support/wait.ts'

interface Answer {
  change: number
  appliedBy: string[]
  notAppliedBy: string[]
  ownSettings: Record<string, string[]>
}

interface Shown {
  config: { proxy: Record<string, unknown> }
  origins: Record<string, string>
}

describe('what operators want stands in etcd', need('etcd', 'etcdctl'), () => {
  let etcd: EtcdCluster
  let store: Store
  const proxies: { id: string; port: number; process: Cli }[] = []

  before(async () => {
    etcd = await EtcdCluster.start()
    store = await openEtcd(etcd.endpoints)
  })
  after(async () => {
    try {
      await Promise.all(proxies.map(({ process }) => process.stop()))
    } finally {
      await store?.close()
      await etcd?.stop()
    }
  })

  const env = (cluster: string): Record<string, string> => ({
    PGHERD_CLUSTER: cluster,
    PGHERD_STORE_KIND: 'etcd',
    PGHERD_STORE_ENDPOINTS: etcd.endpoints.join(','),
  })

  async function startProxy(id: string, more: Record<string, string> = {}): Promise<void> {
    const [port = 0] = await freePorts(1)
    const flags = ['--port', `${port}`, '--read-port', '0', '--admin-port', '0', '--workers', '1', '--id', id]
    const process = await startCli(['proxy', ...flags], { env: { ...env('fleet'), ...more } })
    proxies.push({ id, port, process })
  }

  /** `SHOW CONFIG` of a proxy, as values by name. */
  async function showConfig(port: number): Promise<Map<string, string>> {
    const client = await connect(port, { database: 'pgherd' })
    try {
      const { rows } = await client.query<{ key: string; value: string }>('SHOW CONFIG')
      return new Map(rows.map(({ key, value }) => [key, value]))
    } finally {
      await client.end()
    }
  }
  const config = (...args: string[]): Promise<Answer> => cliJson(['config', ...args], { env: env('fleet') })

  test('a setting is in force on every proxy when the command returns, but where it says otherwise itself', async () => {
    await config('set', 'proxy.default_pool_size=33')
    await startProxy('p1')
    await startProxy('p2', { PGHERD_PROXY_LANES: 'off' })
    // There is no server: how long the workers let a client wait for one shows what they have been told.
    const answer = await config(
      'set',
      'proxy.failover_wait=0',
      'proxy.query_wait_timeout=7s',
      'proxy.lanes=on',
    )
    assert.deepEqual([answer.appliedBy, answer.notAppliedBy], [['p1', 'p2'], []])
    assert.deepEqual(answer.ownSettings, { p2: ['proxy.lanes'] })
    for (const { port } of proxies)
      await assert.rejects(connect(port, { database: 'postgres' }), /no primary .*waited 0 s/)
    const [first, second] = await Promise.all(proxies.map(({ port }) => showConfig(port)))
    const names = ['default_pool_size', 'failover_wait', 'query_wait_timeout', 'lanes']
    assert.deepEqual(
      names.map(name => first?.get(name)),
      ['33', '0', '7', 'on'],
    )
    assert.deepEqual(
      names.map(name => second?.get(name)),
      ['33', '0', '7', 'off'],
    )
    const shown = await cliJson<Shown>(['config', 'show'], {
      env: { ...env('fleet'), PGHERD_PROXY_LANES: 'off' },
    })
    assert.deepEqual(
      [
        shown.config.proxy['query_wait_timeout'],
        shown.origins['proxy.query_wait_timeout'],
        shown.origins['proxy.lanes'],
      ],
      ['7s', 'fleet', 'PGHERD_PROXY_LANES'],
    )
  })

  test('two operators who change different settings at once both have their way', async () => {
    const turns = ['1', '2', '3']
    for (const turn of turns) {
      const answers = await Promise.all([
        config('set', `proxy.databases.app.pool_size=${turn}`),
        config('set', `proxy.databases.reports.pool_size=${turn}`),
        config('set', `proxy.min_pool_size=${turn}`),
      ])
      assert.equal(new Set(answers.map(({ change }) => change)).size, 3)
    }
    const { values } = await readIntent(store, 'fleet')
    assert.deepEqual(values['proxy.databases'], { app: { pool_size: 3 }, reports: { pool_size: 3 } })
    assert.equal(values['proxy.min_pool_size'], 3)
  })

  test('a reload of the file leaves the settings of the fleet in force', async () => {
    const [first] = proxies
    first!.process.signal('SIGHUP')
    await until('the reload', () => /"event":"config.reload"/.test(first!.process.err))
    assert.equal((await showConfig(first!.port)).get('query_wait_timeout'), '7')
    await config('unset', 'proxy.query_wait_timeout')
    assert.equal((await showConfig(first!.port)).get('query_wait_timeout'), '120')
  })

  test('a setting that is wrong reaches no proxy', async () => {
    const { code, err } = await runCli(['config', 'set', 'proxy.default_pool_size=0'], { env: env('fleet') })
    assert.equal(code, 2)
    assert.match(
      err,
      /^command line: `proxy.default_pool_size` must be a whole number from 1 to 100000, not `0`/,
    )
    assert.equal((await showConfig(proxies[0]!.port)).get('default_pool_size'), '33')
  })

  test('one that another version would have written is told, and the others count', async () => {
    const values = { 'proxy.default_pool_size': 34, 'proxy.of_tomorrow': 1 }
    const value = JSON.stringify({ v: 1, values })
    await store.transact({ compares: [], writes: [{ kind: 'put', key: keysOf('fleet').settings, value }] })
    const [first] = proxies
    await until('the setting', async () => (await showConfig(first!.port)).get('default_pool_size') === '34')
    assert.match(first!.process.err, /settings of the fleet: proxy\.of_tomorrow is not a known key/)
    await config('unset', 'proxy.of_tomorrow')
  })

  test('a proxy that is stopped is named as missing, and has it when it goes on', async () => {
    const [, second] = proxies
    second!.process.signal('SIGSTOP')
    try {
      const args = ['config', 'set', 'proxy.default_pool_size=35', '--timeout', '500ms']
      const { code, err } = await runCli(args, { env: env('fleet') })
      assert.equal(code, 1)
      assert.match(
        err,
        /^error: proxy.default_pool_size is set \(change \d+, .* not applied by p2\nhint: the change stands/,
      )
    } finally {
      second!.process.signal('SIGCONT')
    }
    await until('p2', async () => (await showConfig(second!.port)).get('default_pool_size') === '35')
  })

  test('without etcd they stay in force, and a proxy that starts meanwhile takes them over later', async () => {
    const [member] = etcd.members
    const size = async (port: number): Promise<string | undefined> =>
      (await showConfig(port)).get('default_pool_size')
    await member!.kill()
    try {
      await startProxy('p3')
      const ports = proxies.map(({ port }) => port)
      assert.deepEqual(await Promise.all(ports.map(size)), ['35', '35', '100'])
    } finally {
      member!.start()
    }
    await until('p3 to have the settings', async () => (await size(proxies[2]!.port)) === '35', 15_000)
    await until('p3 to report', async () => (await store.get(keysOf('fleet').proxyStatus('p3'))).entry)
    assert.ok((await config('set', 'proxy.default_pool_size=36')).appliedBy.includes('p3'))
  })
})
