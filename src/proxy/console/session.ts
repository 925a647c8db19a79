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
import type { CancelKey } from '../cancels.ts'
import type { WorkerCounters } from '../counters.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from '../failures.ts'
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

/** What came of a command. */
export interface Result {
  tag: string
  rows: Row[]
  notices: string[]
}

/** A command on its way. */
export interface Run {
  /** Rejects with a ConsoleError. */
  readonly result: Promise<Result>
  cancel(): void
}

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

/** A statement or portal; `command` is undefined for an empty one. */
interface Portal {
  command: Command | undefined
  formats: Format[]
  /** Once it was executed. */
  result: Result | undefined
  /** Rows that the client has got. */
  sent: number
}

/** The longest message: commands are short. */
const messageBytesMax = 64 * 1024
/** What may be sent ahead of a command that runs. */
const aheadBytesMax = 256 * 1024
const statementsMax = 1000
/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000
/** Version of PgBouncer whose tables and commands these are. */
const dialect = '1.25.2'

/**
 * A client of the console: speaks the protocol as far as psql and drivers need it, answers what it can by itself and
 * hands the rest to the control process. One command at a time.
 */
export class ConsoleSession {
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
  readonly #statements = new Map<string, Command | undefined>()
  readonly #portals = new Map<string, Portal>()
  #run: Run | undefined

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

  /** Named ones. */
  get statementCount(): number {
    return this.#statements.size - (this.#statements.has('') ? 1 : 0)
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
    for (let next = this.#queue.shift(); next && !this.#isClosed; next = this.#queue.shift()) {
      this.#queuedBytes -= next.body.length
      this.requestMs = this.#host.clock.nowMs()
      if (next.code === Code.Query) await this.#query(next.body)
      else await this.#extended(next.code, next.body)
    }
    this.#isWorking = false
  }

  // Simple protocol.

  async #query(body: Buffer): Promise<void> {
    this.#isSkipping = false
    this.#portals.clear()
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
      this.#portals.clear()
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
        return this.#parse(body)
      case Code.Bind:
        return this.#bind(body)
      case Code.Describe:
        return this.#describe(body)
      case Code.Execute:
        return await this.#executePortal(body)
      case Code.Close:
        if (body[0] === isStatement) this.#statements.delete(readText(body, 1).text)
        else this.#portals.delete(readText(body, 1).text)
        this.#write(closeComplete)
        return
      case Code.Flush:
        return
      case Code.FunctionCall:
        throw new ConsoleError('unsupported', 'the console has no functions', 'Use its commands: SHOW HELP.')
      default:
        this.end('protocol_violation', `unknown message 0x${code.toString(16)}`)
    }
  }

  #parse(body: Buffer): void {
    const { text: name, next } = readText(body, 0)
    const [command, ...more] = readCommands(readText(body, next).text)
    if (more.length > 0) {
      throw new ConsoleError(
        'unknown',
        'several commands cannot be prepared as one statement',
        'Send them one by one.',
      )
    }
    if (name !== '' && this.#statements.has(name)) {
      throw new ConsoleError('wrong_state', `prepared statement "${name}" already exists`)
    }
    if (this.#statements.size >= statementsMax) {
      throw new ConsoleError(
        'too_many',
        `the console keeps ${statementsMax} statements for a client`,
        'Close some.',
      )
    }
    this.#statements.set(name, command)
    this.#write(parseComplete)
  }

  #bind(body: Buffer): void {
    const portal = readText(body, 0)
    const statement = readText(body, portal.next)
    const formats = readNumbers(body, statement.next)
    if (readNumber(body, formats.next) > 0)
      throw new ConsoleError('protocol', 'commands of the console take no parameters')
    const command = this.#statementOf(statement.text)
    const asked = readNumbers(body, formats.next + 2).numbers.map((format): Format => (format === 1 ? 1 : 0))
    const count = this.#columnsOf(command)?.length ?? 0
    // One format for all, or one for each.
    const all = asked.length === 1 ? Array.from({ length: count }, () => asked[0]!) : asked
    if (all.length > 0 && all.length !== count) {
      throw new ConsoleError('protocol', `${all.length} result formats do not fit ${count} columns`)
    }
    if (this.#portals.size >= statementsMax) throw new ConsoleError('too_many', 'too many portals are open')
    this.#portals.set(portal.text, { command, formats: all, result: undefined, sent: 0 })
    this.#write(bindComplete)
  }

  #describe(body: Buffer): void {
    const name = readText(body, 1).text
    if (body[0] === isStatement) {
      const columns = this.#columnsOf(this.#statementOf(name))
      this.#write(parameterDescription)
      this.#write(columns ? writeRowDescription(columns) : noData)
      return
    }
    const { command, formats } = this.#portalOf(name)
    const columns = this.#columnsOf(command)
    this.#write(columns ? writeRowDescription(columns, formats) : noData)
  }

  async #executePortal(body: Buffer): Promise<void> {
    const { text: name, next } = readText(body, 0)
    const portal = this.#portalOf(name)
    const { command } = portal
    if (!command) return this.#write(emptyQueryResponse)
    portal.result ??= await this.#execute(command)
    const { rows, tag } = portal.result
    // 0 means all.
    const rowsMax = readNumber(body, next) * 0x10000 + readNumber(body, next + 2) || rows.length
    const end = Math.min(rows.length, portal.sent + rowsMax)
    await this.#sendRows(this.#columnsOf(command), rows.slice(portal.sent, end), portal.formats)
    portal.sent = end
    this.#write(end < rows.length ? portalSuspended : writeCommandComplete(tag))
  }

  #statementOf(name: string): Command | undefined {
    if (this.#statements.has(name)) return this.#statements.get(name)
    throw new ConsoleError('not_found', `prepared statement "${name}" does not exist`)
  }

  #portalOf(name: string): Portal {
    const portal = this.#portals.get(name)
    if (!portal) throw new ConsoleError('not_found', `portal "${name}" does not exist`)
    return portal
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

/** In Describe and Close: a statement, not a portal. */
const isStatement = 0x53 // 'S'

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

/** The text that begins at `at` and ends with a zero byte; `next` is behind that. */
function readText(body: Buffer, at: number): { text: string; next: number } {
  const end = body.indexOf(0, at)
  if (end < 0) throw new ConsoleError('protocol', 'a text in a message has no end')
  return { text: body.toString('utf8', at, end), next: end + 1 }
}

/** A number of 16 bits. */
function readNumber(body: Buffer, at: number): number {
  if (at + 2 > body.length) throw new ConsoleError('protocol', 'a message is shorter than it says')
  return body.readUInt16BE(at)
}

/** A count, and as many numbers. */
function readNumbers(body: Buffer, at: number): { numbers: number[]; next: number } {
  const count = readNumber(body, at)
  const numbers: number[] = []
  for (let index = 1; index <= count; index++) numbers.push(readNumber(body, at + 2 * index))
  return { numbers, next: at + 2 + 2 * count }
}
