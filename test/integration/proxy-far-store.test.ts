import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { EtcdCluster } from '../support/etcd.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need } from '../support/need.ts'
import {
  caughtUp,
  connect,
  killServer,
  query,
  startTestCluster,
  type TestCluster,
} from '../support/postgres.ts'
import { SlowLink } from '../support/slow-link.ts'
import { until } from '../support/wait.ts'

/** The store may be in another datacenter: nothing that a client does waits for it. */
let cluster: TestCluster
let etcd: EtcdCluster
let link: SlowLink

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
  etcd = await EtcdCluster.start()
  link = await SlowLink.to(Number(new URL(etcd.endpoints[0]!).port))
})

after(async () => {
  await link?.close()
  await etcd?.stop()
  await cluster?.stop()
})

/** Longer than any test may take. */
const never = 600_000

test(
  'a proxy starts with a store that is far, and serves while that does not answer',
  need('etcd'),
  async () => {
    link.delayMs = 100
    const servers = [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))
    const config = await testConfig(servers, {
      'store.kind': 'etcd',
      'store.endpoints': [`http://127.0.0.1:${link.port}`],
    })
    const host = await startTestHost(config)
    try {
      await untilRolesAreKnown(host)
      link.delayMs = never
      const { port, read_port: readPort } = config.proxy
      const old = await connect(readPort)
      await query(port, 'create table kept as select 1 as n')
      await caughtUp(cluster.primary, cluster.replicas[1]!)
      const [b] = cluster.replicas
      await killServer(b!)
      for (let turn = 0; turn < 20; turn++) {
        assert.deepEqual(await query(readPort, 'select n from kept'), [{ n: 1 }])
        assert.deepEqual((await old.query('select n from kept')).rows, [{ n: 1 }])
      }
      await until('b is out', () =>
        host.watcher.current().nodes.some(({ name, readable }) => name === 'b' && !readable),
      )
      await old.end()
    } finally {
      link.cut()
      link.delayMs = 0
      await host.stop()
    }
  },
)
