/**
 * New SCRAM logins a second: clients connect, prove their password, ask something and leave, some at once. The proxies
 * share one processor; the clients, which save themselves the hashing of the password, have another.
 *   npm run build && node dist/bench/logins.js [--rounds 7] [--seconds 3] [--at-once 16] [--json]
 */
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { report, type Series } from './report.ts'
import { type Contestant, processorMs, startStand } from './stand.ts'
import { logIn } from './wire.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '3' },
    'at-once': { type: 'string', default: '16' },
    json: { type: 'boolean', default: false },
  },
})
const durationMs = Number(values.seconds) * 1000

const stand = await startStand({ workers: 1, pinned: true })
const rates: Series = { name: 'SCRAM logins', unit: 'a second', values: {} }
const costs: Series = { name: 'SCRAM logins', unit: 'processor µs of the proxy a login', values: {} }
try {
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const contestant of [stand.pgbouncer, stand.pgherd]) {
      const usedMs = await processorMs(contestant.pids)
      const logins = await logInForAWhile(contestant)
      const costUs = (((await processorMs(contestant.pids)) - usedMs) * 1000) / logins
      // The first round warms up, and does not count.
      if (round === 0) continue
      ;(rates.values[contestant.name] ??= []).push((logins * 1000) / durationMs)
      ;(costs.values[contestant.name] ??= []).push(costUs)
    }
  }
} finally {
  await stand.stop()
}
report([rates, costs], values.json)

async function logInForAWhile({ port }: Contestant): Promise<number> {
  const endMs = performance.now() + durationMs
  let logins = 0
  const oneAfterTheOther = async (): Promise<void> => {
    while (performance.now() < endMs) {
      const visit = await logIn(port, stand.keys)
      await visit.run('select 1')
      visit.end()
      logins++
    }
  }
  await Promise.all(Array.from({ length: Number(values['at-once']) }, oneAfterTheOther))
  return logins
}
