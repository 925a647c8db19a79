import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { keepsHiddenState } from './state-scan.ts'

const scan = (sql: string): boolean => {
  const bytes = Buffer.from(`Q....${sql}\0`)
  return keepsHiddenState(bytes, 5, bytes.length)
}

test('finds settings of a made-up class, however they are written', () => {
  for (const sql of [
    "SET app.tenant = '7'",
    'set session app . tenant to 7',
    "select 1; SeT\napp.user='x'",
    "select set_config('app.tenant', $1, false)",
    'select SET_CONFIG($1, $2, false)',
    '/*c*/set\t"app"."tenant" = \'1\'',
  ]) {
    assert.equal(scan(sql), true, sql)
  }
})

test('leaves alone what cannot be one', () => {
  for (const sql of [
    'SELECT abalance FROM pgbench_accounts WHERE aid = 1',
    "set search_path = 'x'",
    'SET statement_timeout TO 100',
    'select * from a.settings offset 5',
    'select reset.x, offset_1, subset from asset',
    's',
    'se',
    'set',
    '',
  ]) {
    assert.equal(scan(sql), false, sql)
  }
})

test('never misses the word SET with a dot after it', () => {
  const text = fc.stringMatching(/^[ -~]{0,20}$/)
  fc.assert(
    fc.property(text, text, (before, after) => {
      assert.equal(scan(`${before} set ${after}.x`), true)
    }),
  )
})
