import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import { pause, type Timers } from '../../runtime/timers.ts'
import type { Topology } from '../../topology/types.ts'
import type { WorkerSettings } from '../control/ipc.ts'
import type { WorkerCountersData } from '../counters.ts'
import { type GatesData, openGates } from '../pool/gates.ts'
import { type Row, type TableName, typed } from './columns.ts'
import { ConsoleError, type RemoteCommand } from './commands.ts'
import { type ConsoleFromWorker, type Outcome, type Question, rowsAtOnce } from './messages.ts'
import { readPoolFacts } from './pool-facts.ts'
import { type AskedWorker, Questions } from './questions.ts'
import { memoryRows } from './report.ts'
import {
  databaseRows,
  listRows,
  nodeRows,
  type ProxyFacts,
  pinTotalRows,
  poolRows,
  statRows,
  totalRows,
  userRows,
} from './views.ts'

/** What the console may do to the process around the proxy. */
export interface Operator {
  version: string
  /** Rows of `SHOW CONFIG`: key, value, default, whether a reload applies it. */
  config: () => Row[]
  /** Undefined where the process cannot be told to. */
  commands: OperatorCommands | undefined
}

export interface OperatorCommands {
  /** Reads the configuration again. Resolves with what is wrong with it; then nothing has changed. */
  reload: () => Promise<readonly string[]>
  /** Ends the process in good order. */
  stop: (why: string) => void
}

/** A data worker as the desk knows it. */
export interface DeskWorker extends AskedWorker {
  setGates(gates: GatesData): void
}

export interface DeskOptions {
  /** Those that run. */
  workers: () => Iterable<DeskWorker>
  settings: () => WorkerSettings
  topology: () => Topology | undefined
  counters: () => WorkerCountersData
  operator: Operator
  /** Takes no new connections any more. */
  closeEntrance: () => void
  /** From now on a stop does not wait for sessions. */
  hurry: () => void
  memory: () => NodeJS.MemoryUsage
  clock: Clock
  timers: Timers
  log: Logger
}

interface Answer {
  tag: string
  rows?: Row[]
  notices?: string[]
  /** To be done when the answer is on its way. */
  afterwards?: () => void
}

/** How often is looked whether what a command waits for has come. */
const lookMs = 50

/** The console's part in the control process: carries commands out on all workers and puts their answers together. */
export class ConsoleDesk {
  readonly #options: DeskOptions
  readonly #questions: Questions
  /** Commands under way, by worker and number there. */
  readonly #running = new Map<DeskWorker, Map<number, AbortController>>()
  #gates: GatesData = openGates
  #isStopping = false

  constructor(options: DeskOptions) {
    this.#options = options
    this.#questions = new Questions(options.timers, options.workers)
  }

  /** A worker that can take connections hears first what is closed. */
  greet(worker: DeskWorker): void {
    worker.setGates(this.#gates)
  }

  /** A worker has ended: nobody waits for what it has asked. */
  forget(worker: DeskWorker): void {
    this.#questions.forget(worker)
    for (const command of this.#running.get(worker)?.values() ?? []) command.abort()
    this.#running.delete(worker)
  }

  onMessage(worker: DeskWorker, message: ConsoleFromWorker): void {
    switch (message.kind) {
      case 'console_command':
        void this.#carryOut(worker, message.request, message.command)
        return
      case 'console_cancel':
        this.#running.get(worker)?.get(message.request)?.abort()
        return
      case 'console_told':
        this.#questions.onTold(worker, message)
        return
      default:
        message satisfies never
    }
  }

  /** Never rejects. */
  async #carryOut(worker: DeskWorker, request: number, command: RemoteCommand): Promise<void> {
    const controller = new AbortController()
    const running = this.#running.get(worker) ?? new Map<number, AbortController>()
    this.#running.set(worker, running)
    running.set(request, controller)
    let outcome: Outcome
    let afterwards: (() => void) | undefined
    try {
      const answer = await this.#run(command, controller.signal)
      await this.#sendRows(worker, request, answer.rows ?? [])
      outcome = { tag: answer.tag, notices: answer.notices ?? [] }
      afterwards = answer.afterwards
    } catch (cause) {
      outcome = this.#outcomeOf(cause)
    }
    running.delete(request)
    worker.send({ kind: 'console_done', request, outcome })
    afterwards?.()
  }

  #outcomeOf(cause: unknown): Outcome {
    if (cause instanceof ConsoleError) return { error: cause.code, message: cause.message, hint: cause.hint }
    this.#options.log.error({ event: 'console.failed', err: cause }, 'a command of the console failed')
    return { error: 'failed', message: 'the command failed: see the log', hint: undefined }
  }

  async #sendRows(worker: DeskWorker, request: number, rows: readonly Row[]): Promise<void> {
    for (let from = 0; from < rows.length; from += rowsAtOnce) {
      if (from > 0) await pause(this.#options.timers, 0)
      worker.send({ kind: 'console_rows', request, rows: rows.slice(from, from + rowsAtOnce) })
    }
  }

  async #run(command: RemoteCommand, signal: AbortSignal): Promise<Answer> {
    const tag = command.kind.toUpperCase()
    switch (command.kind) {
      case 'show':
        return await this.#show(command.table)
      case 'pause':
        return await this.#pause(this.#databaseOf(command.database), signal)
      case 'resume':
        this.#resume(this.#databaseOf(command.database))
        return { tag }
      case 'reconnect':
        return await this.#act(tag, { what: 'reconnect', database: this.#databaseOf(command.database) })
      case 'kill':
        return await this.#kill(this.#databaseOf(command.database))
      case 'wait_close': {
        const database = this.#databaseOf(command.database)
        await this.#until(database, row => Number(row[1]) === 0, signal)
        return { tag }
      }
      case 'disable':
      case 'enable':
        return this.#setDisabled(this.#databaseOf(command.database)!, command.kind === 'disable')
      case 'kill_client':
        return await this.#killClient(command.client)
      case 'reload':
        return await this.#reload()
      case 'shutdown':
        return this.#shutdown(command.wait)
      default:
        return command satisfies never
    }
  }

  /** As clients send it. */
  #databaseOf(name: string | undefined): string | undefined {
    if (name === undefined) return undefined
    if (name === this.#options.settings().console.database || name === 'pgbouncer') {
      throw new ConsoleError(
        'wrong_state',
        `"${name}" is the console, not a database`,
        'Name one of SHOW DATABASES.',
      )
    }
    return typed(name)
  }

  // Looking.

  async #show(table: TableName): Promise<Answer> {
    const { rows, missing } = await this.#tableOf(table)
    const notices = missing.map(index => `worker ${index} did not answer in time: what it has is left out`)
    return { tag: 'SHOW', rows, notices }
  }

  async #tableOf(table: TableName): Promise<{ rows: Row[]; missing: number[] }> {
    const { counters, memory, operator, topology } = this.#options
    const own = (rows: Row[]): { rows: Row[]; missing: number[] } => ({ rows, missing: [] })
    switch (table) {
      case 'clients':
      case 'servers':
      case 'sockets':
      case 'active_sockets':
      case 'pins':
      case 'lanes':
        return await this.#questions.ask({ what: table })
      case 'mem': {
        const { rows, missing } = await this.#questions.ask({ what: 'mem' })
        rows.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1))
        return { rows: [...memoryRows('control', memory()), ...rows], missing }
      }
      case 'pools':
      case 'databases':
      case 'users':
      case 'lists':
        return await this.#aggregate(table)
      case 'stats':
      case 'stats_totals':
      case 'stats_averages':
      case 'totals': {
        const { missing } = await this.#questions.ask({ what: 'counters' })
        const stats = counters().databases
        return { rows: table === 'totals' ? totalRows(stats) : statRows(stats, table), missing }
      }
      case 'nodes': {
        const { missing } = await this.#questions.ask({ what: 'counters' })
        return { rows: nodeRows(topology(), counters()), missing }
      }
      case 'pin_totals': {
        await this.#questions.ask({ what: 'counters' })
        const { missing, rows } = await this.#questions.ask({ what: 'pins' })
        return { rows: pinTotalRows(rows, counters()), missing }
      }
      case 'config':
        return own(operator.config())
      case 'version':
        return own([[`pgherd ${operator.version}`]])
      case 'state':
        return own([
          ['active', this.#gates.allPaused ? 'no' : 'yes'],
          ['paused', this.#gates.allPaused ? 'yes' : 'no'],
          ['suspended', 'no'],
        ])
      case 'dns_hosts':
      case 'dns_zones':
      case 'peers':
      case 'peer_pools':
        return own([])
      default:
        return table satisfies never
    }
  }

  async #aggregate(
    table: 'pools' | 'databases' | 'users' | 'lists',
  ): Promise<{ rows: Row[]; missing: number[] }> {
    const { settings, topology } = this.#options
    const [told, lists] = await Promise.all([
      this.#questions.ask({ what: 'pools' }),
      this.#questions.ask({ what: 'lists' }),
    ])
    const { missing } = told
    const pools = readPoolFacts(told.rows)
    const facts: ProxyFacts = { settings: settings(), topology: topology(), gates: this.#gates, pools }
    switch (table) {
      case 'pools': {
        const consoles = lists.rows.reduce((sum, row) => sum + Number(row[3]), 0)
        return { rows: poolRows(pools, facts.settings, consoles), missing }
      }
      case 'databases':
        return { rows: databaseRows(facts), missing }
      case 'users':
        return { rows: userRows(facts), missing }
      default:
        return { rows: listRows(facts, lists.rows), missing }
    }
  }

  // Acting.

  #setGates(gates: GatesData): void {
    this.#gates = gates
    for (const worker of this.#options.workers()) worker.setGates(gates)
  }

  /** Answers when no server connection is left. Cancelled before that, it is taken back. */
  async #pause(database: string | undefined, signal: AbortSignal): Promise<Answer> {
    const before = this.#gates
    if (before.allPaused || (database !== undefined && before.paused.includes(database))) {
      throw new ConsoleError('wrong_state', 'already paused', 'RESUME ends it.')
    }
    this.#setPaused(database, true)
    try {
      await this.#until(database, row => Number(row[0]) === 0, signal)
    } catch (cause) {
      this.#setPaused(database, false)
      throw cause
    }
    return { tag: 'PAUSE' }
  }

  #resume(database: string | undefined): void {
    if (this.#isStopping) throw new ConsoleError('wrong_state', 'the proxy is shutting down')
    const { allPaused, paused } = this.#gates
    const isPaused = database === undefined ? allPaused || paused.length > 0 : paused.includes(database)
    if (allPaused && database !== undefined) {
      throw new ConsoleError('wrong_state', 'all databases are paused', 'RESUME without a name ends it.')
    }
    if (!isPaused) {
      const what = database === undefined ? 'nothing' : `database "${database}"`
      throw new ConsoleError('wrong_state', `${what} is not paused`, 'SHOW DATABASES says what is.')
    }
    // Without a name all are, also those that were paused by name.
    if (database === undefined) this.#setGates({ ...this.#gates, allPaused: false, paused: [] })
    else this.#setPaused(database, false)
  }

  #setPaused(database: string | undefined, isPaused: boolean): void {
    const gates = this.#gates
    if (database === undefined) return this.#setGates({ ...gates, allPaused: isPaused })
    const others = gates.paused.filter(name => name !== database)
    this.#setGates({ ...gates, paused: isPaused ? [...others, database] : others })
  }

  #setDisabled(database: string, isDisabled: boolean): Answer {
    const others = this.#gates.disabled.filter(name => name !== database)
    this.#setGates({ ...this.#gates, disabled: isDisabled ? [...others, database] : others })
    return { tag: isDisabled ? 'DISABLE' : 'ENABLE' }
  }

  /** New clients wait from then on, as after PAUSE. */
  async #kill(database: string | undefined): Promise<Answer> {
    this.#setPaused(database, true)
    return await this.#act('KILL', { what: 'kill', database })
  }

  async #act(tag: string, question: Question): Promise<Answer> {
    const { missing } = await this.#questions.ask(question)
    const notices = missing.map(index => `worker ${index} did not answer in time: it may still do it`)
    return { tag, notices }
  }

  async #killClient(client: string): Promise<Answer> {
    const { rows } = await this.#questions.ask({ what: 'kill_client', client })
    if (rows.some(([found]) => found === 1)) return { tag: 'KILL_CLIENT' }
    throw new ConsoleError('not_found', `there is no client "${client}"`, 'SHOW CLIENTS has their ids.')
  }

  /** Waits until what every worker says of its server connections is right. */
  async #until(
    database: string | undefined,
    isDone: (row: Row) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    for (;;) {
      const { missing, rows } = await this.#questions.ask({ what: 'load', database })
      if (signal.aborted) throw new ConsoleError('cancelled', 'the command was cancelled')
      if (missing.length === 0 && rows.every(isDone)) return
      await pause(this.#options.timers, lookMs, signal)
    }
  }

  async #reload(): Promise<Answer> {
    const problems = await this.#commands().reload()
    if (problems.length === 0) return { tag: 'RELOAD' }
    throw new ConsoleError('failed', `nothing was changed: ${problems.join('; ')}`, 'The log says more.')
  }

  #commands(): OperatorCommands {
    const { commands } = this.#options.operator
    if (commands) return commands
    throw new ConsoleError('unsupported', 'this process cannot be told to do that')
  }

  #shutdown(wait: 'nothing' | 'servers' | 'clients'): Answer {
    const commands = this.#commands()
    this.#isStopping = true
    if (wait === 'nothing') {
      const afterwards = (): void => {
        this.#options.hurry()
        commands.stop('SHUTDOWN on the console')
      }
      return { tag: 'SHUTDOWN', afterwards }
    }
    this.#options.closeEntrance()
    if (wait === 'servers') this.#setPaused(undefined, true)
    void this.#stopWhenEmpty(wait, commands)
    return { tag: 'SHUTDOWN' }
  }

  /** Never rejects: nothing here does. */
  async #stopWhenEmpty(wait: 'servers' | 'clients', commands: OperatorCommands): Promise<void> {
    for (;;) {
      const what = wait === 'servers' ? 'load' : 'lists'
      const { missing, rows } = await this.#questions.ask(
        what === 'load' ? { what, database: undefined } : { what },
      )
      // Clients of the console are not waited for: one of them has asked for this.
      const isEmpty = ([first, second, , consoles]: Row): boolean =>
        what === 'load' ? first === 0 : Number(first) + Number(second) - Number(consoles) === 0
      if (missing.length === 0 && rows.every(isEmpty)) break
      await pause(this.#options.timers, lookMs)
    }
    this.#options.hurry()
    commands.stop(`SHUTDOWN WAIT_FOR_${wait.toUpperCase()} on the console`)
  }
}
