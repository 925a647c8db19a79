// npm run test:compat: drives a real pgherd with real drivers and tools.
//   npm run test:compat -- pgx psql      only files whose name contains one of the words
// PGHERD_COMPAT_MODES=direct,session names the ways to run it; `direct` is PostgreSQL without pgherd.
import { prepareDrivers } from './compat-drivers.mjs'
import { build, checkNode, ensureDependencies, run, testFiles } from './support.mjs'
import { ensureTestTools } from './test-tools.mjs'

const words = process.argv.slice(2)

checkNode()
await ensureDependencies()
await build()
await ensureTestTools()
const results = await prepareDrivers()

const all = testFiles('test/compat')
const files = words.length === 0 ? all : all.filter(file => words.some(word => file.includes(word)))
if (files.length === 0) {
  console.error(`no file of test/compat has a name with ${words.join(' or ')}`)
  process.exit(1)
}

const options = ['--test-concurrency=2', '--test-timeout=240000', '--test-reporter=./scripts/reporter.mjs']
process.exitCode = await run(process.execPath, ['--test', ...options, ...files])

// The last lines: who drove.
for (const { drivers, missing, problem } of results) {
  if (missing !== undefined) console.error(`not here: ${drivers.join(', ')}: ${missing}`)
  if (problem !== undefined) console.error(`not ready: ${drivers.join(', ')}: ${problem}`)
}
const ready = results.filter(({ missing, problem }) => missing === undefined && problem === undefined)
console.error(`drivers here: ${ready.flatMap(({ drivers }) => drivers).join(', ')}`)
