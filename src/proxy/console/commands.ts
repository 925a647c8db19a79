import { isTableName, type TableName, tables } from './columns.ts'

export type ConsoleErrorCode =
  /** Nobody knows what is meant. */
  | 'unknown'
  /** There is no database of that kind, or no such client. */
  | 'not_found'
  /** It cannot be done now, or twice. */
  | 'wrong_state'
  /** Not for this user. */
  | 'forbidden'
  /** PgBouncer does it and pgherd does not. */
  | 'unsupported'
  /** The client does not keep to the protocol. */
  | 'protocol'
  /** A limit of the console. */
  | 'too_many'
  | 'cancelled'
  /** It was tried and did not work. */
  | 'failed'

/** SQLSTATE of each, from PostgreSQL's appendix "Error Codes". */
export const sqlstates: Record<ConsoleErrorCode, string> = {
  unknown: '42601',
  not_found: '42704',
  wrong_state: '55000',
  forbidden: '42501',
  unsupported: '0A000',
  protocol: '08P01',
  too_many: '54000',
  cancelled: '57014',
  failed: '58000',
}

export class ConsoleError extends Error {
  readonly code: ConsoleErrorCode
  readonly hint: string | undefined

  constructor(code: ConsoleErrorCode, message: string, hint?: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'ConsoleError'
    this.code = code
    this.hint = hint
  }
}

/** What may be asked of the console. Plain data: workers send it to the control process. */
export type Command =
  | { kind: 'show'; table: TableName }
  /** A setting of PostgreSQL that drivers ask for. */
  | { kind: 'parameter'; name: string }
  | { kind: 'help' }
  /** `SELECT` of one constant, as health checks do. */
  | { kind: 'constant'; value: string | number }
  /** What drivers say to every server, and what means nothing here. */
  | { kind: 'ignored'; tag: string }
  /** Without a database: all of them. */
  | { kind: 'pause' | 'resume' | 'reconnect' | 'kill' | 'wait_close'; database: string | undefined }
  | { kind: 'disable' | 'enable'; database: string }
  | { kind: 'kill_client'; client: string }
  | { kind: 'reload' }
  | { kind: 'shutdown'; wait: 'nothing' | 'servers' | 'clients' }

/** What the session answers itself; the rest is the control process's. */
export type RemoteCommand = Exclude<Command, { kind: 'parameter' | 'help' | 'constant' | 'ignored' }>

/** The commands, one a line. */
export const help: readonly string[] = [
  `SHOW ${namesOf(true)}`,
  `SHOW ${namesOf(false)}`,
  'PAUSE [db]',
  'RESUME [db]',
  'RECONNECT [db]',
  'WAIT_CLOSE [db]',
  'KILL [db]',
  'KILL_CLIENT id',
  'DISABLE db',
  'ENABLE db',
  'RELOAD',
  'SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]',
]

function namesOf(isPgbouncers: boolean): string {
  const names = Object.entries(tables).filter(([, table]) => table.isPgbouncers === isPgbouncers)
  return names.map(([name]) => name.toUpperCase()).join('|')
}

/** What PostgreSQL drivers may ask a server for, and what is told when a session begins. */
export const parameters: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  datestyle: 'ISO, MDY',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  in_hot_standby: 'off',
  integer_datetimes: 'on',
  intervalstyle: 'postgres',
  server_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  timezone: 'GMT',
  transaction_isolation: 'read committed',
  transaction_read_only: 'off',
}

/** A piece of a command: `text` without the quotes that it had. */
interface Token {
  text: string
  quote: '' | '"' | "'"
}

const tokenPattern = /\s+|--[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"]|"")*"|'(?:[^']|'')*'|;|[=,()]|[^\s;"'=,()]+/y

/**
 * Reads what was sent as one text: commands separated by semicolons.
 * @throws ConsoleError `unknown`
 */
export function readCommands(text: string): Command[] {
  const commands: Command[] = []
  for (const tokens of splitTokens(text)) if (tokens.length > 0) commands.push(readCommand(tokens))
  return commands
}

function splitTokens(text: string): Token[][] {
  const statements: Token[][] = [[]]
  tokenPattern.lastIndex = 0
  while (tokenPattern.lastIndex < text.length) {
    const from = tokenPattern.lastIndex
    const piece = tokenPattern.exec(text)?.[0]
    if (piece === undefined) throw unknown(`unterminated quote at "${text.slice(from, from + 20)}"`)
    if (piece === ';') statements.push([])
    else if (!/^(\s|--|\/\*)/.test(piece)) statements.at(-1)!.push(tokenOf(piece))
  }
  return statements
}

function tokenOf(piece: string): Token {
  const quote = piece[0] === '"' || piece[0] === "'" ? piece[0] : ''
  if (quote === '') return { text: piece, quote }
  return { text: piece.slice(1, -1).replaceAll(quote + quote, quote), quote }
}

function unknown(message: string): ConsoleError {
  return new ConsoleError('unknown', message, `The commands are: ${help.join('; ')}.`)
}

function readCommand(tokens: readonly Token[]): Command {
  const [first, second, third] = tokens
  const verb = first!.quote === '' ? first!.text.toLowerCase() : ''
  const tag = ignoredTag(verb, second?.text.toLowerCase())
  if (tag !== undefined) return { kind: 'ignored', tag }
  if (verb === 'show' && second) return readShow(tokens.slice(1).map(({ text }) => text.toLowerCase()))
  if (verb === 'select' && second && !third) return readSelect(second)
  if (third) throw unknown(`${verb.toUpperCase() || 'the command'} takes one argument at most`)
  switch (verb) {
    case 'pause':
    case 'resume':
    case 'reconnect':
    case 'kill':
    case 'wait_close':
      return { kind: verb, database: second?.text }
    case 'disable':
    case 'enable':
      if (!second) throw unknown(`${verb.toUpperCase()} needs the name of a database`)
      return { kind: verb, database: second.text }
    case 'kill_client':
      if (!second) throw unknown('KILL_CLIENT needs an id or ptr of SHOW CLIENTS')
      return { kind: verb, client: second.text }
    case 'reload':
      if (second) throw unknown('RELOAD takes no argument')
      return { kind: verb }
    case 'shutdown':
      return { kind: verb, wait: readWait(second?.text.toLowerCase()) }
    case 'suspend':
      throw new ConsoleError(
        'unsupported',
        'SUSPEND is not supported: it prepares PgBouncer for handing its sockets to a new process',
        'Use PAUSE to hold the clients of a database, and RESUME to go on.',
      )
    default:
      throw unknown(`unknown command "${first!.text}"`)
  }
}

/** The tag of what drivers and pools say by habit. There are no settings and no transactions here. */
function ignoredTag(verb: string, second: string | undefined): string | undefined {
  switch (verb) {
    case 'set':
    case 'reset':
    case 'begin':
    case 'commit':
    case 'rollback':
      return verb.toUpperCase()
    case 'end':
      return 'COMMIT'
    case 'abort':
      return 'ROLLBACK'
    case 'start':
      return second === 'transaction' ? 'START TRANSACTION' : undefined
    case 'discard':
    case 'deallocate':
      return second === 'all' ? `${verb.toUpperCase()} ALL` : verb.toUpperCase()
    default:
      return undefined
  }
}

function readShow(words: readonly string[]): Command {
  const name = words.join(' ')
  if (name === 'help') return { kind: 'help' }
  if (isTableName(name)) return { kind: 'show', table: name }
  if (name === 'fds') {
    throw new ConsoleError(
      'unsupported',
      'SHOW FDS is not supported: it would hand out sockets and secrets of clients',
      'SHOW SOCKETS lists the connections.',
    )
  }
  const parameter = parameterNames[name] ?? name
  if (Object.hasOwn(parameters, parameter)) return { kind: 'parameter', name: parameter }
  throw unknown(`there is nothing to SHOW by the name "${name}"`)
}

/** Names that SQL writes in several words. */
const parameterNames: Readonly<Record<string, string>> = {
  'transaction isolation level': 'transaction_isolation',
  'time zone': 'timezone',
}

/** A constant; any other name is that of a table, as in PgBouncer. */
function readSelect({ text, quote }: Token): Command {
  if (quote === "'") return { kind: 'constant', value: text }
  if (/^-?\d{1,9}$/.test(text)) return { kind: 'constant', value: Number(text) }
  return readShow([text.toLowerCase()])
}

function readWait(word: string | undefined): 'nothing' | 'servers' | 'clients' {
  switch (word) {
    case undefined:
      return 'nothing'
    case 'wait_for_servers':
      return 'servers'
    case 'wait_for_clients':
      return 'clients'
    default:
      throw unknown('SHUTDOWN takes WAIT_FOR_SERVERS, WAIT_FOR_CLIENTS, or nothing')
  }
}
