import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { essence, randomScript, type Step } from '../support/script.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * Random sessions of random clients, once directly at PostgreSQL and once through pools that are smaller than the
 * number of clients: every client must see the same answers.
 */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 6)
const clients = 8
const steps = 60

let cluster: TestCluster
let host: Host

before(async () => {
  cluster = await startTestCluster({ replicas: 0 })
  host = await startTestHost(
    await testConfig([{ name: cluster.primary.name, port: cluster.primary.port }], {
      'proxy.pool_mode': 'auto',
      'proxy.workers': 1,
      // One that clients share, and one for each that may be pinned.
      'proxy.default_pool_size': clients + 1,
      'proxy.max_prepared_statements': 3,
    }),
  )
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await cluster?.stop()
})

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

for (let round = 0; round < rounds; round++) {
  test(`clients of a shared pool see what they would see alone (PGHERD_TEST_SEED=${seed}, round ${round})`, async () => {
    const scripts = Array.from({ length: clients }, (_, id) =>
      randomScript(seededRandom(seed + 1000 * round + id), id, steps),
    )
    const direct = await Promise.all(scripts.map((script, id) => run(cluster.primary.port, id, script)))
    const pooled = await Promise.all(
      scripts.map((script, id) => run(host.config.proxy.port, id, script, seededRandom(seed + round + id))),
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
