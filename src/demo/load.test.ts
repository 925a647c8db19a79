import assert from 'node:assert/strict'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { until } from '../../test/support/wait.ts'
import { systemClock } from '../runtime/clock.ts'
import { seededRandom } from '../runtime/random.ts'
import { systemTimers } from '../runtime/timers.ts'
import { frame } from '../wire/messages.ts'
import { MessageReader } from '../wire/reader.ts'
import { type Load, startLoad } from './load.ts'

/** A server that lets everybody in and answers everything with nothing, until it answers nobody any more. */
let server: Server
let answers = true
const sockets = new Set<Socket>()

const message = (code: string, body = ''): Buffer => frame(code.charCodeAt(0), Buffer.from(body, 'latin1'))
const ready = message('Z', 'I')
const done = message('C', 'SELECT 0\0')

beforeEach(async () => {
  answers = true
  server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    let reader: MessageReader | undefined
    socket.on('data', chunk => {
      if (!answers) return
      // The first packet is the StartupMessage, which has no code.
      if (reader) {
        reader.push(chunk, code => {
          socket.write(answerTo(String.fromCharCode(code)))
          return true
        })
        return
      }
      reader = new MessageReader(1 << 20)
      socket.write(Buffer.concat([message('R', '\0\0\0\0'), ready]))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})

afterEach(() => {
  for (const socket of sockets) socket.destroy()
  server.close()
})

function answerTo(code: string): Buffer {
  if (code === 'Q') return Buffer.concat([done, ready])
  if (code === 'S') return Buffer.concat([message('1'), message('2'), message('n'), done, ready])
  return Buffer.alloc(0)
}

async function start(): Promise<Load> {
  const { port } = server.address() as AddressInfo
  const load = await startLoad({
    host: '127.0.0.1',
    port,
    readPort: 0,
    writers: 2,
    readers: 2,
    clock: systemClock,
    timers: systemTimers,
    random: seededRandom(1),
  })
  await until('it works', () => load.counts().reads > 10 && load.counts().writes > 10)
  return load
}

async function stopsWithin(load: Load, limitMs: number): Promise<void> {
  const startedMs = systemClock.nowMs()
  await load.stop()
  const tookMs = systemClock.nowMs() - startedMs
  assert.ok(tookMs < limitMs, `${Math.round(tookMs)} ms`)
}

test('a load ends at once when everything answers', async () => {
  const load = await start()
  await stopsWithin(load, 500)
  assert.equal(load.counts().errors, 0)
  await until('its connections are closed', () => sockets.size === 0)
})

test('a load ends soon while its connections wait for a primary', async () => {
  const load = await start()
  answers = false
  for (const socket of sockets) socket.destroy()
  await until('all connect again', () => sockets.size === 4)
  await stopsWithin(load, 1500)
  await until('its connections are closed', () => sockets.size === 0)
})

test('a load ends soon while its statements wait', async () => {
  const load = await start()
  answers = false
  await stopsWithin(load, 2500)
  await until('its connections are closed', () => sockets.size === 0)
})
