import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { load, loaded, problems } from '../../test/support/config.ts'
import { formatProblem } from './problem.ts'

describe('environment and flags', () => {
  test('flags go before variables, variables before the file', () => {
    const text = 'proxy: {port: 1, read_port: 2, zone: file}\n'
    const env = { PGHERD_PROXY_PORT: '11', PGHERD_PROXY_READ_PORT: '12', PGHERD_CLUSTER: '' }
    const overrides = {
      'proxy.port': { value: '21', flag: '--port' },
      'proxy.zone': { value: undefined, flag: '--zone' },
      nodes: { value: [{ host: 'a' }], flag: '--node' },
    }
    const result = load(text, { env, overrides })
    assert.ok(result.ok)
    const { proxy, nodes, cluster } = result.config
    assert.deepEqual([proxy.port, proxy.read_port, proxy.zone, cluster], [21, 12, 'file', 'main'])
    assert.equal(nodes[0]?.name, 'a')
    assert.deepEqual(Object.fromEntries(result.origins), {
      nodes: { kind: 'flag', name: '--node' },
      'proxy.port': { kind: 'flag', name: '--port' },
      'proxy.read_port': { kind: 'environment', name: 'PGHERD_PROXY_READ_PORT' },
      'proxy.zone': { kind: 'file', file: '/etc/p.yaml', line: 1 },
    })
  })

  test('problems name the variable or the flag', () => {
    const env = { PGHERD_STORE_KIND: 'etc', PGHERD_PROXY_PORT: 'x' }
    const overrides = {
      'admin.port': { value: 'y', flag: '--admin-port' },
      nodes: { value: [{ host: 'a:b' }], flag: '--node' },
    }
    assert.deepEqual(problems('', { env, overrides }), [
      'environment: `PGHERD_STORE_KIND` must be one of `embedded`, `etcd`, not `etc` (did you mean `etcd`?)',
      'command line: `--node` must be a host name or an IP address, without a port, not `a:b`',
      'environment: `PGHERD_PROXY_PORT` must be a port from 1 to 65535, not `x`',
      'command line: `--admin-port` must be a port from 1 to 65535, or 0 for none, not `y`',
    ])
  })

  test('a list is separated by commas, and works without a file', () => {
    const env = { PGHERD_STORE_KIND: 'etcd', PGHERD_STORE_ENDPOINTS: 'a:2379, https://b:2379' }
    assert.deepEqual(loaded('', { file: undefined, env }).store.endpoints, ['a:2379', 'https://b:2379'])
  })

  test('a password of a higher layer replaces a password file of a lower one', () => {
    const text = 'probe: {password_file: gone}\nagent: {postgres: {password: x}}\n'
    const env = { PGHERD_PROBE_PASSWORD: 'y', PGHERD_AGENT_PASSWORD_FILE: '/pw' }
    const config = loaded(text, { env, files: { '/pw': 'z' } })
    assert.equal(config.probe.password, 'y')
    assert.equal(config.probe.password_file, undefined)
    assert.equal(config.agent.postgres.password, 'z')
    const twice = { PGHERD_PROBE_PASSWORD: 'y', PGHERD_PROBE_PASSWORD_FILE: '/pw' }
    assert.match(
      problems('', { env: twice, files: { '/pw': 'z' } })[0]!,
      /^environment: `PGHERD_PROBE_PASSWORD_FILE`/,
    )
  })

  test('a variable that nothing reads is a warning with a suggestion', () => {
    const { warnings } = load('', { env: { PGHERD_CLUSTR: 'x', PGHERD_CONFIG: 'y', PATH: '/' } })
    assert.equal(warnings.length, 1)
    assert.equal(
      formatProblem(warnings[0]!),
      'environment: `PGHERD_CLUSTR` is not a variable that pgherd knows',
    )
    assert.equal(warnings[0]?.hint, 'did you mean `PGHERD_CLUSTER`?')
  })
})
