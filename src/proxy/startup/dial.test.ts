import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { afterEach, test } from 'node:test'
import { createSecureContext } from 'node:tls'
import { until } from '../../../test/support/wait.ts'
import { dial, type ServerTls } from './dial.ts'

/** Servers that answer the request for TLS in every way there is; real ones are in the integration tests. */
const servers: Server[] = []
const sockets = new Set<Socket>()

afterEach(() => {
  for (const server of servers.splice(0)) server.close()
  for (const socket of sockets) socket.destroy()
})

/** Sends each of the answers when something more has come. */
async function serverWith(...answers: string[]): Promise<number> {
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    const left = [...answers]
    socket.on('data', () => {
      const answer = left.shift()
      if (answer !== undefined) socket.write(answer, 'latin1')
    })
  })
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const tls = (mode: ServerTls['mode']): ServerTls => ({ mode, context: createSecureContext() })

/** `open`, or why it failed. */
async function outcome(port: number, mode: ServerTls['mode'] | undefined): Promise<string> {
  const told: string[] = []
  const socket = dial({
    host: '127.0.0.1',
    port,
    tls: mode && tls(mode),
    onOpen: (opened, security) => {
      told.push(security ? 'encrypted' : 'open')
      opened.destroy()
    },
    onFailed: message => told.push(message),
  })
  await until('an outcome', () => told.length > 0 && socket.destroyed)
  assert.equal(told.length, 1)
  return told[0]!
}

test('without TLS the connection is open when it is there', async () => {
  assert.equal(await outcome(await serverWith(), undefined), 'open')
  assert.equal(await outcome(1, undefined), 'connection refused')
  assert.equal(await outcome(1, 'require'), 'connection refused')
})

test('a server without TLS is taken by prefer alone', async () => {
  const port = await serverWith('N')
  assert.equal(await outcome(port, 'prefer'), 'open')
  for (const mode of ['require', 'verify-ca', 'verify-full'] as const) {
    assert.match(await outcome(port, mode), new RegExp(`does not use TLS, and server_tls.mode is ${mode}`))
  }
})

test('more than one byte before the handshake is refused: it may be anybody’s', async () => {
  for (const answer of ['S\x16\x03\x03', 'NR\0\0\0\x08\0\0\0\0']) {
    assert.match(await outcome(await serverWith(answer), 'prefer'), /did not answer .* with one byte/)
  }
})

test('anything else is no answer', async () => {
  assert.match(await outcome(await serverWith('E'), 'prefer'), /does not understand the request for TLS/)
})

test('a handshake that fails is told', async () => {
  const port = await serverWith('S', 'HTTP/1.1 400 Bad Request\r\n\r\n')
  assert.match(await outcome(port, 'require'), /TLS could not be agreed on/)
})

test('a caller that has waited long enough takes the connection away', async () => {
  const told: string[] = []
  const socket = dial({
    host: '127.0.0.1',
    port: await serverWith(),
    tls: tls('require'),
    onOpen: () => told.push('open'),
    onFailed: message => told.push(message),
  })
  await once(socket, 'connect')
  socket.destroy()
  await until('it is told', () => told.length > 0)
  assert.deepEqual(told, ['the server closed the connection'])
})
