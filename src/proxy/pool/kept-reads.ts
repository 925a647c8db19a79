import type { Consistency } from '../../config/consistency.ts'
import { readHints } from '../../routing/hints.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Timers } from '../../runtime/timers.ts'
import { TransactionStatus } from '../../wire/codes.ts'
import { writeErrorResponse } from '../../wire/messages.ts'
import type { Client } from '../client/client.ts'
import { UnitKind, UnitReader } from '../lanes/unit-reader.ts'
import { RequestReader } from '../relay/request-reader.ts'
import type { ServerConnection } from '../server.ts'
import type { Demand, Positions } from './positions.ts'

export interface KeptReadsOptions {
  positions: Positions
  clock: Clock
  timers: Timers
  /** There is more than one node, so that a read may miss what was written. */
  tracksWrites: () => boolean
  /** The node to write to now. */
  primary: () => string | undefined
  /** What a request of a client must see that says this of itself, or nothing. */
  demandOf: (client: Client, hinted: Consistency | undefined) => Demand
}

/** What may say what later requests have to see. */
const setsDemand = /pgherd|all\b/i

/** How long a request waits for the one server that can answer it. */
const replayMs = 2000
/** Time between two questions of which the first could not be answered. */
const againMs = 50

/**
 * What clients read who keep their server connection and have it on a standby: each request that begins something new
 * there must see what was acknowledged before it came, as if it were looked where it goes. As it cannot go elsewhere it
 * waits for that standby.
 */
export class KeptReads {
  readonly #reader = new UnitReader()
  readonly #requests = new RequestReader()
  readonly #options: KeptReadsOptions

  constructor(options: KeptReadsOptions) {
    this.#options = options
  }

  /**
   * How many bytes of `piece`, which begins with a message, may be passed on now: whole requests, each looked at by
   * itself. In a transaction the first that sees data decides: its locks and its snapshot can keep the standby from
   * going on.
   */
  passableBytes(client: Client, server: ServerConnection, piece: Buffer): number {
    const { owed, status } = server
    if (client.replication || owed.isCopyIn || owed.discarding) return piece.length
    let { isBusy } = server
    if (!isBusy && !server.isInTransaction) client.hasLooked = false
    // It goes on with what was begun.
    let goesOn = server.unsynced
    let at = 0
    while (at < piece.length) {
      const request = this.#requests.read(piece, at, client.hasLooked)
      const isKnown = !isBusy && server.isInTransaction
      const isFree = request.seesNothing || goesOn || (isKnown && this.#isDecided(client, status, request))
      if (!isFree && !this.isFresh(client, server, piece.subarray(at, request.end))) return at
      this.#note(client, request, isKnown && status !== TransactionStatus.Failed)
      const start = at
      at = request.end
      // It may say what the next one has to see.
      if (client.session && request.seesNothing && setsDemand.test(piece.toString('latin1', start, at)))
        return at
      goesOn = false
      isBusy = true
    }
    return at
  }

  #isDecided(client: Client, status: number, request: RequestReader): boolean {
    return (status === TransactionStatus.Failed || client.hasLooked) && !request.hasBound
  }

  #note(client: Client, request: RequestReader, isInTransaction: boolean): void {
    client.hasLooked = request.hasLooked ?? (isInTransaction && !request.hasBound)
  }

  /** `request` is passed on, for which it was made sure that the server has what it must see. */
  noteLook(client: Client, server: ServerConnection, request: Buffer): void {
    const isInTransaction = !server.isBusy && (server.isInTransaction || client.begun !== undefined)
    if (!isInTransaction || client.begun) client.hasLooked = false
    this.#note(client, this.#requests.read(request, 0, client.hasLooked), isInTransaction)
  }

  /** Whether it is known already that the server has what `request` must see. */
  isFresh(client: Client, server: ServerConnection, request: Buffer): boolean {
    const { demandOf, positions, primary, tracksWrites } = this.#options
    const { node } = server.target
    if (!tracksWrites() || node === primary()) return true
    // Only its client can log in as this user: nobody could ask the primary.
    if (server.challenged) return true
    client.demand = demandOf(client, this.#hintOf(request))
    return positions.isFresh(client, node, client.demand)
  }

  #hintOf(request: Buffer): Consistency | undefined {
    const reader = this.#reader
    const kind = reader.read(request)
    if (kind !== UnitKind.Simple && kind !== UnitKind.Parsed) return undefined
    return readHints(request, reader.textStart, reader.textEnd)?.consistency
  }

  /**
   * Calls back when the server has what the request must see that was asked about last: with false when it does not
   * get there in time. While there is no primary, the port for reads shows what there is. A question that failed may
   * have failed for a reason of its user: it is asked again.
   */
  whenFresh(client: Client, server: ServerConnection, done: (isFresh: boolean) => void): void {
    this.#await(client, server, this.#options.clock.nowMs() + replayMs, done)
  }

  #await(
    client: Client,
    server: ServerConnection,
    deadlineMs: number,
    done: (isFresh: boolean) => void,
  ): void {
    const { clock, positions, primary, timers } = this.#options
    const limitMs = Math.max(0, deadlineMs - clock.nowMs())
    positions.whenFresh(client, server.target.node, client.demand, limitMs, isFresh => {
      if (isFresh) return done(true)
      if (client.isClosed || server.isClosed) return done(false)
      if (isFresh === undefined && client.door === 'replica' && primary() === undefined) return done(true)
      if (clock.nowMs() + againMs >= deadlineMs) return done(false)
      timers.after(againMs, () => this.#await(client, server, deadlineMs, done))
    })
  }
}

/** What a client is told whose server did not get there in time. */
export function staleError(client: Client, { isInTransaction, target }: ServerConnection): Buffer {
  // PostgreSQL's own for what a standby cannot go on with, because of its replay, and may do when it is tried again.
  return writeErrorResponse({
    severity: 'ERROR',
    code: '40001',
    message: `pgherd: ${staleMessage(target.node)}`,
    detail: `${reasonOf(client, isInTransaction)}, so that no other server can be asked.`,
    hint: hintOf(client),
  })
}

export function staleMessage(node: string): string {
  return `the replica ${node} did not have within ${replayMs} ms what this must see`
}

function reasonOf({ session }: Client, isInTransaction: boolean): string {
  if (isInTransaction) return 'The transaction has begun there'
  if (session) return `The session keeps its server connection (${session.pins.join(', ')})`
  return 'The session has this server connection for its whole life (pool_mode session)'
}

function hintOf({ door, session }: Client): string {
  const eventual = session
    ? `SET pgherd.consistency = 'eventual'`
    : `options='-c pgherd.consistency=eventual' when connecting`
  const elsewhere =
    door === 'replica'
      ? 'The port for reads and writes has what the primary has.'
      : 'Without `pgherd.route` the primary is read.'
  return `Try again later, or read what the replica has: ${eventual}. ${elsewhere}`
}
