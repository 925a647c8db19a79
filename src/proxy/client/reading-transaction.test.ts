import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { TransactionStatus } from '../../wire/codes.ts'
import { writeQuery } from '../../wire/messages.ts'
import type { ServerConnection } from '../server.ts'
import type { Client } from './client.ts'
import type { ClientHost } from './client-host.ts'
import type { DeferredBegin } from './deferred-begin.ts'
import { runInReading } from './reading-transaction.ts'

const request = writeQuery('select 1')
const transaction = { sinceMs: 3, readsOnly: true, hasFailed: false } as DeferredBegin

/** A client in a transaction that only reads, on a replica. */
class Reading {
  readonly log: string[] = []
  readonly client
  readonly server
  decide: (isFresh: boolean) => void = () => assert.fail('nothing is waited for')
  /** The server has answered the ROLLBACK. */
  rolledBack: () => void = () => assert.fail('the server was not asked')

  constructor(goesOn: ReturnType<ClientHost['goesOn']>, status: number = TransactionStatus.InTransaction) {
    const { log } = this
    this.client = {
      awaitsFreshness: false,
      home: 'b',
      isHeld: false,
      route: 'replica',
      transaction,
      hold(): void {
        this.isHeld = true
      },
      goOnWith(piece: Buffer): void {
        assert.equal(piece, request)
        log.push('passed')
      },
      leave(): void {
        log.push('left')
      },
      runElsewhere(piece: Buffer, begun: DeferredBegin): void {
        assert.equal(piece, request)
        assert.equal(begun.sinceMs, transaction.sinceMs)
        const state = begun.hasFailed ? 'failed' : 'open'
        log.push(`${state} on the ${this.route}, ${begun.readsOnly ? 'reading' : 'for good'}`)
      },
    }
    this.server = {
      isClosed: false,
      status,
      transactionSinceMs: 3,
      ask: (messages: Buffer, _readyForQueries: number, done: () => void) => {
        assert.deepEqual(messages, writeQuery('ROLLBACK'))
        this.rolledBack = done
      },
      checkIn: () => log.push('given back'),
    }
    const host = {
      goesOn: () => goesOn,
      whenFresh: (_client: Client, node: string, done: (isFresh: boolean) => void) => {
        assert.equal(node, 'b')
        this.decide = done
      },
    }
    runInReading(
      this.client as unknown as Client,
      request,
      this.server as unknown as ServerConnection,
      host as unknown as ClientHost,
    )
  }
}

describe('a request in a transaction that only reads', () => {
  test('what reads stays on the replica', () => {
    assert.deepEqual(new Reading('yes').log, ['passed'])
  })

  test('what is no read goes to the primary, and the transaction with it', () => {
    const reading = new Reading('no')
    assert.deepEqual(reading.log, [], 'not before the replica has given it up')
    assert.equal(reading.client.isHeld, true)
    reading.rolledBack()
    assert.deepEqual(reading.log, ['left', 'given back', 'open on the primary, for good'])
    assert.equal(reading.server.transactionSinceMs, 0)
  })

  test('a client that ends meanwhile goes nowhere', () => {
    const reading = new Reading('no')
    reading.client.isHeld = false
    reading.rolledBack()
    assert.deepEqual(reading.log, [])
  })

  test('in a transaction that has failed everything fails, wherever it is', () => {
    assert.deepEqual(new Reading('no', TransactionStatus.Failed).log, ['passed'])
  })

  test('several requests at once may end a transaction that has failed, and go on: they go to the primary', () => {
    const reading = new Reading('several', TransactionStatus.Failed)
    reading.rolledBack()
    assert.equal(reading.log.at(-1), 'failed on the primary, for good')
  })

  test('it waits for what it must see', () => {
    const reading = new Reading('if fresh')
    assert.deepEqual(reading.log, [])
    assert.equal(reading.client.awaitsFreshness, true)
    reading.decide(true)
    assert.deepEqual(reading.log, ['passed'])
    assert.equal(reading.client.awaitsFreshness, false)
  })

  test('it does not wait for ever', () => {
    const reading = new Reading('if fresh')
    reading.decide(false)
    reading.rolledBack()
    assert.equal(reading.log.at(-1), 'open on the primary, for good')
  })

  test('a replica that is lost meanwhile is left without a word', () => {
    const reading = new Reading('if fresh')
    reading.server.isClosed = true
    reading.decide(true)
    assert.deepEqual(reading.log, ['left', 'open on the primary, for good'])
  })
})
