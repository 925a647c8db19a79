import type { Topology, TopologyNode } from '../topology/types.ts'
import type { Balance } from './balance.ts'
import type { Route } from './choose.ts'

/** What speaks for and against a node, and what its share is made of. */
export interface NodeChoice {
  node: string
  /** Whether it may be chosen at all. */
  isCandidate: boolean
  /** Why not, or what limits it; sentences for people. */
  reasons: string[]
  /** Clients for its share, with one more: the lower the better. Undefined where nothing would be sent by choice. */
  score: number | undefined
  /** Undefined for a node that is not balanced: the primary, and who takes no reads. */
  parts: ChoiceParts | undefined
}

export interface ChoiceParts {
  /** Clients at work there from here. */
  clients: number
  /** Part of all clients that it should have, 0..1: of `weight * speed * headroom * ramp` within its zone. */
  share: number
  weight: number
  /** 1, or less when it was slower than the others of its zone lately. */
  speed: number
  /** How many times longer than usual it takes. */
  slowdown: number
  latencyMs: number
  /** 1, or less when its agent reports that it is short of processor or connections. */
  headroom: number
  /** 1, or less while it comes back. */
  ramp: number
  /** Part of all clients that its zone has. */
  zone: number
}

/**
 * Explains, for every node of a topology, whether a request of `route` could go there and how good a choice it would
 * be. `qualified` says which nodes are good enough for the request itself, such as fresh enough, or why one is not.
 */
export function explainChoice(
  topology: Topology,
  route: Route,
  balance: Balance,
  qualified: (node: TopologyNode) => string | undefined = () => undefined,
): NodeChoice[] {
  const fallsBack = topology.settings.readFallback !== 'none' && !topology.nodes.some(node => node.readable)
  return topology.nodes.map(node => {
    const may = route === 'primary' ? node.writable : node.readable || (fallsBack && node.writable)
    const reasons = [...node.reasons]
    const unqualified = may ? qualified(node) : undefined
    if (unqualified !== undefined) reasons.push(unqualified)
    if (!may && reasons.length === 0) reasons.push(`is a ${node.role}`)
    const parts = route === 'primary' ? undefined : partsOf(node, balance)
    const waiting = balance.whyWaiting(node.name)
    if (parts && waiting !== undefined) reasons.push(waiting)
    else if (parts?.share === 0) reasons.push('is in another zone, and the own one can bear all')
    const isCandidate = may && unqualified === undefined
    const score = isCandidate && parts && parts.share > 0 ? (parts.clients + 1) / parts.share : undefined
    return { node: node.name, isCandidate, reasons, score, parts }
  })
}

function partsOf({ name, weight }: TopologyNode, balance: Balance): ChoiceParts | undefined {
  const share = balance.share(name)
  if (!share) return undefined
  const { clients, latencyMs, slowdown } = balance.load(name)
  const { headroom, ramp, speed, value, zone } = share
  return { clients, share: value, weight, speed, slowdown, latencyMs, headroom, ramp, zone }
}
