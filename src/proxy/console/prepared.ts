import { type Command, ConsoleError, readCommands } from './commands.ts'
import type { Format } from './encoding.ts'
import type { Result } from './requests.ts'

/** What a Bind has made of a statement. */
export interface Portal {
  /** Undefined for an empty one. */
  readonly command: Command | undefined
  /** One a column, or none for text throughout. */
  readonly formats: readonly Format[]
  /** Once it was executed. */
  result: Result | undefined
  /** Rows that the client has got. */
  sent: number
}

/** What a Describe is about. */
export interface Described {
  isStatement: boolean
  command: Command | undefined
  formats: readonly Format[]
}

const statementsMax = 1000
/** In Describe and Close: a statement, not a portal. */
const statementLetter = 0x53 // 'S'

/**
 * The prepared statements and portals of one client of the console, by what its extended messages say. Methods take
 * the bodies of those messages and throw ConsoleError.
 */
export class Prepared {
  readonly #statements = new Map<string, Command | undefined>()
  readonly #portals = new Map<string, Portal>()

  /** Statements that have a name. */
  get namedCount(): number {
    return this.#statements.size - (this.#statements.has('') ? 1 : 0)
  }

  /** They end with the transaction, which here is every request. */
  clearPortals(): void {
    this.#portals.clear()
  }

  parse(body: Buffer): void {
    const { text: name, next } = readText(body, 0)
    const [command, ...more] = readCommands(readText(body, next).text)
    if (more.length > 0) {
      const message = 'several commands cannot be prepared as one statement'
      throw new ConsoleError('unknown', message, 'Send them one by one.')
    }
    if (name !== '' && this.#statements.has(name)) {
      const message = `prepared statement "${name}" already exists`
      throw new ConsoleError('wrong_state', message, 'Close it first, or take another name.')
    }
    if (this.#statements.size >= statementsMax) {
      const message = `the console keeps ${statementsMax} statements for a client`
      throw new ConsoleError('too_many', message, 'Close some of them.')
    }
    this.#statements.set(name, command)
  }

  /** `columnCount`: how many columns a command answers with. */
  bind(body: Buffer, columnCount: (command: Command | undefined) => number): void {
    const portal = readText(body, 0)
    const statement = readText(body, portal.next)
    const formatsOfParameters = readNumbers(body, statement.next)
    if (readNumber(body, formatsOfParameters.next) > 0) {
      throw new ConsoleError('protocol', 'commands of the console take no parameters')
    }
    const command = this.#statementOf(statement.text)
    const { numbers } = readNumbers(body, formatsOfParameters.next + 2)
    const asked = numbers.map((format): Format => (format === 1 ? 1 : 0))
    const count = columnCount(command)
    // One format for all, or one for each.
    const formats = asked.length === 1 ? Array.from({ length: count }, () => asked[0]!) : asked
    if (formats.length > 0 && formats.length !== count) {
      throw new ConsoleError('protocol', `${formats.length} result formats do not fit ${count} columns`)
    }
    if (this.#portals.size >= statementsMax) {
      throw new ConsoleError('too_many', 'too many portals are open', 'Send a Sync, which closes them.')
    }
    this.#portals.set(portal.text, { command, formats, result: undefined, sent: 0 })
  }

  describe(body: Buffer): Described {
    const isStatement = body[0] === statementLetter
    const name = readText(body, 1).text
    if (isStatement) return { isStatement, command: this.#statementOf(name), formats: [] }
    const { command, formats } = this.#portalOf(name)
    return { isStatement, command, formats }
  }

  /** The portal of an Execute, and how many rows are wanted at most. */
  execute(body: Buffer): { portal: Portal; rowsMax: number } {
    const { text: name, next } = readText(body, 0)
    const limit = readNumber(body, next) * 0x10000 + readNumber(body, next + 2)
    return { portal: this.#portalOf(name), rowsMax: limit === 0 ? Infinity : limit }
  }

  close(body: Buffer): void {
    const name = readText(body, 1).text
    if (body[0] === statementLetter) this.#statements.delete(name)
    else this.#portals.delete(name)
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
}

/**
 * The text that begins at `at` and ends with a zero byte; `next` is behind that.
 * @throws ConsoleError `protocol` when there is none
 */
export function readText(body: Buffer, at: number): { text: string; next: number } {
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
