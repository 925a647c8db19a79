import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Client as Driver } from 'pg'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { terminate } from '../../src/wire/messages.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { laneCounters } from '../support/lanes.ts'
import {
  MarkedReads,
  type MarkedRequests,
  MarkedScript,
  markedFunctions,
  markedTables,
  markOf,
  marks,
} from '../support/marked-script.ts'
import { connect, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/**
 * Many clients over few server connections, each with its own mark in everything that it can set or be sent: while
 * they cancel, leave at any byte, lose their servers and see their tables change, nobody ever gets a foreign mark.
 */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 1)
const roundMs = 6000
const clients = 30
const poolSize = 4
/** How long an answer may take, with everybody else before it in the queue. */
const answerMs = 20_000

let cluster: TestCluster
let admin: Driver
/** The newest client's number: every connection has a mark of its own. */
let newest = 0

before(async () => {
  cluster = await startTestCluster()
  admin = await connect(cluster.primary.port)
  await admin.query("set application_name = 'admin'; set lock_timeout = 50")
  await admin.query(markedTables)
  await admin.query(markedFunctions)
})

after(async () => {
  await admin?.end()
  await cluster?.stop()
})

/** One connection from its login to its end. */
class Visitor {
  readonly mark = markOf(++newest)
  readonly #port: number
  readonly #random: Random
  readonly #script: MarkedRequests
  /** It has nothing of its own but what it asks for, and shares server connections with others of its kind. */
  readonly #isReader: boolean
  /** Who never cancels is never cancelled. */
  readonly #cancels: boolean
  readonly #sent: string[] = []
  #checked = 0

  constructor(port: number, random: Random, isReader: boolean) {
    this.#port = port
    this.#random = random
    this.#isReader = isReader
    this.#script = isReader ? new MarkedReads(random, this.mark) : new MarkedScript(random, this.mark)
    this.#cancels = random.next() < 0.5
  }

  /** How many questions were answered. */
  async stay(): Promise<number> {
    const client = new WireClient(this.#port)
    client.startup({
      user: 'postgres',
      database: 'postgres',
      ...(this.#isReader ? {} : { application_name: this.mark, options: `-c app.start=${this.mark}` }),
    })
    let answered = 0
    try {
      await this.#answered(client, 1, 'the login')
      for (let left = 1 + this.#below(25); left > 0 && !client.closed; left--) {
        if (this.#random.next() < 0.04) return answered
        if (await this.#ask(client, left)) answered++
      }
      return answered
    } finally {
      if (!client.closed) await this.#leave(client)
      this.#check(client)
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random.next() * limit)
  }

  async #ask(client: WireClient, number: number): Promise<boolean> {
    const request = this.#script.next()
    const question = this.#script.question(number)
    this.#sent.push(request.text)
    const from = client.received.length
    const readyForQueries = request.readyForQueries + question.readyForQueries
    await this.#send(client, this.#isReader ? request.bytes : Buffer.concat([request.bytes, question.bytes]))
    const cancels = this.#cancels && this.#random.next() < 0.3
    if (cancels) {
      await pause(systemTimers, this.#below(15))
      cancel(this.#port, client)
    }
    if (this.#isReader) {
      await this.#answered(client, request.readyForQueries, request.text, from)
      if (!client.closed) await this.#send(client, question.bytes)
    }
    await this.#answered(client, readyForQueries, request.text, from)
    this.#check(client)
    if (client.closed) return false
    const answers = client.received.slice(from).filter(({ code }) => code === 'D')
    const isAnswered = answers.at(-1)?.body.includes(question.expected)
    assert.ok(
      isAnswered || this.#cancels,
      this.#told(`no ${question.expected} but ${client.received.at(-2)?.body}`),
    )
    return isAnswered === true
  }

  /** In one piece or in several. */
  async #send(client: WireClient, bytes: Buffer): Promise<void> {
    const inPieces = this.#random.next() < 0.3
    for (let at = 0; at < bytes.length; ) {
      const next = inPieces ? at + 1 + this.#below(120) : bytes.length
      client.send(bytes.subarray(at, next))
      at = next
      if (inPieces && this.#random.next() < 0.2) await pause(systemTimers, 1)
    }
  }

  async #answered(client: WireClient, wanted: number, text: string, from = 0): Promise<void> {
    const ready = (): number =>
      client.received.reduce((sum, { code }, index) => sum + (index >= from && code === 'Z' ? 1 : 0), 0)
    await until(this.#told(`the answer to ${text}`), () => ready() >= wanted || client.closed, answerMs)
  }

  /** With a request on its way, perhaps with half of a message, in one of four ways. */
  async #leave(client: WireClient): Promise<void> {
    const { bytes } = this.#script.next()
    client.send(bytes.subarray(0, this.#below(bytes.length + 1)))
    await pause(systemTimers, this.#below(20))
    const way = this.#below(4)
    if (way === 0) client.socket.end()
    else if (way === 1) client.socket.resetAndDestroy()
    else if (way === 2) client.send(terminate)
    await pause(systemTimers, this.#below(10))
    client.close()
  }

  /** Looks through what has come since the last look. */
  #check(client: WireClient): void {
    for (const { body, code } of client.received.slice(this.#checked)) {
      const text = body.toString('latin1')
      for (const [mark] of text.matchAll(marks)) {
        if (mark !== this.mark)
          assert.fail(this.#told(`message ${code} carries ${mark}: ${text.slice(0, 200)}`))
      }
      const isCancelled = code === 'E' && text.includes('due to user request')
      if (isCancelled && !this.#cancels) assert.fail(this.#told('it was cancelled and had not asked for it'))
    }
    this.#checked = client.received.length
  }

  #told(what: string): string {
    return `${this.mark}: ${what}\nafter:\n${this.#sent.slice(-8).join('\n')}`
  }
}

function cancel(port: number, { processId, secret }: WireClient): void {
  const request = new WireClient(port)
  request.send(writeCancelRequest(processId, secret))
  request.socket.end()
}

/** Ends server connections and changes a table, until `over`. */
async function disturb(random: Random, over: AbortSignal, periodMs = 40): Promise<void> {
  for (let turn = 0; !over.aborted; turn++) {
    await pause(systemTimers, periodMs)
    const type = random.next() < 0.5 ? 'int' : 'bigint'
    // Who waits for the table holds up everybody behind it: after a moment it is given up.
    await admin.query(`alter table shared alter column n type ${type}`).catch(() => {})
    if (turn % 8 !== 0) continue
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and application_name not in ('admin', 'pgherd') order by random() limit 1",
    )
  }
}

/** `readers` of four visitors share server connections when they can. */
const kinds = [
  { mode: 'auto', readers: 0 },
  { mode: 'transaction', readers: 0 },
  { mode: 'session', readers: 0 },
  { mode: 'auto', readers: 3 },
  { mode: 'auto', readers: 4 },
]

for (const { mode, readers } of kinds) {
  test(`nobody gets what belongs to another, pool_mode ${mode}, ${readers} of 4 read (PGHERD_TEST_SEED=${seed})`, async t => {
    const nodes = [{ name: 'a', port: cluster.primary.port }]
    const host: Host = await startTestHost(
      await testConfig(nodes, {
        'proxy.pool_mode': mode,
        'proxy.workers': 1,
        'proxy.default_pool_size': poolSize,
        'proxy.max_prepared_statements': 3,
      }),
    )
    const over = new AbortController()
    const deadlineMs = systemClock.nowMs() + rounds * roundMs
    try {
      await untilRolesAreKnown(host)
      const disturbing = disturb(seededRandom(seed), over.signal, readers === 0 ? 40 : 150)
      const answered = await Promise.all(
        Array.from({ length: clients }, async (_, index) => {
          const random = seededRandom(seed + index)
          let sum = 0
          while (systemClock.nowMs() < deadlineMs) {
            sum += await new Visitor(host.config.proxy.port, random, index % 4 < readers).stay()
          }
          return sum
        }),
      )
      over.abort()
      await disturbing
      assert.ok(Math.min(...answered) > 0, `everybody got answers: ${answered.join(' ')}`)
      assert.equal(host.proxy!.crashes, 0)
      const { givenBack, shared } = await laneCounters(host)
      t.diagnostic(
        `${answered.reduce((a, b) => a + b)} answers, ${shared} shared: ${JSON.stringify(givenBack)}`,
      )
      assert.ok(readers === 0 || shared > 100 * rounds, `${shared} have shared a server connection`)
      await until('nothing is left of them', async () => {
        const { clients, nodes } = await proxyCounters(host.config.admin.port)
        return (
          clients === 0 && Object.values(nodes).every(({ sessions, waiting }) => sessions + waiting === 0)
        )
      })
    } finally {
      over.abort()
      await host.stop()
    }
  })
}
