import { after, before, describe, test } from 'node:test'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { Fleet, Traffic } from '../support/fleet.ts'
import { need } from '../support/need.ts'
import { Network, needNetworks } from '../support/network.ts'
import { until } from '../support/wait.ts'

const convergenceLimitMs = 5_000

describe('etcd is on the other side of a network that parts', partition(), () => {
  let network: Network
  let fleet: Fleet

  before(async () => {
    network = await Network.make()
    fleet = await Fleet.start({ replicas: 1, etcd: { network } })
  })
  after(async () => {
    await fleet?.stop()
    await network?.remove()
  })

  test('a replica is promoted by hand meanwhile', async t => {
    const { servers } = fleet
    const [b] = servers.replicas as [PostgresServer]
    const traffic = await Traffic.start(fleet)
    await network.part()
    await fleet.untilAlarmed()
    await traffic.stop()
    await servers.primary.stop('immediate')
    await b.promote()
    await until('writes to go to b', async () => (await fleet.seen()).topology.primary === 'b')
    const later = await Traffic.start(fleet)
    await network.join()
    const backMs = systemClock.nowMs()
    await fleet.untilSettled('b', convergenceLimitMs)
    t.diagnostic(`the agents tell the same ${Math.round(systemClock.nowMs() - backMs)} ms after the return`)
    await later.stop()
  })
})

function partition(): { skip: string | false } {
  const etcd = need('etcd', 'etcdctl')
  return etcd.skip === false ? needNetworks() : etcd
}
