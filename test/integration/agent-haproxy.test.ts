import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type Agent, startAgent } from '../../src/agent/agent.ts'
import type { PostgresServer } from '../../src/demo/postgres.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { systemRandom } from '../../src/runtime/random.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { openEmbeddedStore } from '../../src/store/embedded.ts'
import type { Store } from '../../src/store/store.ts'
import { keysOf } from '../../src/topology/keys.ts'
import type { NodeIntent } from '../../src/topology/types.ts'
import { type Haproxy, type ServerRow, startHaproxy } from '../support/haproxy.ts'
import { need, programPath } from '../support/need.ts'
import { freePorts } from '../support/ports.ts'
import { caughtUp, connect, query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'

const options = need('haproxy')
const keys = keysOf('test')
let cluster: TestCluster
let servers: PostgresServer[]
let store: Store
let haproxy: Haproxy
let ports: { write: number; read: number; any: number }
const agents: Agent[] = []

before(async () => {
  if (options.skip) return
  cluster = await startTestCluster({ replicas: 2 })
  servers = [cluster.primary, ...cluster.replicas]
  await cluster.primary.query('create role pgherd_agent login in role pg_monitor')
  await Promise.all(cluster.replicas.map(replica => caughtUp(cluster.primary, replica)))
  const system = { clock: systemClock, timers: systemTimers, random: systemRandom, log: silentLogger }
  store = await openEmbeddedStore({ path: undefined, ...system })
  for (const { name, port } of servers) {
    const agent = await startAgent({
      cluster: 'test',
      node: name,
      host: '127.0.0.1',
      port,
      zone: '',
      agentVersion: '0.0.0',
      postgres: { host: '127.0.0.1', port, user: 'pgherd_agent', database: 'postgres' },
      store,
      http: { host: '127.0.0.1', port: 0 },
      check: { host: '127.0.0.1', port: 0 },
      timings: { probePeriodMs: 200 },
      ...system,
    })
    agents.push(agent)
  }
  const [write, read, any] = await freePorts(3)
  ports = { write: write!, read: read!, any: any! }
  const rows = servers.map(({ name, port }, i) => ({ name, port, checkPort: agents[i]!.httpPort! }))
  const withAgent = rows.map((row, i) => ({ ...row, agentPort: agents[i]!.checkPort! }))
  // The path of `any` is 200 whatever PostgreSQL does: what happens there is the agent-check's doing.
  haproxy = await startHaproxy(programPath('haproxy')!, [
    { name: 'write', port: ports.write, path: '/primary', servers: rows },
    { name: 'read', port: ports.read, path: '/replica?lag=16MB', servers: rows },
    { name: 'any', port: ports.any, path: '/liveness', servers: withAgent },
  ])
})

after(async () => {
  await haproxy?.stop()
  await Promise.all(agents.map(agent => agent.stop()))
  await store?.close()
  await cluster?.stop()
})

function seen(backend: string, server: string, what: string, wanted: (row: ServerRow) => boolean) {
  return until(`${backend}/${server}: ${what}`, async () => {
    const row = await haproxy.server(backend, server)
    assert.ok(wanted(row), JSON.stringify(row))
    return row
  })
}

const isUp = (row: ServerRow): boolean => row.status.startsWith('UP')
const isDown = (row: ServerRow): boolean => row.status.startsWith('DOWN')

async function setIntent(name: string, changes: Partial<NodeIntent>): Promise<void> {
  const { port } = servers.find(server => server.name === name)!
  const intent = { v: 1, host: '127.0.0.1', port, ...changes }
  const writes = [{ kind: 'put' as const, key: keys.nodeIntent(name), value: JSON.stringify(intent) }]
  await store.transact({ compares: [], writes })
}

async function portThrough(port: number): Promise<number> {
  const [row] = await query<{ port: number }>(port, `select current_setting('port')::int as port`)
  return row!.port
}

test('checks tell primary and replicas apart', options, async () => {
  await seen('write', 'a', 'up', isUp)
  await seen('read', 'b', 'up', isUp)
  await seen('read', 'c', 'up', isUp)
  await seen('write', 'b', 'down', row => isDown(row) && row.checkCode === '503')
  await seen('read', 'a', 'down', isDown)
  for (const name of ['a', 'b', 'c'])
    await seen('any', name, 'up by its agent', row => isUp(row) && row.agentStatus === 'L7OK')
  assert.equal(await portThrough(ports.write), servers[0]!.port)
  assert.notEqual(await portThrough(ports.read), servers[0]!.port)
})

test('weight: the share that is left by the load, times that of the operator', options, async () => {
  await setIntent('c', { weight: 2 })
  await seen('any', 'c', 'twice the weight', row => row.weight > 45 && row.weight <= 200)
  await setIntent('c', { weight: 0.01 })
  await seen('any', 'c', 'hardly any', row => row.weight === 1)
  await setIntent('c', { weight: 1 })
  await seen('any', 'c', 'normal', row => row.weight >= 25 && row.weight <= 100)
})

test('drain: no new sessions, those that are there stay, and back', options, async () => {
  const inside = await connect(ports.any)
  const [{ port }] = (await inside.query(`select current_setting('port')::int as port`)).rows as [
    { port: number },
  ]
  const { name } = servers.find(server => server.port === port)!
  await setIntent(name, { state: 'drain' })
  await seen('any', name, 'drained', row => row.status.startsWith('DRAIN'))
  if (name !== 'a') await seen('read', name, 'no replica any more', isDown)
  else await seen('write', name, 'the primary all the same', isUp)
  for (let i = 0; i < 6; i++) assert.notEqual(await portThrough(ports.any), port)
  assert.equal((await inside.query('select 1 as one')).rows[0].one, 1)
  await inside.end()
  await setIntent(name, { state: 'active' })
  await seen('any', name, 'up again', isUp)
  if (name !== 'a') await seen('read', name, 'a replica again', isUp)
})

test('maintenance, and back', options, async () => {
  await setIntent('b', { state: 'maintenance' })
  await seen('any', 'b', 'in maintenance', row => row.status.startsWith('MAINT'))
  await setIntent('b', { state: 'active' })
  await seen('any', 'b', 'up again', isUp)
})

test('PostgreSQL down: the agent says why, and that it is back', options, async () => {
  const [, , server] = servers
  await server!.stop()
  const row = await seen('any', 'c', 'down', isDown)
  assert.equal(row.status, 'DOWN (agent)')
  await seen('any', 'c', 'the reason', ({ agentText }) => agentText.includes('(nothing answers at'))
  await setIntent('c', { state: 'drain' })
  await until('the agent knows', () => agents[2]!.intent() === 'drain')
  await server!.start()
  await seen('any', 'c', 'up, but drained', ({ status }) => status === 'DRAIN (agent)')
  await setIntent('c', { state: 'active' })
  await seen('any', 'c', 'up', row => isUp(row) && row.agentStatus === 'L7OK')
  await seen('read', 'c', 'up', isUp)
})

test('a promotion by hand: writes move', options, async () => {
  const [a, b] = servers
  await a!.stop()
  await seen('write', 'a', 'down', isDown)
  await b!.promote()
  await seen('write', 'b', 'up', isUp)
  await seen('read', 'b', 'no replica any more', isDown)
  assert.equal(await portThrough(ports.write), b!.port)
})
