import { type Decisions, decide } from './decide.ts'
import { type Known, knownOf } from './evidence.ts'
import { judge } from './judge.ts'
import { isSame } from './same.ts'
import type { ClusterState } from './state.ts'
import type { RoutingSettings, Topology, TopologyNode } from './types.ts'

/**
 * Makes the one snapshot that everything else decides from. A function of the state alone: the same keys and
 * observations give the same topology, whatever the order in which they became known.
 *
 * The rules, each told in the node's `reasons`:
 * - What this process saw on the server itself counts more than the agent's word; the agent's word counts while
 *   its lease lives; after that the last known role stays, because a silent agent does not make a server bad.
 * - Nodes of another system identifier are strangers and get nothing. When it cannot be told which identifier is
 *   the cluster's, nobody gets anything.
 * - Writes go to the only node that claims to be primary. Of several claimants the one that the leader key
 *   names is right; without a leader key nobody is, and writes stop until one is left.
 * - Reads go to replicas that accept connections, follow the primary closely enough and are not drained.
 */
export function buildTopology(cluster: string, state: ClusterState, settings: RoutingSettings): Topology {
  return new TopologyBuilder(cluster).build(state, settings)
}

/** A node as it was judged last, and what it was judged by. */
interface Judged {
  known: Known
  node: TopologyNode
}

/**
 * Makes one snapshot after the other at the cost of what has changed: who is known as before, in a cluster about which
 * the same was decided, is not judged again. A node that is as it was is the same object, so that whoever compares two
 * snapshots finds out at once. What comes out is what `buildTopology` makes of the same state.
 */
export class TopologyBuilder {
  readonly #cluster: string
  readonly #judged = new Map<string, Judged>()
  /** All that `judge` takes from the decisions of the last snapshot. */
  #basis = ''

  constructor(cluster: string) {
    this.#cluster = cluster
  }

  build(state: ClusterState, settings: RoutingSettings): Topology {
    const known = state.nodeNames().map(name => knownOf(state, name, this.#judged.get(name)?.known))
    const decisions = decide(known, state.leader?.value.node)
    const { alarms, candidates, conflict, primary } = decisions
    return {
      cluster: this.#cluster,
      revision: state.revision,
      intentRevision: state.intentRevision,
      epoch: state.leader?.createRevision ?? 0,
      systemId: candidates.length === 1 ? candidates[0]! : '',
      nodes: this.#judge(known, decisions, settings),
      primary: primary?.name,
      conflict,
      alarms: [...[...state.problems.values()].sort(), ...alarms],
      settings: { v: 1, ...settings },
    }
  }

  #judge(nodes: readonly Known[], decisions: Decisions, settings: RoutingSettings): TopologyNode[] {
    const basis = basisOf(decisions, settings)
    const isSameBasis = basis === this.#basis
    this.#basis = basis
    const judged = nodes.map(known => {
      const last = this.#judged.get(known.draft.name)
      if (isSameBasis && last?.known === known) return last.node
      const node = shared(last?.node, judge(known, decisions, settings))
      this.#judged.set(known.draft.name, { known, node })
      return node
    })
    if (this.#judged.size > nodes.length) this.#forgetAllBut(nodes)
    return judged
  }

  #forgetAllBut(nodes: readonly Known[]): void {
    const names = new Set(nodes.map(({ draft }) => draft.name))
    for (const name of this.#judged.keys()) if (!names.has(name)) this.#judged.delete(name)
  }
}

function basisOf(
  { candidates, denied, leader, primary, seconds }: Decisions,
  settings: RoutingSettings,
): string {
  const { lsn, name, timeline } = primary ?? {}
  return JSON.stringify([[...seconds], candidates, leader, [...denied], name, timeline, lsn, settings])
}

/** The object that was there before, when the new one says the same. */
function shared(before: TopologyNode | undefined, after: TopologyNode): TopologyNode {
  return before && isSame(before, after) ? before : after
}
