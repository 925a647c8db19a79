import { readFailure } from '../config/files.ts'
import type { Overrides } from '../config/layers.ts'
import type { LoadResult, Origins } from '../config/load.ts'
import { formatProblem, type Problem } from '../config/problem.ts'
import type { Config, SectionName } from '../config/schema.ts'
import { loadChecked } from './load-checked.ts'
import { CommandError, type CommandIo, counted, painter, printWarning } from './output.ts'

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
 * `file` is what was read, for a later reload; `origins` is where each value comes from.
 */
export function requireConfig(
  io: CommandIo,
  request: ConfigRequest,
): { config: Config; origins: Origins; file: string | undefined } {
  const file = defaultConfigFile(io, request.file)
  const loaded = load(io, file, request)
  for (const { message, hint } of describeAll(loaded.warnings)) printWarning(io, message, hint)
  if (loaded.ok) return { config: loaded.config, origins: loaded.origins, file }
  for (const line of problemLines(loaded.problems, io.stderrColour)) io.stderr(line)
  throw problemsError(file, loaded.problems)
}

/** What a file says with the environment and the command line, or what is wrong with it. */
export function load(io: CommandIo, file: string | undefined, request: ConfigRequest): LoadResult {
  const { overrides, sections } = request
  return loadChecked(file, { env: io.env, overrides, sections, readFile: io.readFile })
}

/** The problems as lines for people, each with its hint below it. */
export function problemLines(problems: readonly Problem[], colour: boolean): string[] {
  const paint = painter(colour)
  return describeAll(problems).map(({ message, hint }) =>
    hint === undefined ? `${message}\n` : `${message}\n  ${paint.cyan('hint:')} ${hint}\n`,
  )
}

/** Each problem as a sentence with its place, and what to do about it. */
export function describeAll(problems: readonly Problem[]): { message: string; hint?: string | undefined }[] {
  return problems.map(problem => ({ message: formatProblem(problem), hint: problem.hint }))
}

/** Ends a command whose problems have been printed. */
export function problemsError(file: string | undefined, problems: readonly Problem[]): CommandError {
  const count = counted(problems.length, 'problem')
  return new CommandError('usage', `the configuration${file === undefined ? '' : ` ${file}`} has ${count}`)
}
