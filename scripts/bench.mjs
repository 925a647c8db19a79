// npm run bench -- --help: measures pgherd beside PostgreSQL itself and other proxies.
import { build, checkNode, ensureDependencies, run } from './support.mjs'

checkNode()
await ensureDependencies()
await build()
// Proxies live where only root's PATH leads.
const PATH = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`
process.exitCode = await run(process.execPath, ['dist/bench/main.js', ...process.argv.slice(2)], {
  env: { ...process.env, PATH },
})
