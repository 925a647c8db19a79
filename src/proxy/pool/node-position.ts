import type { Clock } from '../../runtime/clock.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { endOfRecords, readLsn } from '../../topology/lsn.ts'
import type { Lsn } from '../../topology/types.ts'
import { readDataRow, writeFunctionCall, writeQuery } from '../../wire/messages.ts'
import type { Client } from '../client/client.ts'
import type { ServerConnection, ServerUser } from '../server.ts'
import type { AcknowledgedWrites, Mark } from './acknowledged.ts'

export interface NodePositionOptions {
  clock: Clock
  timers: Timers
  writes: AcknowledgedWrites
  /** A connection to the node with what the client logs in with, for a question of the proxy's own. */
  borrow: (client: Client, user: ServerUser) => ServerConnection | undefined
}

/** How far a node was. */
export interface Position {
  /** Of a primary what it has written; of a standby what it has replayed. */
  readonly lsn: Lsn
  /** The question was sent then: the node was surely not further when whatever was before came to an end. */
  readonly askedMs: number
  /** What had been acknowledged by then. */
  readonly mark: Mark
}

type Done = (position: Position | undefined) => void

interface Waiter {
  client: Client
  isPatient: boolean
  done: Done
}

/** Time between two questions to a node that has not got far enough yet. */
const pauseMs = 1
const timeoutMs = 1000
const failedPauseMs = 200
const reachedMsMax = 1000

const question = writeQuery(`SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
  THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END,
  pg_catalog.pg_is_in_recovery(),
  pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))`)

/**
 * The same by a FunctionCall, which takes a fifth of the server's time: neither parsed nor planned. The numbers are those
 * of pg_current_wal_insert_lsn and pg_last_wal_replay_lsn in every version (`pg_proc.dat`).
 */
const writtenCall = writeFunctionCall(2852)
const replayedCall = writeFunctionCall(3821)

/**
 * How far one node is, asked for only when somebody needs to know, and once for all who need it at the same time: one
 * question is on its way, and those who come meanwhile get the next.
 */
export class NodePosition {
  readonly #options: NodePositionOptions
  latest: Position | undefined
  /** When a connection to the node was lost. */
  #lostMs = Number.NEGATIVE_INFINITY
  #server: ServerConnection | undefined
  /** What the server has said of its segments, and that it is a standby or none; until then it is asked in SQL. */
  #segmentBytes = 0
  #asked: Waiter[] = []
  #next: Waiter[] = []
  /** When the question that is on its way was sent; undefined while there is none. */
  #askingSinceMs: number | undefined
  #pause: Timer | undefined
  #timeout: Timer | undefined
  /** It could not tell: it is not asked again before that. */
  #notBeforeMs = 0
  /** The same in the name of those whom it did not let in, by the keys of their pools. */
  readonly #refusedUntilMs = new Map<string, number>()
  /** Counts up when what was known does not count any more. */
  #epoch = 0

  constructor(options: NodePositionOptions) {
    this.#options = options
  }

  /**
   * Where a standby surely is. One that has crashed may come back with less than it has shown: what it told before a
   * connection to it was lost does not count, nor what it told long ago, for without a connection nobody notices.
   */
  get reached(): Lsn {
    const { latest } = this
    if (!latest || latest.askedMs <= this.#lostMs) return -1
    return this.#options.clock.nowMs() - latest.askedMs <= reachedMsMax ? latest.lsn : -1
  }

  noteLost(): void {
    this.#lostMs = this.#options.clock.nowMs()
  }

  /**
   * A position that was asked for at `afterMs` or later; undefined when it cannot be had. Who `isPatient` has asked a
   * moment ago.
   */
  after(afterMs: number, client: Client, isPatient: boolean, done: Done): void {
    const { latest } = this
    if (latest && latest.askedMs >= afterMs) return done(latest)
    const notBeforeMs = Math.max(this.#notBeforeMs, this.#refusedUntilMs.get(client.poolKey) ?? 0)
    if (this.#options.clock.nowMs() < notBeforeMs) return done(undefined)
    const waiter = { client, isPatient, done }
    if (this.#askingSinceMs !== undefined && this.#askingSinceMs >= afterMs) this.#asked.push(waiter)
    else this.#next.push(waiter)
    this.#askSoon()
  }

  #askSoon(): void {
    if (this.#askingSinceMs !== undefined || this.#next.length === 0) return
    if (this.#next.some(({ isPatient }) => !isPatient)) return this.#ask()
    this.#pause ??= this.#options.timers.after(pauseMs, () => {
      this.#ask()
    })
  }

  #ask(): void {
    const { clock, timers } = this.#options
    this.#pause?.cancel()
    this.#pause = undefined
    this.#asked = this.#next
    this.#next = []
    const [first] = this.#asked
    if (!first) return
    this.#askingSinceMs = clock.nowMs()
    this.#timeout = timers.after(timeoutMs, () => this.#fail())
    const server = this.#server
    if (server) return this.#send(server)
    const opened = this.#options.borrow(first.client, this.#user())
    if (!opened) return this.#fail()
    this.#server = opened
    if (opened.isActive) this.#send(opened)
  }

  #send(server: ServerConnection): void {
    const { clock, writes } = this.#options
    const epoch = this.#epoch
    const askedMs = clock.nowMs()
    this.#askingSinceMs = askedMs
    const mark = writes.mark()
    const { isStandby } = server
    const calls = this.#segmentBytes > 0 && server.reported.has('in_hot_standby')
    const sent = !calls ? question : isStandby ? replayedCall : writtenCall
    server.ask(sent, 1, ({ failed, replies }) => {
      if (this.#server !== server || this.#epoch !== epoch) return
      // It was promoted meanwhile: what it has replayed is not what it has.
      if (calls && server.isStandby !== isStandby) return this.#send(server)
      const row = failed ? undefined : replies[0]?.rows[0]
      const lsn = row && (calls ? this.#readCall(row, isStandby) : this.#readRow(readDataRow(row)))
      if (lsn === undefined) return this.#fail()
      this.#finish({ lsn, askedMs, mark })
    })
  }

  #readRow([lsn, isStandby, segmentBytes]: readonly (string | undefined)[]): Lsn | undefined {
    const position = lsn === undefined ? undefined : readLsn(lsn)
    if (position === undefined) return undefined
    this.#segmentBytes = Number(segmentBytes)
    return isStandby === 't' ? position : endOfRecords(position, this.#segmentBytes)
  }

  #readCall(body: Buffer, isStandby: boolean): Lsn | undefined {
    if (body.length !== 12) return undefined
    const position = body.readUInt32BE(4) * 2 ** 32 + body.readUInt32BE(8)
    return isStandby ? position : endOfRecords(position, this.#segmentBytes)
  }

  #finish(position: Position | undefined): void {
    this.#timeout?.cancel()
    this.#timeout = undefined
    this.#askingSinceMs = undefined
    if (position) this.latest = position
    const asked = this.#asked
    this.#asked = []
    for (const { done } of asked) done(position)
    this.#askSoon()
    // Clients may be waiting for a connection.
    const server = this.#server
    if (!server?.isActive || this.#askingSinceMs !== undefined || this.#next.length > 0) return
    this.#server = undefined
    server.checkIn()
  }

  /** The node did not let in the one in whose name it was asked: that says nothing of others. */
  #refuse(): void {
    const nowMs = this.#options.clock.nowMs()
    for (const [key, untilMs] of this.#refusedUntilMs) if (untilMs <= nowMs) this.#refusedUntilMs.delete(key)
    const [asker] = this.#asked
    if (asker) this.#refusedUntilMs.set(asker.client.poolKey, nowMs + failedPauseMs)
    this.#fail(0)
  }

  /** Nobody is kept waiting: the node cannot tell now. */
  #fail(forMs = failedPauseMs): void {
    const server = this.#server
    this.#pause?.cancel()
    this.#pause = undefined
    this.#notBeforeMs = this.#options.clock.nowMs() + forMs
    this.#letGo()
    this.#epoch++
    const waiting = this.#next
    this.#next = []
    this.#asked.push(...waiting)
    this.#finish(undefined)
    server?.destroy()
  }

  #letGo(): void {
    this.#server = undefined
    this.#segmentBytes = 0
  }

  #user(): ServerUser {
    return {
      onChallenge: () => this.#refuse(),
      onLoginNotice: () => undefined,
      onServerReady: server => {
        if (server !== this.#server) return server.destroy()
        if (server.challenged) this.#refuse()
        else if (this.#askingSinceMs !== undefined) this.#send(server)
      },
      onLoginFailed: (server, { kind }) => {
        if (server !== this.#server && this.#server !== undefined) return
        if (kind === 'full' || kind === 'refused') this.#refuse()
        else this.#fail()
      },
      onAside: () => undefined,
      onStatementsGone: () => undefined,
      onRetry: () => undefined,
      onServerData: () => undefined,
      onServerWritable: () => undefined,
      onServerLost: server => {
        if (server !== this.#server) return
        this.#letGo()
        this.noteLost()
        if (this.#askingSinceMs !== undefined) this.#fail()
      },
    }
  }

  /** The node may have been replaced, or have gone back to an older state: nothing that was known of it counts. */
  forget(): void {
    this.latest = undefined
    this.#fail()
  }
}
