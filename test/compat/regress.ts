import { type ChildProcess, spawn } from 'node:child_process'
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { giveTo, serverAccount } from '../../src/demo/account.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from '../support/host.ts'
import { query, startTestCluster, type TestCluster } from '../support/postgres.ts'
import { type CompatMode, namedModes } from './modes.ts'
import { runTool } from './tool.ts'

/**
 * PostgreSQL's own regression suite, directly and through pgherd, and what differs between the two. Takes the source
 * tree of the installed PostgreSQL's version; needs its headers and a C compiler for the suite's server functions.
 */
const usage =
  'npm run test:regress -- /path/to/postgresql-source [--mode session,auto] [--tests name,name] [--out folder]'

interface Suite {
  source: string
  /** Tests to run in this order, or all of the schedule. */
  tests: string[]
  libraries: string
  pgRegress: string
  bin: string
}

/** What one run of the suite said: each test's result, and what it printed. */
interface Outcome {
  results: Map<string, 'ok' | 'failed'>
  folder: string
}

/** Server functions of the suite, by path in the source tree, with what their own makefiles define. */
const serverFunctions = [
  { path: 'src/test/regress/regress.c', flags: [] },
  { path: 'contrib/spi/autoinc.c', flags: [] },
  { path: 'contrib/spi/refint.c', flags: ['-DREFINT_VERBOSE'] },
]
/** What pg_regress sets for a database that it makes itself. */
const databaseSettings = {
  lc_messages: 'C',
  lc_monetary: 'C',
  lc_numeric: 'C',
  lc_time: 'C',
  bytea_output: 'hex',
  timezone_abbreviations: 'Default',
}

/** Tests that connect anew in the middle may get a server connection that was reset, and not a new one. */
const usedConnection = {
  stats: 'a new session of a client is not always a new session of the server',
  temp: 'the server connection has been used: its temporary schema exists already',
}
/** Tests that may differ from the direct run, by mode, each with the reason. */
const explained: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  auto: usedConnection,
  session: usedConnection,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mode: { type: 'string', default: 'session' },
    tests: { type: 'string', default: '' },
    out: { type: 'string', default: 'dist/regress' },
  },
})
const [source] = positionals
if (source === undefined) {
  say(`usage: ${usage}`)
  process.exit(2)
}
process.exitCode = await main(resolve(source), resolve(values.out))

async function main(source: string, out: string): Promise<number> {
  await rm(out, { recursive: true, force: true })
  await mkdir(out, { recursive: true })
  const tests = values.tests.split(',').filter(name => name !== '')
  const [direct, ...others] = namedModes(['direct', ...values.mode.split(',')])
  const reference = await runMode(direct!, source, tests, out)
  let unexplained = 0
  for (const mode of others)
    unexplained += await compare(mode, reference, await runMode(mode, source, tests, out))
  return unexplained > 0 ? 1 : 0
}

/** Prints which tests differ from the direct run, and why; gives back how many nobody has explained. */
async function compare(mode: CompatMode, direct: Outcome, through: Outcome): Promise<number> {
  const different: string[] = []
  for (const [name, result] of direct.results) {
    const same = through.results.get(name) === result && (result === 'ok' || (await printsTheSame(name)))
    if (!same) different.push(name)
  }
  const reasons = explained[mode.name] ?? {}
  say(`${mode.name}: ${different.length} of ${direct.results.size} tests differ from the direct run`)
  for (const name of different) {
    const files = `${join(direct.folder, 'results', name)}.out ${join(through.folder, 'results', name)}.out`
    say(
      `  ${name}: ${direct.results.get(name)} -> ${through.results.get(name) ?? 'not run'}: diff -u ${files}`,
    )
    say(`    ${reasons[name] ?? 'not explained'}`)
  }
  return different.filter(name => reasons[name] === undefined).length

  async function printsTheSame(name: string): Promise<boolean> {
    const [a, b] = await Promise.all(
      [direct, through].map(({ folder }) => readFile(join(folder, 'results', `${name}.out`), 'utf8')),
    )
    return a === b
  }
}

/** Runs the suite once, on a cluster of its own. */
async function runMode(mode: CompatMode, source: string, tests: string[], out: string): Promise<Outcome> {
  const folder = join(out, mode.name)
  await mkdir(join(folder, 'results'), { recursive: true })
  const cluster = await startTestCluster({
    settings: { max_connections: '100', max_prepared_transactions: '2' },
  })
  try {
    const suite = await prepare(source, tests, cluster)
    // The server writes into the results itself, and reads what stands beside the tests.
    await giveTo(await serverAccount(), join(folder, 'results'))
    return await runBehind(mode, cluster, suite, folder)
  } finally {
    await cluster.stop()
  }
}

async function runBehind(
  mode: CompatMode,
  cluster: TestCluster,
  suite: Suite,
  folder: string,
): Promise<Outcome> {
  const { name, port } = cluster.primary
  if (!mode.settings) return runSuite(mode, suite, port, folder)
  const config = await testConfig([{ name, port }], { 'proxy.read_port': 0, ...mode.settings })
  const host = await startTestHost(config)
  try {
    await untilRolesAreKnown(host)
    return await runSuite(mode, suite, config.proxy.port, folder)
  } finally {
    await host.stop()
  }
}

async function prepare(source: string, tests: string[], cluster: TestCluster): Promise<Suite> {
  const bin = dirname(cluster.binaries.postgres)
  const library = (await runTool(join(bin, 'pg_config'), ['--pkglibdir'])).stdout.trim()
  const headers = (await runTool(join(bin, 'pg_config'), ['--includedir-server'])).stdout.trim()
  const libraries = join(cluster.dir, 'libraries')
  await mkdir(libraries)
  for (const { path, flags } of serverFunctions) {
    const target = join(libraries, `${path.replace(/.*\/(.*)\.c$/, '$1')}.so`)
    await runTool('gcc', [
      '-O1',
      '-fPIC',
      '-shared',
      '-fwrapv',
      ...flags,
      `-I${headers}`,
      '-o',
      target,
      join(source, path),
    ])
  }
  await makeDatabase(cluster.primary.port)
  const copied = join(cluster.dir, 'regress')
  await cp(join(source, 'src/test/regress'), copied, { recursive: true })
  await giveTo(await serverAccount(), cluster.dir)
  return {
    source: copied,
    tests,
    libraries,
    pgRegress: join(library, 'pgxs/src/test/regress/pg_regress'),
    bin,
  }
}

async function makeDatabase(port: number): Promise<void> {
  await query(port, "create database regression template template0 lc_collate 'C' lc_ctype 'C'")
  for (const [name, value] of Object.entries(databaseSettings))
    await query(port, `alter database regression set ${name} to '${value}'`)
}

async function runSuite(mode: CompatMode, suite: Suite, port: number, folder: string): Promise<Outcome> {
  const what =
    suite.tests.length > 0 ? suite.tests : [`--schedule=${join(suite.source, 'parallel_schedule')}`]
  const args = [
    '--use-existing',
    '--dbname=regression',
    '--user=postgres',
    '--host=127.0.0.1',
    `--port=${port}`,
    `--inputdir=${suite.source}`,
    `--outputdir=${folder}`,
    `--dlpath=${suite.libraries}`,
    `--bindir=${suite.bin}`,
    '--max-concurrent-tests=20',
    ...what,
  ]
  say(`${mode.name}: running`)
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  const child = spawn(suite.pgRegress, args, {
    env: Object.fromEntries(own),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const output = await outputOf(child)
  await writeFile(join(folder, 'output.txt'), output)
  const results = readResults(output)
  const failed = [...results.values()].filter(result => result === 'failed').length
  const files = (await readdir(join(folder, 'results'))).length
  say(`${mode.name}: ${results.size} tests, ${failed} failed, ${files} files in ${join(folder, 'results')}`)
  return { results, folder }
}

async function outputOf(child: ChildProcess): Promise<string> {
  let output = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  return output
}

/** Lines such as `test boolean ... ok 20 ms`, of a group `     int4 ... FAILED 30 ms`; TAP since version 16. */
function readResults(output: string): Map<string, 'ok' | 'failed'> {
  const results = new Map<string, 'ok' | 'failed'>()
  for (const line of output.split('\n')) {
    const classic = /^(?:test| {4}) +([\w.]+) +\.\.\. (ok|FAILED|failed)/.exec(line)
    const tap = /^(ok|not ok) +\d+ +[-+] +([\w.]+)/.exec(line)
    if (classic) results.set(classic[1]!, classic[2] === 'ok' ? 'ok' : 'failed')
    else if (tap) results.set(tap[2]!, tap[1] === 'ok' ? 'ok' : 'failed')
  }
  return results
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
