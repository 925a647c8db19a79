import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'

/** Statements that need a database which nobody is connected to, while pgherd keeps connections to it. */
let cluster: TestCluster
let host: Host
let port: number

before(async () => {
  cluster = await startTestCluster()
  const { name, port: at } = cluster.primary
  host = await startTestHost(
    await testConfig([{ name, port: at }], {
      'proxy.databases': { shown: { dbname: 'real' } },
      'proxy.workers': 2,
    }),
  )
  port = host.config.proxy.port
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

const connections = (): Promise<unknown[]> =>
  cluster.primary.query(`select from pg_stat_activity where datname = 'real'`)

/** Clients that want nothing, in every worker; pgherd has connections for them. */
async function withClients(run: () => Promise<void>): Promise<void> {
  const clients = await Promise.all(
    ['real', 'real', 'shown', 'shown'].map(database => connect(port, { database })),
  )
  await Promise.all(clients.map(client => client.query('select 1')))
  assert.ok((await connections()).length > 0)
  await run()
  await Promise.all(clients.map(client => client.end()))
}

test('idle connections make way for those who rename, copy or drop their database', async () => {
  await query(port, 'create database real')
  await withClients(async () => {
    const one = await connect(port)
    await one.query({ name: 'copy', text: 'create database copy template = "real"' })
    await one.end()
  })
  await withClients(async () => {
    await query(port, 'alter database real rename to other')
    await query(port, 'alter database other rename to real')
  })
  await withClients(async () => {
    await query(port, 'drop database if exists real')
  })
  assert.deepEqual(
    await query(port, `select datname from pg_database where datname in ('real', 'other', 'copy')`),
    [{ datname: 'copy' }],
  )
})
