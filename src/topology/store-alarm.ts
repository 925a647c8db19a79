import type { Connection } from '../store/store.ts'
import type { Topology } from './types.ts'

/** The topology with an alarm in front when the store that it was made from cannot be counted on. */
export function withStoreAlarm(topology: Topology, store: Connection): Topology {
  if (store.up) return topology
  const alarm =
    'the store is away: what was known stands, servers are asked themselves, and nothing can be changed'
  return { ...topology, alarms: [alarm, ...topology.alarms] }
}
