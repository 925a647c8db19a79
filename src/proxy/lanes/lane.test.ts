import assert from 'node:assert/strict'
import { test } from 'node:test'
import { frame, sync, writeBindText, writeExecute, writeParse, writeQuery } from '../../wire/messages.ts'
import type { ServerConnection, SharedBy } from '../server.ts'
import type { PooledSession } from '../session/pooled-session.ts'
import { type Reported, ReportedValues } from '../session/reported.ts'
import { ServerStatements, Statement } from '../session/statements.ts'
import { Lane } from './lane.ts'
import { Learned } from './learned.ts'
import type { LaneClient } from './unit.ts'
import { UnitReader } from './unit-reader.ts'

/** A server connection of which the test plays the server. */
class Server {
  readonly statements = new ServerStatements()
  reported: Reported = new Map([['DateStyle', 'ISO, MDY']])
  unnamed: Statement | undefined
  unit = 0
  unsentBytes = 0
  isSpoiled = false
  readonly cancels: (() => void)[] = []
  plansChanged = 0
  shared = 0
  #by: SharedBy | undefined

  share(by: SharedBy): void {
    this.#by = by
    this.shared++
  }

  unshare(): void {
    this.shared--
  }

  write(): boolean {
    return true
  }

  cancel(done: () => void): void {
    this.cancels.push(done)
  }

  noteParameter(body: Buffer): void {
    const [name = '', value = ''] = body.toString('latin1').split('\0')
    this.reported = new ReportedValues().with(this.reported, name, value)
  }

  notePlansChanged(): void {
    this.plansChanged++
  }

  countShared(): void {}
  noteShared(): void {}
  noteStall(): void {}
  pause(): void {}
  resume(): void {}

  destroy(): void {
    this.lose()
  }

  say(...messages: Buffer[]): void {
    this.#by?.onBytes(Buffer.concat(messages))
  }

  lose(): void {
    this.#by?.onLost('gone')
  }
}

class Client implements LaneClient {
  readonly session: PooledSession | undefined = undefined
  unsentBytes = 0
  told = Buffer.alloc(0)
  /** Answers that have ended. */
  ends = 0
  givenBack = 0
  torn = 0

  isForAnother(): boolean {
    return false
  }

  deliver(answer: Buffer, isLast: boolean): void {
    this.told = Buffer.concat([this.told, answer])
    if (isLast) this.ends++
  }

  giveBack(): void {
    this.givenBack++
  }

  loseAnswer(): void {
    this.torn++
  }

  endOverdue(): void {}
  onLate(): void {}
}

function laneOn(server: Server): { lane: Lane; log: string[]; at: { nowMs: number } } {
  const log: string[] = []
  const at = { nowMs: 1000 }
  const lane = new Lane(server as unknown as ServerConnection, {
    onDirty: () => undefined,
    onAbandoned: () => undefined,
    onAnswered: units => log.push(`answered ${units}`),
    onDone: ended => {
      log.push('done')
      ended.server.unshare()
    },
    onLost: () => log.push('lost'),
    onGivenBack: (reason, units) => units > 0 && log.push(`${reason} ${units}`),
    onBroken: (_, problem) => log.push(problem),
    nowMs: () => at.nowMs,
  })
  return { lane, log, at }
}

const reader = new UnitReader()
const statement = new Statement(Buffer.from('select $1\0\0\0', 'latin1'))
const asked = Buffer.concat([
  writeParse('', 'select $1', []),
  writeBindText('', '', ['x']),
  writeExecute(''),
  sync,
])

/** A unit that is sent as it came, or with `prepares` one whose statement is prepared. */
function submit(lane: Lane, client: Client, prepares = false): void {
  const request = prepares ? asked : writeQuery('select 1')
  reader.read(request)
  const bound = prepares
    ? { statement, named: undefined, changedAt: 0, preparedMax: 10, values: undefined }
    : undefined
  lane.submit(client, request, reader, new Learned(), bound, 1000)
}

const parseComplete = frame(0x31, Buffer.alloc(0))
const bindComplete = frame(0x32, Buffer.alloc(0))
const row = frame(0x44, Buffer.from('\0\x01\0\0\0\x03one'))
const ready = frame(0x5a, Buffer.from('I'))
const error = (text: string): Buffer => frame(0x45, Buffer.from(`${text}\0\0`))
const bindError = error('SERROR\0VERROR\0C08P01\0Mprepared statement "pgherd_1" requires 1')
const fatal = error('SFATAL\0VFATAL\0C57P01\0Mterminating connection')
const warning = frame(0x4e, Buffer.from('SWARNING\0VWARNING\0C57P02\0Mcrash\0\0'))

/** Every way to cut bytes into two pieces. */
function* cuts(bytes: Buffer): Iterable<[Buffer, Buffer]> {
  for (let at = 1; at < bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)]
}

test('each client gets its own answer, wherever the pieces are cut', () => {
  const answers = [
    Buffer.concat([row, ready]),
    Buffer.concat([parseComplete, bindComplete, row, row, ready]),
    Buffer.concat([parseComplete, bindComplete, row, ready]),
  ]
  // The third one's Parse is not sent.
  const said = Buffer.concat([answers[0]!, answers[1]!, answers[2]!.subarray(parseComplete.length)])
  for (const [first, second] of cuts(said)) {
    const server = new Server()
    const { lane } = laneOn(server)
    const clients = answers.map(() => new Client())
    for (const [id, client] of clients.entries()) submit(lane, client, id > 0)
    server.say(first)
    server.say(second)
    assert.deepEqual(
      clients.map(({ told }) => told),
      answers,
    )
    assert.deepEqual(
      clients.map(({ ends }) => ends),
      [1, 1, 1],
    )
    assert.equal(lane.count, 0)
  }
})

test('an error that shows a name of the proxy is never seen, wherever the pieces are cut', () => {
  for (const [first, second] of cuts(Buffer.concat([parseComplete, bindError, ready]))) {
    const server = new Server()
    const { lane } = laneOn(server)
    const client = new Client()
    submit(lane, client, true)
    server.say(first)
    server.say(second)
    assert.deepEqual([client.told.length, client.givenBack], [0, 1])
  }
})

test('what goes wrong before a statement that was not parsed is bound is found out elsewhere', () => {
  const server = new Server()
  const { lane } = laneOn(server)
  const [first, second] = [new Client(), new Client()]
  submit(lane, first, true)
  submit(lane, second, true)
  server.say(parseComplete, bindComplete, row, ready, error('SERROR\0VERROR\0C42P01\0Mno such table'), ready)
  assert.deepEqual([first.ends, second.told.length, second.givenBack], [1, 0, 1])
})

test('last words of a server are nobody`s, and who has got nothing before is served elsewhere', () => {
  for (const words of [fatal, warning]) {
    for (const [first, second] of cuts(Buffer.concat([ready, bindComplete, words]))) {
      const server = new Server()
      const { lane, log } = laneOn(server)
      const clients = [new Client(), new Client(), new Client()]
      for (const client of clients) submit(lane, client)
      server.say(first)
      server.say(second)
      server.lose()
      assert.deepEqual(clients[0]!.told, ready)
      // What came in a piece of its own was passed on: who has seen a part cannot be served anew.
      const torn = clients[1]!.told.length > 0 ? 1 : 0
      assert.deepEqual([clients[1]!.givenBack, clients[1]!.torn], [1 - torn, torn])
      assert.ok(!clients[1]!.told.includes('57P0'))
      assert.equal(clients[2]!.givenBack, 1)
      assert.ok(log.includes('lost') && !log.includes('done'))
    }
  }
})

test('a lane with several cancel requests on their way ends once, when the last is delivered', () => {
  const server = new Server()
  const { lane, log } = laneOn(server)
  const client = new Client()
  submit(lane, client)
  for (let count = 0; count < 3; count++) lane.cancel(client, () => undefined)
  server.say(error('SERROR\0VERROR\0C57014\0Mcanceled'), ready)
  lane.close()
  assert.equal(client.ends, 1)
  for (const delivered of server.cancels) {
    assert.ok(!log.includes('done'))
    delivered()
  }
  assert.deepEqual([log.filter(each => each === 'done').length, server.shared], [1, 0])
})

test('a lane that was lost does not come back when a cancel request is delivered', () => {
  const server = new Server()
  const { lane, log } = laneOn(server)
  const client = new Client()
  submit(lane, client)
  lane.cancel(client, () => undefined)
  server.say(ready)
  lane.close()
  server.lose()
  for (const delivered of server.cancels) delivered()
  assert.deepEqual(
    log.filter(each => each === 'done' || each === 'lost'),
    ['lost'],
  )
})

test('who waits behind a cancelled request is served elsewhere, and nobody joins meanwhile', () => {
  const server = new Server()
  const { lane, log } = laneOn(server)
  const [head, waiting, cancelled] = [new Client(), new Client(), new Client()]
  for (const client of [head, waiting, cancelled]) submit(lane, client)
  assert.equal(
    lane.cancel(cancelled, () => undefined),
    false,
  )
  assert.ok(cancelled.told.includes('57014'))
  assert.equal(
    lane.cancel(head, () => undefined),
    true,
  )
  assert.equal(waiting.givenBack, 1)
  assert.equal(lane.isOpen, false)
  server.say(ready, ready, ready)
  assert.deepEqual([head.ends, waiting.ends, cancelled.ends], [1, 0, 1])
  assert.equal(lane.isOpen, false)
  server.cancels[0]!()
  assert.equal(lane.isOpen, true)
  assert.ok(log.includes('cancel 1'))
})

test('what nobody waits for any more is cancelled once when it takes long', () => {
  const server = new Server()
  const { lane, at } = laneOn(server)
  const client = new Client()
  submit(lane, client)
  lane.forget(client)
  lane.checkStall(at.nowMs)
  assert.equal(server.cancels.length, 0)
  assert.equal(lane.needsCheck, true)
  at.nowMs += 200
  lane.checkStall(at.nowMs)
  lane.checkStall(at.nowMs)
  assert.equal(server.cancels.length, 1)
  assert.equal(lane.needsCheck, false)
})

test('a lane ends when constants come to mean something else, and what it has prepared is given up', () => {
  const style = frame(0x53, Buffer.from('DateStyle\0German, DMY\0'))
  const name = frame(0x53, Buffer.from('application_name\0other\0'))
  for (const [first, second] of cuts(Buffer.concat([row, name, style, ready]))) {
    const server = new Server()
    const { lane, log } = laneOn(server)
    const client = new Client()
    submit(lane, client)
    server.say(first)
    server.say(second)
    assert.deepEqual(client.told, Buffer.concat([row, ready]))
    assert.deepEqual([server.plansChanged, log.at(-1)], [1, 'done'])
  }
  const server = new Server()
  const { lane, log } = laneOn(server)
  server.say(name)
  assert.deepEqual([lane.isOpen, log], [true, []])
  server.say(style)
  assert.deepEqual(log, ['done'])
})

test('what no read can bring about closes the connection, and everybody is served elsewhere', () => {
  for (const wrong of [frame(0x5a, Buffer.from('T')), frame(0x47, Buffer.from('\0\0\0'))]) {
    const server = new Server()
    const { lane, log } = laneOn(server)
    const clients = [new Client(), new Client()]
    for (const client of clients) submit(lane, client)
    server.say(wrong)
    assert.match(log[0]!, /^a read has/)
    assert.deepEqual(
      clients.map(({ givenBack, told }) => [givenBack, told.length]),
      [
        [1, 0],
        [1, 0],
      ],
    )
  }
})
