import { parseArgs } from 'node:util'
import { measureApply } from './apply.ts'
import { measureFanOut } from './fan-out.ts'

/**
 * What a large cluster costs its proxies and its etcd: see docs/scale.md.
 *   node dist/bench/scale/main.js apply --nodes 1000
 *   node dist/bench/scale/main.js fan-out --nodes 1000 --proxies 30
 */

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    nodes: { type: 'string', default: '1000' },
    proxies: { type: 'string', default: '10' },
    workers: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '4' },
    clients: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '3' },
  },
})
const numbers = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Number(value)]))
const asked = { nodes: 0, proxies: 0, workers: 0, clients: 0, rounds: 0, seconds: 0, ...numbers }
if (positionals[0] === 'apply') console.table(await measureApply(asked))
else if (positionals[0] === 'fan-out') console.table(await measureFanOut(asked))
else {
  console.error('say what to measure: apply or fan-out; docs/scale.md shows how')
  process.exitCode = 2
}
