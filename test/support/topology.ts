import type { Topology, TopologyNode } from '../../src/topology/types.ts'

/** A replica that can be read from, for tests of what decides by topologies. */
export function node(name: string, over: Partial<TopologyNode> = {}): TopologyNode {
  return {
    name,
    host: name,
    port: 5432,
    weight: 1,
    zone: '',
    state: 'active',
    tags: {},
    role: 'replica',
    accepting: true,
    declared: true,
    source: 'agent',
    systemId: '7',
    timeline: 1,
    lsn: 0,
    lagBytes: 0,
    lagMs: 0,
    connections: undefined,
    load: undefined,
    version: 150000,
    writable: false,
    readable: true,
    reasons: [],
    ...over,
  }
}

export const primary = (name: string, over: Partial<TopologyNode> = {}): TopologyNode =>
  node(name, { role: 'primary', writable: true, readable: false, ...over })

export function topology(nodes: TopologyNode[], over: Partial<Topology> = {}): Topology {
  return {
    cluster: 'test',
    revision: 1,
    intentRevision: 1,
    epoch: 0,
    systemId: '7',
    nodes,
    primary: nodes.find(each => each.role === 'primary')?.name,
    conflict: [],
    alarms: [],
    settings: { v: 1, readFallback: 'primary', drainTimeoutMs: 1000 },
    ...over,
  }
}
