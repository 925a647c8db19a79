import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bindComplete,
  error,
  PlayedClient,
  PlayedLane,
  parseComplete,
  plain,
  prepared,
  ready,
  row,
} from '../../../test/support/played-lane.ts'
import type { Lane } from './lane.ts'
import { Learned } from './learned.ts'
import { Race, type RacingClient } from './race.ts'
import { Hedging, type LaneClient } from './unit.ts'

class Client extends PlayedClient implements RacingClient {
  where: Lane | Race | undefined

  runsIn(where: Lane | Race): void {
    this.where = where
  }
}

/** One clock for all lanes. */
const at = { nowMs: 1000 }
const newLane = (): PlayedLane => new PlayedLane(at, { onBroken: (_, problem) => assert.fail(problem) })

interface Raced {
  first: PlayedLane
  second: PlayedLane
  client: Client
  /** Whether the second one has won, once it is decided. */
  decided: boolean[]
}

/** A client whose unit is on its way in two lanes, with others before it. */
function race(request = plain, before: [LaneClient[], LaneClient[]] = [[], []]): Raced {
  const [first, second] = [newLane(), newLane()]
  const client = new Client()
  const decided: boolean[] = []
  for (const [place, others] of [
    [first, before[0]],
    [second, before[1]],
  ] as const)
    for (const other of others) place.submit(other)
  first.submit(client, request)
  const both = new Race(client, first.lane, second.lane, hasSecondWon => decided.push(hasSecondWon))
  first.lane.passOn(client, both.first)
  client.runsIn(both)
  second.submit(both.second, request)
  return { first, second, client, decided }
}

const tooMany = error('SERROR\0VERROR\0C53000\0Mout of something')
const cancelled = error('SERROR\0VERROR\0C57014\0Mcanceled')

test('whoever has something to deliver first is heard alone, wherever the pieces are cut', () => {
  for (const request of [plain, prepared]) {
    const before = request === prepared ? [parseComplete, bindComplete] : []
    const answers = ['one', 'two'].map(text => Buffer.concat([...before, row(text), row(text), ready]))
    for (const winner of [0, 1]) {
      const [mine, other] = [answers[winner]!, answers[1 - winner]!]
      for (let cut = 1; cut < mine.length; cut++) {
        for (let otherCut = 0; otherCut < other.length; otherCut++) {
          const { client, decided, first, second } = race(request)
          const places = winner === 0 ? [first, second] : [second, first]
          places[0]!.server.say(mine.subarray(0, cut))
          if (otherCut > 0) places[1]!.server.say(other.subarray(0, otherCut))
          places[0]!.server.say(mine.subarray(cut))
          places[1]!.server.say(other.subarray(otherCut))
          assert.ok(client.told.equals(mine) || client.told.equals(other), `${cut} ${otherCut}`)
          assert.deepEqual([client.ends, client.givenBack, decided.length], [1, 0, 1])
          assert.equal(client.told.equals(answers[decided[0] ? 1 : 0]!), true)
          assert.deepEqual([first.lane.count, second.lane.count], [0, 0])
          // It counts once, and says of both how quick they are.
          assert.equal(first.answered + second.answered, 1)
          assert.deepEqual(
            [first.server.counted + second.server.counted, first.server.noted + second.server.noted],
            [1, 1],
          )
        }
      }
    }
  }
})

test('an error counts only when nothing else can come', () => {
  for (const isFirst of [true, false]) {
    const { client, decided, first, second } = race()
    const [bad, good] = isFirst ? [first, second] : [second, first]
    bad.server.say(tooMany, ready)
    assert.deepEqual([client.told.length, client.where], [0, good.lane])
    good.server.say(row('yes'), ready)
    assert.deepEqual([client.told, decided], [Buffer.concat([row('yes'), ready]), [isFirst]])
  }
  const { client, first, second } = race(prepared)
  first.server.say(error('SERROR\0VERROR\0C42P01\0Mno such table'), ready)
  assert.equal(client.dropped, 0)
  second.server.say(tooMany, ready)
  assert.deepEqual([client.told, client.dropped], [Buffer.concat([tooMany, ready]), 1])
})

test('who is lost, or is given back, leaves it to the other; the last one gives back to the client', () => {
  for (const isFirst of [true, false]) {
    const { client, first, second } = race()
    const [lost, left] = isFirst ? [first, second] : [second, first]
    lost.server.lose()
    assert.deepEqual([client.givenBack, client.where], [0, left.lane])
    left.server.lose()
    assert.deepEqual([client.givenBack, client.torn, client.told.length], [1, 0, 0])
  }
  const { client, first, second } = race(plain, [[new Client()], []])
  at.nowMs += 200
  first.lane.checkStall(at.nowMs)
  assert.deepEqual([client.givenBack, client.where, first.server.stalls], [0, second.lane, 1])
  second.server.say(row('yes'), ready)
  first.server.say(row('oth'), ready, row('no!'), ready)
  assert.deepEqual([client.told, client.ends], [Buffer.concat([row('yes'), ready]), 1])
})

test('when an answer has begun and breaks off, the other one is none', () => {
  const { client, first, second } = race()
  second.server.say(row('one'))
  second.server.lose()
  first.server.say(row('two'), ready)
  assert.deepEqual([client.told, client.torn, client.ends], [row('one'), 1, 0])
})

test('both are cancelled, and the first to say so counts', () => {
  for (const isFirst of [true, false]) {
    const { client, first, second } = race(prepared)
    let done = 0
    assert.equal(
      (client.where as Race).cancel(client, () => done++),
      true,
    )
    assert.deepEqual([first.server.cancels.length, second.server.cancels.length, done], [1, 1, 0])
    for (const { server } of [first, second]) for (const delivered of server.cancels) delivered()
    assert.equal(done, 1)
    const [one, other] = isFirst ? [first, second] : [second, first]
    one.server.say(cancelled, ready)
    assert.deepEqual([client.told, client.ends, client.dropped], [Buffer.concat([cancelled, ready]), 1, 1])
    other.server.say(cancelled, ready)
    assert.equal(client.ends, 1)
  }
})

test('what waits is cancelled at once, and what runs is cancelled where it does', () => {
  for (const waits of [
    [1, 0],
    [0, 1],
    [1, 1],
  ] as const) {
    const before = waits.map(count => Array.from({ length: count }, () => new Client()))
    const { client, first, second } = race(plain, before as [Client[], Client[]])
    let done = 0
    ;(client.where as Race).cancel(client, () => done++)
    assert.equal(client.ends, 1)
    assert.ok(client.told.includes('57014'))
    const asked = [first, second].filter((_, at) => waits[at] === 0)
    for (const { server } of asked) {
      assert.equal(server.cancels.length, 1)
      server.cancels[0]!()
    }
    assert.equal(done, 1)
    for (const place of [first, second]) while (place.lane.count > 0) place.server.say(row('any'), ready)
    assert.equal(client.ends, 1)
  }
})

test('when the client leaves nobody hears of it, and what takes long is cancelled', () => {
  const { client, decided, first, second } = race()
  ;(client.where as Race).forget()
  at.nowMs += 200
  for (const { lane, server } of [first, second]) {
    lane.checkStall(at.nowMs)
    assert.equal(server.cancels.length, 1)
    server.say(row('one'), ready)
  }
  assert.deepEqual([client.told.length, client.ends, decided.length], [0, 0, 0])
  assert.equal(first.server.counted + second.server.counted, 1)
})

test('one that was beaten and goes on for long is cancelled, and counts as a stall', () => {
  const { client, first, second } = race()
  second.server.say(row('yes'), ready)
  at.nowMs += 200
  first.lane.checkStall(at.nowMs)
  assert.deepEqual([client.ends, first.server.cancels.length, first.server.stalls], [1, 1, 1])
  first.server.say(cancelled, ready)
  assert.deepEqual([first.server.counted, first.server.noted, first.lane.count], [0, 0, 0])
})

test('a unit is late when it takes longer than almost all of its kind, until it has something', () => {
  const learned = new Learned()
  const place = newLane()
  const client = new Client()
  place.submit(client, plain, learned)
  at.nowMs += 1000
  assert.equal(place.lane.tellLate(at.nowMs), true)
  assert.equal(client.late.length, 0)
  place.server.say(ready)
  for (let count = 0; count < 100; count++) learned.tail.observe(20)
  const [quick, other] = [new Client(), new Client()]
  place.submit(quick, plain, learned)
  at.nowMs += 10
  place.submit(other, plain, learned)
  place.lane.tellLate(at.nowMs)
  assert.equal(quick.late.length, 0)
  at.nowMs += 20
  place.lane.tellLate(at.nowMs)
  assert.deepEqual([quick.late.length, other.late.length], [1, 0])
  place.lane.tellLate(at.nowMs)
  quick.late[0]!.hedging = Hedging.Settled
  place.lane.tellLate(at.nowMs)
  assert.equal(quick.late.length, 2)
  at.nowMs += 10
  place.server.say(ready, row('one'))
  place.lane.tellLate(at.nowMs)
  assert.equal(other.late.length, 0)
  place.server.say(ready)
  assert.equal(place.lane.tellLate(at.nowMs), false)
})
