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
  await start({ 'proxy.default_pool_size': 5, 'proxy.workers': 1 })
  assert.deepEqual(await burst(2000), { served: 2000 })
})

test('of more than there may be each one too many is told so', async () => {
  await start({ 'proxy.max_client_conn': 300 })
  assert.deepEqual(await burst(2000), { served: 300, '53300': 1700 })
})

/** Clients that come and stay, at once or one after the other; how many each worker has then. */
async function stay(count: number, atOnce: boolean): Promise<{ clients: WireClient[]; split: number[] }> {
  const clients: WireClient[] = []
  const come = async (): Promise<void> => void clients.push(await WireClient.open(port))
  if (atOnce) await Promise.all(Array.from({ length: count }, come))
  else for (let each = 0; each < count; each++) await come()
  const split = (): number[] => host.proxy!.workers.map(worker => worker.clients)
  await until('they are counted', () => sum(split()) === count)
  return { clients, split: split() }
}

const sum = (numbers: number[]): number => numbers.reduce((total, each) => total + each, 0)

test('as many as there may be are served, whichever worker they reach first', async () => {
  await start({ 'proxy.max_client_conn': 400, 'proxy.workers': 2 })
  assert.deepEqual(await burst(400), { served: 400 })
})

test('clients are spread evenly over the workers, however they come', async () => {
  await start({})
  for (const count of [8, 20, 64]) {
    for (const atOnce of [true, false]) {
      const { clients, split } = await stay(count, atOnce)
      const [some, others] = split as [number, number]
      const how = `${some}/${others} of ${count}, ${atOnce ? 'at once' : 'one after the other'}`
      assert.ok(Math.abs(some - others) <= 2 + count / 8, how)
      for (const client of clients) client.close()
      await until('they are gone', () => sum(host.proxy!.workers.map(worker => worker.clients)) === 0)
    }
  }
})

test('a worker that is killed while clients come costs nobody but its own', async () => {
  await start({})
  const { clients, split } = await stay(20, true)
  const [victim, survivor] = host.proxy!.workers
  const coming = Array.from({ length: 100 }, () => {
    const client = new WireClient(port)
    client.startup({ user: 'postgres', database: 'postgres' })
    return client
  })
  signalProcess(victim!.pid, 'SIGKILL')
  const all = [...clients, ...coming]
  const isDone = ({ received, closed }: WireClient): boolean =>
    closed || received.some(({ code }) => code === 'Z')
  await until('each is served or has lost its worker', () => all.every(isDone), 10_000)
  assert.equal(clients.filter(({ closed }) => closed).length, split[0])
  const rest = all.filter(({ closed }) => !closed)
  assert.ok(rest.length > 10)
  for (const client of rest) assert.ok((await client.query('select 1')).some(({ code }) => code === 'D'))
  await until('it is replaced', () => host.proxy!.workers.every(({ pid }) => pid !== victim!.pid))
  assert.ok(host.proxy!.workers.some(({ pid }) => pid === survivor!.pid))
  for (const client of all) client.close()
})

test('who comes while there is no worker at all waits for the next one', async () => {
  await start({ 'proxy.workers': 1 })
  const { pid } = host.proxy!.workers[0]!
  // The client comes to the port before this process knows of the death.
  signalProcess(pid, 'SIGKILL')
  const early = WireClient.open(port)
  await until('it is gone', () => host.proxy!.crashes === 1)
  const clients = await Promise.all([early, ...Array.from({ length: 30 }, () => WireClient.open(port))])
  for (const client of clients) client.close()
  await until('the new worker accepts', async () => (await WireClient.open(port)).close() === undefined)
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
