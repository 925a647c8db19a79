import type { Socket } from 'node:net'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import { pause, type Timers } from '../../runtime/timers.ts'
import { Client as Code } from '../../wire/codes.ts'
import {
  authenticationOk,
  readyForQueryIdle,
  writeBackendKeyData,
  writeErrorResponse,
  writeParameterStatus,
} from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import type { CancelKey } from '../client/cancels.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from '../client/failures.ts'
import type { WorkerCounters } from '../counters.ts'
import type { Arrival } from '../startup/client-startup.ts'
import type { Rights } from './access.ts'
import { type Column, columnsFor, type Row, shown } from './columns.ts'
import {
  type Command,
  ConsoleError,
  help,
  parameters,
  type RemoteCommand,
  readCommands,
  sqlstates,
} from './commands.ts'
import {
  bindComplete,
  closeComplete,
  emptyQueryResponse,
  type Format,
  noData,
  parameterDescription,
  parseComplete,
  portalSuspended,
  writeCommandComplete,
  writeDataRows,
  writeNotice,
  writeRowDescription,
} from './encoding.ts'
import { rowsAtOnce } from './messages.ts'
import { Prepared, readText } from './prepared.ts'
import type { Result, Run } from './requests.ts'

/** What a console needs of the worker around it. */
export interface ConsoleHost {
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  readonly counters: WorkerCounters
  /** Has a command carried out by the control process. */
  run(command: RemoteCommand): Run
  registerConsole(session: ConsoleSession): CancelKey
  onConsoleEnd(session: ConsoleSession, reason: DisconnectReason): void
}

/** The longest message: commands are short. */
const messageBytesMax = 64 * 1024
/** What may be sent ahead of a command that runs. */
const aheadBytesMax = 256 * 1024
/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000
/** Version of PgBouncer whose tables and commands these are. */
const dialect = '1.25.2'

/**
 * A client of the console: speaks the protocol as far as psql and drivers need it, answers what it can by itself and
 * hands the rest to the control process. One command at a time.
 */
export class ConsoleSession {
  /** Belongs to `CancelKeys`. */
  cancelKey: string | undefined
  readonly user: string
  readonly address: string
  readonly localAddress: string
  readonly tls: string
  readonly connectedMs: number
  /** When it last wanted something. */
  requestMs: number
  readonly applicationName: string
  readonly #host: ConsoleHost
  readonly #socket: Socket
  readonly #rights: Rights
  /** Whether tables have pgherd's own columns. */
  readonly #withOwn: boolean
  readonly #reader = new MessageReader(messageBytesMax)
  readonly #queue: { code: number; body: Buffer }[] = []
  #queuedBytes = 0
  #isWorking = false
  #isClosed = false
  /** After an error in the extended protocol, until the next Sync. */
  #isSkipping = false
  readonly #prepared = new Prepared()
  #run: Run | undefined
  /** What is to be done when the command that runs has been answered. */
  #leaving: (() => void) | undefined

  /** `withOwn`: tables have pgherd's own columns behind PgBouncer's. */
  constructor(arrival: Arrival, rights: Rights, withOwn: boolean, host: ConsoleHost) {
    const { socket } = arrival
    this.#socket = socket
    this.#host = host
    this.#rights = rights
    this.#withOwn = withOwn
    this.user = arrival.user
    this.address = arrival.address
    this.localAddress = `${socket.localAddress ?? '?'}:${socket.localPort ?? 0}`
    this.tls = arrival.tls
    this.applicationName = arrival.parameters.get('application_name') ?? ''
    this.connectedMs = host.clock.nowMs()
    this.requestMs = this.connectedMs
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('end', () => this.end('client_closed'))
    socket.on('error', () => this.end('client_lost'))
    socket.on('close', () => this.end('client_closed'))
    this.#greet(arrival.negotiation)
    if (arrival.ahead.length > 0) this.#onData(arrival.ahead)
  }

  get statementCount(): number {
    return this.#prepared.namedCount
  }

  /** What was sent and has not left yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength
  }

  /** A cancel request has come for it. */
  cancel(): void {
    this.#run?.cancel()
  }

  #greet(negotiation: Buffer | undefined): void {
    const { processId, secret } = this.#host.registerConsole(this)
    const status = {
      server_version: `${dialect}/pgherd`,
      application_name: this.applicationName,
      client_encoding: parameters['client_encoding']!,
      DateStyle: parameters['datestyle']!,
      TimeZone: parameters['timezone']!,
    }
    const reported = [
      'server_encoding',
      'standard_conforming_strings',
      'integer_datetimes',
      'in_hot_standby',
      'default_transaction_read_only',
    ]
    const rest = reported.map((name): [string, string] => [name, parameters[name]!])
    const told = [...Object.entries(status), ...rest]
    this.#write(
      Buffer.concat([
        ...(negotiation ? [negotiation] : []),
        authenticationOk,
        ...told.map(([name, value]) => writeParameterStatus(name, value)),
        writeBackendKeyData(processId, secret),
        readyForQueryIdle,
      ]),
    )
  }

  #onData(chunk: Buffer): void {
    this.#host.counters.bytesFromClients += chunk.length
    this.#reader.push(chunk, (code, body) => {
      this.#queue.push({ code, body: Buffer.from(body) })
      this.#queuedBytes += body.length
      return true
    })
    if (this.#reader.problem !== undefined) return this.end('protocol_violation', this.#reader.problem)
    if (this.#queuedBytes > aheadBytesMax) return this.end('protocol_violation', 'too much was sent ahead')
    void this.#work()
  }

  /** Handles what has come, in order; never rejects. */
  async #work(): Promise<void> {
    if (this.#isWorking) return
    this.#isWorking = true
    while (!this.#isClosed && !this.#leaving) {
      const next = this.#queue.shift()
      if (!next) break
      this.#queuedBytes -= next.body.length
      this.requestMs = this.#host.clock.nowMs()
      if (next.code === Code.Query) await this.#query(next.body)
      else await this.#extended(next.code, next.body)
    }
    this.#isWorking = false
    this.#leaving?.()
  }

  // Simple protocol.

  async #query(body: Buffer): Promise<void> {
    this.#isSkipping = false
    this.#prepared.clearPortals()
    try {
      const commands = readCommands(readText(body, 0).text)
      if (commands.length === 0) this.#write(emptyQueryResponse)
      for (const command of commands) {
        const result = await this.#execute(command)
        const columns = this.#columnsOf(command)
        if (columns) this.#write(writeRowDescription(columns))
        await this.#sendRows(columns, result.rows, [])
        this.#write(writeCommandComplete(result.tag))
      }
    } catch (cause) {
      this.#tellError(cause)
    }
    this.#write(readyForQueryIdle)
  }

  // Extended protocol.

  async #extended(code: number, body: Buffer): Promise<void> {
    if (code === Code.Terminate) return this.end('client_closed')
    if (code === Code.Sync) {
      this.#isSkipping = false
      this.#prepared.clearPortals()
      this.#write(readyForQueryIdle)
      return
    }
    if (this.#isSkipping) return
    try {
      await this.#extendedMessage(code, body)
    } catch (cause) {
      this.#isSkipping = true
      this.#tellError(cause)
    }
  }

  async #extendedMessage(code: number, body: Buffer): Promise<void> {
    switch (code) {
      case Code.Parse:
        this.#prepared.parse(body)
        return this.#write(parseComplete)
      case Code.Bind:
        this.#prepared.bind(body, command => this.#columnsOf(command)?.length ?? 0)
        return this.#write(bindComplete)
      case Code.Describe:
        return this.#describe(body)
      case Code.Execute:
        return await this.#executePortal(body)
      case Code.Close:
        this.#prepared.close(body)
        return this.#write(closeComplete)
      case Code.Flush:
        return
      case Code.FunctionCall:
        throw new ConsoleError('unsupported', 'the console has no functions', 'Use its commands: SHOW HELP.')
      default:
        this.end('protocol_violation', `unknown message 0x${code.toString(16)}`)
    }
  }

  #describe(body: Buffer): void {
    const { command, formats, isStatement } = this.#prepared.describe(body)
    const columns = this.#columnsOf(command)
    if (isStatement) this.#write(parameterDescription)
    this.#write(columns ? writeRowDescription(columns, formats) : noData)
  }

  async #executePortal(body: Buffer): Promise<void> {
    const { portal, rowsMax } = this.#prepared.execute(body)
    const { command, formats } = portal
    if (!command) return this.#write(emptyQueryResponse)
    portal.result ??= await this.#execute(command)
    const { rows, tag } = portal.result
    const end = Math.min(rows.length, portal.sent + rowsMax)
    await this.#sendRows(this.#columnsOf(command), rows.slice(portal.sent, end), formats)
    portal.sent = end
    this.#write(end < rows.length ? portalSuspended : writeCommandComplete(tag))
  }

  // Commands.

  /** Columns of what a command answers; undefined when it has no rows. */
  #columnsOf(command: Command | undefined): readonly Column[] | undefined {
    switch (command?.kind) {
      case 'show':
        return columnsFor(command.table, this.#withOwn)
      case 'parameter':
        return [{ name: command.name, type: 'text' }]
      case 'constant':
        return [{ name: '?column?', type: typeof command.value === 'number' ? 'int4' : 'text' }]
      default:
        return undefined
    }
  }

  /** Carries a command out, and tells its notices. */
  async #execute(command: Command): Promise<Result> {
    switch (command.kind) {
      case 'parameter':
        return { tag: 'SHOW', rows: [[parameters[command.name] ?? '']], notices: [] }
      case 'constant':
        return { tag: 'SELECT 1', rows: [[command.value]], notices: [] }
      case 'ignored':
        return { tag: command.tag, rows: [], notices: [] }
      case 'help':
        this.#write(writeNotice('the commands of the console', `\n\t${help.join('\n\t')}`))
        return { tag: 'SHOW', rows: [], notices: [] }
      default:
        return await this.#runRemote(command)
    }
  }

  async #runRemote(command: RemoteCommand): Promise<Result> {
    if (this.#rights !== 'admin' && command.kind !== 'show') {
      throw new ConsoleError(
        'forbidden',
        `user "${shown(this.user)}" may only use SHOW`,
        'Users of proxy.console.admin_users may use every command.',
      )
    }
    if (command.kind !== 'show') {
      const { kind: event, ...of } = command
      this.#host.log.info(
        { event: `console.${event}`, client: this.address, user: this.user, ...of },
        `${event.toUpperCase()} was asked for on the console`,
      )
    }
    this.#run = this.#host.run(command)
    try {
      const result = await this.#run.result
      for (const notice of result.notices) this.#write(writeNotice(notice))
      const isVersion = command.kind === 'show' && command.table === 'version'
      if (!isVersion || this.#withOwn) return result
      // Whoever takes this for PgBouncer looks for the version that it has to expect.
      return { ...result, rows: result.rows.map(([own]) => [`PgBouncer ${dialect} (${own})`]) }
    } finally {
      this.#run = undefined
    }
  }

  /** Some rows at a time, no faster than they are read, with room for others in between. */
  async #sendRows(
    columns: readonly Column[] | undefined,
    rows: readonly Row[],
    formats: readonly Format[],
  ): Promise<void> {
    if (!columns) return
    for (let from = 0; from < rows.length && !this.#isClosed; from += rowsAtOnce) {
      if (from > 0) await pause(this.#host.timers, 0)
      this.#write(writeDataRows(columns, rows.slice(from, from + rowsAtOnce), formats))
      if (this.#socket.writableNeedDrain) await drained(this.#socket)
    }
  }

  #tellError(cause: unknown): void {
    if (!(cause instanceof ConsoleError)) {
      this.#host.log.error({ event: 'console.failed', err: cause }, 'a command of the console failed')
    }
    const error =
      cause instanceof ConsoleError ? cause : new ConsoleError('failed', 'the command failed: see the log')
    const { code, hint, message } = error
    this.#write(writeErrorResponse({ severity: 'ERROR', code: sqlstates[code], message, hint }))
  }

  #write(bytes: Buffer): void {
    if (!this.#socket.writable) return
    this.#host.counters.bytesToClients += bytes.length
    this.#socket.write(bytes)
  }

  /** Ends the session when what it works on is answered; a command that waits for something is cancelled. */
  leave(reason: DisconnectReason, message: string): void {
    if (!this.#isWorking) return this.end(reason, message)
    this.#leaving = () => this.end(reason, message)
    this.#run?.cancel()
  }

  /** Ends the session; with a message the client is told why. */
  end(reason: DisconnectReason, message?: string, more?: ErrorDetails): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#run?.cancel()
    if (message !== undefined) this.#write(writeErrorResponse(errorFor(reason, message, more)))
    this.#socket.destroySoon()
    if (this.#socket.writableLength > 0) {
      this.#host.timers.after(farewellMs, () => this.#socket.destroy())
    }
    this.#host.onConsoleEnd(this, reason)
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      socket.off('drain', done)
      socket.off('close', done)
      resolve()
    }
    socket.on('drain', done)
    socket.on('close', done)
  })
}
