import { isSame } from './same.ts'
import type { Topology, TopologyNode } from './types.ts'

/**
 * How one snapshot of a cluster differs from the one before: small when little has changed, in order that a cluster of
 * a thousand nodes need not be told as a whole whenever one of them reports. Survives JSON.
 */
export interface TopologyChange extends Omit<Topology, 'nodes'> {
  /** Whether there was no snapshot before: `nodes` are all then. */
  isWhole: boolean
  /** The nodes that were not there before. */
  nodes: TopologyNode[]
  changed: NodeChange[]
  /** Names of nodes that were there before and are no more. */
  gone: string[]
}

/** What is new of one node. */
interface NodeChange {
  name: string
  fields: Partial<TopologyNode>
  /** Fields that have no value any more, which JSON would not tell. */
  without?: (keyof TopologyNode)[]
}

/**
 * What leads from one snapshot to another. Nodes are compared as objects first: a builder that gives the same object for
 * a node that is the same makes it cheap.
 */
export function changeOf(before: Topology | undefined, after: Topology): TopologyChange {
  if (!before) return { ...after, isWhole: true, changed: [], gone: [] }
  const nodes: TopologyNode[] = []
  const changed: NodeChange[] = []
  const gone: string[] = []
  let at = 0
  // Both are in the order of their names.
  for (const node of after.nodes) {
    while (at < before.nodes.length && before.nodes[at]!.name < node.name) gone.push(before.nodes[at++]!.name)
    const old = before.nodes[at]
    if (old?.name !== node.name) nodes.push(node)
    else {
      at++
      if (old !== node) changed.push(nodeChange(old, node))
    }
  }
  for (; at < before.nodes.length; at++) gone.push(before.nodes[at]!.name)
  return { ...after, isWhole: false, nodes, changed, gone }
}

function nodeChange(before: TopologyNode, after: TopologyNode): NodeChange {
  const fields: Record<string, unknown> = {}
  const without: (keyof TopologyNode)[] = []
  for (const field of Object.keys(after) as (keyof TopologyNode)[]) {
    if (isSame(before[field], after[field])) continue
    if (after[field] === undefined) without.push(field)
    else fields[field] = after[field]
  }
  return { name: after.name, fields, ...(without.length > 0 && { without }) }
}

/** The snapshot that a change leads to. Nodes that it does not name are the same objects as before. */
export function applyChange(before: Topology | undefined, change: TopologyChange): Topology {
  const { changed, gone, isWhole, nodes, ...rest } = change
  if (isWhole || !before) return { ...rest, nodes }
  const byName = new Map(before.nodes.map(node => [node.name, node]))
  for (const name of gone) byName.delete(name)
  for (const { fields, name, without = [] } of changed) {
    const left = Object.fromEntries(without.map(field => [field, undefined]))
    byName.set(name, { ...byName.get(name)!, ...fields, ...left })
  }
  for (const node of nodes) byName.set(node.name, node)
  const all = [...byName.values()]
  if (nodes.length > 0) all.sort((a, b) => (a.name < b.name ? -1 : 1))
  return { ...rest, nodes: all }
}
