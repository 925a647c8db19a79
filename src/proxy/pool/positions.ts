import type { Clock } from '../../runtime/clock.ts'
import type { Timers } from '../../runtime/timers.ts'
import { readDataRow, writeQuery } from '../../wire/messages.ts'
import type { Client } from '../client/client.ts'
import type { ServerConnection, ServerUser } from '../server.ts'

export interface PositionsOptions {
  clock: Clock
  timers: Timers
  /** A connection to a node with what the client logs in with, for a question of the proxy's own. */
  borrow: (node: string, client: Client, user: ServerUser) => ServerConnection | undefined
  /** The node to write to now, which has everything that any replica has. */
  primary: () => string | undefined
}

/** The client waits meanwhile; after that another node is tried. */
const catchUpMs = 2000
const catchUpPauseMs = 20

const ownPosition = writeQuery(`SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
  THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END`)

/**
 * Reads that go from one node to another must not go back in time: the new node has to have replayed what the old
 * one can have shown. That is asked for only when a client changes its node, and once for all clients that do so at
 * the same time.
 */
export class Positions {
  readonly #options: PositionsOptions
  /** The newest answer to how far a node was, and when it was asked for. */
  readonly #floors = new Map<string, { lsn: string; askedMs: number }>()
  /** How far a node surely is. */
  readonly #reached = new Map<string, bigint>()
  readonly #asking = new Map<string, ((lsn: string | undefined) => void)[]>()

  constructor(options: PositionsOptions) {
    this.#options = options
  }

  /**
   * Calls back with true when `server` has replayed what `client` can have read on `node` up to `readMs`; with false
   * when it does not get there in time.
   */
  catchUp(
    client: Client,
    node: string,
    readMs: number,
    server: ServerConnection,
    done: (isCaughtUp: boolean) => void,
  ): void {
    if (server.reported.get('in_hot_standby') === 'off') return done(true)
    const deadlineMs = this.#options.clock.nowMs() + catchUpMs
    this.#floor(client, node, readMs, lsn => {
      // Nobody can say how far that node was: it is gone, and so is the primary. What is left is all there is.
      if (lsn === undefined) return done(true)
      this.#await(server, lsn, deadlineMs, done)
    })
  }

  #floor(client: Client, node: string, readMs: number, done: (lsn: string | undefined) => void): void {
    const known = this.#floors.get(node)
    if (known && known.askedMs >= readMs) return done(known.lsn)
    this.#ask(client, node, lsn => {
      const primary = this.#options.primary()
      if (lsn !== undefined || primary === undefined || primary === node) return done(lsn)
      this.#ask(client, primary, done)
    })
  }

  #ask(client: Client, node: string, done: (lsn: string | undefined) => void): void {
    const waiting = this.#asking.get(node)
    if (waiting) {
      waiting.push(done)
      return
    }
    this.#asking.set(node, [done])
    const askedMs = this.#options.clock.nowMs()
    const answer = (lsn: string | undefined): void => {
      timer.cancel()
      const all = this.#asking.get(node)
      this.#asking.delete(node)
      if (lsn !== undefined) this.#floors.set(node, { lsn, askedMs })
      for (const each of all ?? []) each(lsn)
    }
    const timer = this.#options.timers.after(catchUpMs / 2, () => {
      server?.destroy()
      answer(undefined)
    })
    const ask = (ready: ServerConnection): void => {
      if (ready.challenged) {
        ready.destroy()
        return answer(undefined)
      }
      ready.ask(ownPosition, 1, ({ failed, replies }) => {
        const row = replies[0]?.rows[0]
        if (!ready.isClosed) ready.checkIn()
        if (this.#asking.has(node)) answer(failed || !row ? undefined : readDataRow(row)[0])
      })
    }
    const user: ServerUser = {
      onChallenge: () => {
        server?.destroy()
        answer(undefined)
      },
      onLoginNotice: () => undefined,
      onServerReady: ask,
      onLoginFailed: () => answer(undefined),
      onAside: () => undefined,
      onStatementsGone: () => undefined,
      onRetry: () => undefined,
      onServerData: () => undefined,
      onServerWritable: () => undefined,
      onServerLost: () => undefined,
    }
    const server = this.#options.borrow(node, client, user)
    if (!server) answer(undefined)
    else if (server.isActive) ask(server)
  }

  #await(server: ServerConnection, lsn: string, deadlineMs: number, done: (is: boolean) => void): void {
    const { node } = server.target
    const wanted = numberOf(lsn)
    if ((this.#reached.get(node) ?? -1n) >= wanted) return done(true)
    server.ask(ownPosition, 1, ({ failed, replies }) => {
      const row = replies[0]?.rows[0]
      const position = failed || !row ? undefined : readDataRow(row)[0]
      if (server.isClosed || position === undefined) return done(true)
      const reached = numberOf(position)
      this.#reached.set(node, reached)
      if (reached >= wanted) return done(true)
      if (this.#options.clock.nowMs() >= deadlineMs) return done(false)
      this.#options.timers.after(catchUpPauseMs, () => {
        if (server.isClosed) done(true)
        else this.#await(server, lsn, deadlineMs, done)
      })
    })
  }

  /** A node may have been replaced, or have gone back to an older state: nothing that was known of it counts. */
  forget(node: string): void {
    this.#reached.delete(node)
    this.#floors.delete(node)
  }
}

/** `16/B374D848` as one number. */
function numberOf(lsn: string): bigint {
  const [high, low] = lsn.split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}
