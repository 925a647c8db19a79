import { writeFileSync } from 'node:fs'
import type { Command } from 'commander'
import { formatProblem } from '../config/problem.ts'
import { type IniEntry, PgBouncerIniError, readPgBouncerIni } from '../integrations/pgbouncer-ini.ts'
import { type Imported, translatePgBouncer } from '../integrations/pgbouncer-ini-translate.ts'
import {
  importedYaml,
  notesByOutcome,
  noteTitle,
  outcomeTitles,
  reasonOf,
  wrapped,
} from '../integrations/pgbouncer-ini-yaml.ts'
import { loadChecked } from './load-checked.ts'
import {
  CommandError,
  type CommandIo,
  counted,
  painter,
  printable,
  printJson,
  printWarning,
} from './output.ts'

/** Makes a new file. Throws the errors of `node:fs`, `EEXIST` too. */
export type CreateFile = (path: string, text: string) => void

const createFileOnDisk: CreateFile = (path, text) => writeFileSync(path, text, { flag: 'wx', mode: 0o640 })

interface ImportOptions {
  output?: string
  json?: true
}

/** Adds `import`. */
export function addImportCommand(program: Command, io: CommandIo, createFile = createFileOnDisk): void {
  program
    .command('import')
    .description('make a configuration of the one that PgBouncer has')
    .argument('<file>', 'pgbouncer.ini')
    .option('-o, --output <file>', 'file to write; without it the configuration goes to standard output')
    .option('--json', 'print the configuration and what was not carried over as JSON')
    .addHelpText(
      'after',
      `
Every setting that cannot be carried over as it is is named, with the reason and what to do.

Example:
  pgherd import /etc/pgbouncer/pgbouncer.ini --output pgherd.yaml`,
    )
    .action((file: string, options: ImportOptions) => run(io, file, options, createFile))
}

function run(io: CommandIo, file: string, options: ImportOptions, createFile: CreateFile): void {
  const imported = translatePgBouncer(entriesOf(file, io))
  const yaml = importedYaml(imported, file)
  const problems = problemsOf(yaml, options.output ?? 'pgherd.yaml', io)
  if (options.output !== undefined) create(options.output, yaml, createFile)
  if (options.json) {
    const { config, notes } = imported
    printJson(io, { file, output: options.output ?? null, config, notes, problems })
  } else {
    if (options.output === undefined) io.stdout(yaml)
    printNotes(io, imported, options.output)
  }
  for (const problem of problems) printWarning(io, problem)
  if (problems.length === 0) return
  throw new CommandError(
    'failed',
    `pgherd cannot start with this yet: ${counted(problems.length, 'problem')}`,
    {
      hint: 'Copy the files that it names to where they are looked for, or change the configuration',
    },
  )
}

function entriesOf(file: string, io: CommandIo): IniEntry[] {
  try {
    const entries = readPgBouncerIni(file, io.readFile)
    if (entries.some(({ section }) => section === 'databases' || section === 'pgbouncer')) return entries
  } catch (cause) {
    if (!(cause instanceof PgBouncerIniError)) throw cause
    throw new CommandError('usage', cause.message, { cause })
  }
  throw new CommandError('usage', `${file}: neither [databases] nor [pgbouncer] holds a setting`, {
    hint: 'Name the pgbouncer.ini, as in `pgherd import /etc/pgbouncer/pgbouncer.ini`',
  })
}

/** What `config check` would say on this machine. */
function problemsOf(yaml: string, name: string, io: CommandIo): string[] {
  const readFile: CommandIo['readFile'] = path =>
    path === name ? { text: yaml, mode: 0o600 } : io.readFile(path)
  const loaded = loadChecked(name, { env: {}, readFile })
  return loaded.ok ? [] : loaded.problems.map(formatProblem)
}

function create(path: string, text: string, createFile: CreateFile): void {
  try {
    createFile(path, text)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error'
    const exists = code === 'EEXIST'
    throw new CommandError(
      exists ? 'usage' : 'failed',
      exists ? `${path} exists already, and is left as it is` : `${path} cannot be written (${code})`,
      { cause, hint: 'Name another file with --output' },
    )
  }
}

/** To standard output, unless the configuration itself goes there. */
function printNotes(io: CommandIo, { config, notes, carried }: Imported, output: string | undefined): void {
  const write = (text: string): void => (output === undefined ? io.stderr(text) : io.stdout(text))
  const paint = painter(output === undefined ? io.stderrColour : io.colour)
  const width = Math.max(40, Math.min(io.width ?? 100, 100) - 4)
  const nodes = config['nodes'] as unknown[]
  const summary = `${counted(carried, 'setting')} carried over, ${counted(nodes.length, 'node')}`
  write(`${output === undefined ? '' : `${output} written: `}${summary}\n`)
  for (const [outcome, those] of notesByOutcome(notes)) {
    write(`\n${paint.bold(outcomeTitles[outcome])}\n`)
    for (const note of those) {
      const place = note.line === 0 ? note.file : `${note.file}:${note.line}`
      write(`  ${printable(noteTitle(note))}  ${paint.dim(printable(place))}\n`)
      for (const line of wrapped(printable(reasonOf(note)), width)) write(`    ${line}\n`)
    }
  }
}
