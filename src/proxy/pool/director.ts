import { type Consistency, parseConsistency, writeConsistency } from '../../config/consistency.ts'
import { parseRouteWish, type RouteWish } from '../../routing/hints.ts'
import { readLsn } from '../../topology/lsn.ts'
import type { Lsn, Topology } from '../../topology/types.ts'
import { Client as Code, headerBytes } from '../../wire/codes.ts'
import { readyForQueryIdle } from '../../wire/messages.ts'
import type { Database } from '../catalog/database.ts'
import type { Client } from '../client/client.ts'
import { writeCommandComplete, writeDataRows, writeRowDescription } from '../console/encoding.ts'
import type { LaneRefusal } from '../lanes/counters.ts'
import type { Sharing } from '../lanes/sharing.ts'
import { ownSettings } from '../session/own-settings.ts'
import type { Settings } from '../session/settings.ts'
import type { Balancer } from './balancer.ts'
import { type Explanation, linesOf, sentenceOf } from './explanation.ts'
import type { PoolLimits } from './limits.ts'
import type { Demand, Positions } from './positions.ts'
import { type PrimaryReason, primaryReasons, type RoutedCounters } from './routed.ts'

export interface DirectorOptions {
  sharing: Sharing
  positions: Positions
  counters: RoutedCounters
  limitsOf(client: Client): PoolLimits
  knowledgeOf(database: string): Database
  /** Whether there are replicas to read from. */
  hasReplicas(): boolean
  /** Where a client's reads go: its home, or a better one. Undefined where the primary is all there is. */
  replicaFor(client: Client): string | undefined
  topology(): Topology | undefined
  balancer: Balancer
  nowMs(): number
  /** Whether the primary may serve what replicas cannot. */
  mayReadPrimary(): boolean
}

/** What a session has set for itself. */
interface Wish {
  readonly route: RouteWish
  readonly consistency: Consistency | undefined
  readonly token: Lsn
  /** Its transactions only read unless they say otherwise, and are none that a standby cannot run. */
  readonly readsOnly: boolean
  /** Its transactions keep what they have seen first, or are some that a standby cannot run. */
  readonly keepsSnapshot: boolean
}

const noWish: Wish = {
  route: 'auto',
  consistency: undefined,
  token: 0,
  readsOnly: false,
  keepsSnapshot: false,
}

/** How long a read waits for a replica before the primary serves it. */
const catchUpMs = 20
/** The same on the port for reads, where clients ask for replicas. */
const replicaCatchUpMs = 2000

/**
 * Decides for each request of a client without a server connection whether it goes to the primary or to a replica, and
 * whether that replica has what it must see. A request goes to a replica when it is one statement that reads and calls
 * nothing volatile, or begins a transaction that only reads, or when the client says so.
 */
export class Director {
  readonly #options: DirectorOptions
  readonly #wishes = new WeakMap<Settings, Wish>()

  constructor(options: DirectorOptions) {
    this.#options = options
  }

  /**
   * Sets where `request` goes: `route`, `home`, and `freshOn` when that node can serve it at once. Returns false when
   * it has to be waited for: `whenReady`.
   */
  direct(client: Client, request: Buffer): boolean {
    client.freshOn = ''
    client.staysForOne = false
    client.reading = undefined
    client.readsOnly = false
    client.route = client.door
    client.isSplit = false
    const { session } = client
    if (!session || !this.#options.hasReplicas()) return true
    const limits = this.#options.limitsOf(client)
    client.isSplit = client.door === 'primary' && limits.splitsReads
    if (client.door === 'primary' && !client.isSplit) return true
    const wish = this.#wishOf(session.settings)
    const demand =
      client.door === 'primary'
        ? this.#split(client, request, wish, limits)
        : this.#read(client, request, wish, limits)
    if (!demand) return true
    const node = this.#options.replicaFor(client)
    if (node === undefined) {
      this.#options.counters.primary.no_replica++
      return true
    }
    client.route = 'replica'
    client.home = node
    client.demand = demand
    if (this.#options.positions.isFresh(client, node, demand)) {
      this.#isReady(client, node)
      return true
    }
    if (client.door === 'replica' || this.#options.positions.mayCatchUp(node)) return false
    this.#toPrimary(client, 'not_fresh')
    return true
  }

  /** On the port for reads everything goes to a replica; a read by itself, so that the next one is looked at again. */
  #read(client: Client, request: Buffer, wish: Wish, limits: PoolLimits): Demand {
    const { sharing } = this.#options
    const knowledge = this.#options.knowledgeOf(client.database)
    const reads = sharing.examine(client, request, knowledge) === undefined
    client.staysForOne = reads && !client.begun
    const hinted = client.begun ? undefined : sharing.hints(request)?.consistency
    return demandOf(wish, hinted, limits)
  }

  /** What a request has to see that may go to a replica; undefined for one that goes to the primary. */
  #split(client: Client, request: Buffer, wish: Wish, limits: PoolLimits): Demand | undefined {
    const { counters, sharing } = this.#options
    const { begun } = client
    if (begun && begun.readsOnly !== true && !(begun.readsOnly === undefined && wish.readsOnly)) {
      return wish.route === 'replica' && !begun.hasFailed
        ? demandOf(wish, undefined, limits)
        : counters.toPrimary(wish.route === 'primary' ? 'wish' : 'write')
    }
    const refusal = sharing.examine(client, request, this.#options.knowledgeOf(client.database))
    const hints = sharing.hints(request)
    const demand = demandOf(wish, hints?.consistency, limits)
    const route = hints?.route ?? wish.route
    if (route === 'primary') return counters.toPrimary('wish')
    if (route === 'replica') {
      client.staysForOne = !begun && hints?.route === 'replica'
      if (begun?.hasFailed) return counters.toPrimary('write')
      // What is no read has nothing to wait for: it is sent where the client says, whatever comes of it.
      return reasonOf(refusal) === 'write' ? demandOf(wish, eventual, limits) : demand
    }
    const reason = reasonOf(refusal) ?? strongOf(demand)
    if (reason) return counters.toPrimary(reason)
    if (wish.keepsSnapshot) return counters.toPrimary('write')
    const { learned } = sharing
    if (learned?.needsPrimary) return counters.toPrimary('refused')
    if (sharing.asksServer) return counters.toPrimary('write')
    if (begun?.hasFailed) return counters.toPrimary('write')
    client.reading = learned
    client.staysForOne = !begun
    client.readsOnly = begun !== undefined
    return demand
  }

  /** What a request must see of a client that keeps its server connection, which says this of itself or nothing. */
  demandOfKept(client: Client, hinted: Consistency | undefined): Demand {
    const wish = this.#wishOf(client.session?.settings ?? client.startup.settings)
    return demandOf(wish, hinted, this.#options.limitsOf(client))
  }

  /** Whether a request in a transaction that only reads can be run on the replica of its client. */
  goesOn(client: Client, request: Buffer): 'yes' | 'if fresh' | 'no' | 'several' {
    const { positions, sharing } = this.#options
    const refusal = sharing.examine(client, request, this.#options.knowledgeOf(client.database))
    if (refusal === 'form') return 'several'
    const { learned } = sharing
    if (refusal !== undefined || learned?.needsPrimary) return 'no'
    client.reading = learned
    return positions.isFresh(client, client.home, client.demand) ? 'yes' : 'if fresh'
  }

  /**
   * What is told in the place of running `request`, which asks for it by a hint `explain`; undefined for any other. It
   * is looked at as it would be if it had been seen before.
   */
  explain(client: Client, request: Buffer): Buffer | undefined {
    if (!mayHaveHint(request)) return undefined
    const { sharing } = this.#options
    const knowledge = this.#options.knowledgeOf(client.database)
    sharing.examine(client, request, knowledge)
    const wanted = sharing.hints(request)?.explain
    if (!wanted || !client.session) return undefined
    const told = this.#explanationOf(client, request, sharing.examine(client, request, knowledge))
    const lines = wanted === 'json' ? [JSON.stringify(told)] : linesOf(told)
    return Buffer.concat([
      writeRowDescription(explainColumns),
      writeDataRows(
        explainColumns,
        lines.map(line => [line]),
      ),
      writeCommandComplete('EXPLAIN'),
      readyForQueryIdle,
    ])
  }

  #explanationOf(client: Client, request: Buffer, refusal: LaneRefusal | undefined): Explanation {
    const { balancer, counters, positions, sharing } = this.#options
    const topology = this.#options.topology()!
    const limits = this.#options.limitsOf(client)
    const wish = this.#wishOf(client.session!.settings)
    const demand = demandOf(wish, sharing.hints(request)?.consistency, limits)
    const before = counters.data()
    const isReady = this.direct(client, request)
    const { route } = client
    const node = route === 'replica' ? client.home : topology.primary
    const reason = primaryReasons.find(each => counters.primary[each] > before.primary[each])
    Object.assign(counters.primary, before.primary)
    counters.replica = before.replica
    const isBehind = (name: string): boolean =>
      !positions.isFresh(client, name, demand) && !positions.mayCatchUp(name)
    // What speaks for a node is the same for whoever comes: this client is left out where it counts by now.
    const own = route === 'replica' && client.home !== '' ? balancer.load(client.home) : undefined
    if (own) own.clients--
    const nodes = balancer.explain(topology, route, ({ name, readable }) =>
      readable && route === 'replica' && isBehind(name)
        ? 'did not have in time what must be seen'
        : undefined,
    )
    if (own) own.clients++
    return {
      reads: refusal === undefined,
      refusal,
      sentence: sentenceOf(refusal),
      consistency: writeConsistency(demand.consistency),
      splits: client.door === 'replica' || client.isSplit,
      route,
      role: node !== undefined && node === topology.primary ? 'primary' : route,
      node,
      why: whyOf(client, reason, isReady),
      nodes,
    }
  }

  /** Calls back when the request that was directed can be run; where it goes is set. */
  whenReady(client: Client, isWanted: () => boolean, done: () => void): void {
    this.#awaitReplica(client, this.#deadlineMs(client), isWanted, done)
  }

  #deadlineMs({ door }: Client): number {
    return this.#options.nowMs() + (door === 'replica' ? replicaCatchUpMs : catchUpMs)
  }

  /** One replica after the other is asked, until time is up. */
  #awaitReplica(client: Client, deadlineMs: number, isWanted: () => boolean, done: () => void): void {
    const { home } = client
    const limitMs = Math.max(0, deadlineMs - this.#options.nowMs())
    this.#options.positions.whenFresh(client, home, client.demand, limitMs, isFresh => {
      if (!isWanted()) return
      // While nobody knows what has to be seen, the port for reads shows what there is.
      if (isFresh === true || (isFresh === undefined && client.door === 'replica')) {
        client.forgetTried()
        this.#isReady(client, home)
        return done()
      }
      if (isFresh === false && this.#takesAnother(client, home)) {
        return this.#awaitReplica(client, deadlineMs, isWanted, done)
      }
      if (client.door === 'primary' || this.#options.mayReadPrimary()) {
        client.forgetTried()
        this.#toPrimary(client, 'not_fresh')
      }
      done()
    })
  }

  /** A replica that was not asked yet takes the place of `node`. */
  #takesAnother(client: Client, node: string): boolean {
    client.avoid(node)
    const other = this.#options.replicaFor(client)
    if (other === undefined || client.tried.has(other)) return false
    client.home = other
    return true
  }

  /** Calls back whether `node` has what the last request that was directed must see. */
  whenFresh(client: Client, node: string, done: (isFresh: boolean) => void): void {
    const limitMs = this.#deadlineMs(client) - this.#options.nowMs()
    this.#options.positions.whenFresh(client, node, client.demand, limitMs, isFresh => {
      // The primary serves what no replica can.
      if (isFresh === false && !this.#takesAnother(client, node) && this.#options.mayReadPrimary()) {
        client.forgetTried()
        this.#toPrimary(client, 'not_fresh')
      }
      done(isFresh ?? true)
    })
  }

  /** The same for a node that the client is not on and does not go to otherwise. */
  whenAlsoFresh(client: Client, node: string, done: (isFresh: boolean) => void): void {
    const { positions } = this.#options
    if (positions.isFresh(client, node, client.demand)) return done(true)
    if (!positions.mayCatchUp(node)) return done(false)
    positions.whenFresh(client, node, client.demand, catchUpMs, isFresh => done(isFresh === true))
  }

  #isReady(client: Client, node: string): void {
    client.freshOn = node
    client.readOn = node
    this.#options.counters.replica++
  }

  #toPrimary(client: Client, reason: 'not_fresh'): void {
    client.route = 'primary'
    client.staysForOne = false
    client.readsOnly = false
    this.#options.counters.primary[reason]++
  }

  #wishOf(settings: Settings): Wish {
    if (settings.values.size === 0) return noWish
    let wish = this.#wishes.get(settings)
    if (!wish) {
      wish = readWish(settings)
      this.#wishes.set(settings, wish)
    }
    return wish
  }
}

function readWish({ values }: Settings): Wish {
  const consistency = values.get(ownSettings.consistency)
  const isolation = values.get('default_transaction_isolation')?.toLowerCase()
  return {
    route: parseRouteWish(values.get(ownSettings.route) ?? '') ?? 'auto',
    consistency: consistency === undefined ? undefined : parseConsistency(consistency),
    token: readLsn(values.get(ownSettings.token) ?? '') ?? 0,
    readsOnly: isTrue(values.get('default_transaction_read_only')),
    keepsSnapshot: isolation === 'serializable' || isolation === 'repeatable read',
  }
}

/** As PostgreSQL reads a setting that is on or off. */
function isTrue(value: string | undefined): boolean {
  return value !== undefined && /^(on|true|yes|1|t|tr|tru|y|ye)$/i.test(value)
}

/** By the level alone, which is all that most requests demand. */
const plainDemands = new WeakMap<Consistency, Demand>()

const eventual: Consistency = { level: 'eventual' }

const explainColumns = [{ name: 'pgherd', type: 'text' }] as const

/** A Query that begins with a comment, or with a blank. */
function mayHaveHint(request: Buffer): boolean {
  return request[0] === Code.Query && (request[headerBytes] === 0x2f || request[headerBytes]! <= 0x20)
}

const reasonSentences: Record<PrimaryReason, string> = {
  write: 'it may write, or do what only the primary can',
  unknown: 'not enough is known of it yet',
  wish: 'the client says so',
  strong: 'nothing else is read with this consistency',
  not_fresh: 'the replica was not known to have what must be seen',
  refused: 'a standby has refused one like it',
  no_replica: 'there is no replica to read from',
}

function whyOf(client: Client, reason: PrimaryReason | undefined, isReady: boolean): string {
  if (client.route === 'replica') {
    return isReady ? 'it has what must be seen' : 'as soon as it has what must be seen; else to the primary'
  }
  if (reason) return reasonSentences[reason]
  return client.isSplit ? 'nothing else fits' : 'there are no replicas, or reads are not split here'
}

function demandOf({ consistency, token }: Wish, hinted: Consistency | undefined, limits: PoolLimits): Demand {
  const level = hinted ?? consistency ?? limits.consistency
  if (token !== 0) return { consistency: level, token }
  let demand = plainDemands.get(level)
  if (!demand) {
    demand = { consistency: level, token: 0 }
    plainDemands.set(level, demand)
  }
  return demand
}

function strongOf({ consistency }: Demand): 'strong' | undefined {
  return consistency.level === 'strong' ? 'strong' : undefined
}

function reasonOf(refusal: LaneRefusal | undefined): 'unknown' | 'write' | undefined {
  if (refusal === undefined) return undefined
  return refusal === 'unknown' || refusal === 'facts_missing' ? 'unknown' : 'write'
}
