import type { Consistency } from '../../config/consistency.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Timers } from '../../runtime/timers.ts'
import type { Lsn } from '../../topology/types.ts'
import type { Client } from '../client/client.ts'
import type { ServerConnection, ServerUser } from '../server.ts'
import type { AcknowledgedWrites } from './acknowledged.ts'
import { NodePosition, type Position } from './node-position.ts'

export interface PositionsOptions {
  clock: Clock
  timers: Timers
  writes: AcknowledgedWrites
  /** A connection to a node with what the client logs in with, for a question of the proxy's own. */
  borrow: (node: string, client: Client, user: ServerUser) => ServerConnection | undefined
  /** The node to write to now, which has everything that any replica has. */
  primary: () => string | undefined
  /** Whether what is acknowledged is counted by all workers. */
  countsWrites: () => boolean
}

/** What a read has to see at least. */
export interface Demand {
  readonly consistency: Consistency
  /** A position that somebody else has told the client: everything up to it. */
  readonly token: Lsn
}

export const causalDemand: Demand = { consistency: { level: 'causal' }, token: 0 }

/** A node that was seen to be behind is not waited for again within this time. */
const behindMs = 100

/**
 * Which nodes have replayed what a read has to see: everything that the proxy has acknowledged before it came, and what
 * its client has seen on another node. While nothing is written, and clients stay where they are, nothing is asked.
 * Otherwise the primary is asked how far it is, and the replica until it has got there.
 */
export class Positions {
  readonly #options: PositionsOptions
  readonly #nodes = new Map<string, NodePosition>()
  /** Nodes that did not get there in time, and until when that counts. */
  readonly #behindUntilMs = new Map<string, number>()

  constructor(options: PositionsOptions) {
    this.#options = options
  }

  /** Whether it is known already that `node` has what a read of `client` has to see. */
  isFresh(client: Client, node: string, demand: Demand): boolean {
    const floor = this.#knownFloor(client, node, demand)
    return floor !== undefined && this.#hasReached(node, floor)
  }

  /** Whether waiting for `node` is worth while: it was not seen to be behind a moment ago. */
  mayCatchUp(node: string): boolean {
    return this.#options.clock.nowMs() >= (this.#behindUntilMs.get(node) ?? 0)
  }

  /**
   * Calls back with true when `node` has what a read of `client` has to see that has come now; with false when it does
   * not get there within `limitMs`; with undefined when nobody can tell what it has to see, for the primary is gone.
   */
  whenFresh(
    client: Client,
    node: string,
    demand: Demand,
    limitMs: number,
    done: (isFresh: boolean | undefined) => void,
  ): void {
    const nowMs = this.#options.clock.nowMs()
    this.#floor(client, node, demand, nowMs, floor => {
      if (floor === undefined) return done(undefined)
      const mayBlame = floor > demand.token
      this.#await(client, node, floor, nowMs + limitMs, false, isFresh => {
        if (isFresh === false && mayBlame)
          this.#behindUntilMs.set(node, this.#options.clock.nowMs() + behindMs)
        done(isFresh)
      })
    })
  }

  #hasReached(node: string, floor: Lsn): boolean {
    if (floor === 0) return true
    return (this.#nodes.get(node)?.reached ?? -1) >= floor
  }

  #knownFloor(client: Client, node: string, { consistency, token }: Demand): Lsn | undefined {
    if (consistency.level === 'eventual') return token
    if (consistency.level === 'strong') return undefined
    const primary = this.#options.primary()
    const known = primary === undefined ? undefined : this.#nodes.get(primary)?.latest
    if (!known) return undefined
    if (consistency.level === 'bounded') {
      const isRecent = known.askedMs >= this.#options.clock.nowMs() - consistency.staleMs
      return isRecent ? Math.max(token, known.lsn) : undefined
    }
    const { countsWrites, writes } = this.#options
    if (!countsWrites() || !writes.isUnchanged(known.mark)) return undefined
    const seen = this.#knownSeen(client, node)
    return seen === undefined ? undefined : Math.max(token, known.lsn, seen)
  }

  /** What the client can have seen on the node that it has read on last. */
  #knownSeen({ readOn, restingSinceMs }: Client, node: string): Lsn | undefined {
    if (readOn === '' || readOn === node) return 0
    const known = this.#nodes.get(readOn)?.latest
    return known && known.askedMs >= restingSinceMs ? known.lsn : undefined
  }

  /** What a read has to see that came at `cameMs`; undefined when nobody can tell. */
  #floor(
    client: Client,
    node: string,
    demand: Demand,
    cameMs: number,
    done: (floor: Lsn | undefined) => void,
  ): void {
    const known = this.#knownFloor(client, node, demand)
    if (known !== undefined) return done(known)
    const { consistency, token } = demand
    const primary = this.#options.primary()
    if (primary === undefined) return done(undefined)
    const afterMs = consistency.level === 'bounded' ? cameMs - consistency.staleMs : cameMs
    this.#of(primary).after(afterMs, client, false, position => {
      if (!position) return done(undefined)
      const floor = Math.max(token, position.lsn)
      // The primary has whatever any node has.
      done(floor)
    })
  }

  #await(
    client: Client,
    node: string,
    floor: Lsn,
    deadlineMs: number,
    hasAsked: boolean,
    done: (isFresh: boolean | undefined) => void,
  ): void {
    if (this.#hasReached(node, floor)) return done(true)
    this.#of(node).after(this.#options.clock.nowMs(), client, hasAsked, (position: Position | undefined) => {
      if (position && position.lsn >= floor) return done(true)
      const nowMs = this.#options.clock.nowMs()
      if (position && nowMs < deadlineMs) return this.#await(client, node, floor, deadlineMs, true, done)
      done(false)
    })
  }

  #of(node: string): NodePosition {
    let known = this.#nodes.get(node)
    if (!known) {
      const { borrow, clock, timers, writes } = this.#options
      known = new NodePosition({
        clock,
        timers,
        writes,
        borrow: (client, user) => borrow(node, client, user),
      })
      this.#nodes.set(node, known)
    }
    return known
  }

  forgetAll(): void {
    for (const node of [...this.#nodes.keys()]) this.forget(node)
  }

  /** A connection to the node was lost: a standby that has crashed may come back with less than it has shown. */
  noteLost(node: string): void {
    this.#nodes.get(node)?.noteLost()
  }

  /** A node may have been replaced, or have gone back to an older state: nothing that was known of it counts. */
  forget(node: string): void {
    this.#nodes.get(node)?.forget()
    this.#nodes.delete(node)
    this.#behindUntilMs.delete(node)
  }
}
