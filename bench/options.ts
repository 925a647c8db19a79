import { Command, InvalidArgumentError } from 'commander'
import { parse } from 'yaml'
import { peerNames } from './contestants/peers.ts'
import { problemsOf } from './contestants/pgherd.ts'
import { pickWorkloads, workloadNames } from './workloads/all.ts'
import type { Workload } from './workloads/workload.ts'

/** pgherd once more, with other settings or from another folder. */
export interface Variant {
  name: string
  /** By dotted key. */
  settings: Record<string, unknown>
  /** A checkout that was built; undefined for this one. */
  folder?: string
}

export interface BenchOptions {
  workloads: readonly Workload[]
  peers: readonly string[]
  peerPaths: Record<string, string>
  variants: readonly Variant[]
  clients: readonly number[] | undefined
  rounds: number
  seconds: number
  warmUpSeconds: number
  workers: number | undefined
  poolSize: number
  scale: number
  jobs: number
  nodeOptions: readonly string[]
  out: string
  docs: boolean
  json: boolean
  printConfig: boolean
}

const quick = { rounds: 2, seconds: 3, warmUpSeconds: 1 }
const thorough = { rounds: 5, seconds: 5, warmUpSeconds: 2 }

const namePattern = /^[a-z][a-z0-9-]*$/

const description = `Measures pgherd beside PostgreSQL itself and other proxies, in turns, on a PostgreSQL of its own.

Workloads, and groups of them: ${workloadNames.join(', ')}.`

/** Reads the command line; ends the process with a sentence when it is wrong, and after --help. */
export function readOptions(argv: readonly string[]): BenchOptions {
  const command = new Command('npm run bench --')
    .description(description)
    .option('--workload <names>', 'workloads or groups, separated by commas', names, ['select'])
    .option('--peers <names>', 'proxies to compare with; "none" for PostgreSQL alone', names, peerNames)
    .option('--peer-path <name=path>', 'where the program of a peer is; may be repeated', peerPath, {})
    .option('--clients <numbers>', 'clients at once, in place of the workloads’ own', wholeNumbers)
    .option('--rounds <number>', `turns of each contestant (${thorough.rounds})`, wholeNumber)
    .option('--seconds <number>', `what is measured of each turn (${thorough.seconds})`, wholeNumber)
    .option('--quick', `${quick.rounds} rounds of ${quick.seconds} seconds`, false)
    .option('--workers <number>', 'processes or threads of the proxies that have a choice', wholeNumber)
    .option('--pool-size <number>', 'most server connections of a proxy that pools', wholeNumber, 20)
    .option('--scale <number>', 'size of pgbench’s tables, in 100,000 accounts', wholeNumber, 10)
    .option('--jobs <number>', 'threads of pgbench', wholeNumber, 2)
    .option(
      '--variant <name:key=value,...>',
      'pgherd once more with other settings, such as no-lanes:proxy.lanes=off; may be repeated',
      readVariant,
      [],
    )
    .option(
      '--build <name=folder>',
      'pgherd once more from another checkout, which must be built; may be repeated',
      build,
      [],
    )
    .option('--node-options <options>', 'options of Node.js for pgherd, such as --cpu-prof', '')
    .option(
      '--out <folder>',
      'where the results go: results.json, results.md, an SVG a workload',
      'bench-results',
    )
    .option('--docs', 'put tables and plots into docs/performance.md', false)
    .option('--json', 'print the results as JSON instead of Markdown', false)
    .option('--print-config', 'print how the contestants would be configured, and measure nothing', false)
    .showHelpAfterError('(--help tells what there is)')
    .parse(argv, { from: 'user' })
  const given = command.opts<Parsed>()
  const length = given.quick ? quick : thorough
  return {
    workloads: pickWorkloads(given.workload),
    peers: given.peers.filter(name => name !== 'none'),
    peerPaths: given.peerPath,
    variants: [...given.variant, ...given.build],
    clients: given.clients,
    rounds: given.rounds ?? length.rounds,
    seconds: given.seconds ?? length.seconds,
    warmUpSeconds: length.warmUpSeconds,
    workers: given.workers,
    poolSize: given.poolSize,
    scale: given.scale,
    jobs: given.jobs,
    nodeOptions: given.nodeOptions.split(' ').filter(option => option !== ''),
    out: given.out,
    docs: given.docs,
    json: given.json,
    printConfig: given.printConfig,
  }
}

/** As commander has them. */
interface Parsed
  extends Omit<
    BenchOptions,
    'workloads' | 'peerPaths' | 'variants' | 'nodeOptions' | 'rounds' | 'seconds' | 'warmUpSeconds'
  > {
  workload: string[]
  peerPath: Record<string, string>
  variant: Variant[]
  build: Variant[]
  nodeOptions: string
  quick: boolean
  rounds: number | undefined
  seconds: number | undefined
}

function names(text: string): string[] {
  return text.split(',').map(name => name.trim())
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('It must be a whole number above 0.')
  return Number(text)
}

function wholeNumbers(text: string): number[] {
  return names(text).map(wholeNumber)
}

function peerPath(text: string, before: Record<string, string>): Record<string, string> {
  const { name, rest } = split(text, '=')
  return { ...before, [name]: rest }
}

/** Values are read as the configuration file has them: `off` is a text, 5 a number. */
export function readVariant(text: string, before: Variant[]): Variant[] {
  const { name, rest } = split(text, ':')
  const entries = names(rest).map(setting => {
    const { name: key, rest: value } = split(setting, '=', /^[a-z_]+(\.[a-z_]+)*$/)
    return [key, parse(value) as unknown] as const
  })
  const settings = Object.fromEntries(entries)
  checkSettings(settings)
  return [...before, { name, settings }]
}

/** What pgherd would refuse when its turn comes is refused now. */
function checkSettings(settings: Record<string, unknown>): void {
  const problems = problemsOf(settings)
  if (problems.length === 0) return
  const sentences = problems.map(({ hint, message }) => `${message}${hint === undefined ? '' : ` (${hint})`}`)
  throw new InvalidArgumentError(`${sentences.join('; ')}.`)
}

function build(text: string, before: Variant[]): Variant[] {
  const { name, rest } = split(text, '=')
  return [...before, { name, settings: {}, folder: rest }]
}

function split(text: string, sign: string, pattern = namePattern): { name: string; rest: string } {
  const at = text.indexOf(sign)
  const name = text.slice(0, at)
  const rest = text.slice(at + 1)
  if (at === -1 || rest === '' || !pattern.test(name)) {
    throw new InvalidArgumentError(`"${text}" has not the form name${sign}value.`)
  }
  return { name, rest }
}
