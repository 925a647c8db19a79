import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type FactsRow, factsFromRow, factsSql, parseLsn } from './facts.ts'

const primaryRow: FactsRow = {
  in_recovery: false,
  version: '170002',
  connections_max: '100',
  system_id: '7710718912829552678',
  wal_file: '0000001A0000000000000003',
  received_tli: null,
  checkpoint_timeline: 25,
  write_lsn: '0/3000060',
  receive_lsn: null,
  replay_lsn: null,
  lag_ms: null,
  receiver_status: null,
  sender_host: null,
  sender_port: null,
  used: '7',
  active: '2',
  idle_in_transaction: '1',
  timed: '11',
  requested: '3',
  slots: [{ name: 'b', active: true, retainedBytes: 4096 }],
}

const replicaRow: FactsRow = {
  ...primaryRow,
  in_recovery: true,
  wal_file: null,
  received_tli: 26,
  write_lsn: null,
  receive_lsn: '1/10',
  replay_lsn: '1/8',
  lag_ms: 1234.56,
  receiver_status: 'streaming',
  sender_host: '10.0.0.1',
  sender_port: 5433,
  slots: null,
}

test('a primary: timeline from its WAL file, not from the control file', () => {
  assert.deepEqual(factsFromRow(primaryRow), {
    role: 'primary',
    systemId: '7710718912829552678',
    timeline: 26,
    writeLsn: 0x3000060,
    connections: { max: 100, used: 7, active: 2, idleInTransaction: 1 },
    checkpoint: { requested: 3, timed: 11 },
    slots: [{ name: 'b', active: true, retainedBytes: 4096 }],
    version: 170002,
  })
})

test('a replica: positions, lag, receiver and upstream', () => {
  const facts = factsFromRow(replicaRow)
  assert.equal(facts.role, 'replica')
  assert.equal(facts.timeline, 26)
  assert.equal(facts.receiveLsn, 2 ** 32 + 16)
  assert.equal(facts.replayLsn, 2 ** 32 + 8)
  assert.equal(facts.lagMs, 1235)
  assert.equal(facts.replicationState, 'streaming')
  assert.equal(facts.upstream, '10.0.0.1:5433')
  assert.deepEqual(facts.slots, [])
})

test('a replica without a receiver: timeline of the control file, no state, no upstream', () => {
  const facts = factsFromRow({
    ...replicaRow,
    received_tli: null,
    receiver_status: null,
    sender_host: null,
    receive_lsn: null,
    lag_ms: null,
  })
  assert.equal(facts.timeline, 25)
  assert.ok(
    !('replicationState' in facts || 'upstream' in facts || 'receiveLsn' in facts || 'lagMs' in facts),
  )
})

test('a lag is never negative', () => {
  assert.equal(factsFromRow({ ...replicaRow, lag_ms: -80 }).lagMs, 0)
})

test('checkpoint counters are asked where the version keeps them', () => {
  assert.match(factsSql(120000), /checkpoints_req AS requested FROM pg_stat_bgwriter/)
  assert.match(factsSql(169999), /pg_stat_bgwriter/)
  assert.match(factsSql(170000), /num_requested AS requested FROM pg_stat_checkpointer/)
})

test('LSNs as PostgreSQL writes them come back as numbers', () => {
  fc.assert(
    fc.property(fc.nat({ max: 0x1fffff }), fc.nat({ max: 0xffffffff }), (high, low) => {
      const text = `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`
      assert.equal(parseLsn(text), high * 2 ** 32 + low)
    }),
  )
  for (const bad of ['', '/', '0', '0/', 'G/0', '0/0/0', ' 0/0', '0/123456789'])
    assert.throws(() => parseLsn(bad), /not a log sequence number/)
})
