import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { until } from '../../test/support/wait.ts'
import { NodeLoad } from '../routing/node-load.ts'
import { Typical } from '../routing/typical.ts'
import { systemClock } from '../runtime/clock.ts'
import { systemTimers } from '../runtime/timers.ts'
import { frame, readDataRowBytes, readyForQueryIdle, writeQuery } from '../wire/messages.ts'
import { NodeCounters } from './counters.ts'
import type { Answer } from './relay/conversations.ts'
import { ServerConnection, type ServerOwner, type ServerUser } from './server.ts'
import { ReportedValues } from './session/reported.ts'
import { Settings } from './session/settings.ts'
import { DatabaseStats } from './stats.ts'

test('an answer that cannot be read is none, and its connection is closed', async () => {
  const loggedIn = Buffer.concat([frame(0x52, Buffer.alloc(4)), readyForQueryIdle])
  // A row whose column says that it has more bytes than there are.
  const row = frame(0x44, Buffer.from([0, 2, 0, 0x7f, 0, 0, 1]))
  const answers = [loggedIn, Buffer.concat([row, frame(0x43, Buffer.from('SELECT 1\0')), readyForQueryIdle])]
  const listener = createServer(socket => {
    socket.on('error', () => undefined)
    socket.on('data', () => {
      const answer = answers.shift()
      if (answer) socket.write(answer)
    })
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const told: string[] = []
  const answered: Answer[] = []
  const user = {
    onServerReady: server =>
      server.ask(writeQuery('select 1'), 1, answer => {
        answered.push(answer)
        for (const reply of answer.replies) reply.rows.map(readDataRowBytes)
      }),
    onServerLost: (_, message) => told.push(message),
  } satisfies Partial<ServerUser> as unknown as ServerUser
  const owner = {
    learnTrust: () => undefined,
    onServerClosed: () => told.push('closed'),
  } satisfies Partial<ServerOwner> as unknown as ServerOwner
  const native = new Settings(new Map())
  const server = new ServerConnection(
    {
      target: {
        node: 'a',
        host: '127.0.0.1',
        port: (listener.address() as AddressInfo).port,
        tls: () => undefined,
      },
      parameters: new Map([['user', 'postgres']]),
      credentials: undefined,
      parametersKey: '',
      fixedKey: '',
      native,
      reports: new ReportedValues(),
      reusable: true,
      connectTimeoutMs: 5000,
      resetTimeoutMs: 5000,
      finishTimeoutMs: 5000,
      clock: systemClock,
      timers: systemTimers,
      counters: new NodeCounters(),
      load: new NodeLoad(),
      typical: new Typical(),
      stats: () => new DatabaseStats(),
      owner,
    },
    user,
  )
  await until('it is closed', () => told.length === 2)
  assert.deepEqual(
    answered.map(({ failed }) => failed),
    [false, true],
  )
  assert.equal(told[0], 'closed')
  assert.match(told[1]!, /^its answer to a question of the proxy cannot be read: /)
  assert.ok(server.isClosed)
  listener.close()
})
