import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { assertSerial } from '../../test/support/history.ts'
import { openEmbedded, realWorld } from '../../test/support/stores.ts'
import type { EmbeddedStore } from '../store/embedded.ts'
import { type Store, StoreError } from '../store/store.ts'
import { type Intent, oldestSnapshot, readIntent, snapshotAt } from './intent.ts'
import { changeIntent, historyMax, type Made, OperationError, type Operations } from './intent-change.ts'
import { keysOf } from './keys.ts'
import {
  addNode,
  changeSettings,
  removeNode,
  replaceSettings,
  rollback,
  SettingsError,
  setNodeState,
  setNodeWeight,
} from './operations.ts'
import type { NodeIntent, NodeStatus } from './types.ts'

const keys = keysOf('test')
let store: EmbeddedStore

beforeEach(async () => {
  store = await openEmbedded()
})
afterEach(() => store.close())

function as(who: string, over: Partial<Operations> = {}): Operations {
  const { clock, timers, random } = realWorld
  return { store, cluster: 'test', who, clock, timers, random, ...over }
}
const intent = (): Promise<Intent> => readIntent(store, 'test')
const node = (host: string): Omit<NodeIntent, 'v'> => ({
  host,
  port: 5432,
  weight: 1,
  zone: '',
  priority: 1,
  state: 'active',
  tags: {},
})
const set = (at: Operations, key: string, text: string | undefined, base?: number): Promise<Made> =>
  changeSettings(at, `set ${key}`, [{ key, text }], base)

test('a change stands in the history with who, what, why, and what was there before', async () => {
  await addNode(as('anna'), 'b', node('b'), undefined)
  const made = await setNodeWeight(as('bob', { why: 'slow disk' }), 'b', 0)
  const { history, change, revision } = await intent()
  assert.deepEqual([made.change, made.isNew, made.revision], [2, true, revision])
  assert.equal(change, 2)
  const [first, second] = history.map(({ entry: { id: _id, at: _at, ...entry } }) => entry)
  const before = { v: 1, ...node('b') }
  assert.deepEqual(first, {
    v: 1,
    who: 'anna',
    what: 'node add b b:5432',
    nodes: { b: { before: null, after: before } },
    settings: {},
  })
  assert.deepEqual(second, {
    v: 1,
    who: 'bob',
    what: 'node weight b 0',
    why: 'slow disk',
    nodes: { b: { before, after: { ...before, weight: 0 } } },
    settings: {},
  })
})

test('what is as wanted already makes no change', async () => {
  const first = await set(as('anna'), 'proxy.lanes', 'off')
  const again = await set(as('bob'), 'proxy.lanes', 'off')
  assert.deepEqual(again, { ...first, isNew: false })
  assert.equal((await intent()).history.length, 1)
})

test('the history keeps the newest changes; what was before them is not known any more', async () => {
  for (let weight = 0; weight < historyMax + 30; weight++) {
    if (weight === 0) await addNode(as('anna'), 'b', node('b'), undefined)
    else await setNodeWeight(as('anna'), 'b', weight + 1)
  }
  const now = await intent()
  assert.equal(now.history.length, historyMax)
  assert.equal(now.change, historyMax + 30)
  assert.equal(oldestSnapshot(now), 30)
  assert.equal(snapshotAt(now, 30)?.nodes.get('b')?.weight, 30)
  assert.equal(snapshotAt(now, 29), undefined)
  await assert.rejects(
    rollback(as('anna'), 29, false),
    (error: OperationError) => error.code === 'refused' && error.hint === 'Known are 30 to 230.',
  )
})

test('a change that is not understood hides what was before it, and goes with the others', async () => {
  for (let size = 1; size <= 5; size++) await set(as('anna'), 'proxy.min_pool_size', `${size}`)
  const third = keys.historyEntry(3)
  await store.transact({ compares: [], writes: [{ kind: 'put', key: third, value: '{"v":2}' }] })
  const now = await intent()
  assert.deepEqual(
    now.history.map(({ change }) => change),
    [1, 2, 4, 5],
  )
  assert.equal(oldestSnapshot(now), 3)
  assert.deepEqual(snapshotAt(now, 3)?.values, { 'proxy.min_pool_size': 3 })
  assert.equal(snapshotAt(now, 2), undefined)
  await assert.rejects(set(as('anna'), 'proxy.lanes', 'off', 2), /changed meanwhile/)
  for (let size = 6; size <= historyMax + 4; size++) {
    await set(as('anna'), 'proxy.min_pool_size', `${size}`)
  }
  assert.equal((await store.get(third)).entry, undefined)
  assert.equal(oldestSnapshot(await intent()), 4)
})

test('the history is bounded in its size as well', async () => {
  const database = 'd'.repeat(20_000)
  for (let size = 1; size <= 40; size++) {
    await set(as('anna'), `proxy.databases.${database}${size % 2}.pool_size`, String(size))
  }
  const { history } = await intent()
  const characters = history.reduce((sum, each) => sum + each.size, 0)
  assert.ok(history.length > 5 && characters < 1.2 * 1024 * 1024, `${history.length}: ${characters}`)
  await assert.rejects(
    set(as('anna'), `proxy.databases.${'x'.repeat(40_000)}.pool_size`, '1'),
    /settings would take \d+ characters/,
  )
})

test('a rollback is a new change that restores nodes and settings, and can be undone as well', async () => {
  await addNode(as('anna'), 'b', node('b'), undefined)
  await set(as('anna'), 'proxy.lanes', 'off')
  const before = await intent()
  await setNodeState(as('bob'), 'b', 'drain', false)
  await set(as('bob'), 'proxy.lanes', undefined)
  await set(as('bob'), 'proxy.default_pool_size', '7')
  await addNode(as('bob'), 'c', node('c'), undefined)
  await removeNode(as('bob'), 'b')
  const changed = await intent()

  const made = await rollback(as('anna'), 2, false)
  const restored = await intent()
  assert.equal(made.change, 8)
  assert.deepEqual([restored.nodes, restored.values], [before.nodes, before.values])
  await rollback(as('anna'), 7, false)
  const again = await intent()
  assert.deepEqual([again.nodes, again.values], [changed.nodes, changed.values])
  await rollback(as('anna'), 0, false)
  const empty = await intent()
  assert.deepEqual([empty.nodes.size, empty.values], [0, {}])
})

test('whatever was changed, every state of the history is known as it was', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ kind: fc.constant('remove' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({
      kind: fc.constant('weigh' as const),
      name: fc.constantFrom('a', 'b', 'c'),
      weight: fc.nat(3),
    }),
    fc.record({
      kind: fc.constant('set' as const),
      pool: fc.integer({ min: 1, max: 3 }),
      database: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('unset' as const) }),
    fc.record({ kind: fc.constant('rollback' as const), to: fc.nat(20) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async steps => {
      await store.close()
      store = await openEmbedded()
      const at = as('anna')
      const states = [snapshotAt(await intent(), 0)]
      for (const each of steps) {
        const { change } = await intent()
        // What is refused changes nothing.
        await apply(at, each).catch(() => undefined)
        const now = await intent()
        if (now.change > change) states.push({ nodes: now.nodes, values: now.values })
      }
      const now = await intent()
      states.forEach((state, change) => assert.deepEqual(snapshotAt(now, change), state))
      assertSerial(now)
    }),
    { numRuns: 30 },
  )
})

type Step =
  | { kind: 'add' | 'remove'; name: string }
  | { kind: 'weigh'; name: string; weight: number }
  | { kind: 'set'; pool: number; database: boolean }
  | { kind: 'unset' }
  | { kind: 'rollback'; to: number }

function apply(at: Operations, step: Step): Promise<Made> {
  switch (step.kind) {
    case 'add':
      return addNode(at, step.name, node(step.name), undefined)
    case 'remove':
      return removeNode(at, step.name)
    case 'weigh':
      return setNodeWeight(at, step.name, step.weight)
    case 'set':
      return set(at, step.database ? 'proxy.databases.d.pool_size' : 'proxy.min_pool_size', `${step.pool}`)
    case 'unset':
      return set(at, 'proxy.min_pool_size', undefined)
    default:
      return rollback(at, step.to, false)
  }
}

test('a rollback does not take the primary out of use unless by force', async () => {
  await addNode(as('anna'), 'a', { ...node('a'), state: 'drain' }, undefined)
  await setNodeState(as('anna'), 'a', 'active', false)
  const status = { v: 1, seq: 1, host: 'a', port: 5432, role: 'primary', accepting: true } as const
  const value = JSON.stringify({
    ...status,
    systemId: '7',
    timeline: 1,
    connections: { max: 1, used: 1, active: 1, idleInTransaction: 0 },
    version: 150000,
    agentVersion: '0',
    at: '',
  } satisfies Partial<NodeStatus>)
  await store.transact({ compares: [], writes: [{ kind: 'put', key: keys.nodeStatus('a'), value }] })
  await assert.rejects(
    rollback(as('anna'), 1, false),
    /node a is the primary: while it is drained, writes wait/,
  )
  await rollback(as('anna'), 1, true)
  assert.equal((await intent()).nodes.get('a')?.state, 'drain')
})

test('settings that are wrong are refused before anything is written', async () => {
  const changes = [
    { key: 'proxy.lanes', text: 'off' },
    { key: 'proxy.query_timeout', text: 'soon' },
  ]
  await assert.rejects(
    changeSettings(as('anna'), 'set', changes, undefined),
    (error: SettingsError) => error instanceof SettingsError && error.problems.length === 1,
  )
  const { change, values } = await intent()
  assert.deepEqual([change, values], [0, {}])
})

test('the settings that older versions wrote count, and keep counting when others are set', async () => {
  const value = JSON.stringify({ v: 1, drainTimeoutMs: 1500, replicaLagBytesMax: 1024, future: 1 })
  await store.transact({ compares: [], writes: [{ kind: 'put', key: keys.settings, value }] })
  await set(as('anna'), 'routing.drain_timeout', '2s')
  const { entry } = await store.get(keys.settings)
  assert.deepEqual(JSON.parse(entry!.value), {
    v: 1,
    future: 1,
    values: { 'routing.replica_lag_max': '1kB', 'routing.drain_timeout': '2s' },
  })
})

test('settings in the store that cannot be read are not written over', async () => {
  await store.transact({ compares: [], writes: [{ kind: 'put', key: keys.settings, value: '{"v":2}' }] })
  await assert.rejects(set(as('anna'), 'proxy.lanes', 'off'), /settings in the store are not understood/)
})

test('what was made from an older state is refused, and it is said who was faster', async () => {
  await set(as('anna'), 'proxy.lanes', 'off')
  await addNode(as('anna'), 'b', node('b'), undefined)
  await set(as('bob'), 'proxy.default_pool_size', '7')
  const refused = (error: OperationError): boolean =>
    error.code === 'refused' && /meanwhile \(change 3, bob: set proxy.default_pool_size\)/.test(error.message)
  await assert.rejects(replaceSettings(as('anna'), 'edit', { 'proxy.lanes': 'on' }, 2), refused)
  await assert.rejects(set(as('anna'), 'proxy.lanes', 'on', 2), refused)
  await replaceSettings(as('anna'), 'edit', { 'proxy.lanes': 'on' }, 3)
  assert.deepEqual((await intent()).values, { 'proxy.lanes': 'on' })
})

test('keys that somebody wrote by hand meanwhile are not lost', async () => {
  let raced = false
  const racing = new Proxy(store, {
    get: (target, name) =>
      name === 'transact' && !raced
        ? async (transaction: Parameters<Store['transact']>[0]) => {
            raced = true
            const value = JSON.stringify({ v: 1, values: { 'proxy.min_pool_size': 1 } })
            await target.transact({ compares: [], writes: [{ kind: 'put', key: keys.settings, value }] })
            return target.transact(transaction)
          }
        : (Reflect.get(target, name, target) as unknown),
  })
  await set(as('anna', { store: bound(racing) }), 'proxy.lanes', 'off')
  assert.deepEqual((await intent()).values, { 'proxy.min_pool_size': 1, 'proxy.lanes': 'off' })
})

/** Methods of a proxied store, called on it. */
function bound(target: EmbeddedStore): Store {
  return {
    ...(target as Store),
    list: prefix => store.list(prefix),
    transact: transaction => target.transact(transaction),
  }
}

/** A store whose transactions lose their answers: `before` or `after` they are made. */
function losing(when: ('before' | 'after' | 'none')[], onList: () => Promise<void> = async () => {}): Store {
  return {
    ...(store as Store),
    list: async prefix => {
      await onList()
      return store.list(prefix)
    },
    transact: async transaction => {
      const lost = when.shift() ?? 'none'
      if (lost === 'before') throw new StoreError('unavailable', 'gone')
      const result = await store.transact(transaction)
      if (lost === 'after') throw new StoreError('unavailable', 'gone')
      return result
    },
  }
}

test('a change whose answer is lost is made once, whether it had arrived or not', async () => {
  for (const when of [['after'], ['before'], ['before', 'after'], ['before', 'before', 'none']] as const) {
    const { change } = await intent()
    const made = await changeSettings(
      as('anna', { store: losing([...when]) }),
      `after ${when.join(', ')}`,
      [{ key: 'proxy.min_pool_size', text: String(change + 1) }],
      undefined,
    )
    assert.deepEqual([made.change, made.isNew], [change + 1, true])
    const now = await intent()
    assert.equal(now.change, change + 1)
    assert.equal(now.revision, made.revision)
  }
})

test('several operators whose answers are lost at random: what each is told is true, and nothing is made twice', async () => {
  const lost = fc.array(fc.constantFrom('before', 'after', 'none'), { maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(fc.array(lost, { minLength: 2, maxLength: 6 }), async operators => {
      await store.close()
      store = await openEmbedded()
      const told = await Promise.allSettled(
        operators.flatMap((when, index) => {
          const at = as(`o${index}`, { store: losing([...when]), limitMs: 60 })
          return [1, 2].map(turn => set(at, `proxy.databases.d${index}.pool_size`, `${turn}`))
        }),
      )
      const now = await intent()
      assertSerial(now)
      told.forEach((each, index) => {
        const who = `o${Math.floor(index / 2)}`
        if (each.status === 'fulfilled') {
          const { change, isNew } = each.value
          assert.equal(now.history[change - 1]?.entry.who === who, isNew)
        } else
          assert.ok(
            ['unknown', 'contended'].includes((each.reason as OperationError).code),
            String(each.reason),
          )
      })
      const ids = now.history.map(({ entry }) => entry.id)
      assert.equal(new Set(ids).size, ids.length)
      const sure = told.filter(each => each.status === 'fulfilled' && each.value.isNew)
      const unsure = told.filter(each => each.status === 'rejected')
      assert.ok(now.change >= sure.length && now.change <= sure.length + unsure.length)
    }),
    { numRuns: 40 },
  )
})

test('while the store stays away it is said that nobody knows, and under which number it would be', async () => {
  let isAway = false
  const away = losing(['after'], async () => {
    if (isAway) throw new StoreError('unavailable', 'gone')
    isAway = true
  })
  await assert.rejects(
    set(as('anna', { store: away, limitMs: 50 }), 'proxy.lanes', 'off'),
    (error: OperationError) =>
      error.code === 'unknown' && /change 1 in .*made by anna/.test(error.hint ?? ''),
  )
  assert.equal((await intent()).change, 1)
  const gone = losing([], () => Promise.reject(new StoreError('unavailable', 'gone')))
  await assert.rejects(set(as('anna', { store: gone }), 'proxy.lanes', 'on'), StoreError)
})

test('an objection that comes after a lost answer does not hide that the change may stand', async () => {
  let calls = 0
  const at = as('anna', { store: losing(['before']) })
  const made = changeIntent(at, () => {
    if (++calls > 1) throw new OperationError('refused', 'not any more')
    return { what: 'x', values: { 'proxy.lanes': 'off' } }
  })
  await assert.rejects(made, (error: OperationError) => error.code === 'unknown')
})

test('a hundred conflicting changes at once make one serial history without a loss', async () => {
  await addNode(as('anna'), 'b', node('b'), undefined)
  const changes = Array.from({ length: 100 }, (_, index) =>
    index % 2 === 0
      ? setNodeWeight(as(`w${index}`), 'b', index)
      : set(as(`s${index}`), `proxy.databases.d${index}.pool_size`, String(index + 1)),
  )
  const made = await Promise.all(changes)
  const now = await intent()
  assert.deepEqual(
    made.map(each => each.change).sort((a, b) => a - b),
    Array.from({ length: 100 }, (_, index) => index + 2),
  )
  assertSerial(now)
  assert.equal(Object.keys(now.values['proxy.databases'] as object).length, 50)
})
