import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Timers } from '../../runtime/timers.ts'
import type { StatementClasses } from '../../sql/statement-classes.ts'
import type { Database } from '../catalog/database.ts'
import type { WorkerCounters } from '../counters.ts'
import type { Lane } from '../lanes/lane.ts'
import type { LaneUnit } from '../lanes/unit.ts'
import type { KeptReads } from '../pool/kept-reads.ts'
import type { PoolLimits, PoolMode } from '../pool/limits.ts'
import type { LoginFailure } from '../relay/conversations.ts'
import type { ServerConnection } from '../server.ts'
import type { Reported } from '../session/reported.ts'
import type { PinReason } from '../session/session-question.ts'
import type { StartupForms } from '../session/settings.ts'
import type { DatabaseStats } from '../stats.ts'
import type { CancelKey } from './cancels.ts'
import type { Client } from './client.ts'
import type { TransactionDesk } from './deferred-begin.ts'
import type { DetachedClient } from './detached-client.ts'
import type { DisconnectReason } from './failures.ts'

/** What a client needs of the worker around it, for which a `DetachedClient` is always a `Client`. */
export interface ClientHost {
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  readonly counters: WorkerCounters
  readonly loginTimeoutMs: number
  /** What is known of kinds of statements. */
  readonly classes: StatementClasses
  /** Finds a server connection, now or when there is one; ends in `attach`, `onLoginFailed` or `end`. */
  acquire(client: DetachedClient): void
  /** What a client of a shared pool is told when its session begins, where that is known without a server connection. */
  greetingFor(client: Client): Reported | undefined
  /** Sets where a request of a client without a server connection goes. False: `whenReady` has to be waited for. */
  direct(client: DetachedClient, request: Buffer): boolean
  /** Whether a request in a transaction that only reads can be run on its replica. */
  goesOn(client: Client, request: Buffer): 'yes' | 'if fresh' | 'no' | 'several'
  whenReady(client: DetachedClient, isWanted: () => boolean, done: () => void): void
  /** What a request is answered with that asks where it would go; undefined for any other. */
  explain(client: DetachedClient, request: Buffer): Buffer | undefined
  /** Calls back with true when the node of `client`'s server has what it must see, as far as that can be told. */
  whenFresh(client: Client, node: string, done: (isFresh: boolean) => void): void
  /** What clients must see who keep their server connection. */
  readonly kept: KeptReads
  /** The client is about to learn that something may have been written: later reads have to see it. */
  noteWrite(): void
  /** Whether there is anybody whose reads might not see it. */
  readonly tracksWrites: boolean
  /** A request that has come to a client without a server connection: the lane that it runs in, if it may share one. */
  share(client: DetachedClient, request: Buffer): Lane | undefined
  /** A unit of the client, in a lane on a replica, takes longer than it should. */
  onLate(client: DetachedClient, lane: Lane, unit: LaneUnit): void
  /** Answers requests that begin or end transactions which no server knows of. */
  readonly transactions: TransactionDesk
  /** The client no longer waits for one. */
  abandon(client: DetachedClient): void
  /** A login at a server failed; the client may be given another one. */
  onLoginFailed(client: Client, server: ServerConnection, failure: LoginFailure): void
  /** What follows from startup parameters, shared by clients who say the same. */
  readonly startups: StartupForms
  /** Whether the session may still begin there: the world may have changed during the login. */
  mayBegin(client: Client, server: ServerConnection): boolean
  /** The client has got a connection to work on. */
  onAttached(client: Client, server: ServerConnection): void
  /** It has given it back. */
  onDetached(client: Client, server: ServerConnection): void
  /** The session begins, on `server` if it has one: makes and remembers its cancel key. */
  register(client: Client, server: ServerConnection | undefined): CancelKey
  /** Pool mode of a database and user. */
  modeOf(database: string, user: string): PoolMode
  /** What is counted of the database that clients know by this name. */
  statsOf(database: string): DatabaseStats
  /** What is known of the database that clients know by this name. */
  knowledgeOf(database: string): Database
  /** What counts for the connections of the client's pool. */
  limitsOf(client: Client): PoolLimits
  /** No connection to a database is to be kept that nobody uses. */
  freeDatabase(name: string): void
  onPinned(client: Client, before: readonly PinReason[]): void
  /** Nothing is outstanding and the client's node asks it to leave. */
  onRest(client: Client): void
  onEnd(client: Client, reason: DisconnectReason): void
}

/** How a session is asked to leave its node. */
export interface Leaving {
  /** From then on it is ended when nothing is outstanding and no transaction is open; Infinity for never. */
  deadlineMs: number
  /** Moving it to another node was tried. */
  tried: boolean
  /** From the deadline on it is ended even inside a transaction. */
  byForce: boolean
}
