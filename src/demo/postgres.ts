import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Client, type QueryResultRow } from 'pg'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import {
  baseEnvironment,
  type Child,
  type ChildExit,
  childrenOf,
  isAlive,
  signalProcess,
  startChild,
} from '../runtime/process.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import { type Account, giveTo, runAs } from './account.ts'
import type { PostgresBinaries } from './binaries.ts'
import { cloneFolder } from './clone.ts'
import { DemoError } from './error.ts'
import { checkNotRunning, checkVersion, hasCrashed, runningPid, writeSettings } from './folder.ts'

export interface ServerOptions {
  name: string
  binaries: PostgresBinaries
  account: Account
  /** Data folder. */
  folder: string
  /** Port on 127.0.0.1. */
  port: number
  /** More settings for postgresql.conf. */
  settings?: Record<string, string> | undefined
  clock: Clock
  timers: Timers
  log: Logger
}

/** How long a server may take to accept connections, crash recovery included. */
const readyLimitMs = 60_000
const readyPollMs = 25
const answerLimitMs = 2000
/** How long a server may take to stop before the next harder signal. */
const stopGraceMs = 10_000
const initLimitMs = 60_000

/** What a replica says when its primary's WAL no longer leads on from its own. */
const brokenStreams =
  /requested WAL segment \S+ has already been removed|is not in this server's history|forked off current database system timeline|is ahead of the WAL flush position/

/** A replica asks again every half a second. It may be refused once and then find what it asked for after all. */
const brokenStreamTimes = 3
const brokenStreamGapMs = 3000
const noBrokenStream = { line: '', count: 0, atMs: Number.NEGATIVE_INFINITY }

/** One real PostgreSQL server on 127.0.0.1: superuser and database `postgres`, no password on loopback. */
export class PostgresServer {
  readonly name: string
  readonly folder: string
  readonly port: number
  readonly #options: ServerOptions
  readonly #log: Logger
  #followsPort: number | undefined
  #child: Child | undefined
  #broken = noBrokenStream
  #closed = false

  constructor(options: ServerOptions) {
    this.name = options.name
    this.folder = options.folder
    this.port = options.port
    this.#options = options
    this.#log = options.log.child({ node: options.name })
  }

  /** Process id of the server if it was started from here and runs. */
  get childPid(): number | undefined {
    return this.#child && !this.#child.exit ? this.#child.pid : undefined
  }

  /** How a server of that process id, if it is the last one started from here, ended; undefined while it runs. */
  exitOf(pid: number | undefined): ChildExit | undefined {
    return this.#child?.pid === pid ? this.#child?.exit : undefined
  }

  /** Why a replica started from here can never stream from its primary again, in its own words. */
  get brokenStream(): string | undefined {
    return this.#broken.count >= brokenStreamTimes ? this.#broken.line : undefined
  }

  /** Port of the server this one is set to stream from; undefined for a primary. */
  get followsPort(): number | undefined {
    return this.#followsPort
  }

  /** Process id of whichever server runs on the folder, also one that was started by hand. */
  async pid(): Promise<number | undefined> {
    return this.childPid ?? (await runningPid(this.folder))
  }

  /** Makes an empty database cluster. Throws `DemoError` `start_failed` with what initdb said. */
  async initialize(): Promise<void> {
    const { binaries, account } = this.#options
    await this.#replaceFolder(async target => {
      await mkdir(target, { mode: 0o700 })
      await giveTo(account, target)
      const options = [
        '-D',
        target,
        '-U',
        'postgres',
        '--auth=trust',
        '--encoding=UTF8',
        '--no-sync',
        '--no-instructions',
      ]
      const result = await runAs(
        account,
        binaries.initdb,
        [...options, ...localeOptions(binaries)],
        initLimitMs,
      )
      if (result.code !== 0) {
        throw new DemoError('start_failed', `initdb failed for ${this.folder}: ${lastWords(result.tail)}`)
      }
    })
    this.#followsPort = undefined
  }

  /** Replaces the folder with a copy of a running server's, which this one then follows. It must not be running. */
  async cloneFrom(primary: { folder: string; port: number }): Promise<void> {
    const { account } = this.#options
    await this.#replaceFolder(target =>
      cloneFolder({ source: primary.folder, port: primary.port, target, account }),
    )
    this.#followsPort = primary.port
  }

  /**
   * Starts the server and resolves when it accepts connections: as a replica of `followsPort`, or as a primary.
   * Throws `DemoError`; the server is not left running then.
   */
  async start(followsPort = this.#followsPort): Promise<void> {
    const { binaries, account } = this.#options
    await checkVersion(this.folder, binaries)
    await checkNotRunning([this.folder])
    await this.#configure(followsPort)
    const child = await startChild({
      command: binaries.postgres,
      args: ['-D', this.folder],
      env: baseEnvironment(),
      cwd: '/',
      identity: account.identity,
      onLine: line => this.#output(line),
    })
    this.#child = child
    this.#broken = noBrokenStream
    try {
      await this.#ready(child)
    } catch (cause) {
      if (!child.exit) await this.#end(child.pid, 'immediate')
      throw cause
    }
  }

  /**
   * Stops whichever server runs on the folder; `fast` ends sessions and writes a checkpoint, `immediate` leaves
   * recovery to the next start. A server that is frozen or hangs is stopped harder. Does nothing when none runs.
   */
  async stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    const pid = await this.pid()
    if (pid !== undefined) await this.#end(pid, mode)
  }

  async #end(pid: number, mode: 'fast' | 'immediate'): Promise<void> {
    const processes = [pid, ...(await childrenOf(pid))]
    signalProcess(pid, mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
    for (const process of processes) signalProcess(process, 'SIGCONT')
    if (!(await this.#gone([pid]))) {
      this.#log.warn({ event: 'postgres.killed' }, `${this.name} does not stop, killing it`)
      for (const process of [pid, ...(await childrenOf(pid))]) signalProcess(process, 'SIGKILL')
    }
    // Children of a server that was killed notice by themselves.
    await this.#gone(processes)
    if (this.#child?.pid === pid) await this.#child.exited
  }

  /** Stops the server for good: one that is being started meanwhile is stopped too, and none is started again. */
  async close(mode: 'fast' | 'immediate'): Promise<void> {
    this.#closed = true
    await this.stop(mode)
  }

  /** Removes the folder, and what a server that was killed left of it in shared memory. It must not be running. */
  async remove(): Promise<void> {
    const { binaries, account } = this.#options
    if (await hasCrashed(this.folder)) {
      // The memory is found and freed by the next server on the folder, here one that ends at once by itself.
      await rm(join(this.folder, 'standby.signal'), { force: true })
      await runAs(account, binaries.postgres, ['--single', '-D', this.folder, 'postgres'], initLimitMs)
    }
    await rm(this.folder, { recursive: true, force: true })
  }

  /** Makes a replica the primary of a new timeline, and resolves when it takes writes. */
  async promote(): Promise<void> {
    await this.query('select pg_promote(true, 30)', 35_000)
    this.#followsPort = undefined
  }

  /** Lets a replica stream from another server, without a restart. */
  async follow(port: number): Promise<void> {
    await this.#configure(port)
    const pid = await this.pid()
    if (pid !== undefined) signalProcess(pid, 'SIGHUP')
  }

  /** Runs one statement as superuser on a connection of its own. */
  async query<R extends QueryResultRow>(sql: string, limitMs = answerLimitMs): Promise<R[]> {
    const client = new Client({
      host: '127.0.0.1',
      port: this.port,
      user: 'postgres',
      database: 'postgres',
      ssl: false,
      application_name: 'pgherd-demo',
      connectionTimeoutMillis: limitMs,
      query_timeout: limitMs,
    })
    // A connection that breaks also fails the query under way, which is where it is reported.
    client.on('error', () => {})
    try {
      await client.connect()
      return (await client.query<R>(sql)).rows
    } finally {
      // Not waited for: a server that froze meanwhile would never close its side.
      void client.end().catch(() => {})
    }
  }

  #output(line: string): void {
    this.#log.debug({ event: 'postgres.output' }, line)
    if (!brokenStreams.test(line)) return
    const atMs = this.#options.clock.nowMs()
    const goesOn = atMs - this.#broken.atMs < brokenStreamGapMs
    this.#broken = { line, count: goesOn ? this.#broken.count + 1 : 1, atMs }
  }

  async #configure(followsPort: number | undefined): Promise<void> {
    const { port, settings, account } = this.#options
    await writeSettings(
      this.folder,
      { port, followsPort, applicationName: this.name, extra: settings },
      account,
    )
    this.#followsPort = followsPort
  }

  /** Builds a data folder beside the place it belongs, so that a half-made one is never taken for a whole one. */
  async #replaceFolder(build: (target: string) => Promise<void>): Promise<void> {
    const target = `${this.folder}.new`
    await rm(target, { recursive: true, force: true })
    try {
      await build(target)
      await this.remove()
      await rename(target, this.folder)
    } catch (cause) {
      await rm(target, { recursive: true, force: true })
      throw cause
    }
  }

  async #ready(child: Child): Promise<void> {
    const { clock, timers } = this.#options
    const deadlineMs = clock.nowMs() + readyLimitMs
    let last = 'no answer yet'
    while (clock.nowMs() < deadlineMs) {
      if (this.#closed) throw new DemoError('closed', `${this.name} was stopped while it was being started`)
      if (child.exit) {
        await child.exited
        throw this.#startError(child.tail)
      }
      if (this.brokenStream !== undefined) {
        throw new DemoError('start_failed', `${this.name} cannot follow its primary: ${this.brokenStream}`)
      }
      try {
        const rows = await this.query<{ pid: number }>(
          `select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int as pid`,
        )
        // Another server may hold the port while ours is still finding that out.
        if (rows[0]?.pid === child.pid) return
        last = `process ${rows[0]?.pid} answers on its port`
      } catch (cause) {
        last = (cause as Error).message
      }
      await pause(timers, readyPollMs)
    }
    throw new DemoError(
      'start_failed',
      `${this.name} did not accept connections on port ${this.port} within ${readyLimitMs / 1000} s (${last}): ` +
        lastWords(child.tail),
    )
  }

  #startError(tail: string[]): DemoError {
    if (tail.some(line => line.includes('could not bind') || line.includes('Address already in use'))) {
      return new DemoError(
        'port_taken',
        `port ${this.port} on 127.0.0.1, meant for ${this.name}, is taken: stop the program that listens there, or choose another`,
      )
    }
    return new DemoError('start_failed', `${this.name} did not start: ${lastWords(tail)}`)
  }

  async #gone(pids: number[]): Promise<boolean> {
    const { clock, timers } = this.#options
    const deadlineMs = clock.nowMs() + stopGraceMs
    while (pids.some(pid => isAlive(pid))) {
      if (clock.nowMs() > deadlineMs) return false
      await pause(timers, readyPollMs)
    }
    return true
  }
}

/** UTF-8 throughout where the platform has such a locale without anything being installed. */
function localeOptions(binaries: PostgresBinaries): string[] {
  if (binaries.major >= 17) return ['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  return [process.platform === 'linux' ? '--locale=C.UTF-8' : '--locale=C']
}

function lastWords(tail: string[]): string {
  const text = tail.slice(-5).join('; ')
  return text || 'it said nothing'
}
