import type { Connection } from '../store/store.ts'
import type { Topology } from './types.ts'

/** The topology with an alarm in front when the store that it was made from cannot be counted on. */
export function withStoreAlarm(topology: Topology, store: Connection): Topology {
  if (store.up) return topology
  const alarm =
    'the store is away: what was known stands, servers are asked themselves, and nothing can be changed'
  return { ...topology, alarms: [alarm, ...topology.alarms] }
}

/** The topology with an alarm in front when another living proxy, at the address `twin`, has the same id. */
export function withTwinAlarm(topology: Topology, id: string, twin: string | undefined): Topology {
  if (twin === undefined) return topology
  const alarm =
    `another proxy, at ${twin}, is named ${id} too, and what one of them has applied counts for both: ` +
    'give each its own name (proxy.id)'
  return { ...topology, alarms: [alarm, ...topology.alarms] }
}
