import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import type { NodeCountersData } from '../../src/proxy/counters.ts'
import { seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { setNodeState } from '../../src/topology/operations.ts'
import {
  frame,
  sync,
  terminate,
  writeBind,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import { writeStartup } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { operationsOn, startTestHost, testConfig } from '../support/host.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * Hundreds of clients that do anything and leave at any point, while nodes are drained and brought back: nobody
 * else notices, and nothing is left of them.
 */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const random = seededRandom(seed)
const below = (limit: number): number => Math.floor(random.next() * limit)

let cluster: TestCluster
let host: Host

before(async () => {
  cluster = await startTestCluster({ replicas: 2 })
})

after(async () => {
  await cluster?.stop()
})

async function start(mode: string): Promise<void> {
  const servers = [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))
  const config = await testConfig(servers, { 'proxy.pool_mode': mode, 'routing.drain_timeout': '1s' })
  host = await startTestHost(config)
  await until('the roles are known', () =>
    host.watcher.current().nodes.every(node => node.writable || node.readable),
  )
}

const startup = writeStartup(new Map([['user', 'postgres']]))
const extended = (sql: string): Buffer =>
  Buffer.concat([writeParse('', sql, []), writeBind('', ''), writeExecute(''), sync])
const doings: readonly (() => Buffer)[] = [
  () => writeQuery('select 1'),
  () => writeQuery('select pg_sleep(0.1)'),
  () => extended('select 1/0'),
  () => Buffer.concat([extended('select 1'), extended('select 1/0'), extended('select 2')]),
  () => Buffer.concat([writeParse('', 'select 1/', []), writeQuery('select 1'), sync]),
  () => writeQuery('begin'),
  () => writeQuery('copy (select generate_series(1, 20000)) to stdout'),
  () => writeQuery('create temporary table tt (i int); copy tt from stdin'),
  () => Buffer.concat([frame(0x64, Buffer.from('x\n')), frame(0x63, Buffer.alloc(0))]),
  () =>
    Buffer.concat([
      writeQuery('create temporary table if not exists tc (i int); copy tc from stdin'),
      frame(0x64, Buffer.from('1\n')),
      frame(0x63, Buffer.alloc(0)),
      extended('select 3'),
    ]),
  () => extended('copy (select 1) to stdout'),
  () => writeQuery("select repeat('x', 1000000)"),
  () => frame(0x46, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])),
  () => writeParse('', 'select 1', []),
  () => terminate,
]

/** One client: sends some of these, in pieces of any size, perhaps not to the end, and leaves in one of four ways. */
async function anyClient(): Promise<void> {
  const client = new WireClient(below(2) === 0 ? host.config.proxy.port : host.config.proxy.read_port)
  client.expectMessages()
  const bytes = Buffer.concat([
    startup,
    ...Array.from({ length: below(6) }, () => doings[below(doings.length)]!()),
  ])
  const end = below(3) === 0 ? below(bytes.length) : bytes.length
  for (let at = 0; at < end && !client.closed; ) {
    const next = Math.min(end, at + 1 + below(200))
    client.send(bytes.subarray(at, next))
    at = next
    if (below(3) === 0) await pause(systemTimers, below(4))
  }
  await pause(systemTimers, below(80))
  const way = below(4)
  if (way === 0) client.socket.end()
  else if (way === 1) client.socket.resetAndDestroy()
  else if (way === 2) client.send(terminate)
  await pause(systemTimers, below(30))
  client.close()
}

const nothing = ({ sessions, connecting, waiting }: NodeCountersData): boolean =>
  sessions + connecting + waiting === 0

async function comeAndGo(): Promise<void> {
  const bystander = await connect(host.config.proxy.read_port)
  const over = new AbortController()
  const watching = (async () => {
    for (let number = 0; !over.signal.aborted; number++) {
      const { rows } = await bystander.query<{ number: number }>('select $1::int as number', [number])
      assert.equal(rows[0]?.number, number)
      await pause(systemTimers, 5)
    }
  })()
  const flapping = (async () => {
    const operations = operationsOn(host)
    while (!over.signal.aborted) {
      for (const name of ['b', 'c']) {
        await setNodeState(operations, name, 'drain', false)
        await pause(systemTimers, 60)
        await setNodeState(operations, name, 'active', false)
        await pause(systemTimers, 60)
      }
    }
  })()
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      for (let round = 0; round < 15; round++) await anyClient()
    }),
  )
  over.abort()
  await Promise.all([watching, flapping])
  await bystander.end()

  const counters = (): ReturnType<typeof proxyCounters> => proxyCounters(host.config.admin.port)
  await until(
    'nothing is left',
    async () => {
      const { clients, nodes } = await counters()
      return clients === 0 && Object.values(nodes).every(nothing)
    },
    20_000,
  )
  assert.equal(host.proxy!.crashes, 0)
  for (const server of [cluster.primary, ...cluster.replicas]) {
    await until(`${server.name} has no connection that nobody knows of`, async () => {
      const rows = await server.query(
        "select 1 from pg_stat_activity where backend_type = 'client backend' and application_name = '' and pid <> pg_backend_pid()",
      )
      return rows.length <= ((await counters()).nodes[server.name]?.idle ?? 0)
    })
  }
}

for (const mode of ['session', 'auto']) {
  test(`nothing is left of clients that come and go in any way (${mode}, PGHERD_TEST_SEED=${seed})`, async () => {
    await start(mode)
    try {
      await comeAndGo()
    } finally {
      await host.stop()
    }
  })
}
