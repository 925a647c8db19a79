import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clientCounts, contestantsFor } from './measure.ts'
import { readOptions, readVariant } from './options.ts'
import { pickWorkloads } from './workloads/all.ts'

test('lists, variants and builds are read', () => {
  const options = readOptions([
    ...['--workload', 'select-simple,logins', '--clients', '1,64', '--peers', 'haproxy', '--quick'],
    ...['--variant', 'off:proxy.lanes=off,proxy.default_pool_size=5', '--build', 'before=/tmp/before'],
    ...['--peer-path', 'haproxy=/opt/haproxy'],
  ])
  assert.deepEqual(
    options.workloads.map(({ name }) => name),
    ['select-simple', 'logins'],
  )
  assert.deepEqual(options.clients, [1, 64])
  assert.deepEqual(options.peers, ['haproxy'])
  assert.deepEqual(options.peerPaths, { haproxy: '/opt/haproxy' })
  assert.deepEqual([options.rounds, options.seconds], [2, 3])
  assert.deepEqual(options.variants, [
    { name: 'off', settings: { 'proxy.lanes': 'off', 'proxy.default_pool_size': 5 } },
    { name: 'before', settings: {}, folder: '/tmp/before' },
  ])
})

test('a variant with a setting that pgherd does not take is refused, with what may be meant', () => {
  const wrong: [setting: string, sentence: RegExp][] = [
    ['proxy.lanse=off', /^`proxy\.lanse` is not a known key \(did you mean `lanes`\?\)\.$/],
    ['lanes=off', /^`lanes` is not a known key \(did you mean `proxy\.lanes`/],
    ['prxoy.lanes=off', /^`prxoy` is not a known key \(did you mean `proxy`\?\)/],
    ['proxy.lanes=of', /^`proxy\.lanes` must be one of `on`, `off`, not `of`/],
    ['proxy.default_pool_size=0', /^`proxy\.default_pool_size` must be a whole number from 1/],
    ['proxy.port.number=1', /^`proxy\.port` must be a port .* not a mapping/],
    ['proxy.lanes', /has not the form name=value/],
  ]
  for (const [setting, sentence] of wrong)
    assert.throws(() => readVariant(`v:proxy.workers=2,${setting}`, []), { message: sentence }, setting)
  const settings = { 'proxy.auth.query_user': 'postgres' }
  assert.deepEqual(readVariant('v:proxy.auth.query_user=postgres', []), [{ name: 'v', settings }])
})

test('rounds and seconds that are given go before those of --quick', () => {
  const { rounds, seconds } = readOptions(['--quick', '--rounds', '9'])
  assert.deepEqual([rounds, seconds], [9, 3])
})

test('workloads are picked by name, group and all of them, each once', () => {
  const names = (...asked: string[]): string[] => pickWorkloads(asked).map(({ name }) => name)
  assert.deepEqual(names('select', 'select-simple'), ['select-simple', 'select-extended', 'select-prepared'])
  assert.deepEqual(names('throughput'), ['large-result', 'copy-out', 'copy-in'])
  assert.ok(names('all').length > 15)
  assert.throws(() => names('sleep'), { code: 'usage' })
})

test('a number of clients that belongs to a workload is kept', () => {
  const [copy, select] = pickWorkloads(['copy-out', 'select-simple']).toReversed()
  assert.deepEqual(clientCounts(copy!, [64]), copy!.clients)
  assert.deepEqual(clientCounts(select!, [64]), [64])
  assert.deepEqual(clientCounts(select!, undefined), select!.clients)
})

test('only those that ask for passwords take part in logins', () => {
  const common = { title: '', version: '', isSubject: false, asServerAccount: false }
  const launch = () => ({ files: {}, command: [] })
  const all = [
    { ...common, name: 'direct', checksPasswords: false },
    { ...common, name: 'relay', checksPasswords: false, launch },
    { ...common, name: 'pooler', checksPasswords: true, launch },
  ]
  const namesFor = (workload: string): string[] =>
    contestantsFor(pickWorkloads([workload])[0]!, all).map(({ name }) => name)
  assert.deepEqual(namesFor('logins'), ['pooler'])
  assert.deepEqual(namesFor('peak-copy-in'), ['relay', 'pooler'])
  assert.deepEqual(namesFor('tpcb'), ['direct', 'relay', 'pooler'])
})
