import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { logIn } from '../client.ts'
import type { BenchPostgres } from '../postgres.ts'
import { pgbenchColumns } from './pgbench.ts'
import { runPgbench } from './pgbench-run.ts'
import type { Run, Workload } from './workload.ts'

const longMs = 2000
const everyMs = 1000
/** Two run at once, and another may begin before the first has ended. */
const longClients = 3

/**
 * Short reads of many clients while every second another client asks something that takes 2 s: who shares a connection
 * with that must not wait for it. It takes time and hardly any processor, in order that only the waiting is seen; the
 * function says that it reads only, so nothing forbids to let others share its connection.
 */
export const headOfLine: Workload = {
  name: 'head-of-line',
  title:
    'reads of one row beside a query of 2 s each second (pgbench -S -M extended; figures of the short reads)',
  group: 'head-of-line',
  clients: [64],
  columns: pgbenchColumns,
  compared: ['p99Ms', 'tps'],
  placement: 'shared',
  login: 'trust',
  extraClients: longClients,
  prepare: async postgres => {
    await postgres.accounts()
    await postgres.query(
      `create or replace function long_read() returns int stable language sql as
       'select 1 from pg_sleep(${longMs / 1000})'`,
    )
  },
  run: async run => {
    const long = await startLongReads(run, run.postgres)
    try {
      return await runPgbench(run, { protocol: 'extended', options: ['-S'] })
    } finally {
      await long.stop()
    }
  },
}

async function startLongReads(
  { contestant }: Run,
  { keys }: BenchPostgres,
): Promise<{ stop(): Promise<void> }> {
  const ending = new AbortController()
  const visits = await Promise.all(Array.from({ length: longClients }, () => logIn(contestant.port, keys)))
  const askInTurn = async (): Promise<void> => {
    const running = new Set<Promise<void>>()
    for (let turn = 0; !ending.signal.aborted; turn++) {
      const one = visits[turn % longClients]!.run('select long_read()').finally(() => running.delete(one))
      running.add(one)
      await pause(systemTimers, everyMs, ending.signal)
    }
    await Promise.all(running)
  }
  const asking = askInTurn()
  // Reported when the load is over, which is when it is waited for.
  asking.catch(() => {})
  return {
    stop: async () => {
      ending.abort()
      await asking.finally(() => visits.forEach(visit => visit.end()))
    },
  }
}
