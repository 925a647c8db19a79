import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Client as Code } from '../../wire/codes.ts'
import { frame, writeParse, writeQuery } from '../../wire/messages.ts'
import { ServerOutput } from '../relay/server-output.ts'
import { UnitKind, UnitReader } from './unit-reader.ts'

const nothing = Buffer.alloc(0)
const sync = frame(Code.Sync, nothing)
const execute = frame(Code.Execute, Buffer.from([0, 0, 0, 0, 0]))
const describePortal = frame(Code.Describe, Buffer.from('P\0'))

function bind(statement: string, values: Buffer = Buffer.from([0, 0, 0, 0, 0, 0]), portal = ''): Buffer {
  return frame(Code.Bind, Buffer.concat([Buffer.from(`${portal}\0${statement}\0`), values]))
}

function read(...messages: Buffer[]): UnitReader {
  const reader = new UnitReader()
  reader.read(Buffer.concat(messages))
  return reader
}

test('a Query alone is a unit, and its text lies between header and zero', () => {
  const message = writeQuery('select 1')
  const reader = read(message)
  assert.equal(reader.kind, UnitKind.Simple)
  assert.equal(message.toString('utf8', reader.textStart, reader.textEnd), 'select 1')
})

test('Parse, Bind, Describe, Execute and Sync of what has no name are a unit', () => {
  const parse = writeParse('', 'select $1', [23])
  for (const middle of [[], [describePortal]]) {
    const messages = [parse, bind(''), ...middle, execute, sync]
    const reader = read(...messages)
    const chunk = Buffer.concat(messages)
    assert.equal(reader.kind, UnitKind.Parsed)
    assert.equal(reader.describes, middle.length > 0)
    assert.equal(chunk.toString('utf8', reader.textStart, reader.textEnd), 'select $1')
    assert.equal(reader.bindStart, parse.length)
    assert.equal(reader.bodyEnd, parse.length)
  }
})

test('Bind of a named statement is a unit, and its name is found', () => {
  const messages = [bind('S_1'), execute, sync]
  const reader = read(...messages)
  assert.equal(reader.kind, UnitKind.Bound)
  assert.equal(Buffer.concat(messages).toString('utf8', reader.nameStart, reader.nameEnd), 'S_1')
})

test('everything else is none', () => {
  const parse = writeParse('', 'select 1', [])
  const limited = frame(Code.Execute, Buffer.from([0, 0, 0, 0, 1]))
  const others: [string, Buffer[]][] = [
    ['two queries', [writeQuery('select 1'), writeQuery('select 2')]],
    ['a query of which the end is missing', [writeQuery('select 1').subarray(0, -1)]],
    ['a query and a Sync', [writeQuery('select 1'), sync]],
    ['no Sync', [parse, bind(''), execute]],
    ['a Flush', [parse, bind(''), execute, frame(Code.Flush, nothing)]],
    ['two executions', [parse, bind(''), execute, execute, sync]],
    ['a limit of rows', [parse, bind(''), limited, sync]],
    ['a named portal', [bind('S_1', undefined, 'p'), execute, sync]],
    ['a named statement', [writeParse('S_1', 'select 1', []), bind('S_1'), execute, sync]],
    ['a Parse of one statement and a Bind of another', [parse, bind('S_1'), execute, sync]],
    ['a Bind of what was parsed before', [bind(''), execute, sync]],
    [
      'a Describe of the statement',
      [parse, frame(Code.Describe, Buffer.from('S\0')), bind(''), execute, sync],
    ],
    ['a Close', [bind('S_1'), execute, frame(Code.Close, Buffer.from('SS_1\0')), sync]],
    ['only a Sync', [sync]],
    ['two units', [bind('S_1'), execute, sync, bind('S_1'), execute, sync]],
  ]
  for (const [what, messages] of others) assert.equal(read(...messages).kind, UnitKind.None, what)
})

test('whatever comes, a unit ends where the piece does, and nothing is read beyond it', () => {
  const message = fc.oneof(
    fc.string().map(text => writeQuery(text.replaceAll('\0', ''))),
    fc.constantFrom(
      sync,
      execute,
      describePortal,
      bind(''),
      bind('S_1'),
      writeParse('', 'select 1', []),
      writeParse('', 'select $1', [23]),
    ),
    fc.uint8Array({ maxLength: 20 }).map(bytes => Buffer.from(bytes)),
  )
  const kinds = new Set<number>()
  fc.assert(
    fc.property(fc.array(message, { maxLength: 6 }), fc.nat(30), (messages, cut) => {
      const whole = Buffer.concat(messages)
      const chunk = whole.subarray(0, Math.max(0, whole.length - (cut < 20 ? 0 : cut - 20)))
      const reader = new UnitReader()
      const kind = reader.read(chunk)
      kinds.add(kind)
      if (kind === UnitKind.None) return
      assert.ok(chunk[0] === Code.Query || chunk[chunk.length - 5] === Code.Sync)
      assert.ok(reader.nameEnd <= chunk.length && reader.textEnd <= chunk.length)
      let units = 0
      for (let at = 0; at < chunk.length; at += 1 + chunk.readUInt32BE(at + 1)) {
        if (chunk[at] === Code.Sync || chunk[at] === Code.Query) units++
      }
      assert.equal(units, 1)
    }),
    { numRuns: 2000 },
  )
  assert.ok(kinds.has(UnitKind.Simple) && kinds.has(UnitKind.None))
})

test('a Bind is renamed in passing, and what stands around it stays', () => {
  const values = Buffer.from('\0\0\0\x01\0\0\0\x02hi\0\0', 'latin1')
  const request = Buffer.concat([bind('mine', values), describePortal, execute, sync])
  const reader = new UnitReader()
  assert.equal(reader.read(request), UnitKind.Bound)
  const output = new ServerOutput()
  output.add(Buffer.from('before'))
  output.addBind(
    'pgherd_17',
    reader.bindBodyBytes,
    reader.nameEnd - reader.nameStart,
    request,
    reader.nameEnd,
  )
  const expected = Buffer.concat([
    Buffer.from('before'),
    bind('pgherd_17', values),
    describePortal,
    execute,
    sync,
  ])
  assert.deepEqual(Buffer.from(output.take()), expected)
})

test('what is sent grows with what it has to hold, and is used again when it was sent', () => {
  const output = new ServerOutput()
  const big = Buffer.alloc(100_000, 7)
  output.add(Buffer.from('x'))
  output.add(big)
  const taken = output.take()
  assert.equal(taken.length, 100_001)
  assert.deepEqual(Buffer.from(taken.subarray(1)), big)
  output.reuse(false)
  output.add(Buffer.from('y'))
  assert.equal(taken[0], 'x'.charCodeAt(0), 'what is still being sent is not written over')
})
