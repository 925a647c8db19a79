import { EtcdCluster } from '../support/etcd.ts'
import { need } from '../support/need.ts'
import { type StoreFixture, testStore } from '../support/store-conformance.ts'
import { openEtcd } from '../support/stores.ts'

testStore('etcd', need('etcd', 'etcdctl'), () => fixtureOf(1))
testStore('etcd of three members', need('etcd', 'etcdctl'), () => fixtureOf(3))

async function fixtureOf(size: number): Promise<StoreFixture> {
  const etcd = await EtcdCluster.start({ size })
  const store = await openEtcd(etcd.endpoints)
  return {
    store,
    // Over another member, where there is one.
    other: () => openEtcd([...etcd.endpoints].reverse()),
    async orphanLease(ttlMs) {
      const client = await openEtcd(etcd.endpoints)
      const { id } = await client.grantLease(ttlMs)
      await client.close()
      return id
    },
    compact: () => etcd.compact(),
    async close() {
      await store.close()
      await etcd.stop()
    },
  }
}
