import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { systemClock } from '../../src/runtime/clock.ts'
import { Authority, type Certificate, renew } from '../support/certificates.ts'
import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { rejects } from '../support/store-conformance.ts'
import { Collector, follow, openEtcd, put, write } from '../support/stores.ts'
import { until } from '../support/wait.ts'

const prefix = '/pgherd/test/'

describe('etcd over TLS with client certificates', need('etcd', 'etcdctl', 'openssl'), () => {
  let authority: Authority
  let stranger: Authority
  let server: Certificate
  let client: Certificate
  let etcd: EtcdCluster

  before(async () => {
    ;[authority, stranger] = await Promise.all([Authority.make('ca'), Authority.make('stranger')])
    server = await authority.issue('server', 'DNS:etcd.internal,IP:127.0.0.1')
    client = await authority.issue('client', 'DNS:client')
    etcd = await EtcdCluster.start({ tls: server })
  })
  after(async () => {
    await etcd?.stop()
    await Promise.all([authority?.remove(), stranger?.remove()])
  })

  it('works with the right files, by address and by name', async () => {
    for (const serverName of [undefined, 'etcd.internal']) {
      const store = await openEtcd(etcd.endpoints, { tls: { ...client, serverName } })
      const revision = await write(store, put(`${prefix}a`, '1'))
      const watch = new Collector(store, prefix, revision)
      await watch.reaches(revision)
      await store.close()
    }
  })

  it('refuses a server of another authority or name, and says why', async () => {
    const wrong: [object, RegExp][] = [
      [{ ...client, caFile: stranger.caFile }, /certificate/],
      [{ ...client, serverName: 'etcd.example' }, /etcd\.example/],
    ]
    for (const [tls, message] of wrong) {
      const store = await openEtcd(etcd.endpoints, { tls, requestTimeoutMs: 500 })
      await assert.rejects(store.get('a'), message)
      await rejects(store.get('a'), 'unavailable')
      await store.close()
    }
  })

  it('is refused without a certificate, and a missing file is named', async () => {
    const store = await openEtcd(etcd.endpoints, { tls: { caFile: client.caFile }, requestTimeoutMs: 500 })
    await rejects(store.get('a'), 'unavailable')
    await store.close()
    await assert.rejects(
      openEtcd(etcd.endpoints, { tls: { ...client, certFile: '/nowhere.crt' } }),
      /nowhere\.crt/,
    )
  })

  it('takes up a renewed certificate by itself', async () => {
    const installed = await stranger.issue('installed', 'DNS:client')
    const tls = { ...installed, caFile: authority.caFile }
    const store = await openEtcd(etcd.endpoints, { tls, requestTimeoutMs: 500 })
    const { mirror } = follow(store, prefix)
    await rejects(store.get('a'), 'unavailable')
    await renew(installed, client)
    await mirror.ready
    assert.equal(store.connection.up, true)
    await store.close()
  })
})

describe('etcd with users', need('etcd', 'etcdctl'), () => {
  const user = { user: 'app', password: 'app secret' }
  let etcd: EtcdCluster

  before(async () => {
    etcd = await EtcdCluster.start({ authTokenTtl: 1 })
    await etcd.ctl(['user', 'add', 'root:root'])
    await etcd.ctl(['user', 'grant-role', 'root', 'root'])
    await etcd.ctl(['role', 'add', 'app'])
    await etcd.ctl(['role', 'grant-permission', 'app', '--prefix=true', 'readwrite', prefix])
    await etcd.ctl(['user', 'add', `${user.user}:${user.password}`])
    await etcd.ctl(['user', 'grant-role', 'app', 'app'])
    await etcd.ctl(['auth', 'enable'])
  })
  after(() => etcd?.stop())

  it('survives its token running out', async () => {
    const store = await openEtcd(etcd.endpoints, user)
    await write(store, put(`${prefix}a`, '1'))
    const idleFromMs = systemClock.nowMs()
    await until('the token to run out', () => systemClock.nowMs() - idleFromMs > 3_500)
    // Many at once renew it once for all of them.
    await Promise.all(Array.from({ length: 20 }, (_, n) => write(store, put(`${prefix}${n}`, '2'))))
    assert.equal((await store.list(prefix)).entries.length, 21)
    await store.close()
  })

  it('goes on with watch and lease when a restart has forgotten every token', async () => {
    const store = await openEtcd(etcd.endpoints, user)
    const from = await write(store, put(`${prefix}a`, '1'))
    const lease = await store.grantLease(10_000)
    const watch = new Collector(store, prefix, from)
    await watch.reaches(from)
    const [member] = etcd.members
    await member?.kill()
    member?.start()
    await member?.healthy()
    const revision = await until('a write', () => write(store, put(`${prefix}a`, '2', lease.id)))
    await watch.reaches(revision)
    assert.deepEqual(
      watch.steps.map(step => step.revision),
      [from, revision],
    )
    await lease.revoke()
    await watch.reaches(revision + 1)
    await store.close()
  })

  it('says what is denied, and nothing of the password', async () => {
    const store = await openEtcd(etcd.endpoints, user)
    await rejects(store.get('/elsewhere'), 'denied')
    await rejects(write(store, put(`${prefix}a`, '3'), put('/elsewhere', '1')), 'denied')
    assert.equal(store.connection.up, true)
    await store.close()
    const wrong = await openEtcd(etcd.endpoints, { user: 'app', password: 'not it' })
    await rejects(wrong.get(`${prefix}a`), 'denied')
    await assert.rejects(wrong.get(`${prefix}a`), (cause: Error) => !cause.message.includes('not it'))
    await wrong.close()
    const nobody = await openEtcd(etcd.endpoints)
    await rejects(nobody.get(`${prefix}a`), 'denied')
    await nobody.close()
  })
})

describe('etcd at its limits', need('etcd', 'etcdctl'), () => {
  it('a database that is full says so', async () => {
    const etcd = await EtcdCluster.start({ quotaBytes: 16 * 1024 * 1024 })
    const store = await openEtcd(etcd.endpoints)
    const reader = await openEtcd(etcd.endpoints)
    try {
      const value = 'x'.repeat(1_000_000)
      const fill = async (): Promise<void> => {
        for (let n = 0; n < 40; n++) await write(store, put(`${prefix}big`, value))
      }
      await rejects(fill(), 'full')
      // What is read need not be what its writers would have written by now.
      assert.equal(store.connection.up, false)
      assert.match(store.connection.reason ?? '', /NOSPACE/)
      assert.ok((await store.get(`${prefix}big`)).entry)
      assert.equal(store.connection.up, false)
      const watch = new Collector(reader, prefix, 1)
      await until('one that only reads to notice', () => /NOSPACE/.test(reader.connection.reason ?? ''))
      await etcd.compact()
      await etcd.ctl(['defrag'])
      await etcd.ctl(['alarm', 'disarm'])
      await until('both to notice the end of it', () => store.connection.up && reader.connection.up, 5_000)
      await write(store, put(`${prefix}a`, '1'))
      watch.close()
    } finally {
      await Promise.all([store.close(), reader.close()])
      await etcd.stop()
    }
  })

  it('nobody there: an error in time that names the address, and close() ends everything', async () => {
    const store = await openEtcd(['127.0.0.1:1', '127.0.0.1:2'], { requestTimeoutMs: 500 })
    const begunMs = systemClock.nowMs()
    await rejects(store.get('a'), 'unavailable')
    assert.ok(systemClock.nowMs() - begunMs < 2_500)
    await assert.rejects(store.get('a'), /127\.0\.0\.1:[12].*ECONNREFUSED/)
    const { mirror } = follow(store, prefix)
    const watch = new Collector(store, prefix, 1)
    await store.close()
    await mirror.ready
    watch.close()
  })

  it('refuses addresses that are none', async () => {
    for (const endpoints of [[], ['etcd'], ['ftp://a:1'], ['http://user:pw@a:1'], ['a:1/path']]) {
      await rejects(openEtcd(endpoints), 'invalid')
    }
  })
})
