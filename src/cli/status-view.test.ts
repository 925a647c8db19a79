import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorkerCounters } from '../proxy/counters.ts'
import type { Entry } from '../store/store.ts'
import { encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import { ClusterState } from '../topology/state.ts'
import { buildTopology } from '../topology/topology.ts'
import type { NodeStatus, Topology } from '../topology/types.ts'
import { formatStatus, type Status, statusAsJson } from './status-view.ts'

const keys = keysOf('main')

function entry(key: string, value: string, revision: number): Entry {
  return { key, value, createRevision: revision, modRevision: revision, leaseId: undefined }
}

function nodeStatus(port: number, more: Partial<NodeStatus>): string {
  return encode({
    v: 1,
    seq: 1,
    host: '10.0.0.1',
    port,
    zone: '',
    role: 'replica',
    accepting: true,
    systemId: '7',
    timeline: 2,
    connections: { max: 100, used: 9, active: 1, idleInTransaction: 0 },
    slots: [],
    version: 170000,
    agentVersion: '0',
    at: '',
    ...more,
  })
}

function topology(): Topology {
  const state = new ClusterState(keys)
  state.replace(
    [
      entry(keys.nodeStatus('a'), nodeStatus(1, { role: 'primary', writeLsn: 64 * 1024 * 1024 }), 1),
      entry(keys.nodeStatus('b'), nodeStatus(2, { replayLsn: 0, lagMs: 1500 }), 2),
      entry(keys.nodeStatus('c'), nodeStatus(3, { accepting: false, reason: 'it is \x1b[31mdown' }), 3),
    ],
    7,
  )
  const defaults = {
    replicaLagBytesMax: 16 * 1024 * 1024,
    readFallback: 'primary',
    drainTimeoutMs: 0,
  } as const
  const built = buildTopology('main', state, defaults)
  return { ...built, intentRevision: 7, alarms: ['something is wrong'] }
}

function status(): Status {
  const counters = new WorkerCounters()
  counters.node('a').sessions = 5
  const row = { v: 1, address: '10.0.0.9:6432', adminUrl: '', clients: 3, version: '0.1.0', at: '' } as const
  return {
    source: 'admin',
    store: { up: false, reason: 'etcd is away' },
    topology: topology(),
    proxy: { counters: counters.data(), workers: 2, crashes: 0, appliedRevision: 7 },
    proxies: [
      { ...row, id: 'p2', appliedRevision: 6 },
      { ...row, id: 'p1', appliedRevision: 7 },
    ],
  }
}

test('what is wrong comes first, then the nodes with reasons, then the proxies', () => {
  assert.equal(
    formatStatus(status(), { colour: false, width: undefined }),
    `alarm: something is wrong

cluster main, revision 7, store down (etcd is away)

NODE  ROLE     STATE   ADDRESS     TL    LAG  BEHIND  CONNECTIONS  SESSIONS  TAKES
a     primary  active  10.0.0.1:1   2      -       -  9/100               5  writes
b     replica  active  10.0.0.1:2   2  64 MB   1.5 s  9/100               0  -
c     replica  down    10.0.0.1:3   2      -       -  9/100               0  -
b: not a replica candidate: lag 64 MB over 16 MB
c: does not accept connections: it is  [31mdown

PROXY  ADDRESS        CLIENTS  APPLIED  VERSION  ADMIN
p1     10.0.0.9:6432        3  7        0.1.0    -
p2     10.0.0.9:6432        3  6 of 7   0.1.0    -
`,
  )
})

test('from the store alone sessions are unknown, and it says so', () => {
  const shown = formatStatus(
    { ...status(), source: 'store', proxy: undefined, proxies: [] },
    { colour: false, width: undefined },
  )
  assert.match(shown, /\nno pgherd answers: this is what the store knows\n/)
  assert.match(shown, /\na +primary .* - +writes\n/)
  assert.doesNotMatch(shown, /PROXY/)
})

test('in 80 columns what a node takes is still seen', () => {
  const shown = formatStatus(status(), { colour: false, width: 80 })
  assert.match(shown, /\nNODE {2}ROLE .* TAKES\na .* writes\n/)
  const nodeRows = shown.split('\n').filter(line => /^(NODE|[abc]) /.test(line))
  for (const line of nodeRows) assert.ok(line.length <= 80, line)
})

test('sessions are those of all proxies, where they tell', () => {
  const { proxies = [], ...rest } = status()
  const told = { ...rest, proxies: proxies.map(row => ({ ...row, sessions: { a: 3, b: 1 } })) }
  const { topology } = statusAsJson(told) as { topology: { nodes: { name: string; sessions: number }[] } }
  assert.deepEqual(
    topology.nodes.map(({ sessions }) => sessions),
    [6, 2, 0],
  )
})

test('colours: alarms and what is down are red', () => {
  const shown = formatStatus(status(), { colour: true, width: 80 })
  assert.ok(shown.includes('\x1b[31msomething is wrong'))
  assert.ok(shown.includes('\x1b[31mdown'))
})

test('JSON has null where something is not known, and sessions by node', () => {
  const json = JSON.parse(JSON.stringify(statusAsJson({ ...status(), proxies: undefined }))) as {
    topology: { primary: string; nodes: { name: string; sessions: number }[] }
    proxies: null
    proxy: { workers: number; clients: number }
  }
  assert.equal(json.topology.primary, 'a')
  assert.deepEqual(
    json.topology.nodes.map(({ name, sessions }) => [name, sessions]),
    [
      ['a', 5],
      ['b', 0],
      ['c', 0],
    ],
  )
  assert.deepEqual([json.proxies, json.proxy], [null, { workers: 2, clients: 0 }])
})
