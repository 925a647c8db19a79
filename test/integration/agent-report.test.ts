import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { type Agent, type AgentOptions, startAgent } from '../../src/agent/agent.ts'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { systemRandom } from '../../src/runtime/random.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { openEmbeddedStore } from '../../src/store/embedded.ts'
import type { Store } from '../../src/store/store.ts'
import { keysOf } from '../../src/topology/keys.ts'
import type { NodeIntent, NodeStatus } from '../../src/topology/types.ts'
import { freePorts } from '../support/ports.ts'
import {
  caughtUp,
  freezeServer,
  startTestCluster,
  type TestCluster,
  thawServer,
} from '../support/postgres.ts'
import { StoreSwitch } from '../support/store-switch.ts'
import { until } from '../support/wait.ts'

const user = 'pgherd_agent'
const keys = keysOf('test')
const anywhere = { host: '127.0.0.1', port: 0 }
let cluster: TestCluster
let primary: PostgresServer
let replica: PostgresServer
let memory: Store
let store: StoreSwitch
const agents: Agent[] = []

before(async () => {
  cluster = await startTestCluster({ replicas: 1 })
  primary = cluster.primary
  replica = cluster.replicas[0]!
  await primary.query(`create role ${user} login in role pg_monitor`)
  await caughtUp(primary, replica)
})

beforeEach(async () => {
  memory = await openEmbeddedStore({
    path: undefined,
    clock: systemClock,
    timers: systemTimers,
    log: silentLogger,
  })
  store = new StoreSwitch(memory)
})

afterEach(async () => {
  store.up = true
  await Promise.all(agents.splice(0).map(agent => agent.stop()))
  await memory.close()
})

after(() => cluster.stop())

async function agentOf(server: PostgresServer, changes: Partial<AgentOptions> = {}): Promise<Agent> {
  const agent = await startAgent({
    cluster: 'test',
    node: server.name,
    host: '127.0.0.1',
    port: server.port,
    zone: 'north',
    agentVersion: '0.0.0',
    postgres: { host: '127.0.0.1', port: server.port, user, database: 'postgres' },
    store,
    http: anywhere,
    check: anywhere,
    timings: { probePeriodMs: 200, probeTimeoutMs: 600, probeRenewMs: 1_000 },
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log: silentLogger,
    ...changes,
  })
  agents.push(agent)
  return agent
}

async function stored(name: string): Promise<NodeStatus | undefined> {
  const { entry } = await memory.get(keys.nodeStatus(name))
  return entry && (JSON.parse(entry.value) as NodeStatus)
}

function storedAs(name: string, expected: Partial<NodeStatus>, limitMs?: number): Promise<NodeStatus> {
  const what = `${name} stored with ${JSON.stringify(expected)}`
  const look = async (): Promise<NodeStatus> => {
    const status = await stored(name)
    assert.ok(status)
    assert.deepEqual({ ...status, ...expected }, status)
    return status
  }
  return until(what, look, limitMs)
}

async function http(agent: Agent, path: string, method = 'GET'): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${agent.httpPort}${path}`, { method })
  return { status: response.status, text: await response.text() }
}

async function setIntent(server: PostgresServer, changes: Partial<NodeIntent>): Promise<void> {
  const intent = { v: 1, host: '127.0.0.1', port: server.port, ...changes }
  const writes = [{ kind: 'put' as const, key: keys.nodeIntent(server.name), value: JSON.stringify(intent) }]
  await memory.transact({ compares: [], writes })
}

test('both report what they are, under a lease, and answer over HTTP', async () => {
  const [onPrimary, onReplica] = [await agentOf(primary), await agentOf(replica)]
  const a = await storedAs('a', { role: 'primary', accepting: true, zone: 'north', port: primary.port })
  const b = await storedAs('b', { role: 'replica', replicationState: 'streaming', lagMs: 0 })
  assert.equal(a.systemId, b.systemId)
  const load = await until('the load is known', async () => (await stored('a'))?.load)
  assert.ok(load.cpu >= 0 && load.cpu <= 1)
  assert.notEqual((await memory.get(keys.nodeStatus('a'))).entry?.leaseId, undefined)

  for (const [agent, yes, no] of [
    [onPrimary, '/primary', '/replica'],
    [onReplica, '/replica?lag=1MB&replication_state=streaming', '/primary'],
  ] as const) {
    for (const method of ['GET', 'HEAD', 'OPTIONS']) {
      assert.equal((await http(agent, yes, method)).status, 200)
      assert.equal((await http(agent, no, method)).status, 503)
    }
    assert.equal((await http(agent, '/health')).status, 200)
    assert.equal((await http(agent, '/primary', 'POST')).status, 405)
    assert.equal((await http(agent, '/replica?lag=x')).status, 400)
  }
  assert.equal((await http(onReplica, '/replica', 'HEAD')).text, '')
  assert.equal(JSON.parse((await http(onReplica, '/patroni')).text).role, 'replica')
  await until('the replica knows the cluster', async () => {
    const { members } = JSON.parse((await http(onReplica, '/cluster')).text) as {
      members: { role: string }[]
    }
    return members.length === 2 && members[0]?.role === 'leader'
  })
  const metrics = await http(onReplica, '/metrics')
  assert.match(metrics.text, /# HELP pgherd_agent_postgres_replica \S+/)
  assert.match(metrics.text, /^pgherd_agent_postgres_replica\{cluster="test",node="b"\} 1$/m)
  assert.match(
    metrics.text,
    /^pgherd_agent_reports_total\{outcome="written",cluster="test",node="b"\} [1-9]/m,
  )
  assert.doesNotMatch(metrics.text, /^pgherd_agent_postgres_write_lsn_bytes\{/m)
})

test('an idle cluster is not written about', async () => {
  await agentOf(replica, { timings: { probePeriodMs: 20, probeRenewMs: 50 } })
  const { seq } = await storedAs('b', { role: 'replica', lagMs: 0 })
  const { writes } = store
  const agent = agents[0]!
  const probes = async (): Promise<number> =>
    Number(/probes_total\{outcome="ok"[^}]*\} (\d+)/.exec((await http(agent, '/metrics')).text)?.[1])
  const asked = await probes()
  await until('it was asked many times more', async () => (await probes()) >= asked + 60)
  // The machine's load may move; nothing else does.
  assert.ok(store.writes - writes <= 2, `${store.writes - writes} writes`)
  assert.ok((await stored('b'))!.seq - seq <= 2)
})

test('a restart of PostgreSQL is reported, with the reason', async () => {
  const agent = await agentOf(replica)
  await storedAs('b', { accepting: true })
  await replica.stop()
  const down = await storedAs('b', { accepting: false, role: 'replica' }, 1_500)
  assert.match(down.reason!, /nothing answers at|shutting down/)
  assert.equal((await http(agent, '/health')).status, 503)
  assert.equal((await http(agent, '/liveness')).status, 200)
  await replica.start()
  const up = await storedAs('b', { accepting: true, role: 'replica' }, 3_000)
  assert.equal(up.reason, undefined)
})

test('started before PostgreSQL', async () => {
  const [port] = await freePorts(1)
  const agent = await agentOf(replica, {
    postgres: { host: '127.0.0.1', port: port!, user, database: 'postgres' },
  })
  const status = await storedAs('b', { accepting: false, role: 'unknown', systemId: '' })
  assert.match(status.reason!, new RegExp(`nothing answers at 127.0.0.1:${port}`))
  assert.equal((await http(agent, '/replica')).status, 503)
})

test('a hung server is reported within the limit', async () => {
  await agentOf(replica)
  await storedAs('b', { accepting: true })
  await freezeServer(replica)
  try {
    const status = await storedAs('b', { accepting: false, role: 'replica' }, 1_500)
    assert.match(status.reason!, /did not answer within 600 ms|did not accept/)
  } finally {
    await thawServer(replica)
  }
  await storedAs('b', { accepting: true })
})

test('the store goes and comes back: health is served on, and what changed meanwhile is told', async () => {
  const agent = await agentOf(replica)
  const before = await storedAs('b', { accepting: true })
  store.up = false
  await replica.stop()
  await until('health knows', async () => (await http(agent, '/replica')).status === 503)
  assert.equal((await stored('b'))?.accepting, true)
  await store.loseLeases()
  store.up = true
  const after = await storedAs('b', { accepting: false }, 2_000)
  assert.ok(after.seq > before.seq)
  await replica.start()
  await storedAs('b', { accepting: true })
})

test('two servers under one name: the second keeps off until the first ends', async () => {
  const first = await agentOf(primary)
  await storedAs('a', { port: primary.port })
  const second = await agentOf(replica, { node: 'a' })
  const conflict = async (): Promise<boolean> =>
    /^pgherd_agent_conflict\{[^}]*\} 1$/m.test((await http(second, '/metrics')).text)
  await until('the second one sees the first', conflict)
  assert.equal((await stored('a'))?.port, primary.port)
  await first.stop()
  await storedAs('a', { port: replica.port })
})

test('the intent of the operator reaches the agent', async () => {
  const agent = await agentOf(replica)
  assert.equal((await http(agent, '/replica')).status, 200)
  await setIntent(replica, { state: 'drain' })
  await until('drained', () => agent.intent() === 'drain')
  assert.equal((await http(agent, '/replica')).status, 503)
  assert.equal((await http(agent, '/read-only')).status, 503)
  assert.equal((await http(agent, '/health')).status, 200)
  await setIntent(replica, { state: 'active', tags: { disk: 'ssd' } })
  await until('active again', async () => (await http(agent, '/replica?tag_disk=ssd')).status === 200)
})

test('stop takes the status away at once and closes every port', async () => {
  const agent = await agentOf(replica)
  await storedAs('b', { accepting: true })
  const { httpPort } = agent
  await agent.stop()
  assert.equal(await stored('b'), undefined)
  await assert.rejects(fetch(`http://127.0.0.1:${httpPort}/health`))
  const sql = `select count(*)::int as n from pg_stat_activity where application_name = 'pgherd agent'`
  await until('its connection is gone', async () => (await replica.query<{ n: number }>(sql))[0]?.n === 0)
})

test('a port that is taken: a clear error, and nothing is left', async () => {
  const taken = await agentOf(primary)
  const address = { host: '127.0.0.1', port: taken.checkPort! }
  await assert.rejects(
    agentOf(replica, { check: address }),
    /cannot listen on 127\.0\.0\.1:\d+ for agent checks/,
  )
  assert.equal(await stored('b'), undefined)
})

test('a promotion is reported within 1.5 s on default settings', async () => {
  const onReplica = await agentOf(replica, { timings: {} })
  await agentOf(primary, { timings: {} })
  await storedAs('b', { role: 'replica', timeline: 1 })
  await primary.stop()
  await storedAs('a', { accepting: false })
  await replica.promote()
  await storedAs('b', { role: 'primary', timeline: 2 }, 1_500)
  assert.equal((await http(onReplica, '/primary')).status, 200)
})
