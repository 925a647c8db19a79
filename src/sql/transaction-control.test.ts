import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readTransactionControl } from './transaction-control.ts'

function said(text: string): string | undefined {
  const control = readTransactionControl(text)
  return control && `${control.kind} ${control.tag}: ${control.text}`
}

test('knows every plain way to begin and to end', () => {
  for (const text of ['begin', 'BEGIN;', ' Begin\nWORK ;; ', 'begin transaction', '\tBEGIN\t;\r\n'])
    assert.equal(said(text), 'begin BEGIN: BEGIN', text)
  assert.equal(said('start  transaction;'), 'begin START TRANSACTION: BEGIN')
  for (const text of ['commit', 'END', 'commit work;', 'end transaction'])
    assert.equal(said(text), 'commit COMMIT: COMMIT', text)
  for (const text of ['rollback', 'ABORT;', 'rollback work', 'abort transaction;'])
    assert.equal(said(text), 'rollback ROLLBACK: ROLLBACK', text)
})

test('knows modes, whatever their order and what stands between them', () => {
  const same = 'begin BEGIN: BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY'
  assert.equal(said('begin isolation level repeatable read read only'), same)
  assert.equal(said('BEGIN WORK READ ONLY,ISOLATION LEVEL  REPEATABLE\nREAD;'), same)
  assert.equal(
    said('start transaction read only , not deferrable'),
    'begin START TRANSACTION: BEGIN NOT DEFERRABLE, READ ONLY',
  )
  for (const level of ['SERIALIZABLE', 'READ COMMITTED', 'READ UNCOMMITTED'])
    assert.equal(said(`begin isolation level ${level}`), `begin BEGIN: BEGIN ISOLATION LEVEL ${level}`)
})

test('knows what a standby refuses', () => {
  const fails = (text: string): boolean | undefined => readTransactionControl(text)?.failsInRecovery
  assert.equal(fails('begin read write'), true)
  assert.equal(fails('begin read only isolation level serializable'), true)
  assert.equal(fails('begin read only'), false)
  assert.equal(fails('begin'), false)
  assert.equal(fails('commit'), false)
})

test('leaves everything else to servers', () => {
  const others = [
    '',
    'begi',
    'beginx',
    'begin x',
    'begin;select 1',
    'begin; begin',
    ';begin',
    'begin -- now',
    'begin/**/',
    'begin work transaction',
    'begin, read only',
    'begin read only,',
    'begin read only,,deferrable',
    'begin readonly',
    'begin read only read write',
    'begin read only, read only',
    'begin isolation level repeatable',
    'begin isolation level "serializable"',
    'begin\vwork',
    'begin\u00a0work',
    'start',
    'start transaction work',
    'start work',
    'commit prepared x',
    'commit and chain',
    'commit and no chain',
    'rollback to x',
    'rollback and chain',
    'end end',
    'savepoint begin',
    'select 1',
  ]
  for (const text of others) assert.equal(said(text), undefined, JSON.stringify(text))
})
