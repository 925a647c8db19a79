import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { systemClock } from '../runtime/clock.ts'
import { silentLogger } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { systemTimers } from '../runtime/timers.ts'
import { type EmbeddedStore, openEmbeddedStore } from '../store/embedded.ts'
import { decodeNodeIntent } from './codec.ts'
import { OperationError, type Operations } from './intent-change.ts'
import { keysOf } from './keys.ts'
import { addNode, removeNode, setNodeState, setNodeWeight } from './operations.ts'
import type { NodeIntent, NodeStatus } from './types.ts'

const cluster = 'test'
const keys = keysOf(cluster)
let store: EmbeddedStore

beforeEach(async () => {
  store = await openEmbeddedStore({
    path: undefined,
    clock: systemClock,
    timers: systemTimers,
    log: silentLogger,
  })
})
afterEach(() => store.close())

const at = (): Operations => ({
  store,
  cluster,
  who: 'anna',
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
})
const node = (host: string, port = 5432): Omit<NodeIntent, 'v'> => ({
  host,
  port,
  weight: 1,
  zone: '',
  priority: 1,
  state: 'active',
  tags: {},
})

async function report(name: string, over: Partial<NodeStatus>): Promise<void> {
  const status = {
    v: 1,
    seq: 1,
    host: name,
    port: 5432,
    role: 'replica',
    accepting: true,
    systemId: '7',
    timeline: 1,
    connections: { max: 1, used: 1, active: 1, idleInTransaction: 0 },
    version: 150000,
    agentVersion: '0',
    at: '',
    ...over,
  }
  await store.transact({
    compares: [],
    writes: [{ kind: 'put', key: keys.nodeStatus(name), value: JSON.stringify(status) }],
  })
}

async function intentOf(name: string): Promise<NodeIntent | undefined> {
  const { entry } = await store.get(keys.nodeIntent(name))
  return entry && decodeNodeIntent(entry.value).value
}

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof OperationError && pattern.test(error.message)

test('a node is added once, at an address of its own, and only to its own cluster', async () => {
  await report('a', { role: 'primary' })
  const { revision } = await addNode(at(), 'b', node('b'), '7')
  assert.equal((await store.get(keys.nodeIntent('b'))).entry?.modRevision, revision)
  await assert.rejects(addNode(at(), 'b', node('other'), '7'), refused(/node b exists already/))
  await assert.rejects(addNode(at(), 'c', node('b'), '7'), refused(/b:5432 is already the address of node b/))
  await assert.rejects(addNode(at(), 'c', node('a'), '7'), refused(/address of node a/))
  await assert.rejects(addNode(at(), 'x', node('x'), '8'), refused(/belongs to another cluster.*8.*7/))
  assert.throws(() => addNode(at(), 'no/slash', node('y'), undefined), refused(/cannot be a node's name/))
})

test('a node that only its agent has told of can be drained; the intent keeps its address', async () => {
  await report('b', { host: '10.0.0.2', port: 5433, zone: 'east' })
  await setNodeState(at(), 'b', 'drain', false)
  assert.deepEqual(await intentOf('b'), { v: 1, ...node('10.0.0.2', 5433), zone: 'east', state: 'drain' })
})

test('the primary is drained only by force, and never removed', async () => {
  await report('a', { role: 'primary' })
  await assert.rejects(setNodeState(at(), 'a', 'drain', false), refused(/node a is the primary/))
  await setNodeState(at(), 'a', 'drain', true)
  await assert.rejects(removeNode(at(), 'a'), refused(/node a is the primary/))
})

test('a node is removed when no agent would report it again', async () => {
  await addNode(at(), 'b', node('b'), undefined)
  await report('b', {})
  await assert.rejects(removeNode(at(), 'b'), refused(/agent of node b is running/))
  await store.transact({ compares: [], writes: [{ kind: 'delete', key: keys.nodeStatus('b') }] })
  await removeNode(at(), 'b')
  assert.equal(await intentOf('b'), undefined)
  await assert.rejects(
    removeNode(at(), 'b'),
    (error: OperationError) => /no node b/.test(error.message) && /No node is known/.test(error.hint ?? ''),
  )
})

test('fields that this version does not know survive a change', async () => {
  const value = JSON.stringify({ v: 1, ...node('b'), future: { deep: [1] } })
  await store.transact({ compares: [], writes: [{ kind: 'put', key: keys.nodeIntent('b'), value }] })
  await setNodeWeight(at(), 'b', 5)
  const { entry } = await store.get(keys.nodeIntent('b'))
  assert.deepEqual(JSON.parse(entry!.value), { v: 1, ...node('b'), weight: 5, future: { deep: [1] } })
})

test('of many who add the same address at once one succeeds; changes of different nodes all stand', async () => {
  const adds = await Promise.allSettled(
    Array.from({ length: 20 }, (_, index) => addNode(at(), `n${index}`, node('same'), undefined)),
  )
  assert.equal(adds.filter(({ status }) => status === 'fulfilled').length, 1)
  await Promise.all(
    Array.from({ length: 20 }, (_, index) => addNode(at(), `m${index}`, node(`m${index}`), undefined)),
  )
  await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      index % 2 === 0 ? setNodeWeight(at(), `m${index}`, 7) : setNodeState(at(), `m${index}`, 'drain', false),
    ),
  )
  for (let index = 0; index < 20; index++) {
    const intent = await intentOf(`m${index}`)
    assert.deepEqual([intent?.weight, intent?.state], index % 2 === 0 ? [7, 'active'] : [1, 'drain'])
  }
  const { entry } = await store.get(keys.generation)
  assert.equal(entry?.value, '41')
})
