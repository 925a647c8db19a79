import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import type { Host } from '../../src/cli/host.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { type Random, seededRandom } from '../../src/runtime/random.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'
import {
  frame,
  sync,
  terminate,
  writeBindText,
  writeCloseStatement,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import { writeStartup } from '../../src/wire/startup.ts'
import { proxyCounters } from '../support/counters.ts'
import { FaultyLink } from '../support/faulty-link.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { MarkedScript, markedTables, markOf } from '../support/marked-script.ts'
import { mutated } from '../support/mutate.ts'
import { freePorts } from '../support/ports.ts'
import { startTestCluster, type TestCluster } from '../support/postgres.ts'
import { essence } from '../support/script.ts'
import { until } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** Bytes that make no sense, from clients and from servers: nobody but their sender, or who asked it, is harmed. */
const seed = Number(process.env['PGHERD_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const rounds = Number(process.env['PGHERD_TEST_ROUNDS'] ?? 1)
const roundMs = 5000
const strangers = 12
const rssGrowthMax = 100 * 1024 * 1024

let cluster: TestCluster
let link: FaultyLink
let host: Host
/** Leads to the primary, which tells the truth; reads go to a replica whose answers have faults. */
let port: number
let readPort: number

before(async () => {
  cluster = await startTestCluster({ replicas: 1 })
  await cluster.primary.query(markedTables)
  const [linkPort] = (await freePorts(1)) as [number]
  // The proxy's own questions about the replica's role are left alone: without it nobody would be sent there.
  link = new FaultyLink(cluster.replicas[0]!.port, 'pgherd proxy', seededRandom(seed))
  await link.listen(linkPort)
  host = await startTestHost(
    await testConfig(
      [
        { name: 'a', port: cluster.primary.port },
        { name: 'b', port: linkPort },
      ],
      {
        'proxy.pool_mode': 'auto',
        'proxy.default_pool_size': 6,
        'proxy.client_login_timeout': '2s',
        'proxy.read_write_split': 'off',
      },
    ),
  )
  port = host.config.proxy.port
  readPort = host.config.proxy.read_port
  await untilRolesAreKnown(host)
})

after(async () => {
  await host?.stop()
  await link?.close()
  await cluster?.stop()
})

/** Asks the primary again and again while `work` runs: the answers stay right. */
async function undisturbed(work: () => Promise<void>): Promise<void> {
  const over = new AbortController()
  const bystander = await WireClient.open(port)
  bystander.send(Buffer.concat([writeParse('ask', 'select $1::text', []), sync]))
  const watching = (async () => {
    for (let number = 0; !over.signal.aborted; number++) {
      const from = bystander.received.length
      bystander.send(Buffer.concat([writeBindText('', 'ask', [`answer ${number}`]), writeExecute(''), sync]))
      const answer = await until('the bystander’s answer', () =>
        bystander.closed ? 'closed' : bystander.received.slice(from).find(({ code }) => code === 'D'),
      )
      assert.ok(answer !== 'closed', 'the bystander was thrown out')
      assert.equal(answer.body.toString('utf8', 6), `answer ${number}`)
      await until('its end', () => bystander.received.at(-1)?.code === 'Z')
    }
  })()
  try {
    await Promise.race([work(), watching])
  } finally {
    over.abort()
    await watching
    bystander.close()
  }
  assert.equal(host.proxy!.crashes, 0)
  await until('nobody is left', async () => {
    const { clients, nodes } = await proxyCounters(host.config.admin.port)
    return clients === 0 && Object.values(nodes).every(({ sessions, waiting }) => sessions + waiting === 0)
  })
}

async function workersRssBytes(): Promise<number> {
  let sum = 0
  for (const { pid } of host.proxy!.workers) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    sum += Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
  }
  return sum
}

const startup = writeStartup(
  new Map([
    ['user', 'postgres'],
    ['options', '-c work_mem=2MB'],
  ]),
)
const fixedScript = Buffer.concat([
  startup,
  writeParse('s', 'select $1::text', []),
  frame(0x44, Buffer.from('Ss\0')),
  writeBindText('p', 's', ['one']),
  frame(0x44, Buffer.from('Pp\0')),
  writeExecute('p'),
  writeCloseStatement('s'),
  sync,
  writeQuery("select 'two'; select 1/0"),
  writeParse('', 'select nothing', []),
  writeBindText('', '', []),
  sync,
  writeQuery('create temporary table t (x text); copy t from stdin'),
  frame(0x64, Buffer.from('a\nb\n')),
  frame(0x63, Buffer.alloc(0)),
  writeQuery('copy t to stdout'),
  writeQuery("set work_mem = '3MB'; discard all; show work_mem"),
  frame(0x46, Buffer.from([0, 0, 5, 31, 0, 0, 0, 0, 0, 0])),
])

const requests = 8

/** Everything that the pieces are answered with. */
async function answersTo(pieces: readonly Buffer[]): Promise<string[]> {
  const client = new WireClient(port)
  client.socket.setNoDelay(true)
  client.expectMessages()
  for (const piece of pieces) {
    client.send(piece)
    await pause(systemTimers, 1)
  }
  const ready = (): number => client.received.filter(({ code }) => code === 'Z').length
  await until('all answers', () => ready() === requests || client.closed)
  client.close()
  return essence(client.received.filter(({ code }) => code !== 'K'))
}

test('wherever a script is split, it is answered the same', async () => {
  const whole = await answersTo([fixedScript])
  assert.ok(whole.length > 25, whole.join('\n'))
  assert.deepEqual(await answersTo([...fixedScript].map(byte => Buffer.from([byte]))), whole)
  let next = 1
  const splitAll = async (): Promise<void> => {
    while (next < fixedScript.length) {
      const at = next++
      const split = await answersTo([fixedScript.subarray(0, at), fixedScript.subarray(at)])
      assert.deepEqual(split, whole, `split at byte ${at}`)
    }
  }
  await Promise.all(Array.from({ length: 10 }, splitAll))
})

/** What a client sends that would be valid, from its first byte on. */
function validBytes(random: Random, number: number): Buffer {
  const script = new MarkedScript(random, markOf(number))
  const count = 1 + Math.floor(random.next() * 5)
  return Buffer.concat([startup, ...Array.from({ length: count }, () => script.next().bytes), terminate])
}

test(`faults in what clients send harm nobody else (PGHERD_TEST_SEED=${seed})`, async () => {
  const beforeBytes = await workersRssBytes()
  const deadlineMs = systemClock.nowMs() + rounds * roundMs
  await undisturbed(async () => {
    let number = 0
    const comeAgain = async (index: number): Promise<void> => {
      const random = seededRandom(seed + index)
      while (systemClock.nowMs() < deadlineMs) {
        const valid = validBytes(random, number++)
        const isLate = random.next() < 0.8
        const bytes = isLate
          ? Buffer.concat([startup, mutated(random, valid.subarray(startup.length))])
          : mutated(random, valid)
        const client = new WireClient(port)
        client.send(bytes)
        client.socket.end()
        await until(`the end after ${bytes.toString('hex')}`, () => client.closed)
      }
    }
    await Promise.all(Array.from({ length: strangers }, (_, index) => comeAgain(index)))
    assert.ok(number > strangers, `${number} clients came`)
  })
  const grownBytes = (await workersRssBytes()) - beforeBytes
  assert.ok(grownBytes < rssGrowthMax, `the workers have grown by ${grownBytes} bytes`)
})

test(`faults in what a server answers harm nobody else (PGHERD_TEST_SEED=${seed})`, async () => {
  const beforeBytes = await workersRssBytes()
  const deadlineMs = systemClock.nowMs() + rounds * roundMs
  link.faultRate = 0.1
  await undisturbed(async () => {
    const comeAgain = async (index: number): Promise<void> => {
      const random = seededRandom(seed + index)
      while (systemClock.nowMs() < deadlineMs) {
        const client = new WireClient(readPort)
        client.send(validBytes(random, index))
        // A server that promises more than it sends keeps its client waiting.
        await until('an end', () => client.closed, 200).catch(() => undefined)
        client.close()
      }
    }
    await Promise.all(Array.from({ length: strangers }, (_, index) => comeAgain(index)))
    link.faultRate = 0
    link.cut()
  })
  assert.ok(link.faults > 5, `${link.faults} answers had faults`)
  const grownBytes = (await workersRssBytes()) - beforeBytes
  assert.ok(grownBytes < rssGrowthMax, `the workers have grown by ${grownBytes} bytes`)
  await until('reads are answered by the replica again', async () => {
    const client = await WireClient.open(readPort)
    const answer = await client.query('select pg_is_in_recovery() as answer')
    client.close()
    return answer.some(({ code, body }) => code === 'D' && body.at(-1) === 't'.charCodeAt(0))
  })
})
