import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import type { Timers } from '../../runtime/timers.ts'
import { writeErrorResponse } from '../../wire/messages.ts'
import { type CancelKey, CancelKeys } from '../client/cancels.ts'
import type { Client } from '../client/client.ts'
import { type DisconnectReason, errorFor } from '../client/failures.ts'
import type { WorkerSettings } from '../control/ipc.ts'
import type { WorkerCounters } from '../counters.ts'
import type { Pool } from '../pool/pool.ts'
import type { Arrival } from '../startup/client-startup.ts'
import { consoleAccess, isConsole, pgbouncerName } from './access.ts'
import type { Row } from './columns.ts'
import type { RemoteCommand } from './commands.ts'
import type { ConsoleFromWorker, ConsoleToWorker, Question } from './messages.ts'
import type { PinLedger } from './pins.ts'
import { Report } from './report.ts'
import { ConsoleRequests, type Run } from './requests.ts'
import { type ConsoleHost, ConsoleSession } from './session.ts'

export interface WorkerConsoleOptions {
  index: number
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
  counters: WorkerCounters
  /** Changed in place at a reload. */
  settings: WorkerSettings
  send: (message: ConsoleFromWorker) => void
  clients: () => Iterable<Client>
  pools: () => Iterable<Pool>
  /** Connections that have not said yet what they want. */
  arriving: () => number
  pins: PinLedger
  memory: () => NodeJS.MemoryUsage
  /** Sends the counters as they are now. */
  sendCounters: () => void
  onEnd: (reason: DisconnectReason) => void
}

/** The console's part in a data worker: its sessions, and what the control process asks for them. */
export class WorkerConsole implements ConsoleHost {
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  readonly counters: WorkerCounters
  readonly #options: WorkerConsoleOptions
  readonly #sessions = new Set<ConsoleSession>()
  readonly #keys: CancelKeys<ConsoleSession>
  readonly #requests: ConsoleRequests
  readonly #report: Report

  constructor(options: WorkerConsoleOptions) {
    this.#options = options
    this.clock = options.clock
    this.timers = options.timers
    this.log = options.log
    this.counters = options.counters
    this.#keys = new CancelKeys(options.random)
    this.#requests = new ConsoleRequests(options.send)
    this.#report = new Report({
      ...options,
      consoles: () => this.#sessions,
      consoleName: () => options.settings.console.database,
    })
  }

  /** Connections of clients of the console. */
  get size(): number {
    return this.#sessions.size
  }

  /** Whether an arrival is for the console; then it is taken care of. */
  take(arrival: Arrival): boolean {
    const { console } = this.#options.settings
    if (!isConsole(arrival.database, console)) return false
    const { address, credentials, user } = arrival
    const rights = consoleAccess({ address, user, isChecked: credentials !== undefined }, console)
    if (typeof rights === 'string') {
      const withOwn = arrival.database !== pgbouncerName || console.database === pgbouncerName
      this.#sessions.add(new ConsoleSession(arrival, rights, withOwn, this))
      return true
    }
    const { hint, refusal } = rights
    this.log.info({ event: 'console.refused', client: address, user }, refusal)
    arrival.socket.on('error', () => undefined)
    arrival.socket.write(writeErrorResponse(errorFor('login_refused', refusal, { hint })))
    arrival.socket.destroySoon()
    this.#options.onEnd('login_refused')
    return true
  }

  run(command: RemoteCommand): Run {
    return this.#requests.run(command)
  }

  registerConsole(session: ConsoleSession): CancelKey {
    return this.#keys.register(session, undefined)
  }

  onConsoleEnd(session: ConsoleSession, reason: DisconnectReason): void {
    this.#sessions.delete(session)
    this.#keys.forget(session)
    this.#options.onEnd(reason)
  }

  /** Whether the cancel key is that of a session here, whose command is cancelled then. */
  cancel(processId: number, secret: Uint8Array): boolean {
    const session = this.#keys.find(processId, secret)
    session?.cancel()
    return session !== undefined
  }

  /** The proxy is shutting down: sessions leave as soon as they can, or `atOnce`. */
  shutDown(atOnce: boolean): void {
    for (const session of [...this.#sessions]) {
      if (atOnce) session.end('shutdown', 'the proxy is shutting down')
      else session.leave('shutdown', 'the proxy is shutting down')
    }
  }

  onMessage(message: ConsoleToWorker): void {
    if (message.kind !== 'console_ask') return this.#requests.onMessage(message)
    const { question, request } = message
    const tell = (rows: Row[], last: boolean): void =>
      this.#options.send({ kind: 'console_told', request, rows, last })
    const done = this.#act(question)
    if (done === undefined) this.#report.answer(question, tell)
    else tell([[done]], true)
  }

  /** Does what is asked for, and returns to how many; undefined when it is only a question. */
  #act(question: Question): number | undefined {
    switch (question.what) {
      case 'counters':
        this.#options.sendCounters()
        return undefined
      case 'reconnect':
        return this.#poolsOf(question.database).reduce((sum, pool) => sum + pool.renew(), 0)
      case 'kill':
        return this.#kill(question.database)
      case 'kill_client': {
        const client = this.#report.find(question.client)
        client?.end('killed', 'an operator has ended this connection')
        return client ? 1 : 0
      }
      default:
        return undefined
    }
  }

  #poolsOf(database: string | undefined): Pool[] {
    const pools = [...this.#options.pools()]
    return database === undefined ? pools : pools.filter(pool => pool.database === database)
  }

  #kill(database: string | undefined): number {
    const pools = this.#poolsOf(database)
    // What their clients leave behind is closed, not reset and kept.
    for (const pool of pools) pool.renew()
    const clients = [...this.#options.clients()].filter(
      client => database === undefined || client.database === database,
    )
    for (const client of clients)
      client.end('killed', 'an operator has ended the connections of this database')
    for (const pool of pools) pool.abortAll()
    return clients.length
  }
}
