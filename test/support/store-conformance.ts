import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type Entry,
  type Store,
  StoreError,
  type StoreErrorCode,
  transactionOperationsMax,
  valueBytesMax,
  type Write,
} from '../../src/store/store.ts'
import { Collector, follow, put, write } from './stores.ts'
import { until } from './wait.ts'

/** A store under test. */
export interface StoreFixture {
  store: Store
  /** Another way into the same contents: a second client, or the same object where there is only one. */
  other(): Promise<Store>
  /** A lease nobody keeps alive. */
  orphanLease(ttlMs: number): Promise<string>
  /** Makes the store forget its history up to now. */
  compact(): Promise<void>
  close(): Promise<void>
}

/** What every store must do, in the words of `store.ts`. Each test has a prefix of its own. */
export function testStore(
  name: string,
  options: { skip?: string | false },
  open: () => Promise<StoreFixture>,
): void {
  describe(name, options, () => {
    const context: Context = { fixture: undefined as unknown as StoreFixture, prefix: '' }
    before(async () => {
      context.fixture = await open()
    })
    after(() => context.fixture?.close())
    const test = (
      title: string,
      body: (store: Store, prefix: string, fixture: StoreFixture) => Promise<void>,
    ): void => {
      it(title, () => body(context.fixture.store, `/${randomUUID()}/`, context.fixture))
    }
    testReads(test)
    testTransactions(test)
    testLeases(test)
    testWatches(test)
    testConcurrency(test)
    testMirror(test)
    testHistories(test)
  })
}

interface Context {
  fixture: StoreFixture
  prefix: string
}

type Test = (
  title: string,
  body: (store: Store, prefix: string, fixture: StoreFixture) => Promise<void>,
) => void

function testReads(test: Test): void {
  test('reads back what was written, with its revisions', async (store, prefix) => {
    const key = `${prefix}a`
    const absent = await store.get(key)
    assert.equal(absent.entry, undefined)
    const created = await write(store, put(key, 'one'))
    assert.ok(created > absent.revision)
    const changed = await write(store, put(key, 'zwei \u2028 \u{1f418}\n'))
    const { entry, revision } = await store.get(key)
    const expected: Entry = {
      key,
      value: 'zwei \u2028 \u{1f418}\n',
      createRevision: created,
      modRevision: changed,
      leaseId: undefined,
    }
    assert.deepEqual(entry, expected)
    assert.ok(revision >= changed)
  })

  test('lists exactly the prefix, in the order of the bytes', async (store, prefix) => {
    const names = ['b', 'a/\u{10000}', 'a/\uffee', 'a', 'a0', 'ab', 'a/x']
    const revision = await write(store, ...names.map(name => put(`${prefix}${name}`, name)))
    await write(store, put(`${prefix.slice(0, -1)}0`, 'just after the prefix'))
    const all = await store.list(prefix)
    assert.deepEqual(
      all.entries.map(entry => entry.value),
      ['a', 'a/x', 'a/\uffee', 'a/\u{10000}', 'a0', 'ab', 'b'],
    )
    assert.ok(all.entries.every(entry => entry.modRevision === revision))
    const some = await store.list(`${prefix}a/`)
    assert.equal(some.entries.length, 3)
    assert.deepEqual((await store.list(`${prefix}nothing`)).entries, [])
  })

  test('the empty prefix is everything', async (store, prefix) => {
    await write(store, put(`${prefix}a`, '1'))
    const { entries } = await store.list('')
    assert.ok(entries.some(entry => entry.key === `${prefix}a`))
  })
}

function testTransactions(test: Test): void {
  test('compares revisions, 0 meaning absent', async (store, prefix) => {
    const key = `${prefix}a`
    const attempt = async (target: 'modified' | 'created', revision: number): Promise<boolean> =>
      (await store.transact({ compares: [{ key, target, revision }], writes: [] })).applied
    assert.equal(await attempt('modified', 0), true)
    assert.equal(await attempt('created', 0), true)
    assert.equal(await attempt('modified', 1), false)
    const created = await write(store, put(key, '1'))
    const changed = await write(store, put(key, '2'))
    assert.equal(await attempt('modified', 0), false)
    assert.equal(await attempt('created', 0), false)
    assert.equal(await attempt('modified', created), false)
    assert.equal(await attempt('modified', changed), true)
    assert.equal(await attempt('created', created), true)
    assert.equal(await attempt('created', changed), false)
    await write(store, { kind: 'delete', key })
    assert.equal(await attempt('created', 0), true)
    const again = await write(store, put(key, '3'))
    assert.equal(await attempt('created', again), true)
  })

  test('applies all writes in one revision, or none', async (store, prefix) => {
    const [a, b, c] = ['a', 'b', 'c'].map(name => prefix + name) as [string, string, string]
    const first = await write(store, put(a, '1'), put(b, '1'))
    const refused = await store.transact({
      compares: [
        { key: a, target: 'modified', revision: first },
        { key: b, target: 'modified', revision: first + 1 },
      ],
      writes: [put(a, '2'), { kind: 'delete', key: b }, put(c, '2')],
    })
    assert.equal(refused.applied, false)
    assert.deepEqual(await values(store, prefix), { [a]: '1', [b]: '1' })
    const applied = await store.transact({
      compares: [{ key: a, target: 'modified', revision: first }],
      writes: [put(a, '2'), { kind: 'delete', key: b }, put(c, '2')],
    })
    assert.equal(applied.applied, true)
    const { entries } = await store.list(prefix)
    assert.deepEqual(
      entries.map(entry => [entry.key, entry.modRevision]),
      [
        [a, applied.revision],
        [c, applied.revision],
      ],
    )
  })

  test('a delete of what is not there is no change', async (store, prefix) => {
    const { revision } = await store.get(`${prefix}a`)
    const result = await store.transact({ compares: [], writes: [{ kind: 'delete', key: `${prefix}a` }] })
    assert.deepEqual(result, { applied: true, revision })
  })

  test('refuses what is wrong in itself', async (store, prefix) => {
    const key = `${prefix}a`
    const many = Array.from({ length: transactionOperationsMax + 1 }, (_, index) => put(`${key}${index}`, ''))
    const refusals: Write[][] = [
      [put(key, '1'), put(key, '2')],
      [put(key, '1'), { kind: 'delete', key }],
      [put('', '1')],
      [put(key, 'x'.repeat(valueBytesMax + 1))],
      many,
    ]
    for (const writes of refusals) await rejects(store.transact({ compares: [], writes }), 'invalid')
    await rejects(store.get(''), 'invalid')
    assert.deepEqual(await values(store, prefix), {})
    await store.transact({ compares: [], writes: many.slice(1) })
    await write(store, put(key, 'x'.repeat(valueBytesMax)))
    assert.equal((await store.list(prefix)).entries.length, transactionOperationsMax + 1)
  })
}

function testLeases(test: Test): void {
  test('a lease that is revoked takes its keys along, in one revision', async (store, prefix) => {
    const lease = await store.grantLease(5_000)
    assert.ok(lease.ttlMs >= 5_000)
    const [a, b, c] = ['a', 'b', 'c'].map(name => prefix + name) as [string, string, string]
    const revision = await write(store, put(a, '1', lease.id), put(b, '1', lease.id), put(c, '1', lease.id))
    assert.equal((await store.get(a)).entry?.leaseId, lease.id)
    // A put without the lease takes the key out of it.
    await write(store, put(b, '2'))
    const watch = new Collector(store, prefix, revision + 2)
    await lease.revoke()
    await until('the keys to go', async () => Object.keys(await values(store, prefix)).length === 1)
    assert.deepEqual(await values(store, prefix), { [b]: '2' })
    await until('the deletes to be seen', () => watch.steps.length > 0)
    assert.deepEqual(
      watch.steps.map(step => step.events.map(({ kind, entry }) => [kind, entry.key, entry.value])),
      [
        [
          ['delete', a, ''],
          ['delete', c, ''],
        ],
      ],
    )
    watch.close()
    await rejects(write(store, put(a, '1', lease.id)), 'lease_not_found')
  })

  test('a lease nobody keeps alive ends, one that is kept does not', async (store, prefix, fixture) => {
    const kept = await store.grantLease(2_000)
    let lost = false
    void kept.lost.then(() => {
      lost = true
    })
    const orphan = await fixture.orphanLease(2_000)
    await write(store, put(`${prefix}kept`, '', kept.id), put(`${prefix}orphan`, '', orphan))
    await until('the orphan to go', async () => !(await store.get(`${prefix}orphan`)).entry, 6_000)
    await until('a second lifetime', async () => {
      const second = await fixture.orphanLease(2_000)
      await write(store, put(`${prefix}second`, '', second))
      await until('the second orphan to go', async () => !(await store.get(`${prefix}second`)).entry, 6_000)
      return true
    })
    assert.ok((await store.get(`${prefix}kept`)).entry)
    assert.equal(lost, false)
    await kept.revoke()
  })

  test('refuses a lease that does not exist, and nonsense', async (store, prefix) => {
    await rejects(write(store, put(`${prefix}a`, '1', '123456789')), 'lease_not_found')
    await rejects(store.grantLease(0), 'invalid')
    await rejects(store.grantLease(Number.NaN), 'invalid')
  })
}

function testWatches(test: Test): void {
  test('a watch replays from a revision, whole transactions, then follows', async (store, prefix) => {
    const [a, b] = [`${prefix}a`, `${prefix}b`]
    await write(store, put(a, 'before'))
    const first = await write(store, put(a, '1'), put(b, '1'))
    const second = await write(store, { kind: 'delete', key: a })
    await write(store, put(`${prefix.slice(0, -1)}x`, 'elsewhere'))
    const watch = new Collector(store, prefix, first)
    await watch.reaches(second)
    const third = await write(store, put(a, '3'), { kind: 'delete', key: b })
    await watch.reaches(third)
    watch.close()
    assert.deepEqual(watch.steps, [
      { revision: first, events: [putEvent(a, '1', first - 1, first), putEvent(b, '1', first, first)] },
      { revision: second, events: [deleteEvent(a, second)] },
      { revision: third, events: [putEvent(a, '3', third, third), deleteEvent(b, third)] },
    ])
  })

  test('a watch from a future revision waits for it', async (store, prefix) => {
    const now = await write(store, put(`${prefix}a`, '0'))
    const watch = new Collector(store, prefix, now + 3)
    for (const value of ['1', '2', '3', '4']) await write(store, put(`${prefix}a`, value))
    await watch.reaches(now + 4)
    assert.deepEqual(
      watch.steps.map(step => step.revision),
      [now + 3, now + 4],
    )
    watch.close()
  })

  test('a closed watch is silent, the others are not disturbed by it', async (store, prefix) => {
    const from = (await write(store, put(`${prefix}a`, '0'))) + 1
    const [open, closed] = [new Collector(store, prefix, from), new Collector(store, prefix, from)]
    const seen = await write(store, put(`${prefix}a`, '1'))
    await Promise.all([open.reaches(seen), closed.reaches(seen)])
    closed.close()
    const last = await write(store, put(`${prefix}a`, '2'))
    await open.reaches(last)
    assert.equal(closed.lastRevision, seen)
    open.close()
  })

  test('a handler that writes, and one that throws, lose nothing', async (store, prefix) => {
    const seen: string[] = []
    const from = (await write(store, put(`${prefix}n`, '0'))) + 1
    const watch = store.watch(prefix, from, {
      onEvents(events) {
        const value = Number(events[0]?.entry.value)
        seen.push(String(value))
        if (value < 5) void write(store, put(`${prefix}n`, String(value + 1)))
        throw new Error('thrown by the test')
      },
      onCompacted: () => assert.fail('nothing was compacted'),
    })
    await write(store, put(`${prefix}n`, '1'))
    await until('the fifth write', () => seen.length === 5)
    assert.deepEqual(seen, ['1', '2', '3', '4', '5'])
    watch.close()
  })

  test('a watch from before the kept history is told so, once', async (store, prefix, fixture) => {
    const old = await write(store, put(`${prefix}a`, '1'))
    for (const value of ['2', '3', '4']) await write(store, put(`${prefix}a`, value))
    await fixture.compact()
    const watch = new Collector(store, prefix, old)
    const compactRevision = await until('to be told', () => watch.compactRevision)
    assert.ok(compactRevision > old)
    assert.deepEqual(watch.steps, [])
    const { entries, revision } = await store.list(prefix)
    assert.equal(entries[0]?.value, '4')
    const next = new Collector(store, prefix, revision + 1)
    await next.reaches(await write(store, put(`${prefix}a`, '5')))
    assert.equal(next.steps.length, 1)
    assert.deepEqual(watch.steps, [])
    next.close()
  })
}

function testConcurrency(test: Test): void {
  test('a hundred increments at once leave a serial history', async (store, prefix, fixture) => {
    const key = `${prefix}counter`
    const from = await write(store, put(key, '0'))
    const clients = [store, await fixture.other()]
    const watch = new Collector(store, prefix, from)
    const increment = async (client: Store): Promise<void> => {
      for (;;) {
        const { entry } = await client.get(key)
        const { applied } = await client.transact({
          compares: [{ key, target: 'modified', revision: entry?.modRevision ?? 0 }],
          writes: [put(key, String(Number(entry?.value) + 1))],
        })
        if (applied) return
      }
    }
    await Promise.all(Array.from({ length: 100 }, (_, index) => increment(clients[index % 2] as Store)))
    const { entry } = await store.get(key)
    assert.equal(entry?.value, '100')
    await watch.reaches(entry?.modRevision ?? 0)
    watch.close()
    assert.deepEqual(
      watch.steps.map(step => step.events.map(event => event.entry.value)),
      Array.from({ length: 101 }, (_, index) => [String(index)]),
    )
    if (clients[1] !== store) await clients[1]?.close()
  })
}

function testMirror(test: Test): void {
  test('a mirror shows what is there, and follows', async (store, prefix) => {
    await write(store, put(`${prefix}a`, '1'), put(`${prefix}b`, '1'))
    const { mirror, view, calls } = follow(store, prefix)
    await mirror.ready
    assert.deepEqual(view(), { [`${prefix}a`]: '1', [`${prefix}b`]: '1' })
    await write(store, put(`${prefix}a`, '2'), { kind: 'delete', key: `${prefix}b` })
    await until('the change to be seen', () => view()[`${prefix}a`] === '2')
    assert.deepEqual(view(), { [`${prefix}a`]: '2' })
    assert.equal(calls.length, 2)
    mirror.close()
    await write(store, put(`${prefix}a`, '3'))
    assert.equal(view()[`${prefix}a`], '2')
  })

  test('a store that was closed says so', async (_store, prefix, fixture) => {
    const other = await fixture.other()
    if (other === fixture.store) return
    await other.get(`${prefix}a`)
    assert.equal(other.connection.up, true)
    await other.close()
    await rejects(other.get(`${prefix}a`), 'closed')
    await rejects(other.list(prefix), 'closed')
    await rejects(write(other, put(`${prefix}a`, '1')), 'closed')
    await rejects(other.grantLease(1_000), 'closed')
    assert.throws(() => new Collector(other, prefix, 1), { code: 'closed' })
  })
}

/** Random transactions from two clients: what the watch tells is what was acknowledged, and adds up to the end. */
function testHistories(test: Test): void {
  const step = fc.record({
    client: fc.nat(1),
    /** Compares the first key with what the model says it is, or with nonsense. */
    compare: fc.constantFrom('none', 'right', 'wrong'),
    writes: fc.uniqueArray(
      fc.record({
        name: fc.constantFrom('a', 'b', 'c', 'd'),
        value: fc.option(fc.string(), { nil: undefined }),
      }),
      { minLength: 1, maxLength: 4, selector: written => written.name },
    ),
  })
  test('any history of transactions is told exactly as acknowledged', async (store, prefix, fixture) => {
    const other = await fixture.other()
    const clients = [store, other]
    let round = 0
    const check = async (steps: (typeof step extends fc.Arbitrary<infer T> ? T : never)[]): Promise<void> => {
      const own = `${prefix}${round++}/`
      const begin = (await store.get(own)).revision + 1
      const watch = new Collector(other, own, begin)
      const acknowledged: { revision: number; events: string[] }[] = []
      const model = new Map<string, { value: string; modRevision: number }>()
      for (const { client, compare, writes } of steps) {
        const key = own + (writes[0]?.name ?? '')
        const revision = (model.get(key)?.modRevision ?? 0) + (compare === 'wrong' ? 1 : 0)
        const result = await (clients[client] as Store).transact({
          compares: compare === 'none' ? [] : [{ key, target: 'modified', revision }],
          writes: writes.map(({ name, value }) =>
            value === undefined ? { kind: 'delete', key: own + name } : put(own + name, value),
          ),
        })
        assert.equal(result.applied, compare !== 'wrong')
        if (!result.applied) continue
        const events: string[] = []
        for (const { name, value } of writes) {
          if (value !== undefined) events.push(`put ${name} ${value}`)
          else if (model.has(own + name)) events.push(`delete ${name} `)
          if (value === undefined) model.delete(own + name)
          else model.set(own + name, { value, modRevision: result.revision })
        }
        if (events.length > 0) acknowledged.push({ revision: result.revision, events })
      }
      await watch.reaches(acknowledged.at(-1)?.revision ?? 0)
      watch.close()
      const told = watch.steps.map(({ revision, events }) => ({
        revision,
        events: events.map(({ kind, entry }) => `${kind} ${entry.key.slice(own.length)} ${entry.value}`),
      }))
      assert.deepEqual(told, acknowledged)
      const expected = Object.fromEntries([...model].map(([key, { value }]) => [key, value]))
      assert.deepEqual(await values(store, own), expected)
    }
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), check), { numRuns: 25 })
    if (other !== store) await other.close()
  })
}

export async function rejects(work: Promise<unknown>, code: StoreErrorCode): Promise<void> {
  await assert.rejects(work, (cause: unknown) => {
    assert.ok(cause instanceof StoreError, `a StoreError, not ${String(cause)}`)
    assert.equal(cause.code, code, cause.message)
    return true
  })
}

export async function values(store: Store, prefix: string): Promise<Record<string, string>> {
  const { entries } = await store.list(prefix)
  return Object.fromEntries(entries.map(({ key, value }) => [key, value]))
}

function putEvent(key: string, value: string, createRevision: number, modRevision: number): object {
  return { kind: 'put', entry: { key, value, createRevision, modRevision, leaseId: undefined } }
}

function deleteEvent(key: string, modRevision: number): object {
  return { kind: 'delete', entry: { key, value: '', createRevision: 0, modRevision, leaseId: undefined } }
}
