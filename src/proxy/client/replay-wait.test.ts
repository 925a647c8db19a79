import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Client as Code } from '../../wire/codes.ts'
import { readErrorFields, readyForQueryIdle, sync, writeParse, writeQuery } from '../../wire/messages.ts'
import { firstRequestBytes } from '../relay/requests.ts'
import type { ServerConnection } from '../server.ts'
import type { Client } from './client.ts'
import type { ClientHost } from './client-host.ts'
import { ReplayWait } from './replay-wait.ts'

const first = writeQuery('select 1')
const second = writeQuery('select 2')
const parse = writeParse('', 'select 1', [])

/** A client that waits with `ahead`, and what becomes of it. */
class Waiting {
  readonly log: string[] = []
  decide: (isFresh: boolean) => void = () => assert.fail('nothing is waited for')
  /** The server has answered what the proxy has asked. */
  answer: () => void = () => assert.fail('the server was not asked')
  readonly client: {
    ahead: Buffer
    isHeld: boolean
    hasLooked: boolean
  }
  readonly server
  readonly counters = { routed: { stale: 0 } }
  readonly wait: ReplayWait

  constructor(ahead: Buffer, isInTransaction = false) {
    const { log } = this
    const client = {
      ahead,
      isHeld: false,
      hasLooked: false,
      door: 'replica',
      session: undefined,
      hold(): void {
        this.isHeld = true
      },
      takeAhead(): Buffer {
        const all = this.ahead
        this.ahead = Buffer.alloc(0)
        return all
      },
      takeRequest(): Buffer | undefined {
        const bytes = firstRequestBytes(this.ahead)
        if (bytes === undefined) return undefined
        const request = this.ahead.subarray(0, bytes)
        this.ahead = this.ahead.subarray(bytes)
        return request
      },
      goOnWith(piece: Buffer): void {
        this.isHeld = false
        log.push(`passed ${textOf(piece)}`)
      },
      goOnAnswered(answer: Buffer): void {
        this.isHeld = false
        const ready = answer.subarray(-readyForQueryIdle.length)
        const code = readErrorFields(answer.subarray(5)).get('C')
        log.push(`answered ${code} ${String.fromCharCode(ready.at(-1)!)}`)
      },
      end(reason: string): void {
        this.isHeld = false
        log.push(`ended ${reason}`)
      },
    }
    this.server = {
      isClosed: false,
      isInTransaction,
      target: { node: 'b' },
      ask: (messages: Buffer, _readyForQueries: number, done: () => void) => {
        log.push(`asked ${textOf(messages)}`)
        this.answer = done
      },
      write: (messages: Buffer) => log.push(`wrote ${textOf(messages)}`),
      request: () => log.push('owes an error'),
    }
    const host = {
      clock: { nowMs: () => 0 },
      counters: this.counters,
      kept: {
        noteLook: (each: { hasLooked: boolean }) => (each.hasLooked = true),
        whenFresh: (_client: Client, _server: ServerConnection, done: (isFresh: boolean) => void) => {
          this.decide = done
        },
      },
    }
    this.client = client
    this.wait = new ReplayWait(
      client as unknown as Client,
      this.server as unknown as ServerConnection,
      host as unknown as ClientHost,
    )
  }
}

function textOf(messages: Buffer): string {
  return messages.toString('latin1').replace(/[^ -~]+/g, ' ')
}

function waitingWith(...ahead: Buffer[]): Waiting {
  return new Waiting(Buffer.concat(ahead))
}

describe('the wait for a standby that its client keeps', () => {
  test('when it has replayed enough, the first request is passed on alone', () => {
    const waiting = waitingWith(first, second)
    assert.equal(waiting.client.isHeld, true)
    waiting.decide(true)
    assert.deepEqual(waiting.log, [`passed ${textOf(first)}`])
    assert.deepEqual(waiting.client.ahead, second)
    assert.equal(waiting.client.hasLooked, true)
    assert.equal(waiting.wait.isOver, true)
  })

  test('a request that has not come whole is passed on as far as it has come', () => {
    const waiting = waitingWith(parse)
    waiting.decide(true)
    assert.deepEqual(waiting.log, [`passed ${textOf(parse)}`])
  })

  test('when it does not get there, the first request is refused and the next one is looked at', () => {
    const waiting = waitingWith(first, second)
    waiting.decide(false)
    assert.deepEqual(waiting.log, ['answered 40001 I'])
    assert.deepEqual(waiting.client.ahead, second)
    assert.equal(waiting.counters.routed.stale, 1)
  })

  test('a transaction fails by it, on its server as well', () => {
    const waiting = new Waiting(first, true)
    waiting.decide(false)
    assert.equal(waiting.client.isHeld, true)
    waiting.answer()
    assert.deepEqual(waiting.log, [
      `asked ${textOf(writeQuery('pgherd has refused a statement'))}`,
      'answered 40001 E',
    ])
  })

  test('a server that is lost while it is asked to fail answers nobody', () => {
    const waiting = new Waiting(first, true)
    waiting.decide(false)
    waiting.server.isClosed = true
    waiting.answer()
    assert.equal(waiting.log.length, 1)
  })

  test('of a request that has not come whole the server is made to discard the rest', () => {
    const waiting = waitingWith(parse)
    waiting.decide(false)
    assert.match(waiting.log[0]!, /^wrote P.*pgherd_refused/)
    assert.deepEqual(waiting.log.slice(1), ['owes an error', `passed ${textOf(parse)}`])
  })

  test('half a Query cannot be refused: the client is ended', () => {
    assert.equal(first[0], Code.Query)
    const waiting = waitingWith(first.subarray(0, 8))
    waiting.decide(false)
    assert.deepEqual(waiting.log, ['ended no_route'])
  })

  test('cancelled, it is answered at once, and what the standby has later does not matter', () => {
    const waiting = waitingWith(parse, sync, second)
    waiting.wait.cancel()
    assert.deepEqual(waiting.log, ['answered 57014 I'])
    assert.deepEqual(waiting.client.ahead, second)
    assert.equal(waiting.wait.isOver, true)
    waiting.client.isHeld = true
    waiting.decide(true)
    assert.equal(waiting.log.length, 1)
    assert.equal(waiting.counters.routed.stale, 0)
  })

  test('what has not come whole cannot be cancelled', () => {
    const waiting = waitingWith(parse)
    waiting.wait.cancel()
    assert.deepEqual(waiting.log, [])
    assert.equal(waiting.wait.isOver, false)
  })

  test('nothing comes of it when client or server are gone', () => {
    for (const gone of ['client', 'server']) {
      const waiting = waitingWith(first)
      if (gone === 'client') waiting.client.isHeld = false
      else waiting.server.isClosed = true
      waiting.decide(true)
      assert.deepEqual(waiting.log, [])
    }
  })
})
