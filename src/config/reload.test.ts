import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { fields } from './keys.ts'
import { type LoadResult, loadConfig } from './load.ts'
import { diffConfig, planReload, reloadReport } from './reload.ts'
import type { Config } from './schema.ts'

function load(text: string): LoadResult {
  const readFile = (): never => {
    throw new Error('no file is named')
  }
  return loadConfig({ text, file: 'p.yaml', env: {}, hostName: 'box', readFile })
}

function loaded(text: string): Config {
  const result = load(text)
  assert.ok(result.ok)
  return result.config
}

test('equal configurations do not differ', () => {
  assert.deepEqual(diffConfig(loaded('nodes: [{host: a}]'), loaded('nodes:\n- host: a\n  port: 5432\n')), [])
})

test('changes come with units and say when they count', () => {
  const before = loaded('proxy: {failover_wait: 30s}\n')
  const after = loaded('cluster: other\nproxy: {failover_wait: 0, id: p1}\nrouting: {replica_lag_max: 1GB}\n')
  assert.deepEqual(diffConfig(before, after), [
    { path: 'cluster', before: 'main', after: 'other', reload: 'restart' },
    { path: 'proxy.id', before: 'box-6432', after: 'p1', reload: 'restart' },
    { path: 'proxy.failover_wait', before: '30s', after: 0, reload: 'live' },
    { path: 'routing.replica_lag_max', before: '16MB', after: '1GB', reload: 'live' },
  ])
})

test('nodes are compared by name', () => {
  const before = loaded('nodes: [{host: a}, {host: b}]')
  const after = loaded('nodes: [{host: b, weight: 3}, {host: c, port: 5433}]')
  assert.deepEqual(diffConfig(before, after), [
    { path: 'nodes.a', before: { name: 'a', host: 'a' }, after: undefined, reload: 'live' },
    {
      path: 'nodes.b',
      before: { name: 'b', host: 'b' },
      after: { name: 'b', host: 'b', weight: 3 },
      reload: 'live',
    },
    {
      path: 'nodes.c-5433',
      before: undefined,
      after: { name: 'c-5433', host: 'c', port: 5433 },
      reload: 'live',
    },
  ])
})

test('a section that came without keys is a change', () => {
  const etcd = 'store: {kind: etcd, endpoints: ["a:1"]}'
  const [change, ...others] = diffConfig(loaded(etcd), loaded(etcd.replace('}', ', tls: {}}')))
  assert.deepEqual(change, { path: 'store.tls', before: undefined, after: {}, reload: 'restart' })
  assert.deepEqual(others, [])
})

test('live changes are applied, the others wait and are reported again', () => {
  const current = loaded('nodes: [{host: a}]')
  const wanted = load('proxy: {port: 7000, default_pool_size: 5}\nnodes: [{host: b}]')
  const plan = planReload(current, wanted)
  assert.equal(plan.applied.proxy.default_pool_size, 5)
  assert.equal(plan.applied.proxy.port, 6432)
  assert.deepEqual(
    plan.applied.nodes.map(({ name }) => name),
    ['b'],
  )
  assert.equal(current.proxy.default_pool_size, 100, 'the current configuration was changed')
  assert.deepEqual(reloadReport(plan), [
    'applied: proxy.default_pool_size changed from 100 to 5',
    'applied: nodes.a removed, was {"name":"a","host":"a"}',
    'applied: nodes.b set to {"name":"b","host":"b"}',
    'needs a restart: proxy.id changed from box-6432 to box-7000',
    'needs a restart: proxy.port changed from 6432 to 7000',
  ])
  assert.deepEqual(reloadReport(planReload(plan.applied, wanted)), [
    'needs a restart: proxy.id changed from box-6432 to box-7000',
    'needs a restart: proxy.port changed from 6432 to 7000',
  ])
  assert.deepEqual(reloadReport(planReload(current, load('nodes: [{host: a}]'))), [
    'the configuration has not changed',
  ])
})

test('nothing is applied when anything is wrong', () => {
  const current = loaded('')
  const plan = planReload(current, load('proxy:\n  default_pool_size: 5\n  port: 0\n'))
  assert.equal(plan.applied, current)
  assert.deepEqual([plan.live, plan.restart], [[], []])
  assert.deepEqual(reloadReport(plan), [
    'nothing was applied: the configuration has 1 problem',
    'p.yaml:3:9: `proxy.port` must be a port from 1 to 65535, not `0`',
  ])
})

test('a changed secret is reported without its value', () => {
  const plan = planReload(loaded('admin: {token: old}'), load('admin: {token: new}\nprobe: {password: pw}'))
  assert.deepEqual(reloadReport(plan), [
    'needs a restart: probe.password set to [redacted]',
    'needs a restart: admin.token changed',
  ])
  assert.doesNotMatch(JSON.stringify({ live: plan.live, restart: plan.restart }), /old|new|pw/)
})

test('after a reload nothing live is left to apply, and no restart-only key has moved', () => {
  const numbers = fields.filter(({ meta, section }) => meta.kind === 'integer' && section === 'proxy')
  const text = fc
    .array(fc.tuple(fc.constantFrom(...numbers), fc.integer({ min: 1, max: 64 })), { maxLength: 6 })
    .map(entries =>
      JSON.stringify({ proxy: Object.fromEntries(entries.map(([{ name }, value]) => [name, value])) }),
    )
  fc.assert(
    fc.property(text, text, (first, second) => {
      const current = loaded(first)
      const plan = planReload(current, load(second))
      assert.deepEqual(diffConfig(plan.applied, loaded(second)), plan.restart)
      assert.deepEqual(diffConfig(current, plan.applied), plan.live)
    }),
  )
})
