import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Pool } from './pool/pool.ts'
import { poolGauges } from './pool-gauges.ts'

test('pools are told one by one, those beyond the first 200 together', () => {
  const pools = Array.from({ length: 203 }, (_, id) => ({
    database: `db${id}`,
    user: 'ada',
    size: 5,
    idleCount: 2,
    waitingCount: 1,
    home: { target: { node: 'a' } },
  })) as unknown as Pool[]
  const gauges = poolGauges(pools)
  assert.equal(gauges.length, 201)
  assert.deepEqual(gauges[0], { database: 'db0', user: 'ada', node: 'a', waiting: 1, active: 3, idle: 2 })
  assert.deepEqual(gauges[200], {
    database: 'other',
    user: 'other',
    node: 'other',
    waiting: 3,
    active: 9,
    idle: 6,
  })
})
