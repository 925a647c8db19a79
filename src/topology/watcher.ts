import type { FleetReading } from '../config/fleet.ts'
import type { Logger } from '../runtime/log.ts'
import type { Random } from '../runtime/random.ts'
import type { Timers } from '../runtime/timers.ts'
import { mirror } from '../store/mirror.ts'
import type { Connection, Entry, Store } from '../store/store.ts'
import { keysOf } from './keys.ts'
import { Pace } from './pace.ts'
import { spreadOf } from './spread.ts'
import { ClusterState, type Versioned } from './state.ts'
import { TopologyBuilder } from './topology.ts'
import type { NodeStatus, Observation, ProxyStatus, RoutingSettings, Topology } from './types.ts'

export interface WatcherOptions {
  store: Store
  cluster: string
  /** What counts for the routing when the fleet's settings are these; asked before every snapshot. */
  settings: (fleet: FleetReading) => RoutingSettings
  timers: Timers
  random: Random
  log: Logger
  /** Whether changes are told in the log; off where another watcher of the process does. */
  announce?: boolean
}

/**
 * Keeps the current topology of a cluster: mirrors its keys, takes what was seen first hand, and tells listeners
 * about every new snapshot. While the store is away the last snapshot stands.
 */
export class TopologyWatcher {
  readonly ready: Promise<void>
  readonly #options: WatcherOptions
  readonly #state: ClusterState
  readonly #listeners = new Set<(topology: Topology) => void>()
  readonly #mirror: { close(): void; ready: Promise<void> }
  readonly #builder: TopologyBuilder
  readonly #pace: Pace
  #topology: Topology

  constructor(options: WatcherOptions) {
    this.#options = options
    const keys = keysOf(options.cluster)
    this.#state = new ClusterState(keys)
    this.#builder = new TopologyBuilder(options.cluster)
    this.#pace = new Pace(options.timers, () => this.#rebuild())
    this.#topology = this.#build()
    this.#mirror = mirror(options.store, keys.root, {
      onChange: (entries, revision, changedKeys) => this.#onChange(entries, revision, changedKeys),
      spreadMs: () => this.spreadMs,
      timers: options.timers,
      random: options.random,
      log: options.log,
    })
    this.ready = this.#mirror.ready.then(() => this.#pace.now())
  }

  current(): Topology {
    return this.#topology
  }

  get connection(): Connection {
    return this.#options.store.connection
  }

  /** Over how long, in ms, the proxies of this cluster spread what all of them have to ask the store for. */
  get spreadMs(): number {
    return spreadOf(this.#state.proxyStatuses.size)
  }

  proxies(): ProxyStatus[] {
    return [...this.#state.proxyStatuses.values()].map(({ value }) => value)
  }

  /** What the living agent of a node has reported last, with the revision of that; undefined where none lives. */
  agentReport(name: string): Versioned<NodeStatus> | undefined {
    return this.#state.nodeStatuses.get(name)
  }

  /** Calls `listener` with every new snapshot, beginning with the current one. Returns how to stop that. */
  onChange(listener: (topology: Topology) => void): () => void {
    this.#listeners.add(listener)
    listener(this.#topology)
    return () => this.#listeners.delete(listener)
  }

  observe(name: string, observation: Observation): void {
    this.#pace.request(this.#state.observe(name, observation))
  }

  /** Takes the agent's word again instead of what was seen first hand. */
  unobserve(name: string): void {
    this.#state.unobserve(name)
    this.#pace.request(true)
  }

  forget(name: string): void {
    this.#state.forget(name)
    this.#pace.request(true)
  }

  /** What counts for the routing has changed without the store: makes a new snapshot. */
  renew(): void {
    this.#pace.request(true)
  }

  close(): void {
    this.#mirror.close()
    this.#pace.cancel()
    this.#listeners.clear()
  }

  #onChange(entries: ReadonlyMap<string, Entry>, revision: number, changedKeys: string[] | undefined): void {
    if (changedKeys === undefined) {
      this.#state.replace(entries.values(), revision)
      return this.#pace.request(true)
    }
    let isUrgent = false
    for (const key of changedKeys) {
      const entry = entries.get(key)
      const decides = entry ? this.#state.put(entry) : this.#state.delete(key, revision)
      isUrgent ||= decides
    }
    this.#pace.request(isUrgent)
  }

  #rebuild(): void {
    const before = this.#topology
    this.#topology = this.#build()
    if (this.#options.announce !== false) this.#tell(before, this.#topology)
    for (const listener of this.#listeners) listener(this.#topology)
  }

  #build(): Topology {
    return this.#builder.build(this.#state, this.#options.settings(this.#state.fleet))
  }

  /** Decisions as sentences: who became primary, what raised an alarm, which node changed what it may do. */
  #tell(before: Topology, after: Topology): void {
    const { log } = this.#options
    if (before.primary !== after.primary) {
      const from = before.primary ? `, before it was ${before.primary}` : ''
      const sentence = after.primary
        ? `writes go to ${after.primary}${from}`
        : `no primary to write to${from}`
      log[after.primary ? 'info' : 'warn']({ event: 'topology.primary' }, sentence)
    }
    for (const alarm of after.alarms) {
      if (!before.alarms.includes(alarm)) log.warn({ event: 'topology.alarm' }, alarm)
    }
    const known = new Map(before.nodes.map(node => [node.name, node]))
    for (const node of after.nodes) {
      const old = known.get(node.name)
      if (old === node) continue
      if (old && old.readable === node.readable && old.writable === node.writable && old.role === node.role)
        continue
      const use = node.writable ? 'takes writes' : node.readable ? 'takes reads' : 'takes no new sessions'
      const why = node.reasons.length > 0 ? `: ${node.reasons.join('; ')}` : ''
      log.info({ event: 'topology.node', node: node.name }, `node ${node.name} (${node.role}) ${use}${why}`)
    }
  }
}
