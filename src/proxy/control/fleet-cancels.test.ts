import assert from 'node:assert/strict'
import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { until } from '../../../test/support/wait.ts'
import { silentLogger } from '../../runtime/log.ts'
import type { ProxyStatus } from '../../topology/types.ts'
import { readStartup } from '../../wire/startup.ts'
import { markPassedOn } from '../client/cancels.ts'
import { FleetCancels } from './fleet-cancels.ts'

let time: FakeTime
let listener: Server
let got: { socket: Socket; bytes: Buffer }[]
let proxies: ProxyStatus[]
let told: number[]

beforeEach(async () => {
  time = new FakeTime()
  got = []
  proxies = []
  told = []
  listener = createServer(socket => {
    socket.on('error', () => undefined)
    socket.once('data', bytes => got.push({ socket, bytes }))
  })
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve))
})

afterEach(() => {
  for (const { socket } of got) socket.destroy()
  listener.close()
})

function fleet(id: string): FleetCancels {
  const onPrefix = (prefix: number): void => void told.push(prefix)
  return new FleetCancels({ id, proxies: () => proxies, timers: time, log: silentLogger, onPrefix })
}

function row(id: string, cancelPrefix: number, port = 1): ProxyStatus {
  const address = `127.0.0.1:${port}`
  return {
    v: 1,
    id,
    address,
    adminUrl: '',
    cancelPrefix,
    appliedRevision: 0,
    clients: 0,
    version: '0',
    at: '',
  }
}

const portOf = (): number => (listener.address() as { port: number }).port
const keyOf = (prefix: number): Buffer => Buffer.from([prefix, 1, 2, 3])

test('a proxy takes the same prefix at each start, another one when it is taken, and none when all are', () => {
  const { prefix } = fleet('p1')
  assert.ok(prefix >= 1 && prefix <= 255)
  proxies = [row('p1', prefix)]
  assert.equal(fleet('p1').prefix, prefix, 'its own report of before takes nothing away')
  proxies = [row('p2', prefix)]
  assert.notEqual(fleet('p1').prefix, prefix)
  proxies = Array.from({ length: 255 }, (_, i) => row(`x${i}`, i + 1))
  assert.equal(fleet('p1').prefix, 0)
})

test('of two that have picked the same prefix the later by name picks again', () => {
  const [early, late] = [fleet('p1'), fleet('p2')]
  proxies = [row('p1', early.prefix), row('p2', early.prefix)]
  early.look()
  assert.deepEqual(told, [])
  proxies = [row('p1', late.prefix), row('p2', late.prefix)]
  late.look()
  assert.deepEqual(told, [late.prefix])
  assert.ok(late.prefix > 0 && proxies[0]!.cancelPrefix !== late.prefix)
})

test('a key with the prefix of another proxy goes there, marked, and the answer waits for it', async () => {
  const own = fleet('p1')
  const other = (own.prefix % 255) + 1
  proxies = [row('p1', own.prefix, portOf()), row('p2', other, portOf())]
  const passing = own.passOn(42, keyOf(other))
  const [{ bytes, socket }] = (await until('it arrives', () => got.length === 1 && got)) as [(typeof got)[0]]
  const secret = markPassedOn(keyOf(other))
  assert.deepEqual(readStartup(bytes), {
    done: true,
    packet: { kind: 'cancel', processId: 42, secret },
    bytes: bytes.length,
  })
  socket.end()
  assert.equal(await passing, true)
})

test('a key of this proxy, of nobody, or of one that is unknown goes nowhere', async () => {
  const own = fleet('p1')
  const other = (own.prefix % 255) + 1
  proxies = [row('p1', own.prefix, portOf()), row('p2', other, portOf())]
  for (const prefix of [own.prefix, 0, (other % 255) + 1])
    assert.equal(await own.passOn(1, keyOf(prefix)), false)
  assert.equal(await own.passOn(1, Buffer.alloc(0)), false)
  assert.equal(got.length, 0)
})

test('a proxy that hangs is given up after two seconds, and no more than 64 requests wait for it', async () => {
  const own = fleet('p1')
  const other = (own.prefix % 255) + 1
  proxies = [row('p2', other, portOf())]
  const passing = Array.from({ length: 64 }, () => own.passOn(1, keyOf(other)))
  assert.equal(await own.passOn(1, keyOf(other)), false)
  await until('they arrive', () => got.length === 64)
  await time.pass(2000)
  assert.deepEqual([...new Set(await Promise.all(passing))], [true])
  const late = own.passOn(1, keyOf(other))
  await until('there is room again', () => got.length === 65)
  got.at(-1)!.socket.end()
  assert.equal(await late, true)
})
