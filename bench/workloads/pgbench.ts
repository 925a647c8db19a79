import { type PgbenchScript, runPgbench } from './pgbench-run.ts'
import type { Workload } from './workload.ts'

/** What is told of a workload that pgbench drives. */
export const pgbenchColumns = [
  'tps',
  'p50Ms',
  'p95Ms',
  'p99Ms',
  'proxyCpuUs',
  'totalCpuUs',
  'memoryMb',
] as const satisfies Workload['columns']

const oneRead = 'SELECT abalance FROM pgbench_accounts WHERE aid = :aid;'
const thinkMs = 100

/** The first pause differs by client, so that they do not all come at once. */
const thinking = `\\if :isFirst
\\set thinkMs random(1, ${thinkMs})
\\sleep :thinkMs ms
\\set isFirst 0
\\endif
\\set aid random(1, :accounts)
${oneRead}
\\sleep ${thinkMs} ms
`

const skewed = `\\set aid random_zipfian(1, :accounts, 1.1)
${oneRead}
`

type Own = Pick<Workload, 'name' | 'title' | 'clients'> & Partial<Workload>

/** Workloads that pgbench drives, all on its own tables. */
export const pgbenchWorkloads: readonly Workload[] = [
  ...(['simple', 'extended', 'prepared'] as const).map(protocol =>
    pgbench(
      {
        name: `select-${protocol}`,
        title: `one row by its key, ${protocol} protocol (pgbench -S -M ${protocol})`,
        group: 'select',
        clients: [1, 8, 64, 256, 1000],
        keepsStatements: protocol === 'prepared',
      },
      { protocol, options: ['-S'] },
    ),
  ),
  pgbench(
    {
      name: 'skewed',
      title: 'one row by its key, few keys wanted by most (Zipf 1.1, extended protocol)',
      clients: [64],
    },
    { protocol: 'extended', text: skewed },
  ),
  pgbench(
    {
      name: 'tpcb',
      title: 'transactions of seven statements (pgbench TPC-B, simple protocol)',
      clients: [8, 64],
    },
    { protocol: 'simple', writes: true },
  ),
  pgbench(
    {
      name: 'mix',
      title: '90 % reads of one row, 10 % writing transactions (pgbench, extended protocol)',
      clients: [8, 64],
    },
    { protocol: 'extended', options: ['-b', 'select-only@9', '-b', 'simple-update@1'], writes: true },
  ),
  pgbench(
    {
      name: 'connect',
      title: 'a connection for each read of one row (pgbench -S -C)',
      clients: [8],
      compared: ['tps', 'proxyCpuUs'],
    },
    { protocol: 'simple', options: ['-S', '-C'] },
  ),
  pgbench(
    {
      name: 'think-time',
      title: `one row by its key, then a pause of ${thinkMs} ms (extended protocol; latency without the pause)`,
      clients: [1000],
      compared: ['p99Ms', 'proxyCpuUs'],
    },
    { protocol: 'extended', text: thinking, options: ['-D', 'isFirst=1'], sleepMs: thinkMs },
  ),
]

function pgbench(own: Own, script: PgbenchScript): Workload {
  return {
    group: own.name,
    columns: pgbenchColumns,
    compared: ['tps', 'proxyCpuUs'],
    placement: 'shared',
    login: 'trust',
    ...own,
    prepare: postgres => postgres.accounts(),
    run: run => runPgbench(run, script),
  }
}
