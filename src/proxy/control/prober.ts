import type { ConnectionOptions } from 'node:tls'
import type { ProbeFailureKind } from '../../probe/failure.ts'
import { Probe, type ProbeOptions } from '../../probe/probe.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import type { Versioned } from '../../topology/state.ts'
import type { NodeFacts, NodeStatus, TopologyNode } from '../../topology/types.ts'
import type { TopologyWatcher } from '../../topology/watcher.ts'

/** What the prober needs of a `Probe`. */
export type NodeProbe = Pick<Probe, 'sample' | 'close'>

export interface ProberOptions {
  watcher: Pick<
    TopologyWatcher,
    'current' | 'connection' | 'agentReport' | 'observe' | 'unobserve' | 'forget' | 'onChange'
  >
  user: string
  password: string | undefined
  database: string
  intervalMs: number
  timeoutMs: number
  /** TLS of connections that are opened from now on; undefined: none. */
  tls?: () => ConnectionOptions | undefined
  clock: Clock
  timers: Timers
  log: Logger
  /** How a server is asked; by a `Probe` of its own by default. */
  openProbe?: (options: ProbeOptions) => NodeProbe
}

interface Watched {
  probe: NodeProbe
  host: string
  port: number
  busy: boolean
  /**
   * Somebody could not use the node: it is asked over new connections until one works. An old connection proves
   * nothing here: a server whose postmaster hangs serves those it has.
   */
  suspected: boolean
  /** Monotonic ms when it was last asked over a new connection because of a suspicion. */
  freshAtMs: number
  lastFacts: NodeFacts | undefined
  /**
   * Revision of the agent's report as it stood while the store was away, 0 for none: it may be old, and is not believed
   * against what was seen since. Undefined when there is no doubt.
   */
  doubtedRevision: number | undefined
  /** Monotonic ms since which it has not been reached; undefined while it is. */
  unreachableSinceMs: number | undefined
  /** The failure that was logged last; one of a kind in a row is enough. */
  told: ProbeFailureKind | undefined
}

/** A node that nobody declares, reports or reaches for this long is forgotten. */
const forgetMs = 600_000
/** Suspicions of one node within this time are one: each costs the server a connection. */
const suspectPauseMs = 250
/** A connection this old is replaced, see `Probe`. */
const renewMs = 30_000

/**
 * Asks servers themselves what agents would tell: nodes without a living agent, nodes that a worker could not
 * use, and every node while the store is away, and after that until its agent has reported again or says the same.
 * That is how pgherd works without agents, and why a silent agent or store never takes a healthy server out.
 */
export class Prober {
  readonly #options: ProberOptions
  readonly #watched = new Map<string, Watched>()
  readonly #timer: Timer
  readonly #unsubscribe: () => void
  #seq = 0

  constructor(options: ProberOptions) {
    this.#options = options
    this.#timer = options.timers.every(options.intervalMs, () => this.#round())
    // A node that has just become known is asked at once.
    this.#unsubscribe = options.watcher.onChange(({ nodes }) => {
      if (nodes.some(node => !this.#watched.has(node.name) && node.source === 'none')) this.#round()
    })
  }

  /** A worker could not use the node: it is looked at now. */
  suspect(name: string): void {
    const node = this.#node(name)
    if (!node) return
    const watched = this.#watch(node)
    watched.suspected = true
    // Within the pause the next round asks.
    if (this.#options.clock.nowMs() - watched.freshAtMs >= suspectPauseMs) void this.#ask(name, watched)
  }

  async close(): Promise<void> {
    this.#timer.cancel()
    this.#unsubscribe()
    const all = [...this.#watched.values()]
    this.#watched.clear()
    await Promise.all(all.map(({ probe }) => probe.close()))
  }

  #node(name: string): TopologyNode | undefined {
    return this.#options.watcher.current().nodes.find(node => node.name === name)
  }

  #round(): void {
    const { watcher } = this.#options
    const storeDown = !watcher.connection.up
    const nodes = watcher.current().nodes
    const byName = new Map(nodes.map(node => [node.name, node]))
    for (const [name, watched] of this.#watched) {
      const node = byName.get(name)
      if (!node || node.host !== watched.host || node.port !== watched.port) this.#drop(name, watched)
    }
    for (const node of nodes) {
      if (node.host === '') continue
      const report = watcher.agentReport(node.name)
      let watched = this.#watched.get(node.name)
      if (storeDown || !report || watched?.suspected || (watched && isDoubted(watched, report))) {
        watched ??= this.#watch(node)
        if (storeDown) watched.doubtedRevision = report?.modRevision ?? 0
        void this.#ask(node.name, watched)
      } else if (watched) this.#drop(node.name, watched)
    }
  }

  #watch(node: TopologyNode): Watched {
    let watched = this.#watched.get(node.name)
    if (!watched) {
      const { user, password, database, timeoutMs, tls, clock, timers } = this.#options
      const { host, port } = node
      const postgres = {
        host,
        port,
        user,
        password,
        database,
        get tls() {
          return tls?.()
        },
      }
      const { openProbe = options => new Probe(options) } = this.#options
      watched = {
        probe: openProbe({ postgres, timeoutMs, renewMs, applicationName: 'pgherd proxy', clock, timers }),
        host: node.host,
        port: node.port,
        busy: false,
        suspected: false,
        freshAtMs: -Infinity,
        lastFacts: undefined,
        doubtedRevision: undefined,
        unreachableSinceMs: undefined,
        told: undefined,
      }
      this.#watched.set(node.name, watched)
    }
    return watched
  }

  async #ask(name: string, watched: Watched): Promise<void> {
    if (watched.busy) return
    const { watcher, clock } = this.#options
    const fresh = watched.suspected
    if (fresh) watched.freshAtMs = clock.nowMs()
    watched.busy = true
    const { facts, failure } = await watched.probe.sample({ fresh })
    watched.busy = false
    if (this.#watched.get(name) !== watched) return
    // Suspected while an old connection was asked: what that one says does not answer the question.
    if (watched.suspected && !fresh) return this.#ask(name, watched)
    const seq = ++this.#seq
    if (facts) {
      watched.lastFacts = facts
      watched.unreachableSinceMs = undefined
      watched.suspected = false
      watched.told = undefined
      watcher.observe(name, { seq, reachable: true, facts, ...doubtOf(watched) })
      return
    }
    if (watched.told !== failure.kind) {
      watched.told = failure.kind
      this.#options.log.warn(
        { event: 'probe.failed', node: name, kind: failure.kind },
        `node ${name}: ${failure.reason}`,
      )
    }
    const nowMs = clock.nowMs()
    watched.unreachableSinceMs ??= nowMs
    // The server lives, only this user may not ask it: then its agent's word counts, if there is one.
    const letsOthersIn = failure.kind === 'busy' || failure.kind === 'denied'
    const report = watcher.agentReport(name)
    if (letsOthersIn && report) {
      watched.suspected = false
      watcher.unobserve(name)
      return
    }
    watcher.observe(name, {
      seq,
      reachable: letsOthersIn && watched.lastFacts !== undefined,
      reason: failure.reason,
      ...(watched.lastFacts ? { facts: watched.lastFacts } : {}),
      ...doubtOf(watched),
    })
    const isNobodys = !this.#node(name)?.declared && !report
    if (isNobodys && nowMs - watched.unreachableSinceMs > forgetMs) watcher.forget(name)
  }

  #drop(name: string, watched: Watched): void {
    this.#watched.delete(name)
    this.#options.watcher.unobserve(name)
    void watched.probe.close()
  }
}

function doubtOf({ doubtedRevision }: Watched): { doubtedRevision?: number } {
  return doubtedRevision === undefined ? {} : { doubtedRevision }
}

/** Whether an agent's report is from before or during an outage of the store and says other than what was seen here. */
function isDoubted(watched: Watched, { value, modRevision }: Versioned<NodeStatus>): boolean {
  const { doubtedRevision, lastFacts, unreachableSinceMs } = watched
  if (doubtedRevision === undefined || modRevision > doubtedRevision) return false
  if (unreachableSinceMs !== undefined) return value.accepting
  if (!lastFacts) return false
  return (
    !value.accepting ||
    value.role !== lastFacts.role ||
    value.timeline !== lastFacts.timeline ||
    value.systemId !== lastFacts.systemId
  )
}
