// npm test: builds and runs every test, real servers included.
//   npm test -- store agent      only files whose path contains one of the words
//   npm run test:unit            only the tests beside the code
import { build, checkNode, ensureDependencies, run, testFiles } from './support.mjs'
import { ensureTestTools } from './test-tools.mjs'

const args = process.argv.slice(2)
const unitOnly = args.includes('--unit')
const words = args.filter(arg => !arg.startsWith('--'))
const unknown = args.find(arg => arg.startsWith('--') && arg !== '--unit')
if (unknown !== undefined) {
  console.error(
    `npm test knows no option ${unknown}: give words that the test files' paths must contain, or --unit`,
  )
  process.exit(2)
}

checkNode()
await ensureDependencies()
await build()
if (!unitOnly) await ensureTestTools()

// Drivers and tools have their own command, npm run test:compat.
const withServers = () =>
  testFiles('src', 'bench', 'test').filter(file => !file.startsWith('dist/test/compat/'))
const all = unitOnly ? testFiles('src', 'bench') : withServers()
const files = words.length === 0 ? all : all.filter(file => words.some(word => file.includes(word)))
if (files.length === 0) {
  console.error(
    words.length > 0 ? `no test file's path contains ${words.join(' or ')}` : 'there are no tests',
  )
  process.exit(1)
}

// Servers of two files at once is what two cores can carry without waits running out.
const options = ['--test-concurrency=2', '--test-timeout=180000', '--test-reporter=./scripts/reporter.mjs']
// Servers such as HAProxy live where only root's PATH leads.
const PATH = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`
process.exitCode = await run(process.execPath, ['--test', ...options, ...files], {
  env: { ...process.env, PATH },
})
