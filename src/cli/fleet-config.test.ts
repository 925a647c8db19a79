import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from '../../test/support/config.ts'
import { emptyFleet, readFleet } from '../config/fleet.ts'
import type { Origins } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { fleetValues } from '../topology/fleet-settings.ts'
import { FleetConfig } from './fleet-config.ts'

function own(text: string): { config: Config; origins: Origins } {
  const result = load(text)
  assert.ok(result.ok)
  return result
}

function fleetConfig(text: string): FleetConfig {
  const { config, origins } = own(text)
  return new FleetConfig(config, origins)
}

test('what counts for the routing follows the fleet, but where the configuration says it', () => {
  const config = fleetConfig('routing: {drain_timeout: 3s}\n')
  const fleet = readFleet(
    fleetValues({
      v: 1,
      drainTimeoutMs: 1000,
      replicaLagBytesMax: 1024,
      values: { 'routing.read_fallback': 'none', 'routing.replica_lag_max': '2kB' },
    }),
  )
  assert.deepEqual(config.settings(fleet), {
    drainTimeoutMs: 3000,
    replicaLagBytesMax: 2048,
    readFallback: 'none',
  })
  assert.deepEqual(config.settings(emptyFleet), {
    drainTimeoutMs: 3000,
    replicaLagBytesMax: 16 * 1024 * 1024,
    readFallback: 'primary',
  })
  assert.deepEqual(config.ownSettings, ['routing.drain_timeout'])
})

test('a reload lays the fleet over the new file', () => {
  const config = fleetConfig('')
  config.setFleet(readFleet({ 'proxy.default_pool_size': 7, 'proxy.min_pool_size': 2 }))
  const renewed = own('proxy: {default_pool_size: 9}\n')
  config.setOwn(renewed.config, renewed.origins)
  const { proxy } = config.effective
  assert.deepEqual([proxy.default_pool_size, proxy.min_pool_size, config.own.proxy.min_pool_size], [9, 2, 0])
})

test('settings that are as they were are not laid over again', () => {
  const config = fleetConfig('')
  const fleet = readFleet({ 'proxy.min_pool_size': 2 })
  assert.equal(config.setFleet(fleet), true)
  const { effective } = config
  assert.equal(config.setFleet(fleet), false)
  assert.equal(config.effective, effective)
})
