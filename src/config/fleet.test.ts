import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { load, loaded } from '../../test/support/config.ts'
import { fleetFields, overlayFleet, overlayOrigins, ownKeys, readFleet, writtenFleet } from './fleet.ts'
import { changeFleet, type FleetResult, readFleetText } from './fleet-changes.ts'
import { plainFields } from './values.ts'

const keys = fleetFields.map(({ pattern }) => pattern)

function valuesOf(result: FleetResult): Record<string, unknown> {
  assert.ok(!result.problems, JSON.stringify(result.problems))
  return result.values
}

function problemsOf(result: FleetResult): string[] {
  assert.ok(result.problems)
  return result.problems.map(({ message, hint }) => (hint === undefined ? message : `${message} (${hint})`))
}

test('what a running proxy takes over and no machine decides for itself is a setting of the fleet', () => {
  for (const key of ['proxy.default_pool_size', 'proxy.databases', 'routing.replica_lag_max']) {
    assert.ok(keys.includes(key), key)
  }
  const local = ['proxy.port', 'proxy.tls.cert_file', 'proxy.auth.method', 'log.level', 'store.password']
  for (const key of local) assert.ok(!keys.includes(key), key)
  assert.ok(fleetFields.every(({ meta }) => meta.reload === 'live'))
})

test('a value that is wrong or unknown takes no other with it', () => {
  const { config, keys, findings } = readFleet({
    'proxy.query_wait_timeout': '5s',
    'proxy.default_pool_size': 0,
    'proxy.databases': { app: { pool_size: 'x', lanes: 'maybe' } },
    'proxy.of_another_version': 1,
    'proxy.port': 1,
    'routing.read_fallback': 'none',
  })
  assert.deepEqual(keys, ['proxy.query_wait_timeout', 'routing.read_fallback'])
  assert.deepEqual([config.proxy.query_wait_timeout, config.routing.read_fallback], [5000, 'none'])
  assert.deepEqual(findings.map(({ path }) => path.join('.')).sort(), [
    'proxy.databases.app.lanes',
    'proxy.databases.app.pool_size',
    'proxy.default_pool_size',
    'proxy.of_another_version',
    'proxy.port',
  ])
})

test('the fleet goes before defaults; the file, the environment and flags go before the fleet', () => {
  const result = load('proxy:\n  default_pool_size: 7\n', {
    env: { PGHERD_PROXY_LANES: 'off' },
    overrides: { 'proxy.pool_mode': { value: 'session', flag: '--x' } },
  })
  assert.ok(result.ok)
  const reading = readFleet({
    'proxy.default_pool_size': 9,
    'proxy.lanes': 'on',
    'proxy.pool_mode': 'statement',
    'proxy.min_pool_size': 3,
    'proxy.databases': { app: { pool_size: 4 } },
  })
  const { proxy } = overlayFleet(result.config, result.origins, reading)
  assert.deepEqual(
    [proxy.default_pool_size, proxy.lanes, proxy.pool_mode, proxy.min_pool_size],
    [7, 'off', 'session', 3],
  )
  assert.deepEqual(proxy.databases, { app: { pool_size: 4 } })
  assert.equal(result.config.proxy.min_pool_size, 0, 'the own one stays as it is')
  const origins = overlayOrigins(result.origins, reading)
  assert.deepEqual(
    [origins.get('proxy.min_pool_size'), origins.get('proxy.lanes')],
    [{ kind: 'fleet' }, { kind: 'environment', name: 'PGHERD_PROXY_LANES' }],
  )
  assert.deepEqual(ownKeys(result.origins), ['proxy.pool_mode', 'proxy.lanes', 'proxy.default_pool_size'])
})

test('a default of the schema, set for the fleet, changes nothing', () => {
  const written = writtenFleet({ config: loaded(''), keys, findings: [] })
  const reading = readFleet(written)
  assert.deepEqual(reading.findings, [])
  assert.deepEqual(overlayFleet(loaded(''), new Map(), reading), loaded(''))
})

test('values are set in their usual form, and taken out', () => {
  const before = { 'proxy.default_pool_size': 5 }
  const after = valuesOf(
    changeFleet(before, [
      { key: 'proxy.query_wait_timeout', text: '60s' },
      { key: 'proxy.query_timeout', text: '0' },
      { key: 'proxy.proxy_protocol_from', text: '10.0.0.0/8, 10.1.0.0/16' },
      { key: 'routing.replica_lag_max', text: '1024kB' },
      { key: 'proxy.default_pool_size', text: undefined },
    ]),
  )
  assert.deepEqual(after, {
    'proxy.query_wait_timeout': '1m',
    'proxy.query_timeout': 0,
    'proxy.proxy_protocol_from': ['10.0.0.0/8', '10.1.0.0/16'],
    'routing.replica_lag_max': '1MB',
  })
  assert.deepEqual(before, { 'proxy.default_pool_size': 5 })
})

test('entries of a mapping are set one by one, also under names with dots', () => {
  const change = (before: Record<string, unknown>, key: string, text: string | undefined) =>
    valuesOf(changeFleet(before, [{ key, text }]))
  let values = change({}, 'proxy.databases.app.pool_size', '20')
  values = change(values, 'proxy.databases.my.db.lanes', 'off')
  values = change(values, 'proxy.users', '{report: {query_timeout: 5m}}')
  assert.deepEqual(values, {
    'proxy.databases': { app: { pool_size: 20 }, 'my.db': { lanes: 'off' } },
    'proxy.users': { report: { query_timeout: '5m' } },
  })
  values = change(values, 'proxy.databases.app.pool_size', undefined)
  assert.deepEqual(values['proxy.databases'], { 'my.db': { lanes: 'off' } })
  values = change(values, 'proxy.databases.my.db', undefined)
  assert.deepEqual(Object.keys(values), ['proxy.users'])
})

test('what is wrong is said as for a file, and nothing is set', () => {
  const problems = (key: string, text: string | undefined): string[] =>
    problemsOf(changeFleet({}, [{ key, text }]))
  assert.deepEqual(problems('proxy.query_wait_timeout', '30'), [
    '`proxy.query_wait_timeout` must be a duration from 100ms to 24d, such as `2m`, not `30` (a duration needs a unit: `30s` for seconds, `30ms` for milliseconds)',
  ])
  assert.deepEqual(problems('proxy.pool_size', '3'), [
    '`proxy.pool_size` is not a known key (did you mean `proxy.default_pool_size`?)',
  ])
  assert.match(
    problems('proxy.port', '3')[0]!,
    /is not a setting of the whole fleet: it counts from the start/,
  )
  assert.match(problems('proxy.auth.method', 'proxy')[0]!, /it is each machine’s own affair \(set it in the/)
  assert.match(
    problems('nodes', '3')[0]!,
    /not a setting of the whole fleet \(nodes are changed by pgherd node\)/,
  )
  assert.match(problems('proxy.lanse', undefined)[0]!, /is not a known key \(did you mean `lanes`\?\)/)
  assert.match(problems('proxy.databases.app.pool', '3')[0]!, /not a known key|must be/)
  assert.match(problems('proxy.databases', '{app: {pool_size: ')[0]!, /`proxy.databases` cannot be read/)
  assert.equal(
    problemsOf(
      changeFleet({}, [
        { key: 'a', text: '1' },
        { key: 'proxy.lanes', text: 'x' },
      ]),
    ).length,
    2,
  )
})

test('what another version has set stays, and can be taken out by name', () => {
  const before = { 'proxy.of_another_version': 1, 'proxy.lanes': 'of another version' }
  const after = valuesOf(changeFleet(before, [{ key: 'proxy.min_pool_size', text: '2' }]))
  assert.deepEqual(after, { ...before, 'proxy.min_pool_size': 2 })
  assert.deepEqual(valuesOf(changeFleet(before, [{ key: 'proxy.of_another_version', text: undefined }])), {
    'proxy.lanes': 'of another version',
  })
})

test('a text is read as a file, with the places of what is wrong', () => {
  const text = '# a comment\nproxy:\n  lanes: off\n  databases:\n    app: {pool_size: 3}\nrouting:\n'
  assert.deepEqual(valuesOf(readFleetText(text, 'f')), {
    'proxy.lanes': 'off',
    'proxy.databases': { app: { pool_size: 3 } },
  })
  assert.deepEqual(valuesOf(readFleetText('# nothing\n', 'f')), {})
  const wrong = readFleetText('proxy:\n  port: 1\n  lanse: off\nnodes: []\nstore: {password_file: /x}\n', 'f')
  assert.deepEqual(
    wrong.problems?.map(({ line, path }) => [line, path]),
    [
      [2, 'proxy.port'],
      [3, 'proxy.lanse'],
      [4, 'nodes'],
      [5, 'store.password_file'],
    ],
  )
  assert.match(problemsOf(readFleetText('proxy: {lanes: [', 'f'))[0]!, /closing|YAML|bracket/)
})

test('whatever the values are, reading them ends, and what is written of them reads the same', () => {
  const key = fc.oneof(fc.constantFrom(...plainFields.map(({ pattern }) => pattern)), fc.string())
  fc.assert(
    fc.property(fc.dictionary(key, fc.jsonValue()), values => {
      const reading = readFleet(values)
      const written = writtenFleet(reading)
      const again = readFleet(written)
      assert.deepEqual(again.findings, [])
      assert.deepEqual(writtenFleet(again), written)
      for (const key of reading.keys) assert.ok(keys.includes(key))
    }),
  )
})
