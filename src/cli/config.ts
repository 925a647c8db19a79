import type { Command } from 'commander'
import { readFailure } from '../config/files.ts'
import { configJsonSchema } from '../config/json-schema.ts'
import type { Overrides } from '../config/layers.ts'
import type { LoadResult } from '../config/load.ts'
import { formatProblem, type Problem } from '../config/problem.ts'
import type { Config, SectionName } from '../config/schema.ts'
import { effectiveConfig, effectiveObject, effectiveYaml } from '../config/show.ts'
import { loadChecked } from './load-checked.ts'
import { CommandError, type CommandIo, counted, painter, printJson, printWarning } from './output.ts'

/** Looked for in this order when neither `--config` nor `PGHERD_CONFIG` names a file. */
const usualFiles = ['./pgherd.yaml', '/etc/pgherd/pgherd.yaml']

/** The file to read: `named` (from `--config`), else `PGHERD_CONFIG`, else the first usual one that exists. */
export function defaultConfigFile(io: CommandIo, named: string | undefined): string | undefined {
  if (named !== undefined) return named
  if (io.env['PGHERD_CONFIG']) return io.env['PGHERD_CONFIG']
  return usualFiles.find(file => {
    try {
      io.readFile(file)
      return true
    } catch (error) {
      // One that exists but cannot be read is an error to report, not a reason to go on without it.
      return readFailure(error) !== 'does not exist'
    }
  })
}

export interface ConfigRequest {
  /** From `--config`. */
  file?: string | undefined
  overrides?: Overrides | undefined
  /** Sections whose secrets the command needs; all when not given. */
  sections?: readonly SectionName[] | undefined
}

/**
 * The configuration for a command. Warnings go to standard error; problems do too, and then it throws.
 * `file` is what was read, for a later reload.
 */
export function requireConfig(
  io: CommandIo,
  request: ConfigRequest,
): { config: Config; file: string | undefined } {
  const file = defaultConfigFile(io, request.file)
  const loaded = load(io, file, request)
  for (const { message, hint } of describeAll(loaded.warnings)) printWarning(io, message, hint)
  if (loaded.ok) return { config: loaded.config, file }
  for (const line of problemLines(loaded.problems, io.stderrColour)) io.stderr(line)
  throw problemsError(file, loaded.problems)
}

/** Adds `config check`, `config show` and `config schema`. */
export function addConfigCommands(program: Command, io: CommandIo): void {
  const config = program.command('config').description('check and show the configuration')
  config
    .command('check')
    .description('say what is wrong with a configuration, with line and column')
    .argument('[file]', 'configuration file')
    .option('--json', 'print the result as JSON')
    .action((named: string | undefined, options: { json?: true }) => {
      check(io, defaultConfigFile(io, named ?? configOption(program)), options.json === true)
    })
  config
    .command('show')
    .description('show the configuration that counts, and where each value comes from')
    .argument('[file]', 'configuration file')
    .option('--json', 'print the result as JSON')
    .action((named: string | undefined, options: { json?: true }) => {
      show(io, defaultConfigFile(io, named ?? configOption(program)), options.json === true)
    })
  config
    .command('schema')
    .description('print the JSON Schema of the configuration, for editors')
    .action(() => printJson(io, configJsonSchema()))
}

function check(io: CommandIo, file: string | undefined, json: boolean): void {
  const loaded = load(io, file, {})
  const problems = loaded.ok ? [] : loaded.problems
  if (json) {
    printJson(io, { file: file ?? null, ok: loaded.ok, problems, warnings: loaded.warnings })
  } else {
    for (const line of problemLines(problems, io.colour)) io.stdout(line)
    for (const { message, hint } of describeAll(loaded.warnings)) printWarning(io, message, hint)
    if (loaded.ok) io.stdout(`${file ?? 'no configuration file, defaults and environment'}: ok\n`)
  }
  if (!loaded.ok) throw problemsError(file, problems)
}

function show(io: CommandIo, file: string | undefined, json: boolean): void {
  const loaded = load(io, file, {})
  if (!loaded.ok) {
    for (const line of problemLines(loaded.problems, io.stderrColour)) io.stderr(line)
    throw problemsError(file, loaded.problems)
  }
  const effective = effectiveConfig(loaded.config, loaded.origins)
  if (json) {
    const origins = Object.fromEntries(effective.origins)
    printJson(io, { file: file ?? null, config: effectiveObject(effective), origins })
    return
  }
  const paint = painter(io.colour)
  const yaml = effectiveYaml(effective)
  io.stdout(yaml.replace(/ {2}# .*$/gm, comment => paint.dim(comment)))
}

function load(io: CommandIo, file: string | undefined, request: ConfigRequest): LoadResult {
  const { overrides, sections } = request
  return loadChecked(file, { env: io.env, overrides, sections, readFile: io.readFile })
}

function problemLines(problems: readonly Problem[], colour: boolean): string[] {
  const paint = painter(colour)
  return describeAll(problems).map(({ message, hint }) =>
    hint === undefined ? `${message}\n` : `${message}\n  ${paint.cyan('hint:')} ${hint}\n`,
  )
}

function describeAll(problems: readonly Problem[]): { message: string; hint?: string | undefined }[] {
  return problems.map(problem => ({ message: formatProblem(problem), hint: problem.hint }))
}

function problemsError(file: string | undefined, problems: readonly Problem[]): CommandError {
  const count = counted(problems.length, 'problem')
  return new CommandError('usage', `the configuration${file === undefined ? '' : ` ${file}`} has ${count}`)
}

function configOption(program: Command): string | undefined {
  return program.opts<{ config?: string }>().config
}
