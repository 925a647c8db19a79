import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { Authority } from '../support/certificates.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need } from '../support/need.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { runTool } from './tool.ts'

/** libpq's `sslmode` in all its values, to a proxy with a certificate. */
const options = need('psql', 'openssl')
let cluster: TestCluster
let host: Host
let authority: Authority
let stranger: Authority
let port: number

before(async () => {
  if (options.skip) return
  authority = await Authority.make('compat')
  stranger = await Authority.make('stranger')
  const certificate = await authority.issue('proxy', 'IP:127.0.0.1')
  cluster = await startTestCluster()
  const config = await testConfig([{ name: cluster.primary.name, port: cluster.primary.port }], {
    'proxy.read_port': 0,
    'proxy.tls.cert_file': certificate.certFile,
    'proxy.tls.key_file': certificate.keyFile,
  })
  port = config.proxy.port
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
})
after(async () => {
  await host?.stop()
  await cluster?.stop()
  await authority?.remove()
  await stranger?.remove()
})

describe('psql by TLS', options, () => {
  const psql = (parameters: string, script = '\\conninfo') => {
    const url = `postgresql://postgres@127.0.0.1:${port}/postgres?${parameters}`
    return runTool('psql', ['-X', '-A', '-t', url], { input: script, mayFail: true })
  }
  const trusted = (): string => `sslrootcert=${authority.caFile}`

  for (const [mode, encrypted] of [
    ['disable', false],
    ['allow', false],
    ['prefer', true],
    ['require', true],
  ] as const) {
    test(`sslmode=${mode}`, async () => {
      const { stdout, stderr, code } = await psql(`sslmode=${mode}`)
      assert.equal(code, 0, stderr)
      assert.equal(/SSL connection/.test(stdout), encrypted, stdout)
    })
  }

  for (const mode of ['verify-ca', 'verify-full']) {
    test(`sslmode=${mode}`, async () => {
      const { stdout, stderr } = await psql(`sslmode=${mode}&${trusted()}`)
      assert.match(stdout, /SSL connection/, stderr)
      const refused = await psql(`sslmode=${mode}&sslrootcert=${stranger.caFile}`)
      assert.equal(refused.code, 2)
      assert.match(refused.stderr, /certificate verify failed/)
    })
  }

  test('each version of the protocol', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3']) {
      const only = `ssl_min_protocol_version=${version}&ssl_max_protocol_version=${version}`
      const { stdout, stderr } = await psql(`sslmode=require&${only}`)
      assert.match(stdout, new RegExp(version), stderr)
    }
  })

  test('large values and COPY', async () => {
    const script =
      "select length(repeat('x', 10000000)); copy (select repeat('y', 1000) from generate_series(1, 5000)) to stdout;"
    const { stdout } = await psql('sslmode=require', script)
    assert.equal(stdout.length, '10000000\n'.length + 5000 * 1001)
  })
})
