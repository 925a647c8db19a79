import type { Store } from '../store/store.ts'
import type { NodeIntent } from '../topology/types.ts'
import type { ClusterAccess } from './cluster-command.ts'
import { readCluster, topologyFromStore, topologyOfAdmin } from './cluster-view.ts'
import { type Column, type CommandIo, printJson, table } from './output.ts'

interface NodeRow extends Omit<NodeIntent, 'v'> {
  name: string
  role: string
  /** Who told of it: an operator, its agent, or both. */
  declared: boolean
  agent: boolean
}

const columns: Column<NodeRow>[] = [
  { title: 'NODE', value: row => row.name },
  { title: 'ADDRESS', value: row => `${row.host}:${row.port}` },
  {
    title: 'STATE',
    value: row => row.state,
    paint: (cell, row, paint) => (row.state === 'active' ? cell : paint.yellow(cell)),
  },
  { title: 'ROLE', value: row => row.role },
  { title: 'WEIGHT', value: row => row.weight },
  { title: 'PRIORITY', value: row => row.priority },
  { title: 'ZONE', value: row => row.zone || '-' },
  { title: 'AGENT', value: row => (row.agent ? 'reports' : '-') },
  { title: 'TAGS', value: row => tagsOf(row) || '-' },
]

/** Prints what is wanted of every node, and the role that it is known to have. */
export async function listNodes(io: CommandIo, access: ClusterAccess, store: Store): Promise<void> {
  const { config } = access
  const state = await readCluster(store, config.cluster)
  const topology = (await topologyOfAdmin(access)) ?? topologyFromStore(state, access)
  const roles = new Map(topology.nodes.map(({ name, role }) => [name, role]))
  const rows = state.nodeNames().map(name => {
    const intent = state.nodeIntents.get(name)?.value
    const status = state.nodeStatuses.get(name)?.value
    const row: NodeRow = {
      name,
      host: intent?.host ?? status?.host ?? '',
      port: intent?.port ?? status?.port ?? 0,
      state: intent?.state ?? 'active',
      weight: intent?.weight ?? 1,
      priority: intent?.priority ?? 1,
      zone: intent?.zone || status?.zone || '',
      tags: intent?.tags ?? {},
      role: roles.get(name) ?? 'unknown',
      declared: intent !== undefined,
      agent: status !== undefined,
    }
    return row
  })
  if (access.json) printJson(io, { revision: state.revision, nodes: rows })
  else if (rows.length > 0) io.stdout(table(columns, rows, { colour: io.colour, width: io.width }))
  else io.stderr('no node is known yet: pgherd node add NAME HOST declares one\n')
}

function tagsOf({ tags }: NodeRow): string {
  return Object.entries(tags)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')
}
