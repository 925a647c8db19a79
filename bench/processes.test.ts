import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { memoryOf, parseStat, peakMb, processorMs, readProcesses, treeOf } from './processes.ts'

test('a line of stat is understood whatever the name is', () => {
  const rest = 'S 7 7 7 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5'
  assert.deepEqual(parseStat(`12 (a) b) ${rest}`), { parent: 7, ticks: 127 })
  assert.equal(parseStat(''), undefined)
})

test('processor time is that of a process and all below it', () => {
  const table = new Map([
    [1, { parent: 0, ticks: 1000 }],
    [2, { parent: 1, ticks: 1 }],
    [3, { parent: 2, ticks: 2 }],
    [4, { parent: 3, ticks: 4 }],
    [5, { parent: 1, ticks: 8 }],
  ])
  assert.deepEqual(treeOf(table, 2), [2, 3, 4])
  assert.equal(processorMs(table, 2), 70)
  assert.equal(processorMs(table, 6), 0)
  assert.equal(processorMs(table, undefined), 0)
})

test('a child of this process is found, with its memory', {
  skip: process.platform !== 'linux',
}, async () => {
  const child = spawn(process.execPath, ['-e', 'console.log("ready"); process.stdin.resume()'])
  try {
    await once(child.stdout, 'data')
    assert.ok(treeOf(readProcesses(), process.pid).includes(child.pid!))
    const { memoryMb, residentMb } = memoryOf([child.pid!])
    assert.ok(memoryMb > 5 && memoryMb <= residentMb, `${memoryMb} of ${residentMb} MB`)
    assert.ok(peakMb([child.pid!]) >= residentMb)
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  assert.deepEqual(memoryOf([child.pid!]), { memoryMb: 0, residentMb: 0 })
})
