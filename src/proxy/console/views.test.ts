import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testSettings } from '../../../test/support/worker-settings.ts'
import { addCounters } from '../counters.ts'
import { openGates } from '../pool/gates.ts'
import { addStats, StatsBook, type StatsData } from '../stats.ts'
import { columnsFor, type Row, type TableName, typed } from './columns.ts'
import { readPoolFacts } from './pool-facts.ts'
import { databaseRows, listRows, pinTotalRows, poolRows, statRows, totalRows, userRows } from './views.ts'

/** Rows by the names of their columns; a row that does not fit fails. */
function named(table: TableName, rows: readonly Row[]): Record<string, unknown>[] {
  const columns = columnsFor(table, true)
  return rows.map(row => {
    assert.equal(row.length, columns.length, table)
    return Object.fromEntries(columns.map(({ name }, index) => [name, row[index]]))
  })
}

/** What two workers tell of two pools. */
const told: Row[] = [
  ['shop', 'ada', 'auto', 3, 1, 1, 2, 1, 0, 0, 1500.25, 'a'],
  ['shop', 'bob', 'auto', 1, 0, 0, 0, 1, 0, 1, 0, 'b'],
  ['shop', 'ada', 'auto', 2, 2, 0, 1, 0, 1, 0, 2750.5, 'a b'],
]
const pools = readPoolFacts(told)
const settings = testSettings({
  port: 6432,
  databases: { other: { dbname: 'real', poolSize: 9, mode: 'statement' } },
  users: { bob: { userConnectionsMax: 7, poolSize: 3 } },
})
const gates = { ...openGates, paused: ['shop'], disabled: ['other'] }
const facts = { settings, topology: undefined, gates, pools }

test('pools of several workers are added up; the longest wait is that of all', () => {
  const [ada, bob, console] = named('pools', poolRows(pools, settings, 2))
  assert.equal(ada?.['user'], 'ada')
  assert.equal(ada?.['cl_active'], 5)
  assert.equal(ada?.['cl_waiting'], 3)
  assert.equal(ada?.['sv_active'], 3)
  assert.equal(ada?.['sv_tested'], 1)
  assert.deepEqual([ada?.['maxwait'], ada?.['maxwait_us']], [2, 750_500])
  assert.equal(ada?.['cl_pinned'], 1)
  assert.equal(ada?.['nodes'], 'a, b')
  assert.equal(bob?.['sv_login'], 1)
  assert.deepEqual([console?.['database'], console?.['cl_active']], ['pgherd', 2])
})

test('databases are those of the configuration and those in use, with their limits and their gates', () => {
  const [other, shop] = named('databases', databaseRows(facts))
  assert.deepEqual(
    [other?.['name'], other?.['database'], other?.['pool_size'], other?.['pool_mode'], other?.['disabled']],
    ['other', 'real', 9, 'statement', 1],
  )
  assert.deepEqual([shop?.['name'], shop?.['pool_mode'], shop?.['paused']], ['shop', null, 1])
  assert.equal(shop?.['current_connections'], 7)
  assert.equal(shop?.['current_client_connections'], 9)
  const all = named('databases', databaseRows({ ...facts, gates: { ...openGates, allPaused: true } }))
  assert.deepEqual(
    all.map(row => row['paused']),
    [1, 1, 0],
  )
})

test('a database that is closed is told of though nobody has asked for it', () => {
  const closed = { allPaused: false, paused: ['shpo'], disabled: ['öl'].map(typed) }
  const rows = named('databases', databaseRows({ ...facts, gates: closed }))
  const told = rows.map(row => [row['name'], row['paused'], row['disabled']])
  assert.deepEqual(told.slice(0, -1), [
    ['other', 0, 0],
    ['shop', 0, 0],
    ['shpo', 1, 0],
    ['öl', 0, 1],
  ])
})

test('users and lists', () => {
  const [ada, bob] = named('users', userRows(facts))
  assert.deepEqual([ada?.['name'], ada?.['pool_size'], ada?.['current_connections']], ['ada', '', 5])
  assert.deepEqual([bob?.['pool_size'], bob?.['max_user_connections']], ['3', 7])
  const lists = Object.fromEntries(
    listRows(facts, [
      [6, 1, 5, 1],
      [3, 0, 3, 0],
    ]) as [string, number][],
  )
  assert.equal(lists['used_clients'], 9)
  assert.equal(lists['login_clients'], 1)
  assert.equal(lists['used_servers'], 8)
  assert.equal(lists['databases'], 3)
})

test('totals and averages have PgBouncer’s units, over the last periods', () => {
  const book = new StatsBook(0)
  const stats = book.of('shop')
  Object.assign(stats, { assignments: 100, transactions: 100, queries: 100, queryMs: 100 })
  book.turn(60_000)
  book.turn(120_000)
  Object.assign(stats, { assignments: 700, transactions: 400, queries: 1300, receivedBytes: 6000 })
  Object.assign(stats, { transactionMs: 1500, queryMs: 2500, waitMs: 60, clientParses: 120 })
  const one = book.data(180_000)
  const sum: Record<string, StatsData> = {}
  addStats(sum, one)
  addStats(sum, one)
  const [row] = named('stats', statRows(sum, 'stats'))
  assert.equal(row?.['total_query_count'], 2600)
  assert.equal(row?.['total_query_time'], 5_000_000)
  // Two workers, 1200 queries each in the 120 s since the turn before the last one.
  assert.equal(row?.['avg_query_count'], 20)
  assert.equal(row?.['avg_query_time'], 2000)
  assert.equal(row?.['avg_xact_time'], 5000)
  assert.equal(row?.['avg_wait_time'], 100)
  assert.equal(row?.['avg_recv'], 100)
  assert.equal(row?.['avg_client_parse_count'], 2)
  named('stats_totals', statRows(sum, 'stats_totals'))
  named('stats_averages', statRows(sum, 'stats_averages'))
  const totals = Object.fromEntries(totalRows({ ...sum, more: sum['shop']! }) as [string, number][])
  assert.equal(totals['total_query_count'], 5200)
  assert.equal(totals['avg_client_bytes'], 200)
  assert.equal(Object.keys(totals).length, 22)
})

test('pins are totalled by reason', () => {
  const counters = addCounters([])
  counters.pins.listen = 12
  const pin = (reasons: string): Row => [1, 'ada', 'shop', 'a', 4711, reasons, '', 3, '127.0.0.1', 1, '', 0]
  const rows = named('pin_totals', pinTotalRows([pin('listen, sequence'), pin('listen')], counters))
  const of = (reason: string) => rows.find(row => row['reason'] === reason)
  assert.deepEqual([of('listen')?.['pinned'], of('listen')?.['total']], [2, 12])
  assert.equal(of('sequence')?.['pinned'], 1)
  assert.equal(of('own_login')?.['total'], null)
})
