import {
  type Candidates,
  candidatesFor,
  judgeSession,
  type Route,
  type Verdict,
} from '../../routing/choose.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import type { Topology, TopologyNode } from '../../topology/types.ts'
import type { Databases } from '../catalog/database.ts'
import type { Client } from '../client/client.ts'
import type { WorkerSettings } from '../control/ipc.ts'
import type { WorkerCounters } from '../counters.ts'
import type { Lane } from '../lanes/lane.ts'
import type { LoginFailure } from '../relay/conversations.ts'
import type { ServerConnection, ServerUser, Target } from '../server.ts'
import { moveSession } from '../session/move.ts'
import type { Reported, ReportedValues } from '../session/reported.ts'
import type { ServerTls } from '../startup/dial.ts'
import type { StatsBook } from '../stats.ts'
import type { AcknowledgedWrites } from './acknowledged.ts'
import { Balancer } from './balancer.ts'
import type { Gates } from './gates.ts'
import type { LimitsCache } from './limits.ts'
import { NodePools } from './node-pools.ts'
import { Pool } from './pool.ts'
import { Positions } from './positions.ts'
import { Troubles } from './troubles.ts'

export interface DispatcherOptions {
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
  counters: WorkerCounters
  /** Changed in place at a reload. */
  settings: WorkerSettings
  limits: LimitsCache
  databases: Databases
  gates: Gates
  stats: StatsBook
  reports: ReportedValues
  /** What the workers have acknowledged. */
  writes: AcknowledgedWrites
  /** Every client of the worker. */
  clients: () => Iterable<Client>
  /** Spreads equals differently in every worker. */
  firstTurn: number
  /** A node could not be used: the control process looks at it at once. */
  onSuspect: (node: string, reason: string) => void
  /** How connections to servers are encrypted from now on. */
  serverTls: () => ServerTls | undefined
}

/** How often clients that wait for a node try again by themselves; a new topology lets them try at once. */
const retryMs = 250

/**
 * Brings clients to nodes: picks one by the topology, waits (bounded) while there is none, tries another one
 * when it cannot be had, and lets sessions leave nodes that are drained, demoted or gone.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions
  readonly #nodes = new Map<string, NodePools>()
  /** Nodes that are no longer in the topology, or at another address now, and still have sessions. */
  readonly #retired = new Set<NodePools>()
  /** Clients without a node to go to. */
  readonly #parked = new Set<Client>()
  /** Clients of paused databases. */
  readonly #held = new Set<Client>()
  readonly positions: Positions
  readonly #troubles: Troubles
  readonly balancer: Balancer
  readonly #candidates: Record<Route, Candidates> = { primary: nobody, replica: nobody }
  /** The nodes of the topology on which sessions of a route may begin. */
  readonly #begins: Record<Route, ReadonlySet<TopologyNode>> = { primary: new Set(), replica: new Set() }
  /** Names of the nodes that reads could go to at the last topology. */
  #readable = new Set<string>()
  #hasReadable = false
  /** Since when there is more than one node; undefined while there is not. */
  #severalSinceMs: number | undefined
  #topology: Topology | undefined
  #retryTimer: Timer | undefined

  constructor(options: DispatcherOptions) {
    this.#options = options
    this.#troubles = new Troubles(options.clock)
    this.balancer = new Balancer(options)
    this.positions = new Positions({
      clock: options.clock,
      timers: options.timers,
      writes: options.writes,
      borrow: (node, client, user) => this.#poolsNamed(node)?.openFor(client, user),
      primary: () => this.primary,
      countsWrites: () => this.countsWrites,
    })
  }

  /**
   * Takes a new snapshot. First no node takes sessions any more that it may not have; then sessions leave where
   * they must; then who waits tries again. In another order, a session that is cut would make room for the next.
   */
  setTopology(topology: Topology): void {
    this.#topology = topology
    if (topology.nodes.length < 2) this.#severalSinceMs = undefined
    else if (this.#severalSinceMs === undefined) {
      this.#severalSinceMs = this.#options.clock.nowMs()
      // What was acknowledged before was not counted.
      this.positions.forgetAll()
    }
    const before = { ...this.#candidates }
    this.#candidates.primary = candidatesFor(topology, 'primary')
    this.#candidates.replica = candidatesFor(topology, 'replica')
    this.#hasReadable = this.#candidates.replica.nodes.some(node => node.readable)
    this.balancer.setTopology(topology, this.#candidates.replica.nodes)
    this.#begins.primary = new Set(this.#candidates.primary.nodes)
    this.#begins.replica = new Set(this.#candidates.replica.nodes)
    const byName = new Map(topology.nodes.map(node => [node.name, node]))
    const homeless: Client[] = []
    for (const [name, pools] of this.#nodes) {
      const node = byName.get(name)
      const isHere = node && node.host === pools.target.host && node.port === pools.target.port
      this.#setUse(pools, isHere ? node : undefined)
      homeless.push(...pools.takeUnwelcome())
      if (isHere) continue
      this.#nodes.delete(name)
      this.#retired.add(pools)
    }
    for (const pools of this.#retired) this.#letLeave(pools, undefined)
    for (const [name, pools] of this.#nodes) this.#letLeave(pools, byName.get(name))
    const { primary, replica } = this.#candidates
    const isElsewhere = !areSame(before.primary, primary) || !areSame(before.replica, replica)
    // Where nothing but figures is new, whoever waits would find the same again; time lets it try in any case.
    for (const client of isElsewhere ? [...homeless, ...this.#parked] : homeless) {
      client.forgetTried()
      this.acquire(client)
    }
    if (isElsewhere) this.#rebalance(replica.nodes)
  }

  /**
   * When a replica has come back, the others give it its share: as many of their sessions as they have above it are
   * moved when they come to rest, if they can be. None is ended for it. Clients of shared pools follow with what they
   * ask next: see `Balancer`.
   */
  #rebalance(nodes: readonly TopologyNode[]): void {
    const isNew = nodes.some(node => !this.#readable.has(node.name))
    const hadSome = this.#readable.size > 0
    this.#readable = new Set(nodes.filter(node => node.readable).map(node => node.name))
    const wanted = nodes.filter(({ name }) => this.balancer.wants(name))
    if (!isNew || !hadSome || wanted.length < 2) return
    const sessionsOf = (name: string): Client[] =>
      [...(this.#nodes.get(name)?.sessions ?? [])].filter(client => client.route === 'replica')
    const total = wanted.reduce((sum, node) => sum + sessionsOf(node.name).length, 0)
    const weights = wanted.reduce((sum, node) => sum + node.weight, 0)
    for (const node of wanted) {
      const sessions = sessionsOf(node.name)
      const surplus = sessions.length - Math.ceil((total * node.weight) / weights)
      for (const client of sessions.slice(0, Math.max(0, surplus))) {
        client.leaving ??= { deadlineMs: Infinity, tried: false, byForce: false }
        this.onRest(client)
      }
    }
  }

  acquire(client: Client): void {
    if (client.isClosed) return
    if (this.#options.gates.isPaused(client.database)) return this.#hold(client)
    const topology = this.#topology
    if (!topology) return this.#park(client, 'the cluster is not known yet')
    const { nodes, reason } = this.#candidates[client.route]
    if (nodes.length === 0) return this.#park(client, reason)
    const chosen = this.#chooseFor(client, nodes)
    if (!chosen) return this.#park(client, `${namesOf(nodes)} could not be reached`)
    const pools = this.#poolsOf(chosen)
    const mayBeFull = this.#troubles.someFull && !pools.hasIdleFor(client)
    const full = mayBeFull ? this.#troubles.isFull(chosen.name) : undefined
    if (full !== undefined) return this.#park(client, full, 'queue_timeout')
    this.#acquireAt(client, pools)
  }

  /** An operator has paused or resumed databases. */
  onGatesChanged(): void {
    const { clock, gates } = this.#options
    for (const pool of this.pools) {
      if (!gates.isPaused(pool.database)) continue
      for (const client of pool.takeWaiting()) this.#hold(client)
      pool.closeIdle()
    }
    for (const client of [...this.#parked]) if (gates.isPaused(client.database)) this.#hold(client)
    for (const client of [...this.#held]) {
      if (gates.isPaused(client.database)) continue
      this.#held.delete(client)
      // What it has waited for the operator does not count.
      client.waitingSinceMs = clock.nowMs()
      this.acquire(client)
    }
  }

  /** It waits until its database is resumed, however long that takes. */
  #hold(client: Client): void {
    this.#unpark(client)
    this.#held.add(client)
    client.waitFreely()
  }

  #acquireAt(client: Client, pools: NodePools): void {
    this.#unpark(client)
    if (client.route === 'replica') client.home = pools.target.node
    pools.acquire(client)
    if (client.isWaiting) this.#limitQueueing(client, pools.target.node)
  }

  /**
   * The node for a client, of those that are good enough for it. Reads of one client stay at one node while that will
   * have them, so that they never go back in time.
   */
  #chooseFor(client: Client, nodes: readonly TopologyNode[]): TopologyNode | undefined {
    const { home, tried } = client
    if (nodes.length === 1 && tried.size === 0) return this.#troubles.leaveOut(nodes)[0]
    const untried = tried.size === 0 ? nodes : nodes.filter(node => !tried.has(node.name))
    const usable = this.#troubles.leaveOut(untried)
    return this.balancer.choose(usable, home)
  }

  /** What a client is told when its session begins, as others were told it who might have got the same connections. */
  greetingFor(client: Client): Reported | undefined {
    if (!client.session || this.#options.gates.isPaused(client.database)) return undefined
    const chosen = this.#chooseFor(client, this.#candidates[client.route].nodes)
    if (!chosen) return undefined
    if (client.route === 'replica') client.home = chosen.name
    return this.#nodes.get(chosen.name)?.find(client)?.greetingFor(client, client.session.settings)
  }

  /** Where a unit of a client would run when it can share a connection; undefined when it needs one of its own. */
  sharingPlaceOf(client: Client): Pool | undefined {
    const { route } = client
    const node = route === 'primary' ? this.#candidates.primary.nodes[0]?.name : client.home
    // It has to be looked first whether the node has what the client must see.
    if (route === 'replica' && (client.freshOn !== node || this.balancer.isOut(node))) return undefined
    const pools = node === undefined ? undefined : this.#nodes.get(node)
    if (!pools?.use.begins[route]) return undefined
    const pool = pools.find(client)
    if (pool?.mayShare(client)) return pool
    this.#options.counters.lanes.refused.off++
    return undefined
  }

  /** Another replica that reads could go to which go to `node`; undefined when there is none. */
  replicaBesides(node: string): string | undefined {
    const { nodes } = this.#candidates.replica
    if (nodes.length < 2) return undefined
    const other = this.balancer.besides(this.#troubles.leaveOut(nodes), node)
    return other?.readable === true ? other.name : undefined
  }

  /** A lane on a replica for a unit of `client` that is on its way elsewhere; undefined when there is none now. */
  laneOn(node: string, client: Client): { lane: Lane; place: Pool } | undefined {
    const pools = this.#nodes.get(node)
    const place = pools?.use.begins.replica === true ? pools.find(client) : undefined
    const lane = place?.mayShare(client) === true ? place.laneFor(client) : undefined
    return place && lane && { lane, place }
  }

  /** Somebody's reads may not see what is written on the primary. */
  get tracksWrites(): boolean {
    return this.#severalSinceMs !== undefined
  }

  /** Whether all workers know that what they acknowledge matters. */
  get countsWrites(): boolean {
    const sinceMs = this.#severalSinceMs
    return sinceMs !== undefined && this.#options.clock.nowMs() - sinceMs >= workersLearnMs
  }

  /** Whether there are replicas to read from, and it can be told what has to be seen there. */
  get hasReplicas(): boolean {
    return this.#hasReadable && this.countsWrites
  }

  /** The only node to write to now. */
  get primary(): string | undefined {
    return this.#candidates.primary.nodes[0]?.name
  }

  /** The replica that a client's next read goes to; undefined where only the primary is left. */
  replicaFor(client: Client): string | undefined {
    const { nodes } = this.#candidates.replica
    const chosen = this.#chooseFor(client, nodes)
    return chosen?.readable === true ? chosen.name : undefined
  }

  get topology(): Topology | undefined {
    return this.#topology
  }

  /** Whether the primary may serve reads that no replica can. */
  get mayReadPrimary(): boolean {
    return this.#topology?.settings.readFallback !== 'none' && this.#candidates.primary.nodes.length > 0
  }

  abandon(client: Client): void {
    this.#unpark(client)
    for (const pools of this.#all()) if (pools.abandon(client)) return
  }

  onLoginFailed(client: Client, server: ServerConnection, failure: LoginFailure): void {
    this.#onFailed(client, this.#find(server), server.target.node, failure)
  }

  /** A connection that was opened for whoever waits could not be had. */
  #onOpenFailed(pools: NodePools, failure: LoginFailure, waiting: Client[]): void {
    for (const client of waiting) {
      if (failure.kind === 'refused') client.refuse(failure.body)
      else this.#onFailed(client, pools, pools.target.node, failure)
    }
  }

  #onFailed(client: Client, pools: NodePools | undefined, node: string, failure: LoginFailure): void {
    switch (failure.kind) {
      case 'lost':
        client.end('server_lost', `the connection to ${node} was lost during the login: ${failure.message}`)
        return
      case 'full': {
        const reason = `${node} has no connection left: ${failure.message}`
        this.#troubles.full(node, reason)
        // Connections that wait for clients of other users are in the way of those who are here.
        pools?.closeIdle()
        client.wantAnother()
        this.#park(client, reason, 'queue_timeout')
        return
      }
      case 'unreachable':
      case 'not_accepting':
        if (this.#troubles.unreachable(node)) {
          this.#options.log.warn(
            { event: 'node.unusable', node },
            `${node} could not be used: ${failure.message}`,
          )
        }
        this.#options.onSuspect(node, failure.message)
        client.wantAnother()
        client.freshOn = ''
        client.avoid(node)
        this.acquire(client)
        return
      case 'refused':
        return
      default:
        failure satisfies never
    }
  }

  /** Whether a session may still begin where its login has just succeeded. */
  mayBegin(client: Client, server: ServerConnection): boolean {
    const pools = this.#find(server)
    this.#troubles.well(server.target.node)
    return pools !== undefined && pools.use.begins[client.route]
  }

  onAttached(client: Client, server: ServerConnection): void {
    if (!client.session) client.forgetTried()
    this.#find(server)?.addSession(client)
  }

  onDetached(client: Client, server: ServerConnection): void {
    this.#find(server)?.removeSession(client)
    client.leaving = undefined
    if (!client.isWaiting) client.forgetTried()
  }

  onEnded(client: Client): void {
    this.#unpark(client)
    this.balancer.onEnded(client)
    for (const pools of this.#all()) pools.removeSession(client)
  }

  /** Nothing of the client is on the way: a session that should leave may go now. */
  onRest(client: Client): void {
    const { leaving } = client
    if (!leaving || !client.isAtRest) return
    if (this.#options.clock.nowMs() >= leaving.deadlineMs) return this.#sendAway(client)
    // What keeps a pooled client at its server is just what cannot be moved.
    if (leaving.tried || client.route === 'primary' || client.replication || client.session) return
    leaving.tried = true
    const from = this.#find(client.server!)
    moveSession({
      client,
      timers: this.#options.timers,
      openTarget: user => this.#openElsewhere(client, user),
      done: (moved, reason) => {
        if (moved) {
          client.leaving = undefined
          from?.removeSession(client)
          this.#find(moved)?.addSession(client)
          client.home = moved.target.node
          if (from) from.counters.moved++
        } else if (!client.isClosed) {
          this.#options.log.info(
            { event: 'session.stays', client: client.address, node: from?.target.node },
            `a session stays on ${from?.target.node}, for it cannot be moved: ${reason}`,
          )
        }
      },
    })
  }

  /** About once a second: idle connections grow old, and who had to leave has had its time. */
  tick(): void {
    const nowMs = this.#options.clock.nowMs()
    for (const pools of this.#all()) {
      pools.tick()
      for (const client of [...pools.sessions]) {
        client.limitTime(nowMs, this.#options.limits.of(client.database, client.user))
        const { leaving } = client
        if (!leaving || nowMs < leaving.deadlineMs) continue
        if (leaving.byForce || client.isAtRest || client.isStreaming) this.#sendAway(client)
      }
    }
    for (const pools of this.#retired) if (pools.isEmpty) this.#retired.delete(pools)
  }

  /** Every `reviewMs`: who gets how many of the clients that read. */
  review(): void {
    this.balancer.review()
  }

  closeIdle(): void {
    for (const pools of this.#all()) pools.closeIdle()
  }

  /** Closes the connections to a database, by its name on the servers, that wait for a client. */
  closeIdleOf(database: string): void {
    for (const pool of this.pools) if (pool.serverDatabase === database) pool.closeIdle()
  }

  /** Those of all nodes. */
  get pools(): Pool[] {
    return this.#all().flatMap(pools => [...pools.pools])
  }

  /** Where the proxy's own questions may go: the primary first, then who else takes sessions. */
  targets(): Target[] {
    const nodes = new Set([...this.#begins.primary, ...this.#begins.replica])
    return [...nodes].map(node => this.#poolsOf(node).target)
  }

  #all(): NodePools[] {
    return [...this.#nodes.values(), ...this.#retired]
  }

  #poolsNamed(name: string): NodePools | undefined {
    const node = this.#topology?.nodes.find(each => each.name === name)
    return node && this.#poolsOf(node)
  }

  #poolsOf(node: TopologyNode): NodePools {
    let pools = this.#nodes.get(node.name)
    if (!pools) {
      const { clock, timers, settings, limits, databases, gates, stats, reports, counters, serverTls } =
        this.#options
      pools = new NodePools({
        target: { node: node.name, host: node.host, port: node.port, tls: serverTls },
        clock,
        timers,
        settings,
        limits,
        databases,
        gates,
        stats,
        reports,
        lanes: counters.lanes,
        onLaneBroken: (server, problem) => {
          this.#options.log.error(
            { event: 'lane.broken', node: server.target.node },
            `a shared connection to ${server.target.node} was closed: ${problem}`,
          )
        },
        onLost: lost => this.positions.noteLost(lost),
        onOpenFailed: (failed, failure, waiting) => this.#onOpenFailed(failed, failure, waiting),
        counters: counters.node(node.name),
        load: this.balancer.load(node.name),
        use: { begins: { primary: false, replica: false }, keepsIdle: false },
      })
      this.#setUse(pools, node)
      pools.role = node.role
      pools.state = node.state
      this.#nodes.set(node.name, pools)
    }
    return pools
  }

  #find(server: ServerConnection): NodePools | undefined {
    return server.owner instanceof Pool ? (server.owner.home as NodePools) : undefined
  }

  /** What a node may be used for from now on; nothing when it is gone from the topology. */
  #setUse(pools: NodePools, node: TopologyNode | undefined): void {
    pools.use.begins.primary = node !== undefined && this.#begins.primary.has(node)
    pools.wasPrimary ||= pools.use.begins.primary
    pools.use.begins.replica = node !== undefined && this.#begins.replica.has(node)
    pools.use.keepsIdle = node?.state === 'active'
  }

  #letLeave(pools: NodePools, node: TopologyNode | undefined): void {
    const topology = this.#topology!
    const role = node?.role ?? 'unknown'
    if (!pools.use.keepsIdle || pools.role !== role) pools.closeIdle()
    // Not with each snapshot: a question that is on its way would fail.
    if (pools.role !== role || pools.state !== node?.state) this.positions.forget(pools.target.node)
    pools.role = role
    pools.state = node?.state
    const verdicts = {
      primary: judgeSession(topology, 'primary', node),
      replica: judgeSession(topology, 'replica', node),
    }
    // What runs there for those who asked the primary is read again elsewhere.
    if (verdicts.primary === 'cut' && pools.wasPrimary) {
      pools.wasPrimary = false
      pools.abortLanes()
    }
    if (verdicts.primary === 'stay' && verdicts.replica === 'stay' && !pools.isLeaving) return
    pools.isLeaving = verdicts.primary !== 'stay' || verdicts.replica !== 'stay'
    for (const client of [...pools.sessions]) {
      this.#carryOut(verdicts[client.route], client, pools, node?.state === 'maintenance')
    }
  }

  #carryOut(verdict: Verdict, client: Client, pools: NodePools, byForce: boolean): void {
    switch (verdict) {
      case 'stay':
        client.leaving = undefined
        return
      case 'cut':
        client.end('server_demoted', `${pools.target.node} is no longer the primary`, {
          hint: 'Connect again: the new session goes to the primary.',
        })
        return
      case 'move':
        client.leaving = { deadlineMs: Infinity, tried: client.leaving?.tried ?? false, byForce: false }
        this.onRest(client)
        return
      case 'drain': {
        const timeoutMs = this.#topology?.settings.drainTimeoutMs ?? 0
        const isNew = client.leaving === undefined || client.leaving.deadlineMs === Infinity
        if (isNew) {
          const deadlineMs = this.#options.clock.nowMs() + timeoutMs
          client.leaving = { deadlineMs, tried: false, byForce }
        } else client.leaving!.byForce = byForce
        this.onRest(client)
        return
      }
      default:
        verdict satisfies never
    }
  }

  #sendAway(client: Client): void {
    const node = client.server?.target.node ?? 'its node'
    client.end('server_drained', `${node} is being drained and the session could not be moved`, {
      hint: 'Connect again: the new session goes to another node.',
    })
  }

  #openElsewhere(client: Client, user: ServerUser): ServerConnection | undefined {
    const topology = this.#topology
    if (!topology) return undefined
    const { nodes } = candidatesFor(topology, client.route)
    const others = nodes.filter(node => node.name !== client.server?.target.node)
    const chosen = this.balancer.choose(this.#troubles.leaveOut(others))
    return chosen && this.#poolsOf(chosen).openFor(client, user)
  }

  #park(client: Client, reason: string, kind: 'no_route' | 'queue_timeout' = 'no_route'): void {
    const { clock, counters, settings } = this.#options
    const { failoverWaitMs, queryWaitTimeoutMs } = settings
    const waitedMs = clock.nowMs() - client.waitingSinceMs
    const limitMs = kind === 'no_route' ? failoverWaitMs : queryWaitTimeoutMs
    this.#parked.add(client)
    counters.clientsWaiting = this.#parked.size
    // Whoever may connect is told that much; names and reasons are the operator's.
    const told = kind === 'no_route' ? noRoute[client.route] : 'the server has no connection left'
    client.waitAtMost(limitMs - waitedMs, kind, () => {
      this.#options.log.warn(
        { event: 'client.no_route', client: client.address, route: client.route },
        `a client is turned away after ${limitMs} ms: ${reason}`,
      )
      return `${told} (waited ${Math.round(limitMs / 100) / 10} s)`
    })
    if (this.#retryTimer) return
    this.#retryTimer = this.#options.timers.after(retryMs, () => this.#retryParked())
  }

  #retryParked(): void {
    this.#retryTimer = undefined
    for (const client of [...this.#parked]) {
      client.forgetTried()
      this.acquire(client)
    }
  }

  #unpark(client: Client): void {
    this.#held.delete(client)
    if (!this.#parked.delete(client)) return
    this.#options.counters.clientsWaiting = this.#parked.size
  }

  #limitQueueing(client: Client, node: string): void {
    const waitedMs = this.#options.clock.nowMs() - client.waitingSinceMs
    const { queryWaitTimeoutMs } = this.#options.settings
    client.waitAtMost(
      queryWaitTimeoutMs - waitedMs,
      'queue_timeout',
      () => `no connection to ${node} became free within ${queryWaitTimeoutMs} ms (query_wait_timeout)`,
    )
  }
}

/** How long a worker may take to learn of a second node, whose readers must see what this worker acknowledges. */
const workersLearnMs = 1000

const nobody: Candidates = { nodes: [], reason: 'the cluster is not known yet' }

const noRoute = {
  primary: 'there is no primary to write to now',
  replica: 'there is no server to read from now',
}

/** Whether clients would find the same nodes at the same addresses. */
function areSame(before: Candidates, after: Candidates): boolean {
  const [old, now] = [before.nodes, after.nodes]
  return (
    old.length === now.length &&
    now.every(({ host, name, port, readable }, at) => {
      const then = old[at]!
      return then.name === name && then.host === host && then.port === port && then.readable === readable
    })
  )
}

function namesOf(nodes: readonly TopologyNode[]): string {
  return nodes.map(node => node.name).join(' and ')
}
