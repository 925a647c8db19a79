// npm run bench:pooling [-- idle-clients logins throughput large-value] [--json]: pooling against PgBouncer, one after
// the other. PgBouncer and taskset must be on the PATH. What was measured last is in docs/performance.md.
import { checkNode, run } from './support.mjs'

checkNode()
const all = ['idle-clients', 'logins', 'throughput', 'large-value']
const args = process.argv.slice(2)
const options = args.filter(arg => arg.startsWith('--'))
const named = args.filter(arg => !arg.startsWith('--'))
const unknown = named.find(name => !all.includes(name))
if (unknown !== undefined) {
  console.error(`there is no bench ${unknown}: use ${all.join(', ')}`)
  process.exit(2)
}
for (const name of named.length > 0 ? named : all) {
  process.exitCode ||= await run(process.execPath, [`dist/bench/${name}.js`, ...options])
}
