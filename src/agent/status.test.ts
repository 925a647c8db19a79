import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ProbeFailureKind } from '../probe/failure.ts'
import type { NodeFacts } from '../topology/types.ts'
import { differenceOf, type NodeReport, reportOf, shouldWrite } from './status.ts'

const identity = { host: '10.0.0.2', port: 5432, zone: 'z', agentVersion: '1.0' }
const facts: NodeFacts = {
  role: 'primary',
  systemId: '77',
  timeline: 3,
  writeLsn: 1000,
  connections: { max: 100, used: 3, active: 1, idleInTransaction: 0 },
  slots: [],
  version: 150004,
}
const good = reportOf({ facts, warning: undefined }, undefined, identity, { cpu: 0.5 })
const failed = (kind: ProbeFailureKind) => ({ failure: { kind, reason: `because ${kind}` } })

test('facts become the report', () => {
  assert.deepEqual(good, { v: 1, ...identity, load: { cpu: 0.5 }, accepting: true, ...facts })
})

test('a new connection refused to the agent alone: accepting, and said why', () => {
  const report = reportOf({ facts, warning: failed('busy').failure }, good, identity, undefined)
  assert.equal(report.accepting, true)
  assert.equal(report.role, 'primary')
  assert.equal(report.reason, 'because busy')
})

test('a server that is down keeps its last role and figures', () => {
  for (const kind of ['unreachable', 'timeout', 'not_ready'] as const) {
    const report = reportOf(failed(kind), good, identity, { cpu: 0.1 })
    assert.deepEqual(report, { ...good, load: { cpu: 0.1 }, accepting: false, reason: `because ${kind}` })
  }
})

test('no connection left: the last role stays and it accepts', () => {
  const report = reportOf(failed('busy'), good, identity, undefined)
  assert.deepEqual([report.accepting, report.role, 'load' in report], [true, 'primary', false])
})

test('not allowed to ask: it accepts, its role is unknown', () => {
  const report = reportOf(failed('denied'), good, identity, undefined)
  assert.deepEqual([report.accepting, report.role, report.systemId], [true, 'unknown', '77'])
})

test('never reached: everything unknown, nothing made up', () => {
  const report = reportOf(failed('unreachable'), undefined, identity, undefined)
  assert.deepEqual(
    [report.accepting, report.role, report.systemId, report.version],
    [false, 'unknown', '', 0],
  )
})

test('the reason goes when the server is back', () => {
  const down = reportOf(failed('unreachable'), good, identity, undefined)
  assert.ok(!('reason' in reportOf({ facts, warning: undefined }, down, identity, undefined)))
})

test('what routing must know at once is urgent', () => {
  const changes: Partial<NodeReport>[] = [
    { role: 'replica' },
    { accepting: false },
    { timeline: 4 },
    { systemId: '78' },
    { host: 'other' },
    { port: 1 },
  ]
  for (const change of changes)
    assert.equal(differenceOf(good, { ...good, ...change }), 'urgent', JSON.stringify(change))
  assert.equal(differenceOf(undefined, good), 'urgent')
  assert.equal(differenceOf(good, { ...good, writeLsn: 1001 }), 'figures')
  assert.equal(differenceOf(good, { ...good, reason: 'no connection left' }), 'figures')
})

test('a little more load is not a change', () => {
  assert.equal(differenceOf(good, { ...good, load: { cpu: 0.54 } }), 'none')
  assert.equal(differenceOf(good, { ...good, load: { cpu: 0.56 } }), 'figures')
  assert.equal(differenceOf(good, { ...good, load: { cpu: 0.5, io: 0.3 } }), 'figures')
})

test('urgent at once, figures at most every period, nothing never', () => {
  const decide = (report: NodeReport, nowMs: number) => shouldWrite(good, 5_000, report, nowMs, 1_000)
  assert.equal(decide({ ...good, accepting: false }, 5_001), true)
  assert.equal(decide({ ...good, writeLsn: 1001 }, 5_999), false)
  assert.equal(decide({ ...good, writeLsn: 1001 }, 6_000), true)
  assert.equal(decide({ ...good }, 1_000_000), false)
})
