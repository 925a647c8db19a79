import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeCounterFile, openCounterFile, SharedCounters } from '../../runtime/shared-counters.ts'
import { AcknowledgedWrites } from './acknowledged.ts'

test('what one worker acknowledges, all know at once', () => {
  const fd = openCounterFile('test')
  try {
    const [one, other] = [0, 1].map(slot => new AcknowledgedWrites(new SharedCounters(fd, slot))) as [
      AcknowledgedWrites,
      AcknowledgedWrites,
    ]
    const before = other.mark()
    assert.ok(one.isUnchanged(before))
    one.note()
    assert.ok(!other.isUnchanged(before))
    assert.ok(!one.isUnchanged(before))
    const after = other.mark()
    assert.ok(one.isUnchanged(after))
    other.note()
    assert.ok(!one.isUnchanged(after))
    // One that takes the place of another goes on from where that was.
    const next = new AcknowledgedWrites(new SharedCounters(fd, 256))
    const last = other.mark()
    next.note()
    assert.ok(!other.isUnchanged(last))
  } finally {
    closeCounterFile(fd)
  }
})

test('a worker alone needs no file', () => {
  const writes = new AcknowledgedWrites(undefined)
  const before = writes.mark()
  assert.ok(writes.isUnchanged(before))
  writes.note()
  assert.ok(!writes.isUnchanged(before))
})
