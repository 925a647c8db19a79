import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FakeTime } from '../../../test/support/fake-time.ts'
import { TransactionStatus } from '../../wire/codes.ts'
import { sync, writeBind, writeExecute, writeParse, writeQuery } from '../../wire/messages.ts'
import type { Client } from '../client/client.ts'
import type { ServerConnection } from '../server.ts'
import { KeptReads, type KeptReadsOptions } from './kept-reads.ts'
import { causalDemand, type Positions } from './positions.ts'

const terminate = Buffer.from([0x58, 0, 0, 0, 4])
const close = Buffer.from([0x43, 0, 0, 0, 7, 0x53, 0x71, 0])
const read = writeQuery('select * from t')
const setting = writeQuery("set application_name = 'x'")
const [begin, commit] = [writeQuery('begin'), writeQuery('commit')]

/** A client that keeps a connection to the replica `b`. */
class Kept {
  readonly client = { hasLooked: false, replication: false }
  readonly server = {
    challenged: false,
    isBusy: false,
    owed: { discarding: false, isCopyIn: false },
    status: TransactionStatus.Idle as number,
    target: { node: 'b' },
    unsynced: false,
    get isInTransaction(): boolean {
      return this.status !== TransactionStatus.Idle
    },
  }
  /** The replica has what the client must see. */
  isFresh = false
  tracksWrites = true
  readonly clock = new FakeTime()
  primary = 'a'
  readonly #reads = new KeptReads({
    positions: { isFresh: () => this.isFresh } as unknown as Positions,
    tracksWrites: () => this.tracksWrites,
    clock: this.clock,
    timers: this.clock,
    primary: () => this.primary,
    demandOf: () => causalDemand,
  } satisfies KeptReadsOptions)

  passable(piece: Buffer): number {
    const { client, server } = this
    return this.#reads.passableBytes(client as Client, server as unknown as ServerConnection, piece)
  }

  maySee(piece: Buffer): boolean {
    return this.passable(piece) === piece.length
  }
}

describe('what is passed on to a standby that its client keeps', () => {
  test('a read waits for what it must see', () => {
    const kept = new Kept()
    assert.equal(kept.maySee(read), false)
    assert.equal(kept.maySee(Buffer.concat([writeParse('', 'select 1 from t', []), sync])), false)
    kept.isFresh = true
    assert.equal(kept.maySee(read), true)
  })

  test('what sees no data does not', () => {
    const kept = new Kept()
    const quiet = [sync, terminate, writeQuery('set a = 1; set b = 2'), Buffer.concat([close, sync])]
    for (const piece of [setting, begin, commit, ...quiet]) assert.equal(kept.maySee(piece), true)
    assert.equal(kept.client.hasLooked, false)
  })

  test('in a transaction the first statement that sees data decides', () => {
    const kept = new Kept()
    kept.server.status = TransactionStatus.InTransaction
    assert.equal(kept.maySee(setting), true)
    assert.equal(kept.maySee(read), false)
    kept.isFresh = true
    assert.equal(kept.maySee(read), true)
    kept.isFresh = false
    assert.equal(kept.maySee(read), true, 'it goes on with its snapshot')
  })

  test('the next transaction is looked at by itself', () => {
    const kept = new Kept()
    kept.isFresh = true
    assert.equal(kept.maySee(read), true)
    kept.isFresh = false
    assert.equal(kept.maySee(begin), true)
    kept.server.status = TransactionStatus.InTransaction
    assert.equal(kept.maySee(read), false)
  })

  test('while something is on the way, the transaction may be another one by the time that it is answered', () => {
    const kept = new Kept()
    kept.server.status = TransactionStatus.InTransaction
    kept.isFresh = true
    assert.equal(kept.maySee(read), true)
    kept.server.isBusy = true
    kept.isFresh = false
    assert.equal(kept.maySee(read), false)
  })

  test('of several requests as many are passed on as may be', () => {
    const kept = new Kept()
    kept.server.status = TransactionStatus.InTransaction
    kept.client.hasLooked = true
    assert.equal(kept.passable(Buffer.concat([read, commit, read])), read.length + commit.length)
    kept.server.status = TransactionStatus.Failed
    assert.equal(kept.passable(Buffer.concat([commit, read])), commit.length)
  })

  test('what begins or ends a transaction in the same request is not covered by what was seen in the last one', () => {
    const kept = new Kept()
    kept.server.status = TransactionStatus.InTransaction
    for (const text of ['commit; select * from t', 'commit and chain; table t']) {
      kept.client.hasLooked = true
      assert.equal(kept.maySee(writeQuery(text)), false)
    }
    assert.equal(kept.maySee(writeQuery('commit and chain')), true)
    assert.equal(kept.maySee(read), false)
    kept.server.status = TransactionStatus.Idle
    const named = Buffer.concat([writeBind('', 'b'), writeExecute(''), sync])
    kept.isFresh = true
    assert.equal(kept.maySee(named), true)
    kept.isFresh = false
    kept.server.status = TransactionStatus.InTransaction
    assert.equal(kept.maySee(read), false, 'it may have been a BEGIN')
  })

  const begun: [string, (kept: Kept) => void][] = [
    ['messages that no Sync has followed', kept => (kept.server.unsynced = true)],
    ['what is discarded up to the next Sync', kept => (kept.server.owed.discarding = true)],
    ['copy data', kept => (kept.server.owed.isCopyIn = true)],
    ['a transaction that has failed', kept => (kept.server.status = TransactionStatus.Failed)],
    ['a walsender session', kept => (kept.client.replication = true)],
  ]
  for (const [what, set] of begun) {
    test(`${what}: it goes on`, () => {
      const kept = new Kept()
      set(kept)
      assert.equal(kept.maySee(read), true)
    })
  }

  const free: [string, (kept: Kept) => void][] = [
    ['there is but one node', kept => (kept.tracksWrites = false)],
    ['the node is the primary by now', kept => (kept.primary = 'b')],
    ['only the client can log in as its user', kept => (kept.server.challenged = true)],
  ]
  for (const [why, set] of free) {
    test(`nothing is waited for where ${why}`, () => {
      const kept = new Kept()
      set(kept)
      assert.equal(kept.maySee(read), true)
    })
  }
})
