import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { memoryOf, parseStat, peakMb, processorMs, readProcesses, treeOf } from './processes.ts'

const linuxOnly = { skip: process.platform === 'linux' ? false : 'reads /proc' }
const tickMs = 10

test('a line of stat is understood whatever the name is', () => {
  const rest = 'S 7 7 7 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 11 0 5'
  assert.deepEqual(parseStat(`12 (a) b) ${rest}`), { parent: 7, threads: 11, waitedTicks: 7 })
  assert.equal(parseStat(''), undefined)
})

test('a process is told with all that descend from it', () => {
  const row = { threads: 1, waitedTicks: 0 }
  const table = new Map([
    [1, { ...row, parent: 0 }],
    [2, { ...row, parent: 1 }],
    [3, { ...row, parent: 2 }],
    [4, { ...row, parent: 3 }],
    [5, { ...row, parent: 1 }],
  ])
  assert.deepEqual(treeOf(table, 2), [2, 3, 4])
  assert.deepEqual(treeOf(table, 6), [])
})

test('processor time is that of threads, and of children that live or have ended', linuxOnly, () => {
  const busyMs = 100
  const before = processorMs(readProcesses(), process.pid)
  const { user, system } = process.cpuUsage()
  // Until it has had so much of a processor, however busy the machine is.
  const spin = `while (process.cpuUsage().user < ${busyMs * 1000});`
  execFileSync(process.execPath, ['-e', spin])
  const used = processorMs(readProcesses(), process.pid) - before
  const own = process.cpuUsage({ user, system })
  const ownMs = (own.user + own.system) / 1000
  const least = ownMs + busyMs - 2 * tickMs
  assert.ok(used > least && used < least + 5000, `${used} ms, ${ownMs} of them of this process`)
  assert.equal(processorMs(readProcesses(), undefined), 0)
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
