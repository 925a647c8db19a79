import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { Command, CommanderError } from 'commander'
import { readFileFromDisk } from '../config/files.ts'
import { CommandError, type CommandIo, exitCodeOf, printError, wantsColour } from './output.ts'

/** The process's own standard streams and environment. */
export function systemIo(): CommandIo {
  const { stdin, stdout, stderr } = process
  stdout.once('error', stopUnread)
  for (const stream of [stdout, stderr]) stream.on('error', () => undefined)
  return {
    stdout: text => void stdout.write(text),
    stderr: text => void stderr.write(text),
    env: process.env,
    colour: wantsColour(stdout.isTTY, process.env),
    stderrColour: wantsColour(stderr.isTTY, process.env),
    get width() {
      // A terminal that does not know its size says 0.
      return stdout.isTTY ? stdout.columns || 80 : undefined
    },
    get height() {
      return stdout.isTTY ? stdout.rows || 24 : undefined
    },
    readFile: readFileFromDisk,
    askSecret: stdin.isTTY ? askSecret : undefined,
  }
}

/** Asks on standard error, so that results can go elsewhere, and shows nothing of what is typed. */
async function askSecret(question: string): Promise<string> {
  const { stdin, stderr } = process
  stderr.write(question)
  const output = new Writable({ write: (_chunk, _encoding, done) => done() })
  const reader = createInterface({ input: stdin, output, terminal: true })
  try {
    return await new Promise((resolve, reject) => {
      reader.once('line', resolve)
      reader.once('close', () => reject(new CommandError('failed', 'nothing was entered')))
      reader.once('SIGINT', () => reader.close())
    })
  } finally {
    reader.close()
    stderr.write('\n')
  }
}

/** Whoever read the results has gone, as `head` does: what runs is told to stop, else there is nothing left to do. */
function stopUnread(): void {
  if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM')
  else process.exit(0)
}

/** The program without its commands: where it writes, how it ends, and the options that every command has. */
export function createProgram(io: CommandIo, version: string): Command {
  return new Command('pgherd')
    .description('A load balancer for PostgreSQL that knows its cluster.')
    .version(version)
    .option('-c, --config <file>', 'configuration file')
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({
      writeOut: text => io.stdout(text),
      writeErr: text => io.stderr(text),
      getOutHelpWidth: () => io.width ?? 100,
      getErrHelpWidth: () => io.width ?? 100,
      getOutHasColors: () => io.colour,
      getErrHasColors: () => io.stderrColour,
      // Commander's own messages begin with `error:` as ours do.
      outputError: (text, write) => write(`${text.trimEnd()}\n`),
    })
}

/**
 * Runs a command line and gives the exit code: 0 it worked, 1 the operation failed, 2 wrong usage or
 * configuration. Never rejects.
 */
export async function runProgram(program: Command, args: readonly string[], io: CommandIo): Promise<number> {
  try {
    await program.parseAsync([...args], { from: 'user' })
    return 0
  } catch (error) {
    // Commander has printed its own message; its exit code is 0 for help and version.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    printError(io, error)
    return exitCodeOf(error)
  }
}
