import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { answerTo, exactly, laneCounters, laneTables, simple, untilReady } from '../support/lanes.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { essence, randomScript, readScript, type Step } from '../support/script.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * Random sessions of random clients, once directly at PostgreSQL and once through pools that are smaller than the
 * number of clients: every client must see the same answers.
 */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 3)
const clients = 8
const steps = 60

let cluster: TestCluster
let host: Host

async function start(replicas: number): Promise<void> {
  cluster = await startTestCluster({ replicas })
  await cluster.primary.query(laneTables)
  const nodes = [cluster.primary, ...cluster.replicas].map(({ name, port }) => ({ name, port }))
  host = await startTestHost(
    await testConfig(nodes, {
      'proxy.pool_mode': 'auto',
      'proxy.workers': 1,
      // One that clients share, and one for each that may be pinned.
      'proxy.default_pool_size': clients + 1,
      'proxy.max_prepared_statements': 3,
    }),
  )
  await untilRolesAreKnown(host)
}

async function stop(): Promise<void> {
  await host?.stop()
  await cluster?.stop()
}

/** Not of what the scripts reset: within a transaction that leads to the server's own value (docs/pooling.md). */
const startup = (id: number): Record<string, string> => ({
  options: `-c extra_float_digits=${id % 3} -c maintenance_work_mem=${2000 + id}kB`,
})

/** Runs a script and gives back, for each step, what came. */
async function run(port: number, id: number, script: readonly Step[], random?: Random): Promise<string[][]> {
  const client = await WireClient.open(port, startup(id))
  const answers: string[][] = []
  for (const { bytes, readyForQueries, text } of script) {
    const from = client.received.length
    for (let at = 0; at < bytes.length; ) {
      const piece = random && random.next() < 0.2 ? 1 + Math.floor(random.next() * 60) : bytes.length
      client.send(bytes.subarray(at, at + piece))
      at += piece
      if (at < bytes.length) await pause(systemTimers, 1)
    }
    const ready = (): number => client.received.slice(from).filter(({ code }) => code === 'Z').length
    await until(`the answer to ${text}`, () => ready() >= readyForQueries || client.closed, 20_000)
    assert.equal(
      client.closed,
      false,
      `client ${id} at port ${port} was closed at: ${text}: ${client.error?.get('M')}`,
    )
    answers.push(essence(client.received.slice(from)))
  }
  client.close()
  return answers
}

const readers = 10
const readSteps = 600

/**
 * Runs a script of reads and gives back, for each step, what came but for ParameterStatus. A client whose server
 * connection is lost, which it did not share just then, begins anew: `undefined`.
 */
async function runReads(port: number, script: readonly Step[]): Promise<string[][] | undefined> {
  const client = await WireClient.open(port)
  const answers: string[][] = []
  try {
    for (const { bytes, readyForQueries, text } of script) {
      const from = client.received.length
      client.send(bytes)
      await untilReady(client, from, readyForQueries, text, 60_000)
      answers.push(exactly(client.received.slice(from).filter(({ code }) => code !== 'S')).map(withoutPlace))
    }
    return answers
  } catch (cause) {
    const told = client.error?.get('M') ?? ''
    if (!/^(pgherd: the connection to a was lost|terminating connection)/.test(told)) throw cause
    return undefined
  } finally {
    client.close()
  }
}

/** An error that another message has met first comes from another line of PostgreSQL's source. */
function withoutPlace(message: string): string {
  return message.startsWith('E') ? message.replace(/\0F[^\0]*\0L\d+\0R\w+/, '') : message
}

/** Slow statements among the quick ones, which are cancelled or end by themselves, until `over`. */
async function stall(random: Random, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    const client = await WireClient.open(host.config.proxy.port)
    for (let left = 20; left > 0 && !over.aborted && !client.closed; left--) {
      const unit = simple(`select nap('${random.next() < 0.2 ? 120 : 0}'), 'slept'`)
      // Its server connection may be ended.
      const answer = answerTo(client, unit, 1, 60_000).catch(() => undefined)
      await pause(systemTimers, random.next() * 60)
      if (random.next() < 0.3) cancel(client)
      await answer
    }
    client.close()
  }
}

function cancel({ processId, secret }: WireClient): void {
  const request = new WireClient(host.config.proxy.port)
  request.send(writeCancelRequest(processId, secret))
  request.socket.end()
}

/** Ends server connections, and changes what the answers do not depend on, until `over`. */
async function disturb(random: Random, over: AbortSignal): Promise<void> {
  const direct = await connect(cluster.primary.port)
  let through = await connect(host.config.proxy.port)
  const changes = [
    'alter table numbers add column more int default 5',
    'alter table numbers drop column if exists more',
    'create index concurrently if not exists by_text on numbers (t)',
    'drop index if exists by_text',
    'create table if not exists unrelated (n int)',
    'drop table if exists unrelated',
    'create or replace view evens as select n from numbers where n % 2 = 0 and n is not null',
    "create or replace function picky(i int) returns int language plpgsql immutable as $$ begin if i > 5 then raise exception 'not %', i using hint = 'less'; end if; return i; end $$",
  ]
  try {
    await direct.query('set lock_timeout = 100')
    while (!over.aborted) {
      await pause(systemTimers, 300)
      const change = changes[Math.floor(random.next() * changes.length)]!
      // It may be there already, or wait for too long.
      if (random.next() < 0.5) await direct.query(change).catch(() => undefined)
      else await through.query(change).catch(() => undefined)
      if (random.next() < 0.6) {
        await direct.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and application_name not like 'pgherd%' and pid <> pg_backend_pid() order by random() limit 1",
        )
        await through.end().catch(() => undefined)
        through = await connect(host.config.proxy.port)
      }
    }
  } finally {
    await direct.end().catch(() => undefined)
    await through.end().catch(() => undefined)
  }
}

/** With a replica, reads go there: nobody is to notice. */
for (const replicas of [0, 1]) {
  describe(`with ${replicas} replicas`, () => {
    before(() => start(replicas))
    after(stop)

    for (let round = 0; round < rounds; round++) {
      test(`clients of a shared pool see what they would see alone (PGHERD_TEST_SEED=${seed}, round ${round})`, async () => {
        const scripts = Array.from({ length: clients }, (_, id) =>
          randomScript(seededRandom(seed + 1000 * round + id), id, steps),
        )
        const direct = await Promise.all(scripts.map((script, id) => run(cluster.primary.port, id, script)))
        const pooled = await Promise.all(
          scripts.map((script, id) =>
            run(host.config.proxy.port, id, script, seededRandom(seed + round + id)),
          ),
        )
        for (const [id, script] of scripts.entries()) {
          for (const [index, { text }] of script.entries()) {
            const before = script.slice(Math.max(0, index - 12), index).map(step => step.text)
            assert.deepEqual(
              pooled[id]![index],
              direct[id]![index],
              `client ${id}, step ${index}: ${text}\nafter:\n${before.join('\n')}`,
            )
          }
        }
      })
    }

    for (let round = 0; round < Math.ceil(rounds / 6); round++) {
      test(`readers who share server connections see what they would see alone, whatever happens (PGHERD_TEST_SEED=${seed}, round ${round})`, async () => {
        const scripts = Array.from({ length: readers }, (_, id) =>
          readScript(seededRandom(seed + 5000 * (round + 1) + id), readSteps),
        )
        const direct = await Promise.all(scripts.map(script => runReads(cluster.primary.port, script)))
        const { shared } = await laneCounters(host)
        const over = new AbortController()
        const read = async (script: readonly Step[], id: number): Promise<void> => {
          for (let tries = 0; tries < 40; tries++) {
            const answers = await runReads(host.config.proxy.port, script)
            if (!answers) continue
            for (const [index, { text }] of script.entries())
              assert.deepEqual(answers[index], direct[id]![index], `reader ${id}, step ${index}: ${text}`)
            return
          }
          assert.fail(`reader ${id} has lost every connection`)
        }
        const random = seededRandom(seed + round)
        const troubles = [
          stall(random, over.signal),
          stall(random, over.signal),
          disturb(random, over.signal),
        ]
        const [results] = await Promise.all([
          Promise.allSettled(scripts.map(read)).finally(() => over.abort()),
          ...troubles,
        ])
        for (const result of results) if (result.status === 'rejected') throw result.reason
        const now = await laneCounters(host)
        assert.ok(now.shared - shared > readers * 20, JSON.stringify(now))
        assert.equal(host.proxy!.crashes, 0)
      })
    }
  })
}
