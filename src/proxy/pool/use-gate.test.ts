import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { UseGate } from './use-gate.ts'
import { UseLimit } from './use-limit.ts'

const poolSize = 10

/** A limit that is known. */
class Known extends UseLimit {
  readonly #value: number

  constructor(value: number) {
    super()
    this.#value = value
  }

  override of(max: number): number {
    return Math.min(max, this.#value)
  }
}

/** A pool of which clients have connections since the given times. */
class Pool {
  readonly time = new FakeTime()
  readonly inUseSince: number[] = []
  waitingCount = 0
  readonly gate: UseGate

  constructor(limit: number) {
    const { inUseSince, time } = this
    const waitingCount = (): number => this.waitingCount
    this.gate = new UseGate(
      {
        used: () => inUseSince.map(usedSinceMs => ({ usedSinceMs })),
        get inUse() {
          return inUseSince.length
        },
        get waitingCount() {
          return waitingCount()
        },
        serve: () => this.#serve(),
        clock: time,
        timers: time,
      },
      new Known(limit),
    )
  }

  acquire(): void {
    if (this.gate.isShut(poolSize) || this.inUseSince.length === poolSize) this.waitingCount++
    else this.inUseSince.push(this.time.nowMs())
  }

  giveBack(): void {
    this.inUseSince.shift()
    this.gate.returned(this.time.nowMs())
    this.#serve()
  }

  #serve(): void {
    while (this.waitingCount > 0 && this.inUseSince.length < poolSize && !this.gate.isShut(poolSize)) {
      this.waitingCount--
      this.inUseSince.push(this.time.nowMs())
    }
  }
}

test('no more connections are in use than are of use, and who waits has the next that comes back', () => {
  const pool = new Pool(3)
  for (let client = 0; client < 5; client++) pool.acquire()
  assert.deepEqual([pool.inUseSince.length, pool.waitingCount], [3, 2])
  pool.giveBack()
  assert.deepEqual([pool.inUseSince.length, pool.waitingCount], [3, 1])
})

test('connections that are in use for long keep nobody waiting, up to the size of the pool', async () => {
  const pool = new Pool(3)
  for (let client = 0; client < 14; client++) pool.acquire()
  assert.deepEqual([pool.inUseSince.length, pool.waitingCount], [3, 11])
  await pool.time.pass(35)
  assert.deepEqual([pool.inUseSince.length, pool.waitingCount], [6, 8])
  await pool.time.pass(30)
  assert.deepEqual([pool.inUseSince.length, pool.waitingCount], [9, 5])
  await pool.time.pass(100)
  assert.deepEqual([pool.inUseSince.length, pool.waitingCount], [10, 4])
})

test('nothing is looked for when nobody waits any more', async () => {
  const pool = new Pool(1)
  pool.acquire()
  pool.acquire()
  assert.equal(pool.time.pending, 1)
  pool.giveBack()
  await pool.time.pass(30)
  assert.equal(pool.time.pending, 0)
})

test('with as many of use as there may be the gate is never shut', () => {
  const pool = new Pool(poolSize)
  for (let client = 0; client < 12; client++) pool.acquire()
  assert.equal(pool.inUseSince.length, poolSize)
  assert.equal(pool.time.pending, 0)
})
