import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { NodeStatus, Topology, TopologyNode } from '../topology/types.ts'
import { answerHealth, type HealthView } from './health.ts'
import { parseBytes } from './query.ts'

const node = (name: string, changes: Partial<TopologyNode>): TopologyNode => ({
  name,
  host: '10.0.0.1',
  port: 5432,
  weight: 1,
  zone: '',
  state: 'active',
  tags: {},
  role: 'replica',
  accepting: true,
  declared: true,
  source: 'agent',
  systemId: '77',
  timeline: 1,
  lsn: undefined,
  lagBytes: undefined,
  lagMs: undefined,
  connections: undefined,
  load: undefined,
  version: 150000,
  writable: false,
  readable: true,
  reasons: [],
  ...changes,
})

const status: NodeStatus = {
  v: 1,
  seq: 1,
  host: '10.0.0.1',
  port: 5432,
  zone: '',
  role: 'replica',
  accepting: true,
  systemId: '77',
  timeline: 1,
  receiveLsn: 9_000,
  replayLsn: 8_000,
  replicationState: 'streaming',
  connections: { max: 100, used: 1, active: 0, idleInTransaction: 0 },
  slots: [],
  version: 150000,
  agentVersion: '1.0',
  at: '2030-01-01T00:00:00.000Z',
}

const topology: Topology = {
  cluster: 'demo',
  revision: 5,
  intentRevision: 1,
  epoch: 0,
  systemId: '77',
  nodes: [node('a', { role: 'primary', lsn: 10_000, writable: true }), node('b', { tags: { disk: 'ssd' } })],
  primary: 'a',
  conflict: [],
  alarms: [],
  settings: { v: 1 },
}

const replica: HealthView = {
  cluster: 'demo',
  node: 'b',
  agentVersion: '1.0',
  status,
  topology,
  storeUp: true,
  probeAgeMs: 100,
  probeAgeMaxMs: 5_000,
}
const unread: Topology = { ...topology, revision: 0, nodes: [], primary: undefined }
const primary: HealthView = {
  ...replica,
  node: 'a',
  status: { ...status, role: 'primary', writeLsn: 10_000 },
}

function withNode(view: HealthView, changes: Partial<TopologyNode>): HealthView {
  const nodes = topology.nodes.map(known => (known.name === view.node ? { ...known, ...changes } : known))
  return { ...view, topology: { ...topology, nodes } }
}

function get(view: HealthView, target: string): number {
  const url = new URL(target, 'http://agent')
  return answerHealth(url.pathname, url.searchParams, view).status
}

function reason(view: HealthView, target: string): unknown {
  const url = new URL(target, 'http://agent')
  return answerHealth(url.pathname, url.searchParams, view).body.reason
}

function expectAll(view: HealthView, expected: Record<string, number>): void {
  for (const [target, code] of Object.entries(expected)) assert.equal(get(view, target), code, target)
}

test('a replica', () => {
  expectAll(replica, {
    '/': 503,
    '/primary': 503,
    '/master': 503,
    '/read-write': 503,
    '/leader': 503,
    '/standby-leader': 503,
    '/replica': 200,
    '/replica/': 200,
    '/async': 200,
    '/sync': 503,
    '/quorum': 503,
    '/read-only': 200,
    '/read-only-sync': 503,
    '/health': 200,
    '/liveness': 200,
    '/readiness': 200,
    '/patroni': 200,
    '/cluster': 200,
    '/nothing': 404,
    '/constructor': 404,
  })
})

test('a primary', () => {
  expectAll(primary, {
    '/': 200,
    '/primary': 200,
    '/master': 200,
    '/read-write': 200,
    '/leader': 200,
    '/standby-leader': 503,
    '/replica': 503,
    '/async': 503,
    '/read-only': 200,
    '/read-only?lag=0&replication_state=streaming': 200,
    '/read-only-sync': 200,
    '/read-only-quorum': 200,
    '/health': 200,
    '/readiness': 200,
  })
})

test('PostgreSQL down: everything about it is 503, with the reason; the agent itself lives', () => {
  for (const view of [replica, primary]) {
    const down = { ...view, status: { ...view.status!, accepting: false, reason: 'nothing answers' } }
    expectAll(down, {
      '/primary': 503,
      '/replica': 503,
      '/read-only': 503,
      '/health': 503,
      '/readiness': 503,
    })
    expectAll(down, { '/liveness': 200, '/patroni': 200 })
    assert.equal(reason(down, '/health'), 'nothing answers')
  }
})

test('nothing known yet', () => {
  const view = { ...replica, status: undefined, topology: unread }
  expectAll(view, {
    '/primary': 503,
    '/replica': 503,
    '/read-only': 503,
    '/health': 503,
    '/readiness': 503,
    '/patroni': 200,
  })
})

test('an agent whose probing is stuck is not alive', () => {
  assert.equal(get({ ...replica, probeAgeMs: 6_000 }, '/liveness'), 503)
})

test('lag is measured from the primary to what was received', () => {
  expectAll(replica, {
    '/replica?lag=1000': 200,
    '/replica?lag=999': 503,
    '/replica?lag=1kB': 200,
    '/read-only?lag=999': 503,
  })
  assert.equal(reason(replica, '/replica?lag=999'), '1000 bytes behind the primary, over 999')
  assert.equal(get({ ...replica, topology: unread }, '/replica?lag=1'), 200)
})

test('readiness: applied by default, received on request', () => {
  expectAll(replica, {
    '/readiness?lag=1999': 503,
    '/readiness?lag=2000': 200,
    '/readiness?lag=1999&mode=write': 200,
    '/readiness?lag=999&mode=write': 503,
  })
  const cut = { ...replica, status: { ...status } }
  delete cut.status.replicationState
  assert.equal(get(cut, '/readiness'), 503)
})

test('replication state and tags', () => {
  expectAll(replica, {
    '/replica?replication_state=streaming': 200,
    '/replica?replication_state=waiting': 503,
    '/replica?tag_disk=ssd': 200,
    '/replica?tag_disk=hdd': 503,
    '/replica?tag_constructor=x': 503,
    '/replica?tag_disk=ssd&tag_rack=1': 503,
    '/replica?unknown=1': 200,
  })
})

test('a parameter that cannot be understood is 400 and says why', () => {
  for (const target of [
    '/replica?lag=',
    '/replica?lag=-1',
    '/replica?lag=16mb',
    '/replica?lag=1e3',
    '/readiness?mode=x',
    '/replica?replication_state=',
    '/replica?tag_=1',
  ]) {
    assert.equal(get(replica, target), 400, target)
    assert.match(String(reason(replica, target)), /^(lag|mode|replication_state|tag_): /)
  }
})

test('drain and maintenance', () => {
  expectAll(withNode(replica, { state: 'drain' }), {
    '/replica': 503,
    '/read-only': 503,
    '/health': 200,
    '/readiness': 200,
  })
  expectAll(withNode(replica, { state: 'maintenance' }), {
    '/replica': 503,
    '/read-only': 503,
    '/health': 200,
  })
  expectAll(withNode(replica, { weight: 0 }), { '/replica': 503 })
  expectAll(withNode(primary, { state: 'drain' }), { '/primary': 200, '/read-only': 503, '/health': 200 })
  expectAll(withNode(primary, { state: 'maintenance' }), {
    '/primary': 503,
    '/read-only': 503,
    '/health': 200,
  })
})

test('two primaries: only the one that the topology names', () => {
  const nodes = [node('a', { role: 'primary' }), node('b', { role: 'primary', timeline: 2 })]
  const torn = { ...topology, nodes, primary: undefined }
  assert.equal(get({ ...primary, topology: torn }, '/primary'), 503)
  assert.match(String(reason({ ...primary, topology: torn }, '/primary')), /node b says/)
  assert.equal(get({ ...primary, topology: { ...torn, primary: 'a' } }, '/primary'), 200)
  const gone = [nodes[0]!, { ...nodes[1]!, accepting: false }]
  assert.equal(get({ ...primary, topology: { ...torn, nodes: gone } }, '/primary'), 200)
  assert.equal(get({ ...primary, topology: { ...topology, epoch: 4, primary: undefined } }, '/primary'), 503)
})

test('a node that was just promoted is primary before the topology knows', () => {
  const view = { ...replica, status: { ...status, role: 'primary' as const, timeline: 2 } }
  const nodes = [node('a', { role: 'primary', accepting: false }), node('b', {})]
  assert.equal(get({ ...view, topology: { ...topology, nodes } }, '/primary'), 200)
})

test('bodies', () => {
  const { body } = answerHealth('/patroni', new URLSearchParams(), primary)
  assert.deepEqual(body.xlog, { location: 10_000 })
  assert.deepEqual([body.state, body.role, body.database_system_identifier], ['running', 'primary', '77'])
  const cluster = answerHealth('/cluster', new URLSearchParams(), primary).body
  assert.deepEqual(
    (cluster.members as { name: string; role: string }[]).map(({ name, role }) => [name, role]),
    [
      ['a', 'leader'],
      ['b', 'replica'],
    ],
  )
})

test('sizes', () => {
  const sizes: [string, number | undefined][] = [
    ['0', 0],
    ['1048576', 1048576],
    ['16kB', 16384],
    ['64MB', 64 * 1024 ** 2],
    ['1.5 GB', 1.5 * 1024 ** 3],
    ['1TB', 1024 ** 4],
    ['16KB', undefined],
    ['MB', undefined],
    ['1 2', undefined],
  ]
  for (const [text, bytes] of sizes) assert.equal(parseBytes(text), bytes, text)
  fc.assert(fc.property(fc.string(), text => (parseBytes(text) ?? 0) >= 0))
})
