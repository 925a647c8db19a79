import type { Logger } from './log.ts'
import { baseEnvironment, type Environment, runCommand } from './process.ts'
import type { Timer, Timers } from './timers.ts'

type Variables = Readonly<Record<string, string | undefined>>

/** A socket that the service manager listens on, and has handed to this process. */
export interface InheritedSocket {
  fd: number
  /** What `FileDescriptorName=` says; the name of the unit without it. */
  name: string
}

const firstFd = 3
const socketsMax = 64

/** The sockets of `LISTEN_FDS` (sd_listen_fds(3)) when they are meant for this process; none otherwise. */
export function inheritedSockets(env: Variables, pid: number): InheritedSocket[] {
  const count = Number(env['LISTEN_FDS'])
  if (env['LISTEN_PID'] !== String(pid) || !Number.isInteger(count) || count > socketsMax) return []
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':')
  return Array.from({ length: count }, (_, at) => ({ fd: firstFd + at, name: names[at] || 'unknown' }))
}

export interface ServiceManagerOptions {
  env: Variables
  pid: number
  timers: Timers
  log: Logger
}

/** How long one message may take. The manager itself answers within milliseconds. */
const sendLimitMs = 5000
const program = 'systemd-notify'

/**
 * Tells systemd what this service does (sd_notify(3), for `Type=notify-reload` and `WatchdogSec=`). Without
 * `NOTIFY_SOCKET` it tells nobody.
 *
 * Node.js has no datagrams on Unix sockets, so each message is sent by the program `systemd-notify`, which every
 * machine with systemd has. That takes a few milliseconds of a process of its own, and the unit must say
 * `NotifyAccess=all`. What was not sent yet is replaced by what comes later, but for `READY=1` and the like.
 */
export class ServiceManager {
  readonly #options: ServiceManagerOptions
  readonly #socket: string | undefined
  readonly #queue: string[][] = []
  #status = ''
  #wantedStatus = ''
  #sending: Promise<void> | undefined
  #watchdog: Timer | undefined
  #inTrouble = false

  constructor(options: ServiceManagerOptions) {
    this.#options = options
    this.#socket = options.env['NOTIFY_SOCKET'] || undefined
    const periodMs = watchdogMs(options.env, options.pid)
    if (this.#socket === undefined || periodMs === undefined) return
    this.#watchdog = options.timers.every(Math.max(100, periodMs / 2), () => {
      if (!this.#sending) this.#push('WATCHDOG=1')
    })
  }

  /** The service has started, or has finished a reload. */
  ready(): void {
    this.#push('READY=1')
  }

  /** `monotonicUs`: of the system's own monotonic clock. */
  reloading(monotonicUs = process.hrtime.bigint() / 1000n): void {
    this.#push('RELOADING=1', `MONOTONIC_USEC=${monotonicUs}`)
  }

  /** It ends, which may take as long as `limitMs`. */
  stopping(limitMs: number): void {
    this.#push('STOPPING=1', `EXTEND_TIMEOUT_USEC=${Math.ceil(limitMs * 1000)}`)
  }

  /** One line for people, in `systemctl status`. */
  status(text: string): void {
    this.#wantedStatus = text.replaceAll('\n', ' ')
    this.#send()
  }

  /** Resolves when everything has been told; nothing is told from then on. */
  async close(): Promise<void> {
    this.#watchdog?.cancel()
    await this.#sending
  }

  #push(...lines: string[]): void {
    if (this.#socket === undefined) return
    this.#queue.push(lines)
    this.#send()
  }

  #send(): void {
    this.#sending ??= this.#drain().finally(() => {
      this.#sending = undefined
    })
  }

  async #drain(): Promise<void> {
    // What is told in one go is collected first.
    await Promise.resolve()
    while (this.#socket !== undefined) {
      const lines = this.#queue.shift() ?? []
      if (this.#wantedStatus !== this.#status) {
        this.#status = this.#wantedStatus
        lines.push(`STATUS=${this.#status}`)
      }
      if (lines.length === 0) return
      await this.#tell(this.#socket, lines)
    }
  }

  async #tell(socket: string, lines: string[]): Promise<void> {
    const { log } = this.#options
    const env: Environment = { ...baseEnvironment(), NOTIFY_SOCKET: socket }
    try {
      const { code, tail } = await runCommand({ command: program, args: lines, env }, sendLimitMs)
      if (code === 0) {
        this.#inTrouble = false
        return
      }
      throw new Error(tail.at(-1) ?? `${program} ended with ${code}`)
    } catch (cause) {
      if (!this.#inTrouble) {
        const hint = `the program ${program} must be in PATH, and the unit must say NotifyAccess=all`
        log.warn({ event: 'systemd.notify', err: cause }, `systemd could not be told ${lines[0]}: ${hint}`)
      }
      this.#inTrouble = true
    }
  }
}

/** Within which time systemd wants to hear of this process; undefined when it does not. */
function watchdogMs(env: Variables, pid: number): number | undefined {
  const usec = Number(env['WATCHDOG_USEC'])
  const isMeant = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(pid)
  return isMeant && usec > 0 ? usec / 1000 : undefined
}
