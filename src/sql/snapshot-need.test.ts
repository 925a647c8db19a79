import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type SnapshotNeed, snapshotNeed } from './snapshot-need.ts'

function needOf(sql: string, hasLooked = false): SnapshotNeed {
  // What stands around it is not its own.
  const text = Buffer.from(`select ;${sql}; select`, 'latin1')
  return snapshotNeed(text, 8, 8 + Buffer.byteLength(sql, 'latin1'), hasLooked)
}

const check = (sql: string): boolean => needOf(sql).seesNothing

test('what sees no data is told from what does', () => {
  const none = ['begin', ' BEGIN isolation level serializable ;', 'Start Transaction', 'commit;\n', 'end']
  const more = ['set a = 1', `SET pgherd.consistency = 'eventual'`, 'reset all', 'show pgherd.token', 'abort']
  const rest = ['deallocate all', 'close c', 'fetch 1 from c', 'discard all', '\tunlisten *', 'savepoint a']
  const commented = ['/* a */ begin', ' /**/ /* b; */\nset a = 1;', '-- a; b\nbegin']
  const lists = [
    'begin; set local a = 1',
    'set a = 1; set b = 2;',
    `set a = 'x;y'; begin`,
    `set a = 'x;y'`,
    '',
    ' ',
  ]
  for (const sql of [...none, ...more, ...rest, ...commented, ...lists]) assert.equal(check(sql), true, sql)
  const reads = [
    'select 1',
    'table a',
    'with a as (select) select',
    'execute p',
    'explain select 1',
    'values (1)',
  ]
  const several = ['begin; select 1', 'set a = 1; table b', `set a = $$;$$; begin`]
  const others = [
    '/* /* begin */ begin */ table a',
    '/* begin',
    '/* a */ select 1',
    'settings',
    'declare c cursor for select 1',
    'deallocates',
  ]
  for (const sql of [...reads, ...several, ...others]) assert.equal(check(sql), false, sql)
})

test('what is known behind the last statement', () => {
  const cases: [string, boolean, boolean | undefined][] = [
    ['begin; select 1', false, true],
    ['select 1; begin', false, false],
    ['commit and chain', true, false],
    ['rollback to a', true, true],
    ['rollback work to savepoint a', true, true],
    ['rollback', true, false],
    ['set local a = 1', true, true],
    ['set local a = 1', false, false],
    ['execute a', false, undefined],
  ]
  for (const [sql, before, behind] of cases) assert.equal(needOf(sql, before).hasLooked, behind, sql)
  assert.equal(needOf('commit; select 1').hasBound, true)
  assert.equal(needOf('rollback to a').hasBound, false)
})
