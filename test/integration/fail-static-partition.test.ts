import { after, before, describe, test } from 'node:test'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { Fleet, Traffic } from '../support/fleet.ts'
import { need } from '../support/need.ts'
import { Network, needNetworks } from '../support/network.ts'
import { until } from '../support/wait.ts'

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
    t.diagnostic(`the agents tell the same ${await fleet.converged('b')} ms after the return`)
    await later.stop()
  })

  test('what is on its way is lost in silence', async t => {
    const traffic = await Traffic.start(fleet)
    await network.lose()
    await fleet.untilAlarmed()
    await network.loseNoMore()
    t.diagnostic(`as before ${await fleet.converged('b')} ms after the return`)
    await traffic.stop()
  })

  test('it is lost for a moment: what the system repeats late is not waited for', async t => {
    for (const durationMs of [700, 1500, 3200]) {
      await network.lose()
      await pause(systemTimers, durationMs)
      await network.loseNoMore()
      t.diagnostic(`after ${durationMs} ms, as before ${await fleet.converged('b')} ms after the return`)
    }
  })
})

function partition(): { skip: string | false } {
  const etcd = need('etcd', 'etcdctl')
  return etcd.skip === false ? needNetworks() : etcd
}
