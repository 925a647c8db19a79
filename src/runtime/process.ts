import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { pause, systemTimers } from './timers.ts'

export type Environment = Record<string, string>

/** The few variables of this process that a child program needs anywhere; nothing that changes what it does. */
export function baseEnvironment(): Environment {
  const environment: Environment = { LC_ALL: 'C' }
  for (const name of ['PATH', 'TMPDIR', 'TZ']) {
    const value = process.env[name]
    if (value !== undefined) environment[name] = value
  }
  return environment
}

/**
 * The variables of this process for a child that is pgherd too, but for pgherd's own: what those set the child is
 * told, and a password among them would stand in the child's environment for as long as it lives.
 */
export function environmentWithoutSecrets(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(PGHERD_|PGPASSWORD$)/.test(name))
  return Object.fromEntries(own)
}

/** Whom a child runs as, where this process is root. */
export interface Identity {
  uid: number
  gid: number
}

export interface ChildOptions {
  command: string
  args: string[]
  /** The whole environment of the child. */
  env: Environment
  cwd?: string
  identity?: Identity | undefined
  /** Called with each line of standard output and error, without its end. */
  onLine?: (line: string) => void
}

export interface ChildExit {
  /** Exit code, or null when a signal ended the child. */
  code: number | null
  signal: NodeJS.Signals | null
}

/** Lines kept of what a child wrote last, and the longest line, in characters. */
const tailLinesMax = 20
const lineCharsMax = 4096
/** How long to wait, after a child's exit, for output that others still hold open. */
const outputDrainMs = 250

/**
 * A running child in a session of its own, so that Ctrl-C at the terminal reaches this process only and the
 * child is stopped in order. Standard input is empty; output goes to `onLine`, its end is kept for messages.
 */
export class Child {
  readonly pid: number
  /** Resolves when the child is gone and its output has been read; never rejects. */
  readonly exited: Promise<ChildExit>
  readonly #process: ChildProcess
  readonly #tail: string[] = []
  #exit: ChildExit | undefined

  constructor(child: ChildProcess, pid: number, onLine: ((line: string) => void) | undefined) {
    this.#process = child
    this.pid = pid
    const keep = (line: string): void => {
      this.#tail.push(line)
      if (this.#tail.length > tailLinesMax) this.#tail.shift()
      onLine?.(line)
    }
    for (const stream of [child.stdout, child.stderr]) if (stream) readLines(stream, keep)
    const closed = new Promise<void>(resolve => child.once('close', () => resolve()))
    this.exited = new Promise<ChildExit>(resolve => {
      child.once('exit', (code, signal) => {
        this.#exit = { code, signal }
        void Promise.race([closed, pause(systemTimers, outputDrainMs)]).then(() => {
          child.stdout?.destroy()
          child.stderr?.destroy()
          resolve({ code, signal })
        })
      })
    })
  }

  /** How it ended; undefined while it runs. */
  get exit(): ChildExit | undefined {
    return this.#exit
  }

  /** The last lines it wrote. */
  get tail(): string[] {
    return [...this.#tail]
  }

  /** Sends a signal; does nothing when the child is gone. */
  signal(name: NodeJS.Signals): void {
    if (!this.#exit) this.#process.kill(name)
  }

  /** Sends `first` and, when the child is still there after `graceMs`, SIGKILL. Resolves when it is gone. */
  async stop(first: NodeJS.Signals, graceMs: number): Promise<ChildExit> {
    this.signal(first)
    const timer = systemTimers.after(graceMs, () => this.signal('SIGKILL'))
    const exit = await this.exited
    timer.cancel()
    return exit
  }
}

/** Starts a child. Rejects with the system's error when it cannot be started (no such file, no permission). */
export function startChild(options: ChildOptions): Promise<Child> {
  return new Promise((resolve, reject) => {
    const child = spawn(options.command, options.args, {
      env: options.env,
      cwd: options.cwd,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.identity && { uid: options.identity.uid, gid: options.identity.gid }),
    })
    child.once('error', reject)
    if (child.pid === undefined) return
    resolve(new Child(child, child.pid, options.onLine))
  })
}

export interface CommandResult extends ChildExit {
  /** The last lines of its output, both streams. */
  tail: string[]
}

/** Runs a program to its end; SIGKILL after `limitMs`. Rejects only when it cannot be started. */
export async function runCommand(options: ChildOptions, limitMs: number): Promise<CommandResult> {
  const child = await startChild(options)
  const timer = systemTimers.after(limitMs, () => child.signal('SIGKILL'))
  const exit = await child.exited
  timer.cancel()
  return { ...exit, tail: child.tail }
}

/** Whether a process of that id runs, whoever owns it. One that ended and was not yet waited for does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return process.platform !== 'linux' || !isZombie(pid)
}

function isZombie(pid: number): boolean {
  try {
    return statFields(readFileSync(`/proc/${pid}/stat`, 'latin1'))[0] === 'Z'
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

/** The fields after "pid (name)"; the name may hold anything, so they count from its closing bracket. */
function statFields(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

/** Signals any process; false when it is gone. Throws when it may not be signalled. */
export function signalProcess(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw cause
  }
}

/** Ids of the direct children of a process, whoever started it. */
export async function childrenOf(pid: number): Promise<number[]> {
  const parents = process.platform === 'linux' ? await parentsFromProc() : await parentsFromPs()
  return [...parents].filter(([, parent]) => parent === pid).map(([child]) => child)
}

async function parentsFromProc(): Promise<Map<number, number>> {
  const parents = new Map<number, number>()
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    // The process may end between the listing and the reading.
    const stat = await readFile(`/proc/${entry}/stat`, 'latin1').catch(() => '')
    const parent = statFields(stat)[1]
    if (parent !== undefined) parents.set(Number(entry), Number(parent))
  }
  return parents
}

async function parentsFromPs(): Promise<Map<number, number>> {
  const parents = new Map<number, number>()
  const onLine = (line: string): void => {
    const [child, parent] = line.trim().split(/\s+/).map(Number)
    if (child !== undefined && parent !== undefined) parents.set(child, parent)
  }
  await runCommand({ command: 'ps', args: ['-A', '-o', 'pid=,ppid='], env: baseEnvironment(), onLine }, 5000)
  return parents
}

function readLines(stream: Readable, onLine: (line: string) => void): void {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  stream.on('data', (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split('\n')
    rest = (lines.pop() ?? '').slice(-lineCharsMax)
    for (const line of lines) onLine(line.slice(0, lineCharsMax))
  })
  stream.on('end', () => {
    if (rest) onLine(rest)
  })
  // A pipe that breaks says no more than the exit that follows.
  stream.on('error', () => {})
}
