import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../runtime/random.ts'
import { CancelDesk, type Cancellable } from './cancel-desk.ts'
import { CancelKeys, markPassedOn } from './cancels.ts'

class Client implements Cancellable {
  cancelKey: string | undefined
  /** To be called when its server was asked. */
  readonly cancels: (() => void)[] = []
  readonly #isBusy: boolean

  constructor(isBusy: boolean) {
    this.#isBusy = isBusy
  }

  cancel(done: () => void): boolean {
    if (this.#isBusy) this.cancels.push(done)
    else done()
    return this.#isBusy
  }
}

function newDesk() {
  const keys = new CancelKeys<Client>(seededRandom(1))
  const counters = { cancelsForwarded: 0, cancelsUnknown: 0 }
  const asked: [string, boolean, number][] = []
  const desk = new CancelDesk({
    keys,
    counters,
    cancelOther: processId => processId === 1,
    askOthers: (_, secret, isPassedOn, request) => asked.push([secret.toString('hex'), isPassedOn, request]),
  })
  let done = 0
  const take = (processId: number, sent: Buffer): void => desk.take(processId, sent, () => done++)
  return { asked, counters, desk, done: () => done, keys, take }
}

test('who is here is cancelled here, and the request is done when its server was asked', () => {
  const { asked, counters, done, keys, take } = newDesk()
  const [busy, resting] = [new Client(true), new Client(false)]
  const key = keys.register(busy, 4711)
  take(4711, key.secret)
  assert.deepEqual([busy.cancels.length, done(), counters.cancelsForwarded], [1, 0, 1])
  busy.cancels[0]!()
  assert.equal(done(), 1)
  take(4712, keys.register(resting, 4712).secret)
  take(1, Buffer.alloc(4))
  assert.deepEqual([done(), counters.cancelsForwarded, asked.length], [3, 1, 0])
})

test('for whom nobody here knows the others are asked, each request once, and no proxy twice', () => {
  const { asked, counters, desk, done, take } = newDesk()
  const secret = Buffer.from('01020304', 'hex')
  take(7, secret)
  take(7, markPassedOn(secret))
  assert.deepEqual(asked, [
    ['01020304', false, 1],
    ['01020304', true, 2],
  ])
  desk.onAnswer(2, true)
  assert.deepEqual([done(), counters.cancelsUnknown], [1, 0])
  desk.onAnswer(2, true)
  desk.onAnswer(1, false)
  assert.deepEqual([done(), counters.cancelsUnknown], [2, 1])
})

test('another worker is told at once that nobody here has the key', () => {
  const { asked, desk } = newDesk()
  const found: boolean[] = []
  desk.cancel(7, Buffer.alloc(4), each => found.push(each))
  assert.deepEqual([found, asked], [[false], []])
})
