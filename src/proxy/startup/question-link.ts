import type { Socket } from 'node:net'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { Server as Code } from '../../wire/codes.ts'
import { readDataRow, readErrorFields, terminate } from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import { writeStartup } from '../../wire/startup.ts'
import { type Conversation, LoginConversation, type LoginFailure } from '../relay/conversations.ts'
import type { Target } from '../server.ts'
import { describeSocketError, dial, type LinkSecurity } from './dial.ts'
import type { ServerAccount } from './server-account.ts'

export type QuestionErrorCode =
  /** The server cannot be reached, does not answer in time, or was lost. */
  | 'lost'
  /** It does not let this user in. */
  | 'refused'
  /** It has no such database. */
  | 'no_database'
  /** It answers the question with an error. */
  | 'failed'

export class QuestionError extends Error {
  readonly code: QuestionErrorCode

  constructor(code: QuestionErrorCode, message: string) {
    super(message)
    this.name = 'QuestionError'
    this.code = code
  }
}

export interface QuestionLinkOptions {
  target: Target
  user: string
  database: string
  account: ServerAccount
  /** Limit for connecting with the login, and for each answer. */
  timeoutMs: number
  timers: Timers
  /** It is of no use any more; nothing is asked on it when this comes. */
  onClosed: (link: QuestionLink) => void
}

type Rows = (string | undefined)[][]

interface Pending {
  resolve: (rows: Rows) => void
  reject: (error: QuestionError) => void
}

const answerBytesMax = 1024 * 1024

/** A connection of the proxy's own to a server, for questions with small answers; one at a time. */
export class QuestionLink {
  readonly #options: QuestionLinkOptions
  #socket: Socket
  #conversation: Conversation
  readonly #login: LoginConversation
  #state: 'login' | 'idle' | 'asking' | 'closed' = 'login'
  #pending: Pending | undefined
  #timer: Timer | undefined

  private constructor(options: QuestionLinkOptions, pending: Pending) {
    this.#options = options
    this.#pending = pending
    const { target } = options
    let security: LinkSecurity | undefined
    this.#login = this.#loginConversation(() => security)
    this.#conversation = this.#login
    this.#limit()
    this.#socket = dial({
      host: target.host,
      port: target.port,
      tls: target.tls(),
      onFailed: message => this.#close('lost', message),
      onOpen: (socket, found) => {
        security = found
        this.#onOpen(socket)
      },
    })
  }

  /** Connects and logs in. Rejects with a QuestionError. */
  static async open(options: QuestionLinkOptions): Promise<QuestionLink> {
    return await new Promise((resolve, reject) => {
      const link: QuestionLink = new QuestionLink(options, { resolve: () => resolve(link), reject })
    })
  }

  get isIdle(): boolean {
    return this.#state === 'idle'
  }

  get options(): QuestionLinkOptions {
    return this.#options
  }

  /** Sends messages that one ReadyForQuery answers, and gives back the rows. Rejects with a QuestionError. */
  async ask(messages: Buffer): Promise<Rows> {
    return await new Promise((resolve, reject) => {
      if (this.#state !== 'idle') return reject(new QuestionError('lost', 'the connection was closed'))
      this.#state = 'asking'
      this.#pending = { resolve, reject }
      this.#conversation = new RowsConversation()
      this.#limit()
      this.#socket.write(messages)
    })
  }

  close(): void {
    if (this.#state === 'idle' || this.#state === 'asking') this.#socket.write(terminate)
    this.#close('lost', 'the connection was closed')
  }

  #onOpen(socket: Socket): void {
    const { database, user } = this.#options
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('error', error => this.#close('lost', describeSocketError(error)))
    socket.on('close', () => this.#close('lost', 'the server closed the connection'))
    const parameters = { user, database, application_name: 'pgherd' }
    socket.write(
      writeStartup(new Map(Object.entries(parameters).map(([name, value]) => [name, toWire(value)]))),
    )
  }

  #loginConversation(security: () => LinkSecurity | undefined): LoginConversation {
    const { account, target } = this.#options
    const events = {
      onChallenge: () => undefined,
      onAnswer: (message: Buffer) => void this.#socket.write(message),
      onAnswered: (held: Buffer) => this.#onData(held),
      onKeys: (keys: Parameters<ServerAccount['keep']>[0]) => account.keep(keys),
      onNotice: () => undefined,
      onParameter: () => undefined,
      onKey: () => undefined,
      onRefused: (failure: LoginFailure) => this.#onRefused(failure),
      onReady: () => this.#settle([]),
    }
    return new LoginConversation(events, () => account.logIn(target.host, security()))
  }

  #onRefused(failure: LoginFailure): void {
    if (failure.kind !== 'refused') return this.#close('lost', failure.message)
    const fields = readErrorFields(failure.body)
    const code = fields.get('C') === '3D000' ? 'no_database' : 'refused'
    this.#close(code, fields.get('M') ?? 'the login was refused')
  }

  #onData(chunk: Buffer): void {
    if (this.#state === 'closed') return
    const conversation = this.#conversation
    conversation.push(chunk)
    if (conversation.problem !== undefined) return this.#close('lost', conversation.problem)
    if (!(conversation instanceof RowsConversation) || !conversation.isOver) return
    const { error, rows } = conversation
    if (error === undefined) return this.#settle(rows)
    const pending = this.#pending
    this.#becomeIdle()
    pending?.reject(new QuestionError('failed', error))
  }

  #settle(rows: Rows): void {
    const pending = this.#pending
    this.#becomeIdle()
    pending?.resolve(rows)
  }

  #becomeIdle(): void {
    this.#timer?.cancel()
    this.#pending = undefined
    this.#state = 'idle'
    this.#conversation = new RowsConversation()
  }

  #limit(): void {
    const { timeoutMs, timers } = this.#options
    this.#timer?.cancel()
    this.#timer = timers.after(timeoutMs, () => this.#close('lost', `no answer within ${timeoutMs} ms`))
  }

  #close(code: QuestionErrorCode, message: string): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#timer?.cancel()
    this.#socket.destroySoon()
    const pending = this.#pending
    this.#pending = undefined
    this.#options.onClosed(this)
    pending?.reject(new QuestionError(code, message))
  }
}

/** Text as the codecs of the wire take it: one character a byte. */
export function toWire(text: string): string {
  return Buffer.from(text).toString('latin1')
}

/** Rows up to a ReadyForQuery, or the message of the error. What an idle server says aside is ignored. */
class RowsConversation implements Conversation {
  readonly rows: Rows = []
  error: string | undefined
  isOver = false
  problem: string | undefined
  readonly #reader = new MessageReader(answerBytesMax)

  push(piece: Buffer): Buffer {
    const rest = this.#reader.push(piece, (code, body) => {
      if (code === Code.DataRow) this.rows.push(readDataRow(body))
      if (code === Code.ErrorResponse) {
        const fields = readErrorFields(body)
        this.error = `${fields.get('M') ?? 'no message'} (SQLSTATE ${fields.get('C') ?? 'unknown'})`
      }
      if (code === Code.ReadyForQuery) this.isOver = true
      return true
    })
    this.problem = this.#reader.problem
    return rest
  }
}
