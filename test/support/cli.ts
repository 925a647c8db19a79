import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { childrenOf, isAlive } from '../../src/runtime/process.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { until } from './wait.ts'

const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url))

const stopLimitMs = 10_000

export interface CliOptions {
  env?: Record<string, string>
  cwd?: string
}

export interface CliResult {
  code: number | null
  out: string
  err: string
}

/** The command line as a process of its own, with an environment that says nothing of pgherd unless given. */
export class Cli {
  out = ''
  err = ''
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | string>
  private readonly child: ChildProcess

  constructor(args: string[], { env = {}, cwd }: CliOptions = {}) {
    const { PATH = '', HOME = '', TMPDIR } = process.env
    const base = { PATH, HOME, ...(TMPDIR !== undefined && { TMPDIR }) }
    this.child = spawn(process.execPath, [mainFile, ...args], {
      env: { ...base, ...env },
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.child.stdout?.on('data', chunk => {
      this.out += String(chunk)
    })
    this.child.stderr?.on('data', chunk => {
      this.err += String(chunk)
    })
    this.exited = once(this.child, 'close').then(([code, signal]) => (code ?? signal) as number | string)
  }

  get pid(): number {
    assert.ok(this.child.pid !== undefined, 'the process was not started')
    return this.child.pid
  }

  /** Waits for the line that says that it is ready. */
  async ready(limitMs = 15_000): Promise<void> {
    const ended = this.exited.then(how => {
      throw new Error(`it ended (${how}) before it was ready: ${this.err}`)
    })
    const ready = until('the process to be ready', () => this.out.includes('pgherd is ready: '), limitMs)
    await Promise.race([ended, ready])
    ended.catch(() => undefined)
  }

  workers(): Promise<number[]> {
    return childrenOf(this.pid)
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name)
  }

  /** Ends it and checks that nothing of it is left. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const workers = await this.workers()
    this.signal('SIGTERM')
    const timer = systemTimers.after(stopLimitMs, () => this.signal('SIGKILL'))
    const how = await this.exited
    timer.cancel()
    assert.notEqual(how, 'SIGKILL', `it did not stop within ${stopLimitMs} ms: ${this.err}`)
    await until('the workers to be gone', () => !workers.some(isAlive))
  }
}

/** Starts a command that stays; it is ready when this resolves. */
export async function startCli(args: string[], options: CliOptions = {}): Promise<Cli> {
  const cli = new Cli(args, options)
  try {
    await cli.ready()
    return cli
  } catch (cause) {
    await cli.stop()
    throw cause
  }
}

/** Runs a command to its end. */
export async function runCli(args: string[], options: CliOptions = {}): Promise<CliResult> {
  const cli = new Cli(args, options)
  const code = await cli.exited
  return { code: typeof code === 'number' ? code : null, out: cli.out, err: cli.err }
}

/** Runs a command that must succeed with `--json`, and gives back what it prints. */
export async function cliJson<T>(args: string[], options: CliOptions = {}): Promise<T> {
  const { code, out, err } = await runCli([...args, '--json'], options)
  assert.equal(code, 0, err)
  return JSON.parse(out) as T
}
