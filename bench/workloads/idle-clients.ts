import { pause, systemTimers } from '../../src/runtime/timers.ts'
import { logIn, type Visit } from '../client.ts'
import { memoryNow } from '../meter.ts'
import type { Run, Workload } from './workload.ts'

const warmUpClients = 200
const atOnce = 50
/** After that long what the logins have left behind is gone, as far as it goes by itself. */
const settleMs = 10_000
const megabyte = 1024 * 1024

/** Each run begins with fresh processes: what was freed once is kept for the next. */
export const idleClients: Workload = {
  name: 'idle-clients',
  title: 'clients that have logged in by SCRAM, asked something, and rest',
  group: 'idle-clients',
  clients: [5000],
  columns: ['clientBytes', 'residentMb'],
  compared: ['clientBytes'],
  placement: 'shared',
  login: 'scram',
  proxiesOnly: true,
  extraClients: warmUpClients,
  startsFresh: true,
  workers: 2,
  run: async run => {
    const visits = await come(run, warmUpClients)
    await pause(systemTimers, settleMs)
    const before = memoryNow(run.contestant.pid).residentMb!
    visits.push(...(await come(run, run.clients)))
    await pause(systemTimers, settleMs)
    const residentMb = memoryNow(run.contestant.pid).residentMb!
    for (const visit of visits) visit.end()
    return { clientBytes: ((residentMb - before) * megabyte) / run.clients, residentMb }
  },
}

async function come({ contestant, postgres }: Run, count: number): Promise<Visit[]> {
  const visits: Visit[] = []
  for (let left = count; left > 0; left -= atOnce) {
    const next = Array.from({ length: Math.min(atOnce, left) }, async () => {
      const visit = await logIn(contestant.port, postgres.keys)
      await visit.run('select 1')
      return visit
    })
    visits.push(...(await Promise.all(next)))
  }
  return visits
}
