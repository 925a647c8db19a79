import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { operationsBy } from '../../src/cli/operations.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import type { Store } from '../../src/store/store.ts'
import { readIntent } from '../../src/topology/intent.ts'
import { type Made, OperationError, type Operations } from '../../src/topology/intent-change.ts'
import { addNode, changeSettings, setNodeWeight } from '../../src/topology/operations.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { assertSerial } from '../support/history.ts'
import { need } from '../support/need.ts'
import { openEtcd } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const node = {
  host: '10.0.0.2',
  port: 5432,
  weight: 1,
  zone: '',
  priority: 1,
  state: 'active',
  tags: {},
} as const

describe('many operators at one etcd', need('etcd', 'etcdctl'), () => {
  let etcd: EtcdCluster
  let store: Store

  before(async () => {
    etcd = await EtcdCluster.start()
    store = await openEtcd(etcd.endpoints)
  })
  after(async () => {
    await store?.close()
    await etcd?.stop()
  })

  const operator = (who: string, cluster: string, at: Store = store): Operations =>
    operationsBy(who, at, cluster)

  test('a hundred conflicting changes at once make one serial history without a loss', async () => {
    const stores = await Promise.all(Array.from({ length: 5 }, () => openEtcd(etcd.endpoints)))
    try {
      await addNode(operator('anna', 'hundred'), 'b', node, undefined)
      const changes = Array.from({ length: 100 }, (_, index) => {
        const at = operator(`o${index}`, 'hundred', stores[index % stores.length])
        return index % 2 === 0 ? setNodeWeight(at, 'b', index) : addDatabase(at, index)
      })
      const made = await Promise.all(changes)
      const now = await readIntent(store, 'hundred')
      assert.deepEqual(
        made.map(({ change }) => change).sort((a, b) => a - b),
        Array.from({ length: 100 }, (_, index) => index + 2),
      )
      assert.deepEqual(new Set(now.history.slice(1).map(({ entry }) => entry.who)).size, 100)
      assert.equal(Object.keys(now.values['proxy.databases'] as object).length, 50)
      assertSerial(now)
    } finally {
      await Promise.all(stores.map(each => each.close()))
    }
  })

  test('etcd is killed in the middle of changes: what came of each is known, or said not to be', async t => {
    const stop = new AbortController()
    const outcomes = Promise.all(
      ['anna', 'bob'].map(who => keepChanging(operator(who, 'killed'), stop.signal)),
    )
    const [member] = etcd.members
    for (let round = 0; round < 3; round++) {
      const { change } = await readIntent(store, 'killed')
      await until('changes', async () => (await readIntent(store, 'killed')).change > change + 10)
      await member!.kill()
      await pause(systemTimers, 300)
      member!.start()
      await member!.healthy()
      await until('the store', () => store.connection.up)
    }
    stop.abort()
    const all = (await outcomes).flat()
    const now = await until('the store', () => readIntent(store, 'killed'))
    assertSerial(now)
    const written = new Map(now.history.map(({ entry, change }) => [entry.what, change]))
    for (const { what, outcome } of all) {
      if (outcome === 'not made') assert.ok(!written.has(what), `${what} was made after all`)
      else if (outcome !== 'unknown') assert.equal(written.get(what), outcome.change, what)
    }
    const count = (kind: string): number => all.filter(({ outcome }) => outcome === kind).length
    const made = all.length - count('not made') - count('unknown')
    t.diagnostic(`${made} made, ${count('not made')} not made, ${count('unknown')} unknown`)
    assert.ok(made > 30 && written.size >= made, `${made} of ${all.length}`)
  })
})

function addDatabase(at: Operations, index: number): Promise<Made> {
  const key = `proxy.databases.d${index}.pool_size`
  return changeSettings(at, `add d${index}`, [{ key, text: String(index + 1) }], undefined)
}

interface Outcome {
  what: string
  outcome: Made | 'not made' | 'unknown'
}

/** Makes one change after the other, and says of each what it was told of it. */
async function keepChanging(at: Operations, signal: AbortSignal): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (let turn = 1; !signal.aborted && turn < 90; turn++) {
    const what = `${at.who} ${turn}`
    const changes = [{ key: `proxy.databases.${at.who}.pool_size`, text: String(turn) }]
    try {
      const outcome = await changeSettings({ ...at, limitMs: 3000 }, what, changes, undefined)
      outcomes.push({ what, outcome })
    } catch (error) {
      const isUnknown = error instanceof OperationError && error.code === 'unknown'
      outcomes.push({ what, outcome: isUnknown ? 'unknown' : 'not made' })
    }
    await pause(systemTimers, 20)
  }
  return outcomes
}
