import assert from 'node:assert/strict'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { until } from '../../../test/support/wait.ts'
import { handleOf } from '../../runtime/listeners.ts'
import { silentLogger } from '../../runtime/log.ts'
import { Doors } from './doors.ts'

let listener: Server
let doors: Doors
let port: number
let accepted: Socket[]
let given: { socket: Socket; sent: () => void }[]
let clients: Socket[]

beforeEach(async () => {
  accepted = []
  given = []
  clients = []
  doors = new Doors({
    log: silentLogger,
    load: () => accepted.length,
    accept: socket => void accepted.push(socket),
    giveAway: (socket, _, sent) => void given.push({ socket, sent }),
  })
  listener = createServer()
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve))
  port = (listener.address() as { port: number }).port
})

afterEach(() => {
  doors.close()
  for (const socket of [...clients, ...accepted, ...given.map(each => each.socket)]) socket.destroy()
})

/** The listener's own handle is used: it accepts nothing itself from here on. */
const open = (): boolean => doors.open(0, handleOf(listener), 'primary', 511)

async function come(count: number): Promise<void> {
  const already = accepted.length + given.length
  for (let each = 0; each < count; each++) {
    const client = connect(port, '127.0.0.1')
    client.write('hello')
    clients.push(client)
  }
  await until('they are here', () => accepted.length + given.length === already + count)
}

test('up to its ceiling a worker accepts, and gives away unread what comes beyond', async () => {
  assert.equal(open(), true)
  assert.equal(open(), false, 'the same door again')
  doors.ceiling = 3
  await come(5)
  assert.deepEqual([accepted.length, given.length], [3, 2])
  assert.ok(given.every(({ socket }) => socket.bytesRead === 0))
  doors.ceiling = 4
  await come(2)
  assert.deepEqual([accepted.length, given.length], [4, 3])
})

test('of many at once some wait here, and are accepted when the ceiling rises', async () => {
  open()
  doors.ceiling = 0
  for (let each = 0; each < 40; each++) clients.push(connect(port, '127.0.0.1'))
  clients[39]!.write('hello')
  await until('as many as may be are on their way, and the others wait', () => doors.waiting === 8)
  assert.equal(given.length, 32)
  given[0]!.sent()
  assert.equal(given.length, 33)
  const heard: string[] = []
  doors.ceiling = 5
  assert.equal(accepted.length, 5)
  doors.ceiling = 100
  assert.equal(accepted.length, 7)
  for (const socket of accepted) socket.on('data', chunk => heard.push(String(chunk)))
  await until('what was not read then is read now', () => heard.join() === 'hello')
})

test('at the end nobody is left waiting', async () => {
  open()
  doors.ceiling = 0
  for (let each = 0; each < 33; each++) clients.push(connect(port, '127.0.0.1'))
  await until('as many as may be are on their way, and one waits', () => doors.waiting === 1)
  assert.equal(given.length, 32)
  doors.close()
  assert.equal(accepted.length, 1)
})

test('after the end it accepts no more', async () => {
  open()
  await come(1)
  doors.close()
  const client = connect(port, '127.0.0.1')
  clients.push(client)
  const failed = await new Promise<string>(resolve =>
    client.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? '')),
  )
  assert.equal(failed, 'ECONNREFUSED')
  assert.equal(open(), false)
})
