import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Entry } from '../store/store.ts'
import { applyChange, changeOf } from './change.ts'
import { encode } from './codec.ts'
import { keysOf } from './keys.ts'
import { ClusterState } from './state.ts'
import { withStoreAlarm } from './store-alarm.ts'
import { buildTopology, TopologyBuilder } from './topology.ts'
import type { FleetSettings, Leader, NodeFacts, NodeIntent, NodeStatus, Topology } from './types.ts'

const keys = keysOf('test')
const settings = {
  replicaLagBytesMax: 16 * 1048576,
  readFallback: 'primary',
  drainTimeoutMs: 1000,
} as const
const MB = 1048576

function facts(over: Partial<NodeFacts> = {}): NodeFacts {
  return {
    role: 'replica',
    systemId: '7',
    timeline: 1,
    connections: { max: 100, used: 1, active: 0, idleInTransaction: 0 },
    slots: [],
    version: 150000,
    ...over,
  }
}

function status(over: Partial<NodeStatus> = {}): NodeStatus {
  return {
    v: 1,
    seq: 1,
    host: 'h',
    port: 5432,
    zone: '',
    accepting: true,
    agentVersion: '0',
    at: '2026-01-01T00:00:00Z',
    ...facts(over),
    ...over,
  }
}

function intent(over: Partial<NodeIntent> = {}): NodeIntent {
  return { v: 1, host: 'h', port: 5432, weight: 1, zone: '', priority: 1, state: 'active', tags: {}, ...over }
}

type Change =
  | { kind: 'put'; entry: Entry }
  | { kind: 'delete'; key: string; revision: number }
  | { kind: 'see'; name: string; seq: number; reachable: boolean; facts?: NodeFacts }

function apply(state: ClusterState, change: Change): void {
  if (change.kind === 'put') state.put(change.entry)
  else if (change.kind === 'delete') state.delete(change.key, change.revision)
  else {
    const { seq, reachable } = change
    state.observe(change.name, {
      seq,
      reachable,
      ...(change.facts && { facts: change.facts }),
      ...(!reachable && { reason: 'gone' }),
    })
  }
}

let revision = 0
function put(key: string, value: NodeIntent | NodeStatus | FleetSettings | Leader): Change {
  revision++
  return {
    kind: 'put',
    entry: { key, value: encode(value), createRevision: revision, modRevision: revision, leaseId: undefined },
  }
}
const says = (name: string, over: Partial<NodeStatus>): Change =>
  put(keys.nodeStatus(name), status({ host: name, ...over }))
const wants = (name: string, over: Partial<NodeIntent>): Change =>
  put(keys.nodeIntent(name), intent({ host: name, ...over }))
const gone = (name: string): Change => ({ kind: 'delete', key: keys.nodeStatus(name), revision: ++revision })
let seq = 0
const seen = (name: string, over: Partial<NodeFacts> | undefined): Change => ({
  kind: 'see',
  name,
  seq: ++seq,
  reachable: over !== undefined,
  ...(over && { facts: facts(over) }),
})

function topologyOf(...changes: Change[]): Topology {
  const state = new ClusterState(keys)
  for (const change of changes) apply(state, change)
  return buildTopology('test', state, settings)
}

function nodeOf(topology: Topology, name: string): Topology['nodes'][number] {
  const node = topology.nodes.find(each => each.name === name)
  assert.ok(node, `node ${name}`)
  return node
}

const writable = (topology: Topology): string[] =>
  topology.nodes.filter(node => node.writable).map(node => node.name)
const readable = (topology: Topology): string[] =>
  topology.nodes.filter(node => node.readable).map(node => node.name)

test('one primary takes writes, its replicas take reads', () => {
  const topology = topologyOf(
    says('a', { role: 'primary', writeLsn: 10 * MB }),
    says('b', { replayLsn: 10 * MB }),
    says('c', { replayLsn: 9 * MB }),
  )
  assert.deepEqual(writable(topology), ['a'])
  assert.deepEqual(readable(topology), ['b', 'c'])
  assert.equal(nodeOf(topology, 'c').lagBytes, MB)
  assert.deepEqual(topology.alarms, [])
})

test('a replica that is too far behind is no candidate, and the reason says how far', () => {
  const topology = topologyOf(
    says('a', { role: 'primary', writeLsn: 100 * MB }),
    says('b', { replayLsn: 36 * MB }),
  )
  assert.deepEqual(readable(topology), [])
  assert.deepEqual(nodeOf(topology, 'b').reasons, ['not a replica candidate: lag 64 MB over 16 MB'])
})

test('lag counts what the replica itself has received and not replayed, also without a primary', () => {
  const topology = topologyOf(says('b', { receiveLsn: 50 * MB, replayLsn: 10 * MB }))
  assert.deepEqual(nodeOf(topology, 'b').reasons, ['not a replica candidate: lag 40 MB over 16 MB'])
})

test('settings in the store that are wrong raise an alarm that names them', () => {
  const { alarms } = topologyOf(
    put(keys.settings, { v: 1, values: { 'proxy.query_wait_timeout': 'soon', 'proxy.pools': 1 } }),
  )
  assert.match(
    alarms[0]!,
    /^settings of the fleet: proxy\.pools is not a known key; proxy\.query_wait_timeout must be a duration/,
  )
})

test('a drained node, one in maintenance and one of weight 0 take nothing new', () => {
  const primary = says('a', { role: 'primary' })
  for (const [over, reason] of [
    [{ state: 'drain' }, 'being drained'],
    [{ state: 'maintenance' }, 'in maintenance'],
    [{ weight: 0 }, 'its weight is 0'],
  ] as const) {
    const topology = topologyOf(primary, says('b', {}), wants('b', over))
    assert.deepEqual(readable(topology), [])
    assert.deepEqual(nodeOf(topology, 'b').reasons, [`not a replica candidate: ${reason}`])
  }
  const drained = topologyOf(primary, wants('a', { state: 'drain' }))
  assert.deepEqual(writable(drained), [])
  assert.equal(drained.primary, 'a')
  assert.match(drained.alarms.join(), /primary a is being drained/)
})

test('two who claim to be primary: neither is written to, and it is told', () => {
  const topology = topologyOf(
    says('a', { role: 'primary', timeline: 1 }),
    says('b', { role: 'primary', timeline: 2 }),
  )
  assert.deepEqual(writable(topology), [])
  assert.deepEqual(topology.conflict, ['a', 'b'])
  assert.equal(topology.primary, undefined)
  assert.match(topology.alarms.join(), /2 nodes claim to be primary: a \(timeline 1\) and b \(timeline 2\)/)
})

test('the leader key decides between two who claim, and rules out one who is not named', () => {
  const claims = [says('a', { role: 'primary' }), says('b', { role: 'primary', timeline: 2 })]
  const topology = topologyOf(...claims, put(keys.leader, { v: 1, node: 'b', timeline: 2 }))
  assert.deepEqual(writable(topology), ['b'])
  assert.deepEqual(topology.conflict, [])
  assert.match(nodeOf(topology, 'a').reasons.join(), /the leader is b/)
  const alone = topologyOf(claims[0]!, put(keys.leader, { v: 1, node: 'b', timeline: 2 }))
  assert.deepEqual(writable(alone), [])
})

test('a claim whose server does not accept connections is none', () => {
  const topology = topologyOf(
    says('a', { role: 'primary', accepting: false, reason: 'shut down' }),
    says('b', { role: 'primary', timeline: 2 }),
  )
  assert.deepEqual(writable(topology), ['b'])
  assert.match(nodeOf(topology, 'a').reasons.join(), /does not accept connections: shut down/)
})

test('an agent that says primary counts as a claim even where its server cannot be reached from here', () => {
  const topology = topologyOf(
    says('a', { role: 'primary' }),
    seen('a', undefined),
    says('b', { role: 'primary', timeline: 2 }),
  )
  assert.deepEqual(writable(topology), [])
})

test('a report from before an outage of the store is no claim against what is seen, a later one is', () => {
  const state = new ClusterState(keys)
  const report = (name: string, over: Partial<NodeStatus>, modRevision: number): void => {
    const value = encode(status({ host: name, ...over }))
    state.put({ key: keys.nodeStatus(name), value, createRevision: 1, modRevision, leaseId: '1' })
  }
  report('a', { role: 'primary' }, 1)
  report('b', {}, 2)
  const promoted = facts({ role: 'primary', timeline: 2 })
  state.observe('a', { seq: 1, reachable: false, reason: 'it is gone', doubtedRevision: 1 })
  state.observe('b', { seq: 2, reachable: true, facts: promoted, doubtedRevision: 2 })
  const during = buildTopology('test', state, settings)
  assert.deepEqual([during.primary, during.conflict], ['b', []])
  // The agent of a lives and says it again: then a is a primary that only cannot be reached from here.
  report('a', { role: 'primary' }, 3)
  const after = buildTopology('test', state, settings)
  assert.deepEqual([after.primary, after.conflict], [undefined, ['a', 'b']])
})

test('a store that is away is an alarm', () => {
  const topology = buildTopology('test', new ClusterState(keys), settings)
  assert.equal(withStoreAlarm(topology, { up: true, sinceMs: 0, reason: undefined }), topology)
  const { alarms } = withStoreAlarm(topology, { up: false, sinceMs: 0, reason: 'gone' })
  assert.match(alarms[0] ?? '', /^the store is away: /)
  assert.deepEqual(alarms.slice(1), topology.alarms)
})

test('a silent agent ejects nobody: the last known role stays until the server itself is asked', () => {
  const silent = [says('a', { role: 'primary' }), says('b', {}), gone('a'), gone('b')]
  const topology = topologyOf(...silent)
  assert.deepEqual(writable(topology), ['a'])
  assert.deepEqual(readable(topology), ['b'])
  assert.match(nodeOf(topology, 'a').reasons.join(), /agent is silent/)
  assert.deepEqual(writable(topologyOf(...silent, seen('a', { role: 'primary' }))), ['a'])
  assert.deepEqual(writable(topologyOf(...silent, seen('a', undefined))), [])
})

test('after a promotion the silent old primary is out as soon as the new one says so', () => {
  const topology = topologyOf(
    says('a', { role: 'primary' }),
    says('b', {}),
    gone('a'),
    says('b', { role: 'primary', timeline: 2 }),
  )
  assert.deepEqual(writable(topology), ['b'])
})

test('what was seen first hand counts more than the agent’s word', () => {
  const topology = topologyOf(
    says('a', { role: 'primary' }),
    says('b', {}),
    seen('b', { role: 'primary', timeline: 2 }),
    seen('a', { role: 'replica', timeline: 2 }),
  )
  assert.deepEqual(writable(topology), ['b'])
})

test('works without any agent', () => {
  const topology = topologyOf(
    wants('a', {}),
    wants('b', { port: 5433 }),
    seen('a', { role: 'primary' }),
    seen('b', {}),
  )
  assert.deepEqual(writable(topology), ['a'])
  assert.deepEqual(readable(topology), ['b'])
})

test('two names of one server count once, and it is told; a name that has gone is only left alone', () => {
  const twice = [
    says('b', { role: 'primary', host: 'h', port: 5433 }),
    says('e', { role: 'primary', host: 'h', port: 5433 }),
  ]
  const both = topologyOf(...twice)
  assert.deepEqual(writable(both), ['b'])
  assert.match(both.alarms.join(), /nodes b and e have the same address h:5433/)
  const silent = topologyOf(...twice, gone('e'))
  assert.deepEqual(writable(silent), ['b'])
  assert.deepEqual(silent.alarms, [])
  assert.match(nodeOf(silent, 'e').reasons.join(), /is the address of node b/)
  assert.deepEqual(writable(topologyOf(...twice, wants('e', { host: 'h', port: 5433 }))), ['e'])
})

test('of two who claim to be primary the one in maintenance does not count', () => {
  const claims = [says('a', { role: 'primary' }), says('b', { role: 'primary', timeline: 2 })]
  const topology = topologyOf(...claims, wants('a', { state: 'maintenance' }))
  assert.deepEqual(writable(topology), ['b'])
  assert.deepEqual(topology.conflict, [])
})

test('a server of another cluster gets nothing', () => {
  const topology = topologyOf(
    says('a', { role: 'primary' }),
    says('b', {}),
    says('x', { role: 'primary', systemId: '8' }),
  )
  assert.deepEqual(writable(topology), ['a'])
  assert.match(nodeOf(topology, 'x').reasons.join(), /belongs to another cluster/)
  assert.match(topology.alarms.join(), /node x belongs to another cluster/)
})

test('two system identifiers that as many nodes have: nobody is used, and the alarm says who has which', () => {
  const topology = topologyOf(
    says('a', { role: 'primary', systemId: '7' }),
    wants('b', {}),
    says('c', { role: 'primary', systemId: '3' }),
  )
  assert.deepEqual([writable(topology), readable(topology), topology.systemId], [[], [], ''])
  assert.match(
    topology.alarms.join(),
    /^it cannot be told which nodes are this cluster's: c has the system identifier 3, a has .* 7; nothing is sent/,
  )
  assert.match(nodeOf(topology, 'a').reasons.join(), /system identifier is 7, and it cannot be told/)

  const withReplica = [
    says('a', { role: 'primary' }),
    says('b', {}),
    says('c', { role: 'primary', systemId: '3' }),
  ]
  assert.deepEqual(writable(topologyOf(...withReplica)), ['a'])
})

test('between two system identifiers the leader decides', () => {
  const topology = topologyOf(
    says('a', { role: 'primary', systemId: '7' }),
    says('c', { role: 'primary', systemId: '3' }),
    put(keys.leader, { v: 1, node: 'a', timeline: 1 }),
  )
  assert.deepEqual(writable(topology), ['a'])
  assert.match(topology.alarms.join(), /node c belongs to another cluster/)
})

test('a replica that a promotion left behind takes no reads, however little it seems to lag', () => {
  const promoted = says('b', { role: 'primary', timeline: 2, writeLsn: 5 * MB })
  for (const over of [
    { replayLsn: 5 * MB - 1, lagMs: 86_400_000 },
    { replayLsn: 6 * MB, receiveLsn: 6 * MB },
    { replayLsn: 5 * MB, replicationState: 'waiting' },
  ]) {
    const topology = topologyOf(promoted, says('c', { timeline: 1, ...over }))
    assert.deepEqual(readable(topology), [])
    assert.deepEqual(nodeOf(topology, 'c').reasons, [
      'not a replica candidate: it is on timeline 1, the primary b on 2, and it follows nobody',
    ])
  }
})

test('a replica that follows another history than the primary’s takes no reads', () => {
  const topology = topologyOf(
    says('b', { role: 'primary', timeline: 2, writeLsn: 5 * MB }),
    says('c', { timeline: 1, replicationState: 'streaming', replayLsn: 5 * MB + 1 }),
  )
  assert.deepEqual(readable(topology), [])
  assert.match(nodeOf(topology, 'c').reasons.join(), /replayed what the primary never had: rewind it/)
})

test('a replica that streams is a candidate, also when it is ahead of what is known of the primary', () => {
  const streams = { replicationState: 'streaming' }
  const primary = says('a', { role: 'primary', timeline: 2, writeLsn: 5 * MB })
  const topology = topologyOf(
    primary,
    // Its figures are newer than the primary's.
    says('b', { ...streams, timeline: 2, replayLsn: 9 * MB }),
    // It has received nothing of the new timeline yet.
    says('c', { ...streams, timeline: 1, replayLsn: 5 * MB }),
    // It follows an archive, and nobody has been promoted since.
    says('d', { timeline: 2, replayLsn: 5 * MB }),
  )
  assert.deepEqual(readable(topology), ['b', 'c', 'd'])
})

test('a value that cannot be read is told and harms nothing else', () => {
  const broken: Change = {
    kind: 'put',
    entry: {
      key: keys.nodeIntent('b'),
      value: '{"v":1',
      createRevision: 900,
      modRevision: 900,
      leaseId: undefined,
    },
  }
  const topology = topologyOf(says('a', { role: 'primary' }), broken)
  assert.deepEqual(writable(topology), ['a'])
  assert.match(topology.alarms.join(), /intent\/nodes\/b: node intent is not JSON/)
})

// Properties: histories of any kind.

const names = fc.constantFrom('a', 'b', 'c')
const nodeFacts = fc.record(
  {
    role: fc.constantFrom('primary' as const, 'replica' as const, 'unknown' as const),
    systemId: fc.constantFrom('7', '7', '7', '8'),
    timeline: fc.integer({ min: 1, max: 3 }),
    writeLsn: fc.nat(100 * MB),
    replayLsn: fc.nat(100 * MB),
  },
  { noNullPrototype: true },
)
const step = fc.oneof(
  fc.record({
    what: fc.constant('says' as const),
    name: names,
    host: names,
    over: nodeFacts,
    accepting: fc.boolean(),
  }),
  fc.record({ what: fc.constant('gone' as const), name: names }),
  fc.record({
    what: fc.constant('wants' as const),
    name: names,
    state: fc.constantFrom('active' as const, 'drain' as const),
  }),
  fc.record({
    what: fc.constant('seen' as const),
    name: names,
    over: fc.option(nodeFacts, { nil: undefined }),
  }),
  fc.record({ what: fc.constant('leads' as const), name: names }),
)

const history = fc.array(step, { maxLength: 25 }).map(steps =>
  steps.map((each): Change => {
    switch (each.what) {
      case 'says':
        return says(each.name, { ...each.over, host: each.host, accepting: each.accepting })
      case 'gone':
        return gone(each.name)
      case 'wants':
        return wants(each.name, { state: each.state })
      case 'seen':
        return seen(each.name, each.over)
      case 'leads':
        return put(keys.leader, { v: 1, node: each.name, timeline: 1 })
      default:
        return each satisfies never
    }
  }),
)

test('any order and any interleaving of the same events gives the same snapshot', () => {
  const shuffled = history.chain(changes =>
    fc.tuple(
      fc.constant(changes),
      fc.shuffledSubarray(changes, { minLength: changes.length }),
      fc.subarray(changes),
    ),
  )
  fc.assert(
    fc.property(shuffled, ([inOrder, inAnyOrder, someAgain]) => {
      assert.deepEqual(topologyOf(...inAnyOrder, ...someAgain), topologyOf(...inOrder))
    }),
    { numRuns: 500 },
  )
})

test('a listing gives the same as the events that led to it, but for the memory of silent agents', () => {
  fc.assert(
    fc.property(history, fc.nat(25), (changes, place) => {
      const stored = new Map<string, Entry>()
      const followed = new ClusterState(keys)
      let at = 0
      for (const change of changes.slice(0, place)) {
        apply(followed, change)
        if (change.kind === 'put') stored.set(change.entry.key, change.entry)
        if (change.kind === 'delete') stored.delete(change.key)
        at = Math.max(at, followed.revision)
      }
      const before = buildTopology('test', followed, settings)
      followed.replace(stored.values(), at)
      assert.deepEqual(buildTopology('test', followed, settings), before)
    }),
    { numRuns: 300 },
  )
})

test('never are two nodes writable, and never one that another claim stands against without the leader’s word', () => {
  fc.assert(
    fc.property(history, changes => {
      const topology = topologyOf(...changes)
      assert.ok(writable(topology).length <= 1)
      if (topology.conflict.length > 0) assert.deepEqual(writable(topology), [])
      const [only] = writable(topology)
      if (only !== undefined) assert.equal(topology.primary, only)
      if (topology.epoch > 0 && only !== undefined) {
        const leads = changes.findLast(change => change.kind === 'put' && change.entry.key === keys.leader)
        assert.ok(leads?.kind === 'put' && (JSON.parse(leads.entry.value) as Leader).node === only)
      }
    }),
    { numRuns: 500 },
  )
})

test('every node that takes nothing has a reason', () => {
  fc.assert(
    fc.property(history, changes => {
      for (const node of topologyOf(...changes).nodes) {
        if (!node.writable && !node.readable && node.systemId !== '') {
          assert.ok(node.reasons.length > 0, JSON.stringify(node))
        }
      }
    }),
  )
})

/** The same, with what is told in one turn of it: nothing, one change, or several. */
const turns = fc.tuple(history, fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 25, maxLength: 25 }))

function* inTurns(changes: Change[], sizes: number[]): Generator<Change[]> {
  let at = 0
  for (const size of sizes) {
    yield changes.slice(at, at + size)
    at += size
  }
}

test('a builder makes the same of every state as if it had never seen another one', () => {
  fc.assert(
    fc.property(turns, fc.nat(50 * MB), ([changes, sizes], lagMax) => {
      const state = new ClusterState(keys)
      const builder = new TopologyBuilder('test')
      for (const some of inTurns(changes, sizes)) {
        for (const change of some) apply(state, change)
        const own = { ...settings, ...(some.length === 3 && { replicaLagBytesMax: lagMax }) }
        assert.deepEqual(builder.build(state, own), buildTopology('test', state, own))
      }
    }),
    { numRuns: 500 },
  )
})

const asJson = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T

test('whoever is told only changes, as JSON, knows what there is', () => {
  fc.assert(
    fc.property(turns, ([changes, sizes]) => {
      const state = new ClusterState(keys)
      const builder = new TopologyBuilder('test')
      let told: Topology | undefined
      let heard: Topology | undefined
      for (const some of inTurns(changes, sizes)) {
        for (const change of some) apply(state, change)
        if (some.length === 4) for (const name of ['a', 'b']) state.forget(name)
        const next = builder.build(state, settings)
        heard = applyChange(heard, asJson(changeOf(told, next)))
        told = next
        assert.deepEqual(asJson(heard), asJson(next))
      }
    }),
    { numRuns: 500 },
  )
})

test('a node of which nothing new is said is the same object, and is not told again', () => {
  const state = new ClusterState(keys)
  const builder = new TopologyBuilder('test')
  const tell = (...changes: Change[]): Topology => {
    for (const change of changes) apply(state, change)
    return builder.build(state, settings)
  }
  const first = tell(
    says('a', { role: 'primary', writeLsn: 9 * MB }),
    says('b', { replayLsn: 9 * MB }),
    says('c', { replayLsn: 9 * MB }),
  )
  const second = tell(says('b', { replayLsn: 9 * MB, lagMs: 5 }))
  assert.equal(second.nodes[0], first.nodes[0])
  assert.equal(second.nodes[2], first.nodes[2])
  assert.deepEqual(changeOf(first, second).changed, [{ name: 'b', fields: { lagMs: 5 } }])
  // A report that says nothing new of it.
  const third = tell(says('b', { replayLsn: 9 * MB, lagMs: 5, seq: 9 }))
  assert.deepEqual(changeOf(second, third).changed, [])
  // All replicas are measured by the primary's position.
  const fourth = tell(says('a', { role: 'primary', writeLsn: 10 * MB }))
  assert.deepEqual(
    changeOf(third, fourth).changed.map(({ fields }) => fields),
    [{ lsn: 10 * MB }, { lagBytes: MB }, { lagBytes: MB }],
  )
  const fifth = tell(says('b', {}))
  assert.deepEqual(changeOf(fourth, fifth).changed, [
    { name: 'b', fields: {}, without: ['lsn', 'lagBytes', 'lagMs'] },
  ])
})
