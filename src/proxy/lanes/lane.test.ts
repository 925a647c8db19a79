import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bindComplete,
  error,
  PlayedClient,
  PlayedLane,
  parseComplete,
  prepared,
  ready,
  row,
} from '../../../test/support/played-lane.ts'
import { frame } from '../../wire/messages.ts'

const one = row('one')
const bindError = error('SERROR\0VERROR\0C08P01\0Mprepared statement "pgherd_1" requires 1')
const fatal = error('SFATAL\0VFATAL\0C57P01\0Mterminating connection')
const warning = frame(0x4e, Buffer.from('SWARNING\0VWARNING\0C57P02\0Mcrash\0\0'))

/** Every way to cut bytes into two pieces. */
function* cuts(bytes: Buffer): Iterable<[Buffer, Buffer]> {
  for (let at = 1; at < bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)]
}

test('each client gets its own answer, wherever the pieces are cut', () => {
  const answers = [
    Buffer.concat([one, ready]),
    Buffer.concat([parseComplete, bindComplete, one, one, ready]),
    Buffer.concat([parseComplete, bindComplete, one, ready]),
  ]
  // The third one's Parse is not sent.
  const said = Buffer.concat([answers[0]!, answers[1]!, answers[2]!.subarray(parseComplete.length)])
  for (const [first, second] of cuts(said)) {
    const played = new PlayedLane()
    const { lane, server } = played
    const clients = answers.map(() => new PlayedClient())
    for (const [id, client] of clients.entries()) played.submit(client, id > 0 ? prepared : undefined)
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
    const played = new PlayedLane()
    const { server } = played
    const client = new PlayedClient()
    played.submit(client, prepared)
    server.say(first)
    server.say(second)
    assert.deepEqual([client.told.length, client.givenBack], [0, 1])
  }
})

test('what goes wrong before a statement that was not parsed is bound is found out elsewhere', () => {
  const played = new PlayedLane()
  const { server } = played
  const [first, second] = [new PlayedClient(), new PlayedClient()]
  played.submit(first, prepared)
  played.submit(second, prepared)
  server.say(parseComplete, bindComplete, one, ready, error('SERROR\0VERROR\0C42P01\0Mno such table'), ready)
  assert.deepEqual([first.ends, second.told.length, second.givenBack], [1, 0, 1])
})

test('last words of a server are nobody`s, and who has got nothing before is served elsewhere', () => {
  for (const words of [fatal, warning]) {
    for (const [first, second] of cuts(Buffer.concat([ready, bindComplete, words]))) {
      const played = new PlayedLane()
      const { log, server } = played
      const clients = [new PlayedClient(), new PlayedClient(), new PlayedClient()]
      for (const client of clients) played.submit(client)
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
  const played = new PlayedLane()
  const { lane, log, server } = played
  const client = new PlayedClient()
  played.submit(client)
  for (let count = 0; count < 3; count++) lane.cancel(client, () => undefined)
  server.say(error('SERROR\0VERROR\0C57014\0Mcanceled'), ready)
  lane.close()
  assert.equal(client.ends, 1)
  for (const delivered of server.cancels) {
    assert.ok(!log.includes('done'))
    delivered()
  }
  assert.deepEqual([log.filter(each => each === 'done').length, server.isShared], [1, false])
})

test('a lane that was lost does not come back when a cancel request is delivered', () => {
  const played = new PlayedLane()
  const { lane, log, server } = played
  const client = new PlayedClient()
  played.submit(client)
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
  const played = new PlayedLane()
  const { lane, log, server } = played
  const [head, waiting, cancelled] = [new PlayedClient(), new PlayedClient(), new PlayedClient()]
  for (const client of [head, waiting, cancelled]) played.submit(client)
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
  const played = new PlayedLane()
  const { lane, at, server } = played
  const client = new PlayedClient()
  played.submit(client)
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
  for (const [first, second] of cuts(Buffer.concat([one, name, style, ready]))) {
    const played = new PlayedLane()
    const { log, server } = played
    const client = new PlayedClient()
    played.submit(client)
    server.say(first)
    server.say(second)
    assert.deepEqual(client.told, Buffer.concat([one, ready]))
    assert.deepEqual([server.plansChanged, log.at(-1)], [1, 'done'])
  }
  const played = new PlayedLane()
  const { lane, log, server } = played
  server.say(name)
  assert.deepEqual([lane.isOpen, log], [true, []])
  server.say(style)
  assert.deepEqual(log, ['done'])
})

test('what no read can bring about closes the connection, and everybody is served elsewhere', () => {
  for (const wrong of [frame(0x5a, Buffer.from('T')), frame(0x47, Buffer.from('\0\0\0'))]) {
    const played = new PlayedLane()
    const { log, server } = played
    const clients = [new PlayedClient(), new PlayedClient()]
    for (const client of clients) played.submit(client)
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
