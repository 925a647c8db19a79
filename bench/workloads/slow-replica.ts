import { nearMs, slowMs } from '../slow-servers.ts'
import { runPgbench } from './pgbench-run.ts'
import type { Workload } from './workload.ts'

/** Reads from three replicas of which the last one takes its time: who notices, and what do the clients feel of it? */
export const slowReplica: Workload = {
  name: 'slow-replica',
  title: `one row by its key from three replicas, one of which answers after ${slowMs} ms and the others after ${nearMs} (pgbench -S -M extended)`,
  group: 'slow-replica',
  clients: [16, 32],
  columns: ['tps', 'p50Ms', 'p95Ms', 'p99Ms', 'proxyCpuUs'],
  compared: ['p99Ms', 'tps'],
  placement: 'shared',
  login: 'trust',
  replicas: 3,
  prepare: async postgres => {
    await postgres.accounts()
    await postgres.replicate()
  },
  run: run => runPgbench(run, { protocol: 'extended', options: ['-S'] }),
}
