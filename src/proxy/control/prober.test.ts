import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { FakeTime, settle } from '../../../test/support/fake-time.ts'
import type { Sample } from '../../probe/probe.ts'
import { silentLogger } from '../../runtime/log.ts'
import { encode } from '../../topology/codec.ts'
import { keysOf } from '../../topology/keys.ts'
import { ClusterState } from '../../topology/state.ts'
import { buildTopology } from '../../topology/topology.ts'
import type { NodeFacts, NodeIntent, NodeStatus, Topology, TopologyNode } from '../../topology/types.ts'
import { Prober, type ProberOptions } from './prober.ts'

/** One node, `b`, whose connections of either kind work or do not. */
const keys = keysOf('test')
const defaults = { replicaLagBytesMax: 1e9, readFallback: 'primary' as const, drainTimeoutMs: 1000 }
const facts: NodeFacts = {
  role: 'replica',
  systemId: '7',
  timeline: 1,
  connections: { max: 100, used: 1, active: 0, idleInTransaction: 0 },
  slots: [],
  version: 150000,
}
const works: Sample = { facts, warning: undefined }
const hangs: Sample = { failure: { kind: 'timeout', reason: 'it hangs' } }

let time: FakeTime
let state: ClusterState
let prober: Prober
/** What each kind of question gets, and whether the questions asked were for a new connection. */
let overOld: () => Promise<Sample>
let overNew: () => Promise<Sample>
let asked: ('old' | 'new')[]
let storeUp: boolean
let revision = 0

beforeEach(() => {
  time = new FakeTime()
  state = new ClusterState(keys)
  asked = []
  storeUp = true
  overOld = () => Promise.resolve(works)
  overNew = () => Promise.resolve(works)
})

afterEach(() => prober.close())

function put(key: string, value: NodeIntent | NodeStatus): void {
  revision++
  const entry = { key, value: encode(value), createRevision: revision, modRevision: revision }
  state.put({ ...entry, leaseId: undefined })
}

function declare(): void {
  const rest = { weight: 1, zone: '', priority: 1, state: 'active' as const, tags: {} }
  put(keys.nodeIntent('b'), { v: 1, host: 'h', port: 5432, ...rest })
}

function report(): void {
  const rest = { zone: '', accepting: true, agentVersion: '0', at: '' }
  put(keys.nodeStatus('b'), { v: 1, seq: revision, host: 'h', port: 5432, ...rest, ...facts })
}

function begin(): void {
  const current = (): Topology => buildTopology('test', state, defaults)
  const watcher: ProberOptions['watcher'] = {
    current,
    get connection() {
      return { up: storeUp, sinceMs: 0, reason: undefined }
    },
    agentReport: name => state.nodeStatuses.get(name),
    observe: (name, observation) => state.observe(name, observation),
    unobserve: name => state.unobserve(name),
    forget: name => state.forget(name),
    onChange: listener => {
      listener(current())
      return () => undefined
    },
  }
  prober = new Prober({
    watcher,
    user: 'u',
    password: undefined,
    database: 'd',
    intervalMs: 1000,
    timeoutMs: 500,
    clock: time,
    timers: time,
    log: silentLogger,
    openProbe: () => ({
      sample: options => {
        asked.push(options?.fresh ? 'new' : 'old')
        return options?.fresh ? overNew() : overOld()
      },
      close: () => Promise.resolve(),
    }),
  })
}

const node = (): TopologyNode => buildTopology('test', state, defaults).nodes[0]!

test('a node that is suspected is out until a new connection works, whatever an old one says', async () => {
  declare()
  begin()
  await time.pass(3000)
  assert.equal(node().readable, true)
  overNew = () => Promise.resolve(hangs)
  asked = []
  prober.suspect('b')
  await time.pass(10_000)
  assert.equal(node().readable, false)
  assert.match(node().reasons.join(), /it hangs/)
  assert.deepEqual([...new Set(asked)], ['new'])
  overNew = () => Promise.resolve(works)
  await time.pass(1000)
  assert.equal(node().readable, true)
  asked = []
  await time.pass(3000)
  assert.deepEqual([...new Set(asked)], ['old'])
})

test('an answer over an old connection that was under way when the suspicion came does not clear it', async () => {
  declare()
  let answer: (sample: Sample) => void = () => undefined
  overOld = () => new Promise(resolve => (answer = resolve))
  overNew = () => Promise.resolve(hangs)
  begin()
  await settle()
  prober.suspect('b')
  answer(works)
  await settle()
  assert.deepEqual(asked, ['old', 'new'])
  assert.equal(node().readable, false)
})

test('a node with a living agent is left to it again when a new connection works', async () => {
  report()
  begin()
  prober.suspect('b')
  await time.pass(3000)
  assert.deepEqual(asked, ['new'])
  assert.equal(node().source, 'agent')
})

test('many suspicions in a row are one question', async () => {
  declare()
  begin()
  await time.pass(100)
  asked = []
  for (let round = 0; round < 20; round++) {
    prober.suspect('b')
    await time.pass(10)
  }
  assert.deepEqual(asked, ['new'])
  await time.pass(1000)
  assert.deepEqual(asked, ['new', 'new'])
})

test('a node that nobody declares is forgotten when it is gone for long, but not while its agent lives', async () => {
  report()
  begin()
  overNew = () => Promise.resolve(hangs)
  prober.suspect('b')
  await time.pass(700_000)
  assert.equal(node().readable, false, 'the agent says that it can be used, but from here it cannot')
  state.delete(keys.nodeStatus('b'), ++revision)
  await time.pass(2000)
  assert.deepEqual(buildTopology('test', state, defaults).nodes, [])
})

describe('when the store is back, what an agent had said before is not believed against what was seen since', () => {
  const promoted: Sample = { facts: { ...facts, role: 'primary', timeline: 2 }, warning: undefined }

  async function outage(seen: Sample): Promise<void> {
    report()
    begin()
    await time.pass(2000)
    assert.deepEqual(asked, [], 'the agent tells')
    overOld = () => Promise.resolve(seen)
    storeUp = false
    await time.pass(3000)
    storeUp = true
    asked = []
    await time.pass(5000)
  }

  test('a promotion', async () => {
    await outage(promoted)
    assert.deepEqual([node().role, node().source], ['primary', 'probe'])
    assert.ok(asked.length > 3)
    report()
    await time.pass(1000)
    assert.equal(node().source, 'agent', 'the agent has reported again')
  })

  test('a server that was lost', async () => {
    await outage(hangs)
    assert.equal(node().accepting, false)
  })

  test('nothing has changed', async () => {
    await outage(works)
    assert.deepEqual([asked, node().source], [[], 'agent'])
  })

  test('a server that does not let this user in is left to its agent all the time', async () => {
    report()
    begin()
    overOld = () => Promise.resolve({ failure: { kind: 'denied', reason: 'wrong password' } })
    for (const up of [false, true]) {
      storeUp = up
      await time.pass(3000)
      assert.deepEqual([node().accepting, node().source], [true, 'agent'])
    }
  })
})
