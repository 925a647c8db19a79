import { candidatesFor, leastLoaded, mayStay } from '../routing/choose.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import type { Topology, TopologyNode } from '../topology/types.ts'
import type { Client } from './client.ts'
import type { WorkerCounters } from './counters.ts'
import type { WorkerSettings } from './ipc.ts'
import { moveSession } from './move.ts'
import { NodePools } from './node-pools.ts'
import type { LoginFailure, ServerConnection, ServerUser } from './server.ts'

export interface DispatcherOptions {
  clock: Clock
  timers: Timers
  log: Logger
  counters: WorkerCounters
  /** Changed in place at a reload. */
  settings: WorkerSettings
  /** Spreads equals differently in every worker. */
  firstTurn: number
  /** A node could not be used: the control process looks at it at once. */
  onSuspect: (node: string, reason: string) => void
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
  #topology: Topology | undefined
  #turn: number
  #retryTimer: Timer | undefined

  constructor(options: DispatcherOptions) {
    this.#options = options
    this.#turn = options.firstTurn
  }

  get topology(): Topology | undefined {
    return this.#topology
  }

  get sessions(): number {
    return [...this.#nodes.values(), ...this.#retired].reduce((sum, node) => sum + node.sessions.size, 0)
  }

  /** Takes a new snapshot: sessions leave where they must, and who waits tries again. */
  setTopology(topology: Topology): void {
    this.#topology = topology
    const byName = new Map(topology.nodes.map(node => [node.name, node]))
    for (const [name, pools] of this.#nodes) {
      const node = byName.get(name)
      if (!node || node.host !== pools.target.host || node.port !== pools.target.port)
        this.#retire(name, pools)
      else this.#judge(pools, node)
    }
    for (const pools of this.#retired) this.#letLeave(pools, 'drain')
    for (const client of [...this.#parked]) {
      client.tried.clear()
      this.acquire(client)
    }
  }

  acquire(client: Client): void {
    if (client.isClosed) return
    const topology = this.#topology
    if (!topology) return this.#park(client, 'the cluster is not known yet')
    const { nodes, reason } = candidatesFor(topology, client.route, this.#options.settings.zone)
    if (nodes.length === 0) return this.#park(client, reason)
    const untried = client.tried.size === 0 ? nodes : nodes.filter(node => !client.tried.has(node.name))
    const chosen = this.#choose(untried)
    if (!chosen)
      return this.#park(client, `${nodes.map(node => node.name).join(' and ')} could not be reached`)
    this.#unpark(client)
    this.#poolsOf(chosen).acquire(client)
    if (client.isWaiting) this.#limitQueueing(client, chosen.name)
  }

  abandon(client: Client): void {
    this.#unpark(client)
    for (const pools of this.#nodes.values()) if (pools.abandon(client)) return
    for (const pools of this.#retired) if (pools.abandon(client)) return
  }

  onLoginFailed(client: Client, server: ServerConnection, failure: LoginFailure): void {
    const { node } = server.target
    switch (failure.kind) {
      case 'lost':
        client.end('server_lost', `the connection to ${node} was lost during the login: ${failure.message}`)
        return
      case 'full':
        client.wantAnother()
        client.tried.add(node)
        this.#park(client, `${node} has no connection left: ${failure.message}`, 'queue_timeout')
        return
      case 'unreachable':
      case 'not_accepting':
        this.#options.onSuspect(node, failure.message)
        client.wantAnother()
        client.tried.add(node)
        this.acquire(client)
        return
      case 'refused':
        return
      default:
        failure satisfies never
    }
  }

  onAttached(client: Client, server: ServerConnection): void {
    client.tried.clear()
    this.#find(server)?.addSession(client)
  }

  onEnded(client: Client): void {
    this.#unpark(client)
    for (const pools of this.#nodes.values()) pools.removeSession(client)
    for (const pools of this.#retired) {
      pools.removeSession(client)
      if (pools.isEmpty) this.#retired.delete(pools)
    }
  }

  /** Nothing of the client is on the way: a session that should leave may go now. */
  onRest(client: Client): void {
    const { leaving } = client
    if (!leaving || !client.isAtRest) return
    if (this.#options.clock.nowMs() >= leaving.deadlineMs) return this.#sendAway(client)
    if (leaving.tried || client.route === 'primary' || client.replication) return
    leaving.tried = true
    const from = this.#find(client.server!)
    moveSession({
      client,
      openTarget: user => this.#openElsewhere(client, user),
      done: (moved, reason) => {
        if (moved) {
          client.leaving = undefined
          from?.removeSession(client)
          this.#find(moved)?.addSession(client)
          if (from) from.counters.moved++
        } else if (!client.isClosed) {
          this.#options.log.info(
            { event: 'session.stays', client: client.address, node: from?.target.node },
            `a session stays on ${from?.target.node} until it ends or the drain times out: ${reason}`,
          )
        }
      },
    })
  }

  /** About once a second: idle connections grow old, and who had to leave has had its time. */
  tick(): void {
    const nowMs = this.#options.clock.nowMs()
    for (const pools of [...this.#nodes.values(), ...this.#retired]) {
      pools.expire()
      for (const client of [...pools.sessions]) {
        const { leaving } = client
        if (!leaving || nowMs < leaving.deadlineMs) continue
        if (leaving.byForce || client.isAtRest) this.#sendAway(client)
      }
    }
  }

  closeIdle(): void {
    for (const pools of this.#nodes.values()) pools.closeIdle()
  }

  #choose(nodes: readonly TopologyNode[]): TopologyNode | undefined {
    if (nodes.length <= 1) return nodes[0]
    return leastLoaded(nodes, name => this.#loadOf(name), this.#turn++)
  }

  #loadOf(name: string): number {
    const counters = this.#options.counters.node(name)
    return counters.sessions + counters.connecting + counters.waiting
  }

  #poolsOf(node: TopologyNode): NodePools {
    let pools = this.#nodes.get(node.name)
    if (!pools) {
      const { clock, timers, settings, counters } = this.#options
      const target = { node: node.name, host: node.host, port: node.port }
      pools = new NodePools({
        target,
        clock,
        timers,
        limits: settings.pool,
        counters: counters.node(node.name),
      })
      this.#nodes.set(node.name, pools)
    }
    return pools
  }

  #find(server: ServerConnection): NodePools | undefined {
    const pools = this.#nodes.get(server.target.node)
    if (pools?.target === server.target) return pools
    return [...this.#retired].find(each => each.target === server.target)
  }

  #retire(name: string, pools: NodePools): void {
    this.#nodes.delete(name)
    pools.keepIdle = false
    pools.closeIdle()
    this.#retired.add(pools)
    for (const client of pools.takeWaiting()) this.acquire(client)
  }

  #judge(pools: NodePools, node: TopologyNode): void {
    pools.keepIdle = node.state === 'active'
    if (!pools.keepIdle || pools.role !== node.role) pools.closeIdle()
    pools.role = node.role
    if (node.state !== 'active') for (const client of pools.takeWaiting()) this.acquire(client)
    const topology = this.#topology!
    const verdicts = {
      primary: mayStay(topology, 'primary', node.name),
      replica: mayStay(topology, 'replica', node.name),
    }
    if (verdicts.primary === 'stay' && verdicts.replica === 'stay' && !pools.isLeaving) return
    this.#letLeave(pools, verdicts, node.state === 'maintenance')
  }

  #letLeave(
    pools: NodePools,
    verdict: 'drain' | Record<'primary' | 'replica', 'stay' | 'drain' | 'cut'>,
    byForce = false,
  ): void {
    const deadlineMs = this.#options.clock.nowMs() + (this.#topology?.settings.drainTimeoutMs ?? 0)
    pools.isLeaving = false
    for (const client of [...pools.sessions]) {
      switch (verdict === 'drain' ? 'drain' : verdict[client.route]) {
        case 'stay':
          client.leaving = undefined
          break
        case 'cut':
          client.end('server_demoted', `${pools.target.node} is no longer the primary`, {
            hint: 'Connect again: the new session goes to the primary.',
          })
          break
        default:
          pools.isLeaving = true
          client.leaving ??= { deadlineMs, tried: false, byForce }
          client.leaving.byForce = byForce
          this.onRest(client)
      }
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
    const { nodes } = candidatesFor(topology, client.route, this.#options.settings.zone)
    const others = nodes.filter(node => node.name !== client.server?.target.node)
    const chosen = this.#choose(others)
    return chosen && this.#poolsOf(chosen).openFor(client, user)
  }

  #park(client: Client, reason: string, kind: 'no_route' | 'queue_timeout' = 'no_route'): void {
    const { clock, counters, settings } = this.#options
    const { failoverWaitMs, queryWaitTimeoutMs } = settings
    const waitedMs = clock.nowMs() - client.waitingSinceMs
    const limitMs = kind === 'no_route' ? failoverWaitMs : queryWaitTimeoutMs
    this.#parked.add(client)
    counters.clientsWaiting = this.#parked.size
    client.waitAtMost(
      limitMs - waitedMs,
      kind,
      () => `${reason} (waited ${Math.round(limitMs / 100) / 10} s)`,
    )
    if (this.#retryTimer) return
    this.#retryTimer = this.#options.timers.after(retryMs, () => this.#retryParked())
  }

  #retryParked(): void {
    this.#retryTimer = undefined
    for (const client of [...this.#parked]) {
      client.tried.clear()
      this.acquire(client)
    }
  }

  #unpark(client: Client): void {
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
