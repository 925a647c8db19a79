import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { testLimits, testSettings } from '../../../test/support/worker-settings.ts'
import { limitsFor, serverDatabase, shareOf } from './limits.ts'

const settings = testSettings({
  pool: testLimits({ poolSize: 100, mode: 'auto', queryTimeoutMs: 7 }),
  databases: {
    app: { dbname: 'app_v2', mode: 'transaction', poolSize: 20, minPoolSize: 3 },
    tiny: { poolSize: 1, dbConnectionsMax: 0 },
  },
  users: {
    batch: { mode: 'session', poolSize: 2, queryTimeoutMs: 0 },
    web: { userConnectionsMax: 9 },
  },
})

test('a user goes before a database, and a database before the defaults', () => {
  const { mode, poolSize, minPoolSize, queryTimeoutMs } = limitsFor(settings, 'app', 'batch')
  assert.deepEqual(
    { mode, poolSize, minPoolSize, queryTimeoutMs },
    { mode: 'session', poolSize: 2, minPoolSize: 3, queryTimeoutMs: 0 },
  )
  assert.deepEqual(limitsFor(settings, 'app', 'web'), {
    ...settings.pool,
    mode: 'transaction',
    poolSize: 20,
    minPoolSize: 3,
    userConnectionsMax: 9,
  })
})

test('names of which nothing is said have the defaults, whatever they are', () => {
  for (const name of ['other', 'constructor', '__proto__', 'toString', '']) {
    assert.deepEqual(limitsFor(settings, name, name), settings.pool)
    assert.equal(serverDatabase(settings, name), name)
  }
  assert.equal(serverDatabase(settings, 'app'), 'app_v2')
  assert.equal(serverDatabase(settings, 'tiny'), 'tiny')
})

test('every limit of connections and clients is divided, overrides too; times and one connection’s are not', () => {
  const shared = shareOf({ ...settings, clientsMax: 101 }, 4, 0)
  assert.equal(shared.clientsMax, 26)
  assert.equal(shared.pool.poolSize, 25)
  assert.equal(shared.pool.preparedMax, settings.pool.preparedMax)
  assert.equal(shared.pool.queryTimeoutMs, 7)
  assert.deepEqual(shared.databases, {
    app: { dbname: 'app_v2', mode: 'transaction', poolSize: 5, minPoolSize: 1 },
    tiny: { poolSize: 1, dbConnectionsMax: 0 },
  })
  assert.deepEqual(shared.users['web'], { userConnectionsMax: 3 })
  assert.equal(settings.databases['app']?.poolSize, 20, 'the whole was changed')
})

test('the shares make up the whole, none of them is 0, and 0 stays no limit', () => {
  fc.assert(
    fc.property(fc.nat(100_000), fc.integer({ min: 1, max: 64 }), (limit, workers) => {
      const whole = testSettings({
        pool: testLimits({ dbConnectionsMax: limit }),
        users: { u: { userClientsMax: limit } },
      })
      const shares = Array.from({ length: workers }, (_, index) => shareOf(whole, workers, index))
      for (const of of [
        shares.map(({ pool }) => pool.dbConnectionsMax),
        shares.map(({ users }) => users['u']?.userClientsMax ?? -1),
      ]) {
        const sum = of.reduce((total, each) => total + each, 0)
        assert.equal(sum, limit === 0 ? 0 : Math.max(limit, workers))
        assert.ok(Math.max(...of) - Math.min(...of) <= 1)
      }
    }),
  )
})
