import { Balance } from '../../routing/balance.ts'
import type { Route } from '../../routing/choose.ts'
import { explainChoice, type NodeChoice } from '../../routing/explain.ts'
import type { NodeLoad } from '../../routing/node-load.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import type { Topology, TopologyNode } from '../../topology/types.ts'
import type { Client } from '../client/client.ts'
import type { WorkerSettings } from '../control/ipc.ts'
import type { WorkerCounters } from '../counters.ts'

export interface BalancerOptions {
  clock: Clock
  random: Random
  log: Logger
  counters: WorkerCounters
  /** Changed in place at a reload. */
  settings: WorkerSettings
  /** Every client of the worker. */
  clients: () => Iterable<Client>
  firstTurn: number
}

/** How often `review` should be called. */
export const reviewMs = 250
/** A client that has asked for nothing for so long is no work for anybody. */
const activeMs = 5000

/** The hands of `Balance` in a worker: counts its clients, tells the log and the metrics. */
export class Balancer {
  readonly #options: BalancerOptions
  readonly #balance: Balance
  #candidates: readonly TopologyNode[] = []
  readonly #byName = new Map<string, TopologyNode>()

  constructor(options: BalancerOptions) {
    const { firstTurn, random, settings } = options
    this.#options = options
    this.#balance = new Balance({
      random,
      firstTurn,
      zone: () => settings.zone,
      slowStartMs: () => settings.slowStartMs,
      ejectionMaxPercent: () => settings.ejectionMaxPercent,
    })
  }

  /** `candidates`: where reads may go, be it the primary for want of replicas. */
  setTopology(topology: Topology, candidates: readonly TopologyNode[]): void {
    const readable = candidates[0]?.readable ? candidates : []
    this.#candidates = candidates
    this.#nameAll(candidates)
    const { replicaLagBytesMax } = topology.settings
    this.#balance.setNodes(topology.nodes, readable, this.#options.clock.nowMs(), replicaLagBytesMax)
  }

  #nameAll(candidates: readonly TopologyNode[]): void {
    const known = this.#byName
    for (const node of candidates) if (known.get(node.name) !== node) known.set(node.name, node)
    if (known.size === candidates.length) return
    known.clear()
    for (const node of candidates) known.set(node.name, node)
  }

  /** What is seen of a node; requests are told to it. */
  load(name: string): NodeLoad {
    return this.#balance.load(name)
  }

  /** Whether clients should go to a node when there is a choice. */
  wants(name: string): boolean {
    return (this.#balance.share(name)?.value ?? 0) > 0
  }

  /** Whether a node gets nothing for a while. */
  isOut(name: string): boolean {
    return this.#balance.load(name).isEjected
  }

  /**
   * A node for a client, of those that are good enough for it; its home if it should stay there. Called for every
   * request.
   */
  choose(nodes: readonly TopologyNode[], home = ''): TopologyNode | undefined {
    const at = nodes === this.#candidates ? this.#byName.get(home) : nodes.find(({ name }) => name === home)
    const chosen = this.#balance.choose(nodes, at)
    if (chosen && chosen !== at) this.#options.counters.node(chosen.name).chosen++
    return chosen
  }

  /** Another one of these nodes than `node`, for what that one is slow to answer. */
  besides(nodes: readonly TopologyNode[], node: string): TopologyNode | undefined {
    return this.#balance.besides(nodes, node)
  }

  /** A client reads at another node from now on. */
  onMoved(from: string, to: string): void {
    this.#balance.moved(from, to)
    this.#options.counters.node(to).chosen++
  }

  /** A client has gone. */
  onEnded(client: Client): void {
    if (reads(client)) this.#balance.left(client.home)
  }

  /** A few times a second. */
  review(): void {
    const { clock, counters, log } = this.#options
    const nowMs = clock.nowMs()
    if (this.#balance.candidates.length > 1) this.#count(nowMs)
    for (const { kind, node, why } of this.#balance.review(nowMs)) {
      const isOut = kind === 'ejected'
      if (isOut) counters.node(node).ejections++
      const sentence = isOut ? `${node} gets no reads from this worker for a while: ${why}` : why
      log[isOut ? 'warn' : 'info']({ event: `node.${kind}`, node }, sentence)
    }
    for (const [name, node] of counters.nodes) {
      const share = this.#balance.share(name)
      const load = share && this.#balance.load(name)
      node.ejected = load?.isEjected ? 1 : 0
      node.comingBack = share && share.ramp < 1 ? 1 : 0
      node.slowdown = load?.slowdown ?? 1
    }
  }

  #count(nowMs: number): void {
    for (const { name } of this.#balance.candidates) this.#balance.load(name).clients = 0
    for (const client of this.#options.clients()) {
      if (!reads(client)) continue
      if (client.session && (client.idleMs(nowMs) ?? 0) > activeMs) continue
      this.#balance.load(client.home).clients++
    }
  }

  /** For every node, whether a request could go there and how good a choice it would be. */
  explain(
    topology: Topology,
    route: Route,
    qualified?: (node: TopologyNode) => string | undefined,
  ): NodeChoice[] {
    return explainChoice(topology, route, this.#balance, qualified)
  }
}

/** Whether a client has a node that it reads from. */
function reads({ home, isSplit, route }: Client): boolean {
  return home !== '' && (isSplit || route === 'replica')
}
