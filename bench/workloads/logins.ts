import { logIn } from '../client.ts'
import { Meter } from '../meter.ts'
import { percentile } from '../statistics.ts'
import type { Workload } from './workload.ts'

/**
 * Clients connect, prove their password, ask something and leave. They save themselves the hashing of the password,
 * and have another processor than the proxies.
 */
export const logins: Workload = {
  name: 'logins',
  title: 'SCRAM logins with one query each; proxies on one processor, all else on the others',
  group: 'logins',
  clients: [16],
  columns: ['tps', 'p50Ms', 'p99Ms', 'proxyCpuUs'],
  compared: ['tps', 'proxyCpuUs'],
  placement: 'apart',
  login: 'scram',
  proxiesOnly: true,
  workers: 1,
  run: async ({ contestant, postgres, clients, warmUpSeconds, seconds }) => {
    const takenMs: number[] = []
    let endMs = performance.now() + warmUpSeconds * 1000
    const oneAfterTheOther = async (): Promise<void> => {
      while (performance.now() < endMs) {
        const startMs = performance.now()
        const visit = await logIn(contestant.port, postgres.keys)
        await visit.run('select 1')
        visit.end()
        takenMs.push(performance.now() - startMs)
      }
    }
    const all = (): Promise<unknown> => Promise.all(Array.from({ length: clients }, oneAfterTheOther))
    await all()
    takenMs.length = 0
    const meter = new Meter({ proxy: contestant.pid, postgres: postgres.pid, load: process.pid })
    const startMs = performance.now()
    endMs = startMs + seconds * 1000
    await all()
    const tookMs = performance.now() - startMs
    const { proxyMs = 0 } = meter.used()
    const sorted = takenMs.toSorted((a, b) => a - b)
    return {
      tps: (sorted.length * 1000) / tookMs,
      p50Ms: percentile(sorted, 0.5),
      p99Ms: percentile(sorted, 0.99),
      proxyCpuUs: (proxyMs * 1000) / sorted.length,
    }
  },
}
