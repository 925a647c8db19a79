import type { TopologyNode } from '../topology/types.ts'
import type { NodeLoad } from './node-load.ts'

/** What part of the clients of this process a node should have, and what that is made of. */
export interface Share {
  /** 0..1; those of all candidates add up to 1. */
  value: number
  /** 1 when nothing was seen against it; 0.5 when it was so slow that it should have half. */
  speed: number
  /** By what its agent reports, 0.5..1. */
  headroom: number
  /** While it comes back, 0.1..1; 0 while it has to wait. */
  ramp: number
  /** Of the whole, the part that its zone has. */
  zone: number
  /** Clients that should leave it, of those that ask for something next. */
  leaving: number
}

export const newShare = (): Share => ({ value: 0, speed: 1, headroom: 1, ramp: 1, zone: 1, leaving: 0 })

/** Up to here one is as quick as the other. */
const slowdownIgnored = 1.5
const samplesMin = 10
/** A zone that has lost less than a quarter of its capacity still serves all by itself. */
const spareCapacity = 1.4
/** From here to a whole processor, and a full server, a node's headroom goes down to `headroomMin`. */
const busyCpu = 0.8
const fewConnections = 0.1
const headroomMin = 0.5

export interface ShareInput {
  /** Those that reads may go to; `loads` and `ramps` are theirs, in the same order. */
  nodes: readonly TopologyNode[]
  loads: readonly NodeLoad[]
  ramps: readonly number[]
  /** All of the cluster: what a zone would have if all were well. */
  all: readonly TopologyNode[]
  zone: string
}

/**
 * The shares of nodes, into `shares`. Within a zone they go by weight, speed, headroom and ramp; who is ejected has
 * none. Nodes of the own zone get all, as long as what is well of it can bear that; of what it cannot, the others get
 * as much as is missing.
 */
export function fillShares(input: ShareInput, shares: readonly Share[]): void {
  const { all, loads, nodes, ramps, zone } = input
  const isNear = (node: TopologyNode): boolean => zone === '' || node.zone === zone
  const best = quickest(nodes, loads)
  const capacities = nodes.map((node, at) => {
    const load = loads[at]!
    const share = shares[at]!
    share.speed = speedOf(load, best.get(node.zone))
    share.headroom = headroomOf(node)
    share.ramp = ramps[at]!
    return load.isEjected ? 0 : node.weight * share.speed * share.headroom * share.ramp
  })
  const near = sumOf(nodes, capacities, isNear)
  const far = sumOf(nodes, capacities, node => !isNear(node))
  const nearPart = far === 0 ? 1 : Math.min(1, (spareCapacity * near) / (full(all, isNear) || 1))
  nodes.forEach((node, at) => {
    const share = shares[at]!
    const [part, capacity] = isNear(node) ? [nearPart, near] : [1 - nearPart, far]
    share.zone = part
    share.value = capacity === 0 ? 0 : (part * capacities[at]!) / capacity
  })
}

function sumOf(
  nodes: readonly TopologyNode[],
  capacities: readonly number[],
  counts: (node: TopologyNode) => boolean,
): number {
  return nodes.reduce((sum, node, at) => (counts(node) ? sum + capacities[at]! : sum), 0)
}

/** What a zone's replicas would bear if all of them were well. */
function full(all: readonly TopologyNode[], isNear: (node: TopologyNode) => boolean): number {
  return all.reduce((sum, node) => (isNear(node) && node.role !== 'primary' ? sum + node.weight : sum), 0)
}

/** The least slowdown in each zone of those that serve. */
function quickest(nodes: readonly TopologyNode[], loads: readonly NodeLoad[]): Map<string, number> {
  const best = new Map<string, number>()
  nodes.forEach(({ zone }, at) => {
    const { isEjected, samples, slowdown } = loads[at]!
    if (samples < samplesMin || isEjected) return
    best.set(zone, Math.min(slowdown, best.get(zone) ?? slowdown))
  })
  return best
}

/** Against the quickest of its zone. */
function speedOf({ samples, slowdown }: NodeLoad, best: number | undefined): number {
  return samples < samplesMin || best === undefined ? 1 : Math.min(1, (best * slowdownIgnored) / slowdown)
}

function headroomOf({ connections, load }: TopologyNode): number {
  const cpu = load ? (1 - load.cpu) / (1 - busyCpu) : 1
  const free = connections && connections.max > 0 ? (connections.max - connections.used) / connections.max : 1
  return headroomMin + (1 - headroomMin) * Math.max(0, Math.min(1, cpu, free / fewConnections))
}
