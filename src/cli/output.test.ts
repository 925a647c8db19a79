import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import * as fc from 'fast-check'
import { recordingIo } from '../../test/support/command.ts'
import {
  type Column,
  CommandError,
  counted,
  exitCodeOf,
  formatBytes,
  formatElapsed,
  formatNumber,
  printable,
  printError,
  table,
  wantsColour,
} from './output.ts'

interface Row {
  name: string
  lag: string
  count: number | undefined
  host: string
}

const columns: Column<Row>[] = [
  { title: 'NAME', value: row => row.name, paint: (cell, _row, paint) => paint.green(cell) },
  { title: 'LAG', value: row => row.lag },
  { title: 'CLIENTS', value: row => row.count },
  { title: 'HOST', value: row => row.host },
]

const rows: Row[] = [
  { name: 'a', lag: '16 MB', count: 12_345, host: '10.0.0.1' },
  { name: 'node-b', lag: '-', count: undefined, host: '10.0.0.22' },
]

test('columns are aligned, numbers at the right, without colours plain', () => {
  assert.equal(
    table(columns, rows, { colour: false }),
    [
      'NAME      LAG  CLIENTS  HOST',
      'a       16 MB   12,345  10.0.0.1',
      'node-b      -           10.0.0.22',
      '',
    ].join('\n'),
  )
})

test('colours do not disturb the alignment', () => {
  const coloured = table(columns, rows, { colour: true })
  assert.ok(coloured.includes('\u001b[32mnode-b\u001b[39m'))
  assert.ok(coloured.startsWith('\u001b[1m'))
  const plain = stripVTControlCharacters(coloured).replace(/ +$/gm, '')
  assert.equal(plain, table(columns, rows, { colour: false }))
})

test('the last column is cut to the width, and an empty table is its header', () => {
  const narrow = table(columns, rows, { colour: false, width: 32 })
  assert.match(narrow, /10\.0\.0\.1\n/)
  assert.match(narrow, /10\.0\.0\.…\n/)
  for (const line of narrow.split('\n')) assert.ok(line.length <= 32, line)
  assert.equal(table(columns, [], { colour: false }), 'NAME  LAG  CLIENTS  HOST\n')
})

test('no table is wider than the terminal, with colours or without', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.boolean(), fc.boolean(), (width, colour, optional) => {
      const some = columns.map((column, index) => (optional && index > 1 ? { ...column, optional } : column))
      const lines = table(some, rows, { colour, width }).split('\n')
      for (const line of lines) assert.ok(stripVTControlCharacters(line).length <= width, `${width}: ${line}`)
    }),
  )
})

test('what is optional is left out from the right until the rest fits', () => {
  const [name, lag, count, host] = columns as [Column<Row>, Column<Row>, Column<Row>, Column<Row>]
  const some: Column<Row>[] = [name, { ...lag, optional: true }, { ...count, optional: true }, host]
  const headerAt = (width: number): string | undefined =>
    table(some, rows, { colour: false, width }).split('\n')[0]
  assert.equal(headerAt(33), 'NAME      LAG  CLIENTS  HOST')
  assert.equal(headerAt(32), 'NAME      LAG  HOST')
  assert.equal(headerAt(23), 'NAME    HOST')
  assert.equal(headerAt(10), 'NAME    H…')
})

test('cells cannot steer the terminal', () => {
  assert.equal(printable('a\u001b[2Jb\nc\u009b'), 'a [2Jb c ')
  const evil = [{ name: '\u001b[31mx', lag: '', count: 1, host: 'h\r' }]
  for (const line of table(columns, evil, { colour: false }).trim().split('\n')) {
    assert.doesNotMatch(line, /\p{Cc}/u)
  }
})

test('numbers, bytes and durations read well', () => {
  const cases: [string, string][] = [
    [formatNumber(1_234_567), '1,234,567'],
    [formatNumber(0.256), '0.26'],
    [formatNumber(Number.NaN), '-'],
    [formatBytes(0), '0 B'],
    [formatBytes(1023), '1023 B'],
    [formatBytes(1536), '1.5 kB'],
    [formatBytes(16 * 1024 * 1024), '16 MB'],
    [formatBytes(1024 ** 3 - 1), '1 GB'],
    [formatBytes(-2048), '-2 kB'],
    [formatElapsed(0), '0 ms'],
    [formatElapsed(0.42), '0.4 ms'],
    [formatElapsed(999.4), '999 ms'],
    [formatElapsed(999.9), '1 s'],
    [formatElapsed(1234), '1.2 s'],
    [formatElapsed(59_949), '59.9 s'],
    [formatElapsed(59_990), '1 min'],
    [formatElapsed(3_600_000), '1 h'],
    [formatElapsed(12_000_000), '3 h 20 min'],
    [formatElapsed(187_200_000), '2 d 4 h'],
    [formatElapsed(-1500), '-1.5 s'],
    [formatElapsed(Number.POSITIVE_INFINITY), '-'],
    [counted(1, 'node'), '1 node'],
    [counted(0, 'node'), '0 nodes'],
  ]
  for (const [actual, expected] of cases) assert.equal(actual, expected)
})

test('formatted quantities stay close to the value', () => {
  const factors = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4, PB: 1024 ** 5 }
  fc.assert(
    fc.property(fc.maxSafeNat(), bytes => {
      const [number = '', unit = 'B'] = formatBytes(bytes).split(' ')
      const back = Number(number) * factors[unit as keyof typeof factors]
      assert.ok(Math.abs(back - bytes) <= bytes * 0.05, `${bytes} became ${number} ${unit}`)
    }),
  )
})

test('errors are one sentence and a hint, with the exit code of their kind', () => {
  const io = recordingIo()
  const usage = new CommandError('usage', 'there is no node `x`', { hint: 'pgherd node list' })
  printError(io, usage)
  printError(io, new Error('it broke'))
  printError(io, 'text')
  assert.equal(io.err, 'error: there is no node `x`\nhint: pgherd node list\nerror: it broke\nerror: text\n')
  assert.equal(exitCodeOf(usage), 2)
  assert.equal(exitCodeOf(new CommandError('failed', 'x')), 1)
  assert.equal(exitCodeOf(new Error('x')), 1)
})

test('colours need a terminal that can, and NO_COLOR turns them off', () => {
  assert.equal(wantsColour(true, {}), true)
  assert.equal(wantsColour(true, { NO_COLOR: '' }), true)
  assert.equal(wantsColour(true, { NO_COLOR: '1' }), false)
  assert.equal(wantsColour(true, { TERM: 'dumb' }), false)
  assert.equal(wantsColour(false, {}), false)
})
