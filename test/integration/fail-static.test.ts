import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { Fleet, Traffic } from '../support/fleet.ts'
import { need } from '../support/need.ts'
import { connect, query } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

describe('the store is away, traffic goes on', need('etcd', 'etcdctl'), () => {
  let fleet: Fleet

  before(async () => {
    fleet = await Fleet.start({ replicas: 2, etcd: { size: 3 } })
  })
  after(() => fleet?.stop())

  test('two of three members are killed: the third knows no leader', async t => {
    const [first, second] = fleet.etcd.members
    const traffic = await Traffic.start(fleet)
    await Promise.all([first?.kill(), second?.kill()])
    await fleet.untilAlarmed()
    const refused = await fleet.command('node', 'drain', 'b')
    assert.equal(refused.code, 1)
    assert.match(refused.err, /^error: etcd at /)
    first?.start()
    second?.start()
    await Promise.all([first?.healthy(), second?.healthy()])
    t.diagnostic(`as before ${await fleet.converged('a')} ms after the return`)
    await traffic.stop()
    assert.ok(fleet.proxy.err.includes('the etcd store can be counted on again'))
    const changed = await fleet.command('node', 'weight', 'b', '2')
    assert.match(changed.out, /1 proxy has applied it/, changed.err)
  })

  test('all members are killed, and a replica is promoted by hand meanwhile', async t => {
    const { etcd, servers } = fleet
    const [b, c] = servers.replicas as [PostgresServer, PostgresServer]
    const traffic = await Traffic.start(fleet)
    await Promise.all(etcd.members.map(member => member.kill()))
    await fleet.untilAlarmed()
    await traffic.stop()
    await servers.primary.stop('immediate')
    await b.promote()
    await c.follow(b.port)
    await untilWritesGoTo(fleet, b)
    await readsGoTo(fleet, c)
    // From here on nothing may fail any more: not when the store is back with what it knew before, either.
    const later = await Traffic.start(fleet)
    for (const member of etcd.members) member.start()
    await Promise.all(etcd.members.map(member => member.healthy()))
    t.diagnostic(`the agents tell the same ${await fleet.converged('b')} ms after the return`)
    await later.stop()
  })

  test('all members hang (SIGSTOP), and a replica is promoted by hand meanwhile', async t => {
    const { etcd, servers } = fleet
    const [b, c] = servers.replicas as [PostgresServer, PostgresServer]
    const traffic = await Traffic.start(fleet)
    let later: Traffic
    for (const member of etcd.members) member.pause()
    try {
      await fleet.untilAlarmed()
      await traffic.stop()
      await b.stop('immediate')
      await c.promote()
      await untilWritesGoTo(fleet, c)
      later = await Traffic.start(fleet)
    } finally {
      for (const member of etcd.members) member.resume()
    }
    t.diagnostic(`the agents tell the same ${await fleet.converged('c')} ms after the return`)
    await later.stop()
  })

  test('agents that fall silent eject nobody', async () => {
    const traffic = await Traffic.start(fleet)
    for (const agent of fleet.agents) agent.signal('SIGSTOP')
    try {
      await until('their reports to have ended', async () => {
        const { topology } = await fleet.seen()
        return topology.nodes.every(node => !node.accepting || node.source === 'probe')
      })
      await traffic.stop()
    } finally {
      for (const agent of fleet.agents) agent.signal('SIGCONT')
    }
    await fleet.untilSettled('c')
  })
})

async function untilWritesGoTo(fleet: Fleet, server: PostgresServer): Promise<void> {
  await until(`writes to go to ${server.name}`, async () => {
    const [row] = await query<{ port: number }>(
      fleet.port,
      'select inet_server_port() as port, txid_current()',
    )
    return row?.port === server.port
  })
}

async function readsGoTo(fleet: Fleet, server: PostgresServer): Promise<void> {
  await until(`reads to go to ${server.name}`, async () => {
    const client = await connect(fleet.readPort)
    const { rows } = await client.query<{ port: number }>('select inet_server_port() as port')
    await client.end()
    return rows[0]?.port === server.port
  })
}
