import { BenchError } from '../error.ts'
import { headOfLine } from './head-of-line.ts'
import { idleClients } from './idle-clients.ts'
import { largeValues } from './large-value.ts'
import { logins } from './logins.ts'
import { pgbenchWorkloads } from './pgbench.ts'
import { slowReplica } from './slow-replica.ts'
import { transfers } from './transfers.ts'
import type { Workload } from './workload.ts'

/** In the order of the tables. */
export const workloads: readonly Workload[] = [
  ...pgbenchWorkloads,
  headOfLine,
  slowReplica,
  ...transfers,
  logins,
  idleClients,
  ...largeValues,
]

/** What `--workload` takes: names, groups, and `all`. */
export const workloadNames = [...new Set(['all', ...workloads.flatMap(({ name, group }) => [group, name])])]

/** Workloads by name or group, each once. Throws `BenchError` `usage` for a name that none has. */
export function pickWorkloads(names: readonly string[]): readonly Workload[] {
  const unknown = names.find(name => !workloadNames.includes(name))
  if (unknown !== undefined) {
    throw new BenchError('usage', `there is no workload ${unknown}: use some of ${workloadNames.join(', ')}`)
  }
  return workloads.filter(({ name, group }) => names.some(each => [name, group, 'all'].includes(each)))
}
