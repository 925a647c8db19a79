import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, afterEach, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { signalProcess } from '../../src/runtime/process.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { need } from '../support/need.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { psql } from '../support/server-auth.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Many clients that come at once: each is served, or told why not. */
let cluster: TestCluster
let host: Host
let port: number

before(async () => {
  cluster = await startTestCluster()
})

after(() => cluster?.stop())

async function start(overrides: Record<string, unknown>): Promise<void> {
  const config = await testConfig([{ name: 'a', port: cluster.primary.port }], overrides)
  port = config.proxy.port
  host = await startTestHost(config)
  await untilRolesAreKnown(host)
}

afterEach(() => host?.stop())

/** What becomes of so many clients at once: how many are served, and what the others are told. */
async function burst(count: number): Promise<Record<string, number>> {
  const outcomes: Record<string, number> = {}
  const clients = Array.from({ length: count }, () => {
    const client = new WireClient(port)
    client.startup({ user: 'postgres', database: 'postgres' })
    return client
  })
  const isDone = ({ received, closed }: WireClient): boolean =>
    closed || received.some(({ code }) => code === 'Z')
  await until('all have an answer', () => clients.every(isDone), 25_000)
  const served = clients.filter(({ received }) => received.some(({ code }) => code === 'Z'))
  const answers = await Promise.all(served.map(client => client.query('select 1')))
  assert.ok(answers.every(messages => messages.some(({ code }) => code === 'D')))
  for (const client of clients) {
    const outcome = served.includes(client) ? 'served' : (client.error?.get('C') ?? 'nothing')
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    client.close()
  }
  return outcomes
}

test('2000 clients at once are served by a pool of five', async () => {
  await start({ 'proxy.default_pool_size': 5 })
  assert.deepEqual(await burst(2000), { served: 2000 })
})

test('of more than there may be each one too many is told so', async () => {
  await start({ 'proxy.max_client_conn': 300 })
  assert.deepEqual(await burst(2000), { served: 300, '53300': 1700 })
})

test('while no worker takes anybody, who cannot wait is told so', need('psql'), async () => {
  await start({ 'proxy.max_client_conn': 1000 })
  const workers = host.proxy!.workers
  const sockets: Socket[] = []
  for (const { pid } of workers) signalProcess(pid, 'SIGSTOP')
  try {
    // What is on the way to the workers, and what waits for one. Not more at once than the kernel keeps.
    for (let left = 2 * 256 + 1024; left > 0; left -= 256) {
      const opened = Array.from({ length: 256 }, () => connect(port, '127.0.0.1'))
      sockets.push(...opened)
      for (const socket of opened) socket.on('error', () => undefined)
      await until('they are connected', () => opened.every(({ connecting }) => !connecting))
    }
    const refused = await psql(`host=127.0.0.1 port=${port} user=postgres dbname=postgres`, 'select 1')
    assert.match(refused.err, /FATAL: {2}pgherd: too many clients connect at once\nHINT: {2}Connect again/)
  } finally {
    for (const { pid } of workers) signalProcess(pid, 'SIGCONT')
    for (const socket of sockets) socket.destroy()
  }
  const { out } = await psql(`host=127.0.0.1 port=${port} user=postgres dbname=postgres`, 'select 1')
  assert.equal(out, '1')
})
