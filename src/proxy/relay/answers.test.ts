import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Owed, OwedAnswers } from './answers.ts'

/** What a ReadyForQuery answers. */
const ends = new Set<Owed>([Owed.Sync, Owed.Query, Owed.RefusedQuery])

const all = (owed: OwedAnswers): number[] => {
  const kinds: number[] = []
  while (!owed.isEmpty) {
    kinds.push(owed.head)
    owed.shift()
  }
  return kinds
}

test('what is owed comes back in order, however much it is', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...Object.values(Owed)), { maxLength: 200 }),
      fc.nat(50),
      (kinds, shifts) => {
        const owed = new OwedAnswers()
        for (let index = 0; index < shifts; index++) {
          owed.push(Owed.Bind)
          owed.shift()
        }
        for (const kind of kinds) owed.push(kind)
        assert.equal(owed.ready, kinds.filter(kind => ends.has(kind)).length)
        assert.deepEqual(all(owed), kinds)
        assert.equal(owed.ready, 0)
      },
    ),
  )
})

test('an error discards everything up to the next Sync, and tells who waited for it', () => {
  const owed = new OwedAnswers()
  const told: string[] = []
  const outcome = (name: string) => ({
    succeeded: () => told.push(`${name} well`),
    failed: () => told.push(`${name} failed`),
  })
  owed.push(Owed.Parse, outcome('one'))
  owed.push(Owed.Parse, outcome('two'))
  owed.push(Owed.SkippedParse, outcome('three'))
  owed.push(Owed.Sync)
  owed.push(Owed.Parse, outcome('four'))
  owed.shift()
  owed.failed()
  assert.deepEqual(told, ['one well', 'two failed', 'three failed'])
  assert.equal(owed.discarding, false)
  assert.deepEqual(all(owed), [Owed.Sync, Owed.Parse])
  assert.equal(told.at(-1), 'four well')
})

test('after an error nothing is owed until the Sync that is still to come', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Execute)
  owed.failed()
  assert.equal(owed.discarding, true)
  assert.equal(owed.push(Owed.Bind), false)
  assert.equal(owed.push(Owed.Query), false)
  assert.equal(owed.ready, 0)
  assert.equal(owed.push(Owed.Sync), true)
  assert.equal(owed.discarding, false)
  assert.deepEqual(all(owed), [Owed.Sync])
})

test('a simple query between an error and the Sync is discarded as well', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Parse)
  owed.push(Owed.Query)
  owed.push(Owed.Sync)
  owed.push(Owed.Query)
  owed.failed()
  assert.equal(owed.ready, 2)
  assert.deepEqual(all(owed), [Owed.Sync, Owed.Query])
})

test('an error in a simple query leaves its ReadyForQuery', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Query)
  owed.failed()
  assert.equal(owed.ready, 1)
  assert.equal(owed.discarding, false)
})

test('a Sync that came along with the Execute of a COPY is ignored, the one after CopyDone counts', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Bind)
  owed.push(Owed.Execute)
  owed.push(Owed.Sync)
  owed.shift()
  owed.copyIn()
  assert.equal(owed.ready, 0)
  assert.equal(owed.push(Owed.Sync), false)
  owed.copyInEnds()
  owed.push(Owed.Sync)
  assert.deepEqual(all(owed), [Owed.Execute, Owed.Sync])
})

test('copy data may be ended before the server has asked for it', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Query)
  owed.copyInEnds()
  owed.push(Owed.Parse)
  owed.push(Owed.Sync)
  owed.copyIn()
  assert.equal(owed.isCopyIn, false)
  assert.equal(owed.ready, 2)
  owed.synced()
  assert.deepEqual(all(owed), [Owed.Parse, Owed.Sync])
})

test('of the Syncs around copy data that was sent ahead, the one before its end is ignored', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Execute)
  owed.push(Owed.Sync)
  owed.copyInEnds()
  owed.push(Owed.Sync)
  owed.push(Owed.Execute)
  owed.copyInEnds()
  owed.push(Owed.Sync)
  owed.copyIn()
  assert.equal(owed.isCopyIn, false)
  owed.shift()
  owed.synced()
  assert.equal(owed.head, Owed.Execute)
  owed.copyIn()
  assert.equal(owed.isCopyIn, false)
  assert.deepEqual(all(owed), [Owed.Execute, Owed.Sync])
  assert.equal(owed.ready, 0)
})

test('an end of copy data that belongs to none is forgotten', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Query)
  owed.copyInEnds()
  owed.synced()
  owed.push(Owed.Query)
  owed.copyIn()
  assert.equal(owed.isCopyIn, true)
})

test('a COPY in a simple query still owes its ReadyForQuery', () => {
  const owed = new OwedAnswers()
  owed.push(Owed.Query)
  owed.copyIn()
  assert.equal(owed.push(Owed.Sync), false)
  owed.copyInEnds()
  assert.equal(owed.ready, 1)
  owed.shift()
  assert.equal(owed.isEmpty, true)
})

test('a lost connection fails everyone who waited', () => {
  const owed = new OwedAnswers()
  let failures = 0
  owed.push(Owed.Parse, { succeeded: () => assert.fail('not answered'), failed: () => failures++ })
  owed.push(Owed.Sync)
  owed.clear()
  assert.equal(failures, 1)
  assert.equal(owed.ready, 0)
  assert.equal(owed.isEmpty, true)
})
