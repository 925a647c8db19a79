// npm run test:regress -- /path/to/postgresql-source: PostgreSQL's regression suite through pgherd.
import { build, checkNode, ensureDependencies, run } from './support.mjs'

checkNode()
await ensureDependencies()
await build()
process.exitCode = await run(process.execPath, ['dist/test/compat/regress.js', ...process.argv.slice(2)])
