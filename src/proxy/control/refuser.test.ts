import assert from 'node:assert/strict'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { after, before, beforeEach, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { until } from '../../../test/support/wait.ts'
import { readErrorFields } from '../../wire/messages.ts'
import { writeCancelRequest, writeStartup } from '../../wire/startup.ts'
import { Refuser } from './refuser.ts'

let server: Server
let port: number
let hasTls: boolean
let time: FakeTime
let refuser: Refuser
let come = 0

before(async () => {
  server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, socket => {
    come++
    refuser.refuse(socket, 'no room')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as { port: number }).port
})

after(() => {
  server.close()
})

beforeEach(() => {
  time = new FakeTime()
  hasTls = false
  refuser = new Refuser({ timers: time, hasTls: () => hasTls })
})

interface Refused {
  socket: Socket
  heard: string
  closed: boolean
}

function open(): Refused {
  const socket = connect(port, '127.0.0.1')
  const refused: Refused = { socket, heard: '', closed: false }
  socket.setEncoding('latin1')
  socket.on('data', (text: string) => {
    refused.heard += text
  })
  socket.on('error', () => undefined)
  socket.on('close', () => {
    refused.closed = true
  })
  return refused
}

const gssRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30])
const sslRequest = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])
const startup = writeStartup(new Map([['user', 'ada']]))

const isError = (heard: string): void => {
  assert.equal(heard[0], 'E')
  const fields = readErrorFields(Buffer.from(heard.slice(5), 'latin1'))
  assert.deepEqual(
    [fields.get('S'), fields.get('C'), fields.get('M'), fields.get('H')],
    ['FATAL', '53300', 'pgherd: no room', 'Connect again in a moment.'],
  )
}

test('a client is told when it has said what it wants, byte by byte, and what it sends ahead does no harm', async () => {
  const client = open()
  for (const byte of startup) client.socket.write(Buffer.from([byte]))
  client.socket.write(Buffer.alloc(100_000))
  await until('it is told', () => client.closed)
  isError(client.heard)
})

test('one that asks for encryption goes on without, and is told then', async () => {
  const client = open()
  for (const request of [gssRequest, sslRequest]) {
    const { length } = client.heard
    client.socket.write(request)
    await until('it is answered', () => client.heard.length > length)
  }
  assert.equal(client.heard, 'NN')
  client.socket.write(startup)
  await until('it is told', () => client.closed)
  isError(client.heard.slice(2))
})

test('where there is TLS nobody is made to go on without', async () => {
  hasTls = true
  const client = open()
  client.socket.write(sslRequest)
  await until('it is told', () => client.closed)
  isError(client.heard)
})

test('bytes of something else are answered, a cancel request is not', async () => {
  const stranger = open()
  stranger.socket.write('GET / HTTP/1.1\r\n\r\n')
  await until('it is told', () => stranger.closed)
  isError(stranger.heard)
  const canceller = open()
  canceller.socket.write(writeCancelRequest(1, Buffer.alloc(4)))
  await until('it is closed', () => canceller.closed)
  assert.equal(canceller.heard, '')
})

test('nobody is listened to for long, and of too many at once the rest is told unasked', async () => {
  come = 0
  const silent = Array.from({ length: 1000 }, () => open())
  await until('they are connected', () => come === 1000)
  const further = open()
  await until('it is told', () => further.closed)
  isError(further.heard)
  assert.ok(silent.every(({ closed }) => !closed))
  await time.pass(2000)
  await until('they are closed', () => silent.every(({ closed }) => closed))
  const next = open()
  next.socket.write(startup)
  await until('it is told', () => next.closed)
  isError(next.heard)
})
