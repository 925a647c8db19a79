import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { until } from '../../../test/support/wait.ts'
import { createLogger, type Logger } from '../../runtime/log.ts'
import { systemRandom } from '../../runtime/random.ts'
import { systemTimers } from '../../runtime/timers.ts'
import { Client as Code } from '../../wire/codes.ts'
import { authenticationOk, frame, readyForQueryIdle, writeErrorResponse } from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import { readStartup } from '../../wire/startup.ts'
import type { Target } from '../server.ts'
import { SecretsLookup } from './secrets-lookup.ts'
import { ServerAccount } from './server-account.ts'

/** A server of these tests: it lets everybody in, and answers when `answer` is set. */
let server: Server
let target: Target
let sockets: Set<Socket>
/** Databases that were logged in to, and users that were asked for. */
let logins: string[]
let asked: string[]
let answer: ((user: string) => (string | undefined)[][] | 'error') | undefined
let held: (() => void)[]
let logged: string
let log: Logger

beforeEach(async () => {
  sockets = new Set()
  logins = []
  asked = []
  held = []
  logged = ''
  answer = user => [[user, 'chalk']]
  log = createLogger({
    level: 'debug',
    format: 'text',
    write: line => {
      logged += line
    },
  })
  server = createServer(serve)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  target = { node: 'a', host: '127.0.0.1', port, tls: () => undefined }
})

afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  server.close()
  await until('no connection is left', () => sockets.size === 0)
})

function serve(socket: Socket): void {
  sockets.add(socket)
  socket.on('close', () => sockets.delete(socket))
  socket.on('error', () => undefined)
  const reader = new MessageReader(10_000)
  let user = ''
  socket.once('data', (packet: Buffer) => {
    const read = readStartup(packet)
    assert.ok(read.done === true && read.packet.kind === 'startup')
    const database = read.packet.parameters.get('database') ?? ''
    logins.push(database)
    if (database === 'missing') {
      socket.end(writeErrorResponse({ severity: 'FATAL', code: '3D000', message: 'no such database' }))
      return
    }
    socket.write(Buffer.concat([authenticationOk, readyForQueryIdle]))
    socket.on('data', (chunk: Buffer) =>
      reader.push(chunk, (code, body) => {
        if (code === Code.Bind) user = body.toString('utf8', 10, 10 + body.readInt32BE(6))
        if (code === Code.Sync) {
          asked.push(user)
          const reply = (): void => void socket.write(rowsFor(user))
          if (answer) reply()
          else held.push(reply)
        }
        return true
      }),
    )
  })
}

function rowsFor(user: string): Buffer {
  const rows = answer?.(user) ?? []
  if (rows === 'error') {
    const error = writeErrorResponse({ severity: 'ERROR', code: '42501', message: 'permission denied' })
    return Buffer.concat([error, readyForQueryIdle])
  }
  const messages = rows.map(row => {
    const columns = row.map(text => {
      const length = Buffer.alloc(4)
      length.writeInt32BE(text === undefined ? -1 : text.length, 0)
      return Buffer.concat([length, Buffer.from(text ?? '')])
    })
    return frame(0x44, Buffer.concat([Buffer.from([0, row.length]), ...columns]))
  })
  return Buffer.concat([...messages, readyForQueryIdle])
}

function lookupOf(
  options: { database?: string; targets?: Target[]; timeoutMs?: number } = {},
): SecretsLookup {
  const { database, targets = [target], timeoutMs = 2000 } = options
  return new SecretsLookup({
    query: { text: 'select $1', user: 'asker', password: undefined, database },
    account: new ServerAccount({ user: 'asker', random: systemRandom, onRefused: () => undefined }),
    targets: () => targets,
    serverDatabase: name => name,
    timeoutMs,
    timers: systemTimers,
    log,
  })
}

const chalk = { kind: 'plain', password: 'chalk' }

test('a secret is asked for in the database of the client, over a connection that is kept', async () => {
  const lookup = lookupOf()
  for (let i = 0; i < 3; i++) assert.deepEqual(await lookup.find('ada', 'shop'), chalk)
  assert.deepEqual(logins, ['shop'])
  assert.deepEqual(asked, ['ada', 'ada', 'ada'])
  lookup.retire()
})

test('a database of the configuration goes before that of the client', async () => {
  const lookup = lookupOf({ database: 'secrets' })
  await lookup.find('ada', 'shop')
  assert.deepEqual(logins, ['secrets'])
  lookup.retire()
})

test('where the database of the client does not exist another one is asked', async () => {
  const lookup = lookupOf()
  assert.deepEqual(await lookup.find('ada', 'missing'), chalk)
  assert.deepEqual(await lookup.find('ada', ''), chalk)
  assert.deepEqual(logins, ['missing', 'postgres'])
  lookup.retire()
})

test('many who ask for one user at once ask once, and for many users over few connections', async () => {
  const lookup = lookupOf()
  answer = undefined
  const same = Array.from({ length: 10 }, () => lookup.find('ada', 'shop'))
  await until('it is asked', () => held.length === 1)
  answer = user => [[user, 'chalk']]
  held[0]!()
  for (const found of await Promise.all(same)) assert.deepEqual(found, chalk)
  assert.deepEqual(asked, ['ada'])
  const others = Array.from({ length: 30 }, (_, index) => lookup.find(`user${index}`, 'shop'))
  for (const found of await Promise.all(others)) assert.deepEqual(found, chalk)
  assert.ok(logins.length <= 4, `${logins.length} connections`)
  lookup.retire()
})

test('connections to one database give way to those to another', async () => {
  const lookup = lookupOf()
  for (let i = 0; i < 8; i++) assert.deepEqual(await lookup.find('ada', `db${i}`), chalk)
  await until('few are open', () => sockets.size <= 4)
  lookup.retire()
})

test('a connection that was lost meanwhile is replaced', async () => {
  const lookup = lookupOf()
  await lookup.find('ada', 'shop')
  for (const socket of sockets) socket.destroy()
  assert.deepEqual(await lookup.find('bob', 'shop'), chalk)
  lookup.retire()
})

test('the next server is asked when one cannot be had', async () => {
  const dead = { ...target, node: 'b', port: 1 }
  const lookup = lookupOf({ targets: [dead, target] })
  assert.deepEqual(await lookup.find('ada', 'shop'), chalk)
  lookup.retire()
  await assert.rejects(lookupOf({ targets: [dead] }).find('ada', 'shop'), { code: 'unavailable' })
  assert.match(logged, /the auth query has failed: b: connection refused/)
})

test('while no server is known a lookup waits for one, but not for ever', async () => {
  const targets: Target[] = []
  const lookup = lookupOf({ targets })
  const found = lookup.find('ada', 'shop')
  setImmediate(() => targets.push(target))
  assert.deepEqual(await found, chalk)
  lookup.retire()
  const forlorn = lookupOf({ targets: [], timeoutMs: 100 })
  await assert.rejects(forlorn.find('ada', 'shop'), { code: 'unavailable' })
})

test('a server that does not answer, or with an error, is a failure and not an unknown user', async () => {
  answer = undefined
  const silent = lookupOf({ timeoutMs: 50 })
  await assert.rejects(silent.find('ada', 'shop'), { code: 'unavailable' })
  answer = () => 'error'
  const lookup = lookupOf()
  await assert.rejects(lookup.find('ada', 'shop'), { code: 'unavailable' })
  assert.match(logged, /permission denied \(SQLSTATE 42501\)/)
  answer = () => []
  assert.equal(await lookup.find('ada', 'shop'), undefined)
  lookup.retire()
})

test('only one row of a name and a secret counts, and no secret is logged', async () => {
  const lookup = lookupOf()
  const answers: (string | undefined)[][][] = [
    [],
    [['ada', undefined]],
    [['ada']],
    [['ada', 'hunter2', 'x']],
    [
      ['ada', 'hunter2'],
      ['ada', 'hunter2'],
    ],
    [['ada', 'SCRAM-SHA-256$hunter2']],
  ]
  for (const rows of answers) {
    answer = () => rows
    assert.equal(await lookup.find('ada', 'shop'), undefined)
  }
  assert.match(logged, /must give one row/)
  assert.doesNotMatch(logged, /hunter2/)
  lookup.retire()
})

test('one that has retired still answers, and closes its connections', async () => {
  const lookup = lookupOf()
  answer = undefined
  const found = lookup.find('ada', 'shop')
  await until('it is asked', () => held.length === 1)
  lookup.retire()
  answer = user => [[user, 'chalk']]
  held[0]!()
  assert.deepEqual(await found, chalk)
  await until('no connection is left', () => sockets.size === 0)
})
