import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { keysOf } from '../../src/topology/keys.ts'
import { Authority, type Certificate, renew } from '../support/certificates.ts'
import { runCli } from '../support/cli.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { rejects } from '../support/store-conformance.ts'
import { Collector, openEtcd, put, write } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const cluster = 'demo'
const keys = keysOf(cluster)
const agentUser = `pgherd.agent.a@${cluster}`

describe('etcd users by client certificates, which are renewed', need('etcd', 'etcdctl', 'openssl'), () => {
  let authority: Authority
  let server: Certificate
  let agent: Certificate
  let etcd: EtcdCluster

  before(async () => {
    authority = await Authority.make('ca')
    const root = await authority.issue('root', 'DNS:root')
    const issued = await authority.issue('server', 'IP:127.0.0.1')
    server = await authority.install(issued, 'server-installed')
    agent = await authority.issue(agentUser, 'DNS:agent')
    // etcd itself asks its health with the certificate of the server.
    etcd = await EtcdCluster.start({ tls: server })
    const init = ['store', 'init', '--agent', 'a', '--agent', 'b', '--certificates', '--enable-auth']
    const { code, err } = await runCli(init, {
      env: {
        PGHERD_CLUSTER: cluster,
        PGHERD_STORE_KIND: 'etcd',
        PGHERD_STORE_ENDPOINTS: etcd.endpoints.join(','),
        PGHERD_STORE_CA_FILE: root.caFile,
        PGHERD_STORE_CERT_FILE: root.certFile,
        PGHERD_STORE_KEY_FILE: root.keyFile,
      },
    })
    assert.equal(code, 0, err)
  })
  after(async () => {
    await etcd?.stop()
    await authority?.remove()
  })

  it('the common name is the user, without a password', async () => {
    const store = await openEtcd(etcd.endpoints, { tls: agent })
    await write(store, put(keys.nodeStatus('a'), '{}'))
    await rejects(write(store, put(keys.nodeStatus('b'), '{}')), 'denied')
    await rejects(write(store, put(keys.settings, '{}')), 'denied')
    await store.close()
  })

  it('a certificate that has run out costs nothing while the connection stands, and is renewed before the next', async () => {
    const short = await authority.shorten(agent, agentUser, 3_000)
    const installed = await authority.install(short, 'installed')
    const store = await openEtcd(etcd.endpoints, { tls: installed, requestTimeoutMs: 1_000 })
    const from = await write(store, put(keys.nodeStatus('a'), '1'))
    const watch = new Collector(store, keys.root, from)
    await watch.reaches(from)
    const lease = await store.grantLease(60_000)
    await until('the certificate to run out', async () => {
      const other = await openEtcd(etcd.endpoints, { tls: installed, requestTimeoutMs: 500 })
      const isRefused = await other.get(keys.settings).then(
        () => false,
        () => true,
      )
      await other.close()
      return isRefused
    })
    // The connection that stands goes on.
    const second = await write(store, put(keys.nodeStatus('a'), '2', lease.id))
    await watch.reaches(second)
    assert.equal(store.connection.up, true)

    // Renewed on both sides, and only then is the connection lost.
    await renew(installed, agent)
    await renew(server, await authority.issue('server', 'IP:127.0.0.1'))
    await restart(etcd)
    const third = await until('a write', () => write(store, put(keys.nodeStatus('a'), '3', lease.id)))
    await watch.reaches(third)

    // Lost before it was renewed: away until it is, and nothing is missed.
    await renew(installed, short)
    await restart(etcd)
    await until('it to be refused', () => !store.connection.up)
    const other = await openEtcd(etcd.endpoints, { tls: agent })
    const missed = await until('a write of another', () =>
      write(other, put(keys.nodeStatus('a'), '4', lease.id)),
    )
    await renew(installed, agent)
    await watch.reaches(missed, 5_000)
    assert.deepEqual(
      watch.steps.map(step => step.revision),
      [from, second, third, missed],
    )
    const { entry } = await store.get(keys.nodeStatus('a'))
    assert.equal(entry?.leaseId, lease.id)
    watch.close()
    await Promise.all([store.close(), other.close()])
  })
})

async function restart({ members }: EtcdCluster): Promise<void> {
  const [member] = members
  await member?.kill()
  member?.start()
  await member?.healthy()
}
