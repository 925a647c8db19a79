import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type Agent, startAgent } from '../../src/agent/agent.ts'
import type { Store } from '../../src/store/store.ts'
import { keysOf } from '../../src/topology/keys.ts'
import type { NodeStatus } from '../../src/topology/types.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { openEtcd, realWorld } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const options = need('etcd', 'etcdctl')
const leaseTtlMs = 3_000
const key = keysOf('test').nodeStatus('a')
let cluster: TestCluster
let etcd: EtcdCluster
let observer: Store
const stores: Store[] = []
const agents: Agent[] = []

before(async () => {
  if (options.skip) return
  cluster = await startTestCluster()
  etcd = await EtcdCluster.start()
  observer = await openEtcd(etcd.endpoints)
})

after(async () => {
  await Promise.all(agents.map(agent => agent.stop()))
  await Promise.all(stores.map(store => store.close()))
  await observer?.close()
  await etcd?.stop()
  await cluster?.stop()
})

async function start(store: Store): Promise<Agent> {
  const { port } = cluster.primary
  const agent = await startAgent({
    cluster: 'test',
    node: 'a',
    host: '127.0.0.1',
    port,
    zone: '',
    agentVersion: '0.0.0',
    postgres: { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' },
    store,
    timings: { probePeriodMs: 200, leaseTtlMs },
    ...realWorld,
  })
  agents.push(agent)
  return agent
}

async function open(): Promise<Store> {
  const store = await openEtcd(etcd.endpoints)
  stores.push(store)
  return store
}

async function stored(): Promise<NodeStatus | undefined> {
  const { entry } = await observer.get(key)
  return entry && (JSON.parse(entry.value) as NodeStatus)
}

test('etcd is killed and comes back: what changed meanwhile is told', options, async () => {
  const agent = await start(await open())
  await until('reported', async () => (await stored())?.accepting)
  const [member] = etcd.members
  await member!.kill()
  await cluster.primary.stop()
  await until('the agent knows by itself', () => agent.status()?.accepting === false)
  member!.start()
  await until('told', async () => (await stored())?.accepting === false, 15_000)
  await cluster.primary.start()
  await until('and told again', async () => (await stored())?.accepting)
})

test(
  'an agent that was cut off without a word: the next one of the same server takes over at once',
  options,
  async () => {
    const before = (await stored())!
    // Closing the store under it ends its keep-alives as kill -9 would, and leaves the lease standing.
    await stores[0]!.close()
    await start(await open())
    const limitMs = leaseTtlMs / 2
    await until(
      'taken over',
      async () => (await stored())?.at !== before.at && (await stored())?.seq === 1,
      limitMs,
    )
  },
)

test('stop takes the status away at once', options, async () => {
  assert.ok(await stored())
  await agents.pop()!.stop()
  assert.equal(await stored(), undefined)
})
