import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Policy, type SimulationResult, simulate } from '../../test/support/balance-simulation.ts'
import { node } from '../../test/support/topology.ts'

const fast = (): number => 1
const slow = (): number => 10

function three(policy: Policy, third: (nowMs: number) => number, over: { clientsPerWorker?: number } = {}) {
  return simulate({
    servers: [fast, fast, third].map((serviceMs, at) => ({ node: node(`n${at}`), serviceMs, slots: 16 })),
    policy,
    workers: 4,
    clientsPerWorker: 8,
    forMs: 40_000,
    fromMs: 5000,
    seed: 7,
    ...over,
  })
}

const p99 = ({ latencies }: SimulationResult): number => latencies[Math.floor(latencies.length * 0.99)]!

test('a replica that is ten times slower gets few reads, and hardly anybody waits for it', () => {
  const balanced = three('balance', slow)
  const others = [three('round-robin', slow), three('least-connections', slow)]
  assert.ok(balanced.parts[2]! < 0.01, `its part is ${balanced.parts[2]}`)
  for (const other of others) {
    assert.ok(p99(balanced) < p99(other) / 2, `p99 ${p99(balanced)} ms against ${p99(other)} ms`)
    assert.ok(balanced.perSecond > 1.2 * other.perSecond, `${balanced.perSecond} against ${other.perSecond}`)
  }
})

test('also with two clients in each of many processes', () => {
  const balanced = three('balance', slow, { clientsPerWorker: 2 })
  assert.ok(balanced.parts[2]! < 0.05, `its part is ${balanced.parts[2]}`)
})

test('equal replicas get equal parts, and clients stay where they are', () => {
  const { homes, moves, parts } = three('balance', fast)
  for (const part of parts) assert.ok(part > 0.25 && part < 0.42, `parts ${parts}`)
  assert.ok(moves < 32, `${moves} moves of 32 clients in 40 s`)
  for (const each of homes.slice(20)) assert.ok(Math.min(...each) >= 6, `homes ${each}`)
})

test('who is slow for a while gets its part back, little by little, and nobody runs to and fro', () => {
  const ill = (nowMs: number): number => (nowMs > 5000 && nowMs < 10_000 ? 10 : 1)
  const { homes, moves } = three('balance', ill)
  const third = homes.map(each => each[2]!)
  assert.ok(Math.min(...third.slice(26, 40)) <= 1, `nobody left: ${third}`)
  const back = third.slice(-20)
  assert.ok(Math.min(...back) >= 8, `not back: ${third}`)
  for (let at = 45; at < third.length; at++) {
    assert.ok(third[at]! - third[at - 1]! <= 8, `all came at once: ${third}`)
  }
  assert.ok(moves < 4 * 32, `${moves} moves`)
})

test('what is slow only because it has too much gets less, and is not left alone', () => {
  const result = simulate({
    servers: [8, 8, 2].map((slots, at) => ({ node: node(`n${at}`), serviceMs: fast, slots })),
    policy: 'balance',
    workers: 4,
    clientsPerWorker: 10,
    forMs: 60_000,
    fromMs: 20_000,
    seed: 3,
  })
  assert.ok(result.parts[2]! > 0.02 && result.parts[2]! < 0.25, `parts ${result.parts}`)
  const before = simulate({
    servers: [8, 8, 2].map((slots, at) => ({ node: node(`n${at}`), serviceMs: fast, slots })),
    policy: 'round-robin',
    workers: 4,
    clientsPerWorker: 10,
    forMs: 60_000,
    fromMs: 20_000,
    seed: 3,
  })
  assert.ok(p99(result) < p99(before), `p99 ${p99(result)} against ${p99(before)}`)
})
