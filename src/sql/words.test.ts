import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Lexer } from './lexer.ts'
import { WordTable } from './words.ts'

function find<Value>(table: WordTable<Value>, sql: string): Value | undefined {
  const bytes = Buffer.from(sql)
  const lexer = new Lexer(bytes, 0, bytes.length)
  assert.ok(lexer.next())
  return table.find(lexer, bytes)
}

test('words fold, quoted identifiers do not, and only the first 63 bytes count', () => {
  const table = new WordTable<string>()
  const long = 'x'.repeat(63)
  table.set('name', 'small')
  table.set('Name', 'large')
  table.set(long, 'long')
  assert.equal(find(table, 'NAME'), 'small')
  assert.equal(find(table, '"name"'), 'small')
  assert.equal(find(table, '"Name"'), 'large')
  assert.equal(find(table, '"NAME"'), undefined)
  assert.equal(find(table, `${long}yz`), 'long')
  assert.equal(find(table, `"${long}yz"`), 'long')
  assert.equal(find(table, long.slice(1)), undefined)
  table.set('name', 'other')
  assert.equal(find(table, 'name'), 'other')
  assert.equal(table.size, 3)
})

test('it finds what a map finds', () => {
  const names = fc.stringMatching(/^[a-z_]{1,5}$/)
  fc.assert(
    fc.property(fc.array(fc.tuple(names, fc.nat()), { maxLength: 1500 }), names, (pairs, other) => {
      const table = new WordTable<number>()
      const map = new Map(pairs)
      for (const [name, value] of pairs) table.set(name, value)
      assert.equal(table.size, map.size)
      for (const [name, value] of map) assert.equal(table.get(name), value)
      assert.equal(find(table, other.toUpperCase()), map.get(other))
      assert.deepEqual(new Map(table.entries()), map)
    }),
    { numRuns: 30 },
  )
})
