import type { Store } from '../store/store.ts'
import { keysOf } from '../topology/keys.ts'
import { ClusterState } from '../topology/state.ts'
import { buildTopology } from '../topology/topology.ts'
import type { Topology } from '../topology/types.ts'
import { askAdmin } from './admin-client.ts'
import type { ClusterAccess } from './cluster-command.ts'
import { FleetConfig } from './fleet-config.ts'

/** Everything that the store knows about a cluster, as of one revision. */
export async function readCluster(store: Store, cluster: string): Promise<ClusterState> {
  const keys = keysOf(cluster)
  const { entries, revision } = await store.list(keys.root)
  const state = new ClusterState(keys)
  state.replace(entries, revision)
  return state
}

/** The topology as far as the store alone tells it: what only a proxy's own probe knows is missing. */
export function topologyFromStore(
  state: ClusterState,
  { config, origins }: Pick<ClusterAccess, 'config' | 'origins'>,
): Topology {
  const settings = new FleetConfig(config, origins).settings(state.fleet)
  return buildTopology(config.cluster, state, settings)
}

/**
 * The topology as a running proxy sees it, roles found by its own probe included. Undefined when none of this
 * cluster answers.
 */
export async function topologyOfAdmin({ config, admin }: ClusterAccess): Promise<Topology | undefined> {
  if (!admin) return undefined
  const asked = askAdmin<{ topology: Topology }>(admin, '/api/topology')
  const topology = await asked.then(
    answer => answer.topology,
    () => undefined,
  )
  return topology?.cluster === config.cluster ? topology : undefined
}
