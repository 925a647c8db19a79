// npm run check: format, imports, lint, types and unit tests. Exit code 1 when any of them fails.
import { availableParallelism } from 'node:os'
import {
  checkNode,
  compile,
  ensureDependencies,
  removeStale,
  runQuietly,
  testFiles,
  tool,
} from './support.mjs'

checkNode()
await ensureDependencies()
removeStale()

const steps = await Promise.all([
  step('biome (format, imports)', () => runQuietly(tool('biome'), ['check', '--colors=off', '.'])),
  step('oxlint', () => runQuietly(tool('oxlint'), ['--type-aware'])),
  step('tsc', () => compile(runQuietly)),
])
// Tests of code that does not compile would only repeat that.
if (steps.every(({ name, ok }) => ok || name !== 'tsc')) steps.push(await step('unit tests', unitTests))

const failed = steps.filter(({ ok }) => !ok)
for (const { name, ok, seconds } of steps)
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} ${seconds.toFixed(1)} s`)
process.exitCode = failed.length > 0 ? 1 : 0

function unitTests() {
  const files = [
    ...testFiles('src', 'bench'),
    ...testFiles('test').filter(file => file.endsWith('test/tidy.test.js')),
  ]
  const concurrency = `--test-concurrency=${Math.min(4, availableParallelism())}`
  const reporter = '--test-reporter=./scripts/reporter.mjs'
  return runQuietly(process.execPath, ['--test', concurrency, '--test-timeout=60000', reporter, ...files])
}

/** Runs one step; what it printed is shown only when it failed. */
async function step(name, work) {
  const startedMs = Date.now()
  const { code, output } = await work()
  if (code !== 0) console.log(`${name}:\n${output.trimEnd()}\n`)
  return { name, ok: code === 0, seconds: (Date.now() - startedMs) / 1000 }
}
