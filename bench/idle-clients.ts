/**
 * What an idle client costs a proxy in memory: its processes are measured without clients, and with thousands that
 * have logged in, asked something, and rest.
 *   npm run build && node dist/bench/idle-clients.js [--clients 5000] [--rounds 3] [--json]
 */
import { parseArgs } from 'node:util'
import { pause, systemTimers } from '../src/runtime/timers.ts'
import { report, type Series } from './report.ts'
import { type Contestant, memoryBytes, startStand } from './stand.ts'
import { logIn, type Visit } from './wire.ts'

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '5000' },
    rounds: { type: 'string', default: '3' },
    workers: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
  },
})
const clients = Number(values.clients)
const warmUpClients = 200
const atOnce = 50
/** After that long what the logins have left behind is gone, as far as it goes by itself. */
const settleMs = 10_000

const series: Series = { name: `memory of an idle client, ${clients} of them`, unit: 'bytes', values: {} }
for (let round = 0; round < Number(values.rounds); round++) {
  // Each round begins with fresh processes: what was freed once is kept for the next.
  const stand = await startStand({ workers: Number(values.workers) })
  try {
    for (const contestant of [stand.pgbouncer, stand.pgherd]) {
      const visits = await come(contestant, warmUpClients)
      await pause(systemTimers, settleMs)
      const before = await memoryBytes(contestant.pids)
      visits.push(...(await come(contestant, clients)))
      await pause(systemTimers, settleMs)
      const grown = (await memoryBytes(contestant.pids)) - before
      series.values[contestant.name] ??= []
      series.values[contestant.name]!.push(grown / clients)
      for (const visit of visits) visit.end()
    }

    async function come({ port }: Contestant, count: number): Promise<Visit[]> {
      const visits: Visit[] = []
      for (let left = count; left > 0; left -= atOnce) {
        const next = Array.from({ length: Math.min(atOnce, left) }, async () => {
          const visit = await logIn(port, stand.keys)
          await visit.run('select 1')
          return visit
        })
        visits.push(...(await Promise.all(next)))
      }
      return visits
    }
  } finally {
    await stand.stop()
  }
}
report([series], values.json)
