import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { StoreSwitch } from '../../test/support/store-switch.ts'
import { until } from '../../test/support/wait.ts'
import { systemClock } from '../runtime/clock.ts'
import { createLogger, type Logger } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import type { Store } from '../store/store.ts'
import type { NodeStatus } from '../topology/types.ts'
import { Reporter } from './reporter.ts'
import type { NodeReport } from './status.ts'

const key = '/pgherd/demo/status/nodes/a'
const report: NodeReport = {
  v: 1,
  host: '10.0.0.1',
  port: 5432,
  zone: '',
  agentVersion: '1.0',
  role: 'primary',
  accepting: true,
  systemId: '77',
  timeline: 1,
  writeLsn: 100,
  connections: { max: 100, used: 1, active: 0, idleInTransaction: 0 },
  slots: [],
  version: 150000,
}

let memory: Store
let store: StoreSwitch
let reporters: Reporter[]
let lines: { level: string; event: string; msg: string }[]

beforeEach(async () => {
  memory = await openEmbeddedStore({ path: undefined, clock: systemClock, timers: systemTimers, log: log() })
  store = new StoreSwitch(memory)
  reporters = []
  lines = []
})

afterEach(async () => {
  store.up = true
  await Promise.all(reporters.map(reporter => reporter.stop()))
  await memory.close()
})

function log(): Logger {
  return createLogger({ level: 'debug', format: 'json', write: line => lines?.push(JSON.parse(line)) })
}

function start(periodMs = 1_000): Reporter {
  const options = { store, cluster: 'demo', node: 'a', leaseTtlMs: 10_000, periodMs }
  const reporter = new Reporter({
    ...options,
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log: log(),
  })
  reporters.push(reporter)
  return reporter
}

async function stored(): Promise<NodeStatus | undefined> {
  const { entry } = await memory.get(key)
  return entry && (JSON.parse(entry.value) as NodeStatus)
}

function storedAs(expected: Partial<NodeStatus>): Promise<NodeStatus> {
  return until(`stored with ${JSON.stringify(expected)}`, async () => {
    const status = await stored()
    assert.ok(status)
    assert.deepEqual({ ...status, ...expected }, status)
    return status
  })
}

test('a report stands in the store under a lease, numbered and dated', async () => {
  start().report(report)
  const status = await storedAs(report)
  assert.equal(status.seq, 1)
  assert.ok(!Number.isNaN(Date.parse(status.at)))
  assert.notEqual((await memory.get(key)).entry?.leaseId, undefined)
})

test('the same again is not written; another role is, at once', async () => {
  const reporter = start()
  reporter.report(report)
  await storedAs(report)
  reporter.report({ ...report })
  reporter.report({ ...report, writeLsn: 200 })
  reporter.report({ ...report, writeLsn: 200, accepting: false, reason: 'gone' })
  assert.equal((await storedAs({ accepting: false, writeLsn: 200 })).seq, 2)
  assert.equal(store.writes, 2)
})

test('figures are written once per period, the newest', async () => {
  const reporter = start(150)
  reporter.report(report)
  await storedAs(report)
  for (let lsn = 101; (await stored())?.writeLsn === 100; lsn++) {
    reporter.report({ ...report, writeLsn: lsn })
    await pause(systemTimers, 10)
  }
  assert.ok((await stored())!.writeLsn! > 105)
  assert.equal(store.writes, 2)
})

test('stop takes the status away at once', async () => {
  const reporter = start()
  reporter.report(report)
  await storedAs(report)
  await reporter.stop()
  assert.equal(await stored(), undefined)
})

test('a store that is down is waited for; what changed meanwhile is written when it is back', async () => {
  const reporter = start()
  reporter.report(report)
  await storedAs(report)
  store.up = false
  reporter.report({ ...report, role: 'replica', timeline: 2 })
  await until('a write failed', () => reporter.state.failed > 0)
  assert.equal((await stored())?.role, 'primary')
  store.up = true
  await storedAs({ role: 'replica', timeline: 2 })
  const told = lines.filter(({ event }) => event === 'agent.store').map(({ level }) => level)
  assert.deepEqual(told, ['warn', 'info'])
})

test('started while the store is down', async () => {
  store.up = false
  const reporter = start()
  reporter.report(report)
  await until('a write failed', () => reporter.state.failed > 0)
  store.up = true
  await storedAs(report)
})

test('a lost lease is replaced and the status written again, although nothing changed', async () => {
  start().report(report)
  const before = await storedAs(report)
  await store.loseLeases()
  const after = await until('written again', async () => {
    const status = await stored()
    return status && status.seq > before.seq ? status : undefined
  })
  assert.equal(after.role, 'primary')
})

test('a status that somebody deleted or overwrote without a lease comes back with the next change', async () => {
  const reporter = start()
  reporter.report(report)
  await storedAs(report)
  await memory.transact({ compares: [], writes: [{ kind: 'delete', key }] })
  reporter.report({ ...report, role: 'replica' })
  await storedAs({ role: 'replica' })
  await memory.transact({ compares: [], writes: [{ kind: 'put', key, value: '{}' }] })
  reporter.report(report)
  await storedAs({ role: 'primary' })
})

test('two servers under one name: the second keeps off, says so loudly, and follows when the first ends', async () => {
  const first = start()
  first.report(report)
  await storedAs(report)
  const second = start()
  const other = { ...report, host: '10.0.0.2' }
  second.report(other)
  await until('the conflict is told', () => second.state.conflict)
  assert.match(second.state.conflict!, /another agent reports node a \(for 10\.0\.0\.1:5432.*keeps off/)
  assert.equal(lines.filter(({ level }) => level === 'error').length, 1)
  first.report({ ...report, role: 'replica' })
  await storedAs({ host: '10.0.0.1', role: 'replica' })
  assert.equal(first.state.conflict, undefined)
  await first.stop()
  await storedAs({ host: '10.0.0.2' })
  assert.equal(second.state.conflict, undefined)
  assert.equal(second.state.written, 1)
})

test('two agents of one server: the newer one has it, and they do not fight', async () => {
  const older = start()
  older.report(report)
  await storedAs(report)
  const newer = start()
  newer.report({ ...report, timeline: 2 })
  await storedAs({ timeline: 2 })
  older.report({ ...report, timeline: 3 })
  await until('the older one notices', () => older.state.conflict)
  newer.report({ ...report, timeline: 4 })
  await storedAs({ timeline: 4 })
  older.report({ ...report, timeline: 5 })
  const { reads } = store
  await until('the older one has looked again twice', () => store.reads >= reads + 2)
  assert.equal((await stored())?.timeline, 4)
  assert.deepEqual([older.state.written, newer.state.written], [1, 2])
})

test('stop does not wait for a store that never answers', { timeout: 5_000 }, async () => {
  const reporter = start()
  store.transact = () => new Promise(() => {})
  reporter.report(report)
  await until('it tries to write', () => reporter.seq === 1)
  await reporter.stop()
  assert.ok(lines.some(({ event }) => event === 'agent.stop'))
})
