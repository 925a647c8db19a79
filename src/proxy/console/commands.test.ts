import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { tables } from './columns.ts'
import { type Command, ConsoleError, help, readCommands } from './commands.ts'

function errorOf(text: string): ConsoleError {
  try {
    readCommands(text)
  } catch (cause) {
    assert.ok(cause instanceof ConsoleError, String(cause))
    return cause
  }
  return assert.fail(`"${text}" was taken for a command`)
}

test('commands are read with their arguments, whatever their case', () => {
  const cases: [string, Command][] = [
    ['show CLIENTS', { kind: 'show', table: 'clients' }],
    ['SHOW stats_totals;', { kind: 'show', table: 'stats_totals' }],
    ['select version', { kind: 'show', table: 'version' }],
    ['SHOW HELP', { kind: 'help' }],
    ['SELECT 1', { kind: 'constant', value: 1 }],
    ["select 'it''s'", { kind: 'constant', value: "it's" }],
    ['SHOW client_encoding', { kind: 'parameter', name: 'client_encoding' }],
    ['SHOW TRANSACTION ISOLATION LEVEL', { kind: 'parameter', name: 'transaction_isolation' }],
    ['PAUSE', { kind: 'pause', database: undefined }],
    ['pause Shop-1', { kind: 'pause', database: 'Shop-1' }],
    ['RESUME "a ""b"" c"', { kind: 'resume', database: 'a "b" c' }],
    ['KILL_CLIENT 0x40', { kind: 'kill_client', client: '0x40' }],
    ['SHUTDOWN wait_for_clients', { kind: 'shutdown', wait: 'clients' }],
    ["SET application_name = 'x;y'", { kind: 'ignored', tag: 'SET' }],
    ['START TRANSACTION READ ONLY', { kind: 'ignored', tag: 'START TRANSACTION' }],
    ['DISCARD ALL', { kind: 'ignored', tag: 'DISCARD ALL' }],
    ['/* a ; b */ RELOAD -- the rest', { kind: 'reload' }],
  ]
  for (const [text, command] of cases) assert.deepEqual(readCommands(text), [command], text)
})

test('one text may hold several commands, or none', () => {
  assert.deepEqual(
    readCommands('SHOW POOLS; ;PAUSE;').map(({ kind }) => kind),
    ['show', 'pause'],
  )
  for (const text of ['', ' ;; ', '-- nothing']) assert.deepEqual(readCommands(text), [])
})

test('what is not understood is refused with the commands that there are', () => {
  for (const text of [
    'DROP TABLE x',
    'SHOW',
    'SHOW nothing',
    'PAUSE a b',
    'DISABLE',
    'SHUTDOWN now',
    '"PAUSE"',
  ]) {
    const { code, hint } = errorOf(text)
    assert.equal(code, 'unknown', text)
    assert.match(hint ?? '', /WAIT_CLOSE \[db\]/)
  }
  assert.match(errorOf("SELECT 'x").message, /unterminated quote/)
  for (const text of ['SUSPEND', 'SHOW FDS']) assert.equal(errorOf(text).code, 'unsupported', text)
})

test('the help names every table', () => {
  const all = help.join(' ')
  for (const name of Object.keys(tables)) assert.ok(all.includes(name.toUpperCase()), name)
})

test('any text is either read or refused, and any name comes back as it was quoted', () => {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), name => {
      try {
        readCommands(name)
      } catch (cause) {
        assert.ok(cause instanceof ConsoleError)
      }
      assert.deepEqual(readCommands(`PAUSE ${quoted(name)};`), [{ kind: 'pause', database: name }])
    }),
  )
})
