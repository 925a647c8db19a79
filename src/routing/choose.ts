import type { Topology, TopologyNode } from '../topology/types.ts'

/** Where a session or a unit must go. */
export type Route = 'primary' | 'replica'

/** The nodes that qualify, or the sentence that says why there is none. */
export interface Candidates {
  nodes: TopologyNode[]
  reason: string
}

/**
 * The nodes of a topology to which new work of a route may go. Reads go to replicas; where none qualifies they may
 * fall back to the primary if the settings allow it.
 */
export function candidatesFor(topology: Topology, route: Route): Candidates {
  if (route === 'replica') {
    const readable = topology.nodes.filter(node => node.readable)
    if (readable.length > 0) return { nodes: readable, reason: '' }
    if (topology.settings.readFallback === 'none') {
      return { nodes: [], reason: `no replica can be read from: ${whyNot(topology, 'replica')}` }
    }
  }
  const writable = topology.nodes.filter(node => node.writable)
  if (writable.length > 0) return { nodes: writable, reason: '' }
  const what = route === 'primary' ? 'no primary to write to' : 'no node can be read from'
  return { nodes: [], reason: `${what}: ${whyNot(topology, route)}` }
}

/**
 * What becomes of a session that is on a node now:
 * - `stay`;
 * - `move`: it would be better off elsewhere; it goes if it can be moved without its client noticing;
 * - `drain`: it has to leave, but may end what it is doing;
 * - `cut`: it must not do anything more there.
 */
export type Verdict = 'stay' | 'move' | 'drain' | 'cut'

/** `node`: undefined when it is in the topology no more. */
export function judgeSession(topology: Topology, route: Route, node: TopologyNode | undefined): Verdict {
  if (!node) return 'drain'
  const { name } = node
  if (route === 'primary') {
    // Out of reach is not demoted: only another role, another primary or a second claimant ends a session.
    const demoted =
      node.role === 'replica' ||
      topology.conflict.includes(name) ||
      (topology.primary !== undefined && topology.primary !== name)
    if (demoted) return 'cut'
    return node.state === 'active' ? 'stay' : 'drain'
  }
  if (node.state !== 'active') return 'drain'
  // It came here while no replica could be read from.
  if (node.role === 'primary' && topology.nodes.some(each => each.readable)) return 'move'
  return 'stay'
}

function whyNot(topology: Topology, route: Route): string {
  if (topology.nodes.length === 0) return 'no node is known yet'
  const [alarm] = topology.alarms
  if (route === 'primary' && alarm !== undefined) return alarm
  const told = topology.nodes.map(node => `${node.name}: ${node.reasons[0] ?? `is a ${node.role}`}`)
  return told.slice(0, 5).join('; ')
}
