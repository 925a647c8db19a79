import assert from 'node:assert/strict'
import { test } from 'node:test'
import { node, primary, topology } from '../../test/support/topology.ts'
import type { Topology, TopologyNode } from '../topology/types.ts'
import { candidatesFor, judgeSession } from './choose.ts'

const names = (nodes: readonly TopologyNode[]): string[] => nodes.map(({ name }) => name)

test('reads go to replicas, and to the primary when there is none', () => {
  const nodes = [primary('a'), node('b', { zone: 'east' }), node('c', { zone: 'west' })]
  assert.deepEqual(names(candidatesFor(topology(nodes), 'replica').nodes), ['b', 'c'])
  assert.deepEqual(names(candidatesFor(topology([nodes[0]!]), 'replica').nodes), ['a'])
})

test('without the fallback reads wait, and the reason says why each node is out', () => {
  const lagging = node('b', { readable: false, reasons: ['not a replica candidate: lag 64 MB over 16 MB'] })
  const settings = { v: 1, readFallback: 'none' } as const
  const { nodes, reason } = candidatesFor(topology([primary('a'), lagging], { settings }), 'replica')
  assert.deepEqual(nodes, [])
  assert.match(reason, /^no replica can be read from: .*b: not a replica candidate: lag 64 MB/)
})

test('without a primary the reason is the alarm', () => {
  const alarms = ['2 nodes claim to be primary']
  const { nodes, reason } = candidatesFor(topology([node('b')], { alarms }), 'primary')
  assert.deepEqual(nodes, [])
  assert.equal(reason, 'no primary to write to: 2 nodes claim to be primary')
  assert.match(candidatesFor(topology([]), 'primary').reason, /no node is known yet/)
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
