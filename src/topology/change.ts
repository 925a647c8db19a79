import type { Topology, TopologyNode } from './types.ts'

/**
 * How one snapshot of a cluster differs from the one before: small when little has changed, in order that a cluster of
 * a thousand nodes need not be told as a whole whenever one of them reports. Plain JSON.
 */
export interface TopologyChange extends Omit<Topology, 'nodes'> {
  /** Whether `nodes` are all; else those that are not named stay as they are. */
  isWhole: boolean
  /** The nodes that are new or not as they were, in the order of their names. */
  nodes: TopologyNode[]
  /** Names of nodes that were there before and are no more. */
  gone: string[]
}

/**
 * What leads from one snapshot to another. Nodes are compared as objects: a builder that gives the same object for a
 * node that is the same makes a small change, and one that does not makes a right one.
 */
export function changeOf(before: Topology | undefined, after: Topology): TopologyChange {
  if (!before) return { ...after, isWhole: true, gone: [] }
  const nodes: TopologyNode[] = []
  const gone: string[] = []
  let at = 0
  for (const node of after.nodes) {
    while (at < before.nodes.length && before.nodes[at]!.name < node.name) gone.push(before.nodes[at++]!.name)
    const old = before.nodes[at]
    if (old?.name === node.name) at++
    if (old !== node) nodes.push(node)
  }
  for (; at < before.nodes.length; at++) gone.push(before.nodes[at]!.name)
  return { ...after, isWhole: false, nodes, gone }
}

/** The snapshot that a change leads to. Nodes that it does not name are the same objects as before. */
export function applyChange(before: Topology | undefined, change: TopologyChange): Topology {
  const { isWhole, gone, nodes, ...rest } = change
  if (isWhole || !before) return { ...rest, nodes }
  const left = new Set(gone)
  const merged: TopologyNode[] = []
  let at = 0
  for (const old of before.nodes) {
    while (at < nodes.length && nodes[at]!.name < old.name) merged.push(nodes[at++]!)
    if (nodes[at]?.name === old.name) merged.push(nodes[at++]!)
    else if (!left.has(old.name)) merged.push(old)
  }
  for (; at < nodes.length; at++) merged.push(nodes[at]!)
  return { ...rest, nodes: merged }
}
