import { baseEnvironment, type CommandResult, runCommand } from '../src/runtime/process.ts'
import { BenchError } from './error.ts'

const limitMs = 10 * 60_000

/** Runs a program to its end, with the few variables that a child needs. Throws when it cannot, or fails. */
export async function runProgram(command: string, args: string[]): Promise<CommandResult> {
  const env = { ...baseEnvironment(), PGSSLMODE: 'disable', PGGSSENCMODE: 'disable' }
  const result = await runCommand({ command, args, env }, limitMs).catch((cause: Error) => {
    throw new BenchError('not_started', `${command} could not be started: ${cause.message}`, { cause })
  })
  if (result.code === 0) return result
  throw new BenchError('load_failed', `${command} ${args.join(' ')} failed: ${result.tail.join('; ')}`)
}

/** The first line of what a program says, such as its version. */
export async function firstLine(command: string, args: string[]): Promise<string> {
  return (await runProgram(command, args)).tail[0] ?? ''
}
