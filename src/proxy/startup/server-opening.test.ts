import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { Link } from '../../runtime/link.ts'
import { systemTimers } from '../../runtime/timers.ts'
import { frame, readyForQueryIdle, writeErrorResponse } from '../../wire/messages.ts'
import type { LoginFailure } from '../relay/conversations.ts'
import { ServerOpening } from './server-opening.ts'

const letIn = frame(0x52, Buffer.alloc(4))
const wantsPassword = frame(0x52, Buffer.from([0, 0, 0, 3]))
const notice = frame(0x4e, Buffer.from('SNOTICE\0Mwelcome\0\0'))
const error = (code: string): Buffer => writeErrorResponse({ severity: 'FATAL', code, message: 'no' })

/** What becomes of a login at a server that says `said`, and with `hangsUp` closes the connection then. */
async function open(
  said: Buffer[],
  hangsUp = false,
): Promise<{ told: string[]; failure?: LoginFailure; opening: ServerOpening }> {
  const listener = createServer(socket => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      socket.write(Buffer.concat(said))
      if (hangsUp) socket.end()
    })
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const told: string[] = []
  const options = {
    target: { node: 'a', host: '127.0.0.1', port, tls: () => undefined },
    parameters: new Map([['user', 'postgres']]),
    credentials: undefined,
    connectTimeoutMs: 100,
    timers: systemTimers,
  }
  const result = await new Promise<{ opening: ServerOpening; message?: string }>(resolve => {
    const fail = (message: string): void => resolve({ opening, message })
    const opening: ServerOpening = new ServerOpening(options, {
      onOpen: socket =>
        new Link(socket, {
          onData: chunk => void opening.push(chunk),
          onDrain: () => undefined,
          onEnd: () => undefined,
          onError: cause => fail(cause.message),
          onClose: () => fail('the server closed the connection'),
        }),
      onChallenge: () => told.push('challenge'),
      onHeld: () => undefined,
      onNotice: () => told.push('notice'),
      onParameter: name => told.push(name),
      onKey: processId => told.push(`process ${processId}`),
      onReady: () => resolve({ opening }),
      onFailed: fail,
    })
  })
  const { opening, message } = result
  const failure = message === undefined ? undefined : opening.end(message)
  opening.socket.destroy()
  listener.close()
  return { told, opening, ...(failure && { failure }) }
}

test('a server that lets the user in is told to be ready, with what it has said before', async () => {
  const parameter = frame(0x53, Buffer.from('server_version\u000018\0'))
  const key = frame(0x4b, Buffer.from([0, 0, 0, 7, 1, 2, 3, 4]))
  const { failure, opening, told } = await open([letIn, notice, parameter, key, readyForQueryIdle])
  assert.equal(failure, undefined)
  assert.deepEqual(told, ['notice', 'server_version', 'process 7'])
  assert.deepEqual([opening.isTrusting, opening.challenged], [true, false])
})

test('who says nothing in time was not reached, who has said something does not accept', async () => {
  const message = 'no answer within 100 ms'
  assert.deepEqual((await open([])).failure, { kind: 'unreachable', message })
  assert.deepEqual((await open([notice])).failure, { kind: 'not_accepting', message })
})

test('what the server says about it counts more than that the connection ends', async () => {
  assert.equal((await open([error('53300')], true)).failure?.kind, 'full')
  assert.equal((await open([error('57P03')], true)).failure?.kind, 'not_accepting')
  assert.equal((await open([error('28P01')], true)).failure?.kind, 'refused')
})

test('a server that goes away after its challenge is lost, and has all the time that the client takes', async () => {
  const { failure, opening, told } = await open([wantsPassword], true)
  assert.deepEqual(told, ['challenge'])
  assert.deepEqual(failure, { kind: 'lost', message: 'the server closed the connection' })
  assert.equal(opening.isTrusting, false)
})
