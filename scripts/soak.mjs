// npm run test:soak -- --minutes 3 --clients 2000: clients come and go, and nothing may grow.
import { build, checkNode, ensureDependencies, run } from './support.mjs'

checkNode()
await ensureDependencies()
await build()
process.exitCode = await run(process.execPath, ['dist/test/soak/soak.js', ...process.argv.slice(2)])
