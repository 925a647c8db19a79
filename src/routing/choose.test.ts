import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Topology, TopologyNode } from '../topology/types.ts'
import { candidatesFor, judgeSession, leastLoaded } from './choose.ts'

function node(name: string, over: Partial<TopologyNode> = {}): TopologyNode {
  return {
    name,
    host: name,
    port: 5432,
    weight: 1,
    zone: '',
    state: 'active',
    tags: {},
    role: 'replica',
    accepting: true,
    declared: true,
    source: 'agent',
    systemId: '7',
    timeline: 1,
    lsn: 0,
    lagBytes: 0,
    lagMs: 0,
    connections: undefined,
    load: undefined,
    version: 150000,
    writable: false,
    readable: true,
    reasons: [],
    ...over,
  }
}

const primary = (name: string, over: Partial<TopologyNode> = {}): TopologyNode =>
  node(name, { role: 'primary', writable: true, readable: false, ...over })

function topology(nodes: TopologyNode[], over: Partial<Topology> = {}): Topology {
  return {
    cluster: 'test',
    revision: 1,
    intentRevision: 1,
    epoch: 0,
    systemId: '7',
    nodes,
    primary: nodes.find(each => each.role === 'primary')?.name,
    conflict: [],
    alarms: [],
    settings: { v: 1, readFallback: 'primary', drainTimeoutMs: 1000 },
    ...over,
  }
}

const names = (nodes: readonly TopologyNode[]): string[] => nodes.map(({ name }) => name)

test('reads go to replicas, those of the own zone first, and to the primary when there is none', () => {
  const nodes = [primary('a'), node('b', { zone: 'east' }), node('c', { zone: 'west' })]
  assert.deepEqual(names(candidatesFor(topology(nodes), 'replica', '').nodes), ['b', 'c'])
  assert.deepEqual(names(candidatesFor(topology(nodes), 'replica', 'west').nodes), ['c'])
  assert.deepEqual(names(candidatesFor(topology(nodes), 'replica', 'north').nodes), ['b', 'c'])
  assert.deepEqual(names(candidatesFor(topology([nodes[0]!]), 'replica', '').nodes), ['a'])
})

test('without the fallback reads wait, and the reason says why each node is out', () => {
  const lagging = node('b', { readable: false, reasons: ['not a replica candidate: lag 64 MB over 16 MB'] })
  const settings = { v: 1, readFallback: 'none' } as const
  const { nodes, reason } = candidatesFor(topology([primary('a'), lagging], { settings }), 'replica', '')
  assert.deepEqual(nodes, [])
  assert.match(reason, /^no replica can be read from: .*b: not a replica candidate: lag 64 MB/)
})

test('without a primary the reason is the alarm', () => {
  const alarms = ['2 nodes claim to be primary']
  const { nodes, reason } = candidatesFor(topology([node('b')], { alarms }), 'primary', '')
  assert.deepEqual(nodes, [])
  assert.equal(reason, 'no primary to write to: 2 nodes claim to be primary')
  assert.match(candidatesFor(topology([]), 'primary', '').reason, /no node is known yet/)
})

test('work is spread by weight, and equals take turns', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      (weights, first) => {
        const nodes = weights.map((weight, index) => node(`n${index}`, { weight }))
        const outstanding = new Map<string, number>()
        const total = weights.reduce((sum, weight) => sum + weight, 0)
        for (let turn = first; turn < first + total * 10; turn++) {
          const chosen = leastLoaded(nodes, name => outstanding.get(name) ?? 0, turn)!
          outstanding.set(chosen.name, (outstanding.get(chosen.name) ?? 0) + 1)
        }
        weights.forEach((weight, index) => {
          const share = outstanding.get(`n${index}`) ?? 0
          assert.ok(Math.abs(share - weight * 10) <= 2, `${share} of ${total * 10} for weight ${weight}`)
        })
      },
    ),
  )
})

test('two workers that know nothing of each other give two replicas the same', () => {
  const nodes = [node('b'), node('c')]
  const totals = new Map<string, number>()
  for (const worker of [0, 1]) {
    const own = new Map<string, number>()
    for (let turn = worker; turn < worker + 5; turn++) {
      const { name } = leastLoaded(nodes, each => own.get(each) ?? 0, turn)!
      own.set(name, (own.get(name) ?? 0) + 1)
      totals.set(name, (totals.get(name) ?? 0) + 1)
    }
  }
  assert.deepEqual(Object.fromEntries(totals), { b: 5, c: 5 })
})

test('no candidate, no choice', () => {
  assert.equal(
    leastLoaded([], () => 0, 3),
    undefined,
  )
})

const named = (nodes: TopologyNode[], wanted: string): TopologyNode | undefined =>
  nodes.find(({ name }) => name === wanted)

test('who may stay: a session for writes only on the one primary', () => {
  const stays = (nodes: TopologyNode[], over: Partial<Topology> = {}): string =>
    judgeSession(topology(nodes, over), 'primary', named(nodes, 'a'))
  assert.equal(stays([primary('a')]), 'stay')
  assert.equal(stays([primary('a', { accepting: false, writable: false })]), 'stay')
  assert.equal(stays([primary('a', { state: 'drain', writable: false })]), 'drain')
  assert.equal(stays([node('a')]), 'cut')
  assert.equal(stays([primary('a', { writable: false }), primary('b')], { primary: 'b' }), 'cut')
  assert.equal(
    stays([primary('a', { writable: false })], { primary: undefined, conflict: ['a', 'b'] }),
    'cut',
  )
  assert.equal(stays([primary('b')]), 'drain')
})

test('who may stay: a session for reads also on a replica that lags, not on one that is drained or promoted', () => {
  const stays = (nodes: TopologyNode[]): string => judgeSession(topology(nodes), 'replica', named(nodes, 'b'))
  assert.equal(stays([node('b')]), 'stay')
  assert.equal(stays([node('b', { readable: false, reasons: ['lag'] })]), 'stay')
  assert.equal(stays([node('b', { state: 'drain', readable: false })]), 'drain')
  assert.equal(stays([primary('b'), node('c')]), 'move')
  assert.equal(stays([primary('b')]), 'stay')
  assert.equal(stays([node('c')]), 'drain')
})
