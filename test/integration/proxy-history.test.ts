import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import * as fc from 'fast-check'
import type { Client } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import {
  caughtUp,
  connect,
  killServer,
  query,
  startTestCluster,
  type TestCluster,
} from '../support/postgres.ts'
import { until } from '../support/wait.ts'

/**
 * Many clients write and read registers through one proxy, while replicas lag, stop, die and are promoted: a read that
 * misses a write which was acknowledged before it began, or shows less than its client has seen before, is an error.
 */
const registers = 8
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(systemClock.nowMs() * 1000) % 2 ** 31)

let cluster: TestCluster
let host: Host | undefined

before(async () => {
  // What is acknowledged is on b as well, so that nothing is lost when b is promoted.
  cluster = await startTestCluster({
    replicas: 2,
    settings: { synchronous_commit: 'on', hot_standby_feedback: 'on', max_standby_streaming_delay: '50ms' },
  })
  await cluster.primary.query(`create table registers (id int primary key, value int not null);
    insert into registers select i, 0 from generate_series(0, ${registers - 1}) i`)
  for (const replica of cluster.replicas) await caughtUp(cluster.primary, replica)
})

afterEach(() => host?.stop())
after(() => cluster?.stop())

async function start(): Promise<number> {
  host = await startTestHost(
    await testConfig(
      [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port })),
      { 'proxy.workers': 2, 'proxy.failover_wait': '20s' },
    ),
  )
  await untilRolesAreKnown(host)
  return host.config.proxy.port
}

/** What was acknowledged, and who found less. */
class History {
  readonly acknowledged: number[] = Array.from({ length: registers }, () => 0)
  readonly begun: number[] = Array.from({ length: registers }, () => 0)
  readonly violations: string[] = []
  reads = 0
  writes = 0
  readonly failures: string[] = []
  isOver = false

  async write(register: number, open: () => Promise<Client>): Promise<void> {
    let client = await open()
    while (!this.isOver) {
      const value = ++this.begun[register]!
      try {
        await client.query('update registers set value = $1 where id = $2', [value, register])
        this.acknowledged[register] = value
        this.writes++
      } catch (cause) {
        this.failures.push(`write: ${String(cause)}`)
        client = await this.#again(client, open)
      }
      await pause(systemTimers, value % 4)
    }
    await client.end()
  }

  /** `form` 0: by name; 1: without; 2: as text; 3: in a transaction that only reads; 4: see `openKept`. */
  async read(form: number, first: number, open: () => Promise<Client>): Promise<void> {
    let client = await open()
    const seen = Array.from({ length: registers }, () => 0)
    for (let turn = first; !this.isOver; turn++) {
      const register = turn % registers
      const least = Math.max(this.acknowledged[register]!, seen[register]!)
      try {
        const value = await readOnce(client, form, register)
        this.reads++
        if (value < least || value > this.begun[register]!) {
          this.violations.push(`register ${register}, form ${form}: ${value} after ${least}`)
        }
        seen[register] = Math.max(value, seen[register]!)
      } catch (cause) {
        this.failures.push(`form ${form}: ${String(cause)}`)
        client = await this.#again(client, open)
      }
      if (turn % 8 === 0) await pause(systemTimers, 1)
    }
    await client.end()
  }

  async #again(client: Client, open: () => Promise<Client>): Promise<Client> {
    await client.end().catch(() => undefined)
    for (;;) {
      const next = await open().catch(() => undefined)
      if (next) return next
      await pause(systemTimers, 50)
    }
  }
}

/** A session that keeps its connection to a replica. */
async function openKept(): Promise<Client> {
  const client = await connect(host!.config.proxy.read_port)
  await client.query('prepare kept as select 1')
  return client
}

async function readOnce(client: Client, form: number, register: number): Promise<number> {
  const text = 'select value from registers where id = $1'
  const one = async (config: { name?: string; text: string; values?: unknown[] }): Promise<number> =>
    (await client.query<{ value: number }>(config)).rows[0]?.value ?? -1
  if (form === 0) return one({ name: 'read', text, values: [register] })
  if (form === 1) return one({ text, values: [register] })
  const simple = { text: `select value from registers where id = ${register}` }
  if (form === 2) return one(simple)
  if (form === 4 && register % 2 === 0) return one({ text, values: [register] })
  await client.query(form === 3 ? 'begin read only' : 'begin')
  const value = await one(simple)
  await client.query('commit')
  return value
}

/** Runs clients for as long as `faults` takes; gives back what they saw. */
async function underLoad(port: number, faults: (history: History) => Promise<void>): Promise<History> {
  const history = new History()
  const open = (): Promise<Client> => connect(port)
  const clients = [
    ...Array.from({ length: registers }, (_, register) => history.write(register, open)),
    ...Array.from({ length: 12 }, (_, at) => history.read(at % 4, at, open)),
    ...Array.from({ length: 4 }, (_, at) => history.read(4, at, openKept)),
  ]
  const routed = async (): Promise<number> => (await proxyCounters(host!.config.admin.port)).routed.replica
  try {
    await until('reads go to replicas', async () => (await routed()) > 200, 20_000)
    await faults(history)
  } finally {
    history.isOver = true
    await Promise.all(clients)
  }
  return history
}

const progress = (history: History, more = 200): Promise<unknown> => {
  const { reads, writes } = history
  return until(
    'reads and writes go on',
    () => history.reads > reads + more && history.writes > writes + 20,
    20_000,
  )
}

async function check(history: History): Promise<void> {
  const { routed } = await proxyCounters(host!.config.admin.port)
  const told = `seed ${seed}: ${history.reads} reads, ${history.writes} writes, ${history.failures.length} failures, ${JSON.stringify(routed)}`
  assert.deepEqual(history.violations.slice(0, 5), [], told)
  assert.ok(routed.replica > 100, told)
}

test(`replicas that are paused, delayed and killed (PGHERD_TEST_SEED=${seed})`, async () => {
  const port = await start()
  const [b, c] = cluster.replicas as [(typeof cluster.replicas)[0], (typeof cluster.replicas)[0]]
  const faults = fc.sample(fc.constantFrom('pause', 'delay', 'kill', 'calm'), { numRuns: 6, seed })
  const history = await underLoad(port, async running => {
    for (const [turn, fault] of faults.entries()) {
      const replica = turn % 2 === 0 ? b : c
      if (fault === 'pause') {
        await replica.query('select pg_wal_replay_pause()')
        await progress(running)
        await replica.query('select pg_wal_replay_resume()')
      } else if (fault === 'delay') {
        await replica.query(`alter system set recovery_min_apply_delay = '300ms'`).catch(() => undefined)
        await replica.query('select pg_reload_conf()')
        await progress(running)
        await replica.query('alter system reset recovery_min_apply_delay')
        await replica.query('select pg_reload_conf()')
      } else if (fault === 'kill') {
        await killServer(replica)
        await progress(running)
        await replica.start()
      }
      await progress(running)
    }
  })
  await check(history)
  // A transaction that was open on a replica which dies is lost, as with PostgreSQL itself; and so is a session that
  // keeps its connection, which fails where its replica is too late.
  assert.deepEqual(
    history.failures.filter(each => !/^form [34]/.test(each)),
    [],
  )
})

test(`a promotion after the primary was killed (PGHERD_TEST_SEED=${seed})`, async () => {
  const { primary } = cluster
  const b = cluster.replicas[0]!
  await primary.query(`alter system set synchronous_standby_names = 'b'`)
  await primary.query('select pg_reload_conf()')
  await until(
    'b is the synchronous standby',
    async () =>
      (
        await primary.query(
          `select 1 from pg_stat_replication where application_name = 'b' and sync_state = 'sync'`,
        )
      ).length === 1,
  )
  await primary.query('update registers set value = 0')
  const port = await start()
  const history = await underLoad(port, async running => {
    await killServer(primary)
    await pause(systemTimers, 500)
    await b.promote()
    await b.query(`alter system reset synchronous_standby_names`)
    await b.query('select pg_reload_conf()')
    // c is left behind on the old history: it must not be read from.
    await progress(running)
  })
  await check(history)
  assert.equal((await query(port, 'select 1')).length, 1)
})
