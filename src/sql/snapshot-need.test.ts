import assert from 'node:assert/strict'
import { test } from 'node:test'
import { needsNoSnapshot } from './snapshot-need.ts'

function check(sql: string): boolean {
  // What stands around it is not its own.
  const text = Buffer.from(`select ;${sql}; select`, 'latin1')
  return needsNoSnapshot(text, 8, 8 + Buffer.byteLength(sql, 'latin1'))
}

test('what sees no data is told from what does', () => {
  const none = ['begin', ' BEGIN isolation level serializable ;', 'Start Transaction', 'commit;\n', 'end']
  const more = ['set a = 1', `SET pgherd.consistency = 'eventual'`, 'reset all', 'show pgherd.token', 'abort']
  const rest = ['deallocate all', 'close c', 'fetch 1 from c', 'discard all', '\tunlisten *', 'savepoint a']
  const commented = ['/* a */ begin', ' /**/ /* b; */\nset a = 1;']
  for (const sql of [...none, ...more, ...rest, ...commented]) assert.equal(check(sql), true, sql)
  const reads = [
    'select 1',
    'table a',
    'with a as (select) select',
    'execute p',
    'explain select 1',
    'values (1)',
  ]
  const several = ['begin; select 1', 'set a = 1; table b', `set a = 'x;y'`]
  const others = [
    '',
    ' ',
    '/* /* begin */ begin */ table a',
    '/* begin',
    '/* a */ select 1',
    'settings',
    'declare c cursor for select 1',
    'deallocates',
  ]
  for (const sql of [...reads, ...several, ...others]) assert.equal(check(sql), false, sql)
})
