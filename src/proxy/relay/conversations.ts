import { missesChannelBinding, withoutChannelBinding } from '../../auth/pass-through.ts'
import type { ScramKeys } from '../../auth/scram.ts'
import type { ServerLogin, ServerLoginStep } from '../../auth/server-login.ts'
import { Authentication, Client, Server as Code, TransactionStatus } from '../../wire/codes.ts'
import { frame, readErrorFields, readParameterStatus, writeErrorBody } from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'

/** The longest message that is read whole: the proxy's own questions keep their answers below it. */
const messageBytesMax = 1024 * 1024
/** An answer may hold whatever a client has set. */
const answerBytesMax = 64 * 1024 * 1024

/**
 * What the proxy itself says to a server, message by message, while no client's bytes are relayed: the login, its
 * own questions, and the reset between two clients.
 */
export interface Conversation {
  /** Takes the next piece. What is left over when the conversation is over belongs to whoever reads on. */
  push(piece: Buffer): Buffer
  /** Why it cannot go on; undefined while it can. */
  readonly problem: string | undefined
}

/** Why a login at a server did not end in a session. */
export type LoginFailure =
  /** Not reached, or it went away or fell silent before it asked or said anything. */
  | { kind: 'unreachable'; message: string }
  /** It answers, but takes no sessions now (57P03 while starting up or shutting down). */
  | { kind: 'not_accepting'; message: string }
  /** It has no connection left (53300). */
  | { kind: 'full'; message: string }
  /** It refused this user, database or parameter: its own ErrorResponse is the answer. */
  | { kind: 'refused'; body: Buffer }
  /** It was lost when the client had already answered a challenge. */
  | { kind: 'lost'; message: string }

export interface LoginEvents {
  /** Only without a `ServerLogin`. */
  onChallenge(body: Buffer): void
  /** Only with one: a message to send, and then what had come meanwhile, to be pushed now. */
  onAnswer(message: Buffer): void
  onAnswered(held: Buffer): void
  /** Only with one: SCRAM keys that the next login can be made with. */
  onKeys(keys: ScramKeys): void
  onNotice(body: Buffer): void
  onParameter(name: string, value: string): void
  onKey(processId: number, secret: Buffer): void
  onRefused(failure: LoginFailure): void
  onReady(): void
}

/**
 * From the startup message to the first ReadyForQuery. Ends itself when the server says no. What the server asks for
 * is answered by a `ServerLogin`, or without one is the client's to answer.
 */
export class LoginConversation implements Conversation {
  /** The server has asked for something that only the client knows. */
  challenged = false
  /** It has asked for something, and the `ServerLogin` has answered. */
  answered = false
  /** It has said anything at all. */
  heard = false
  readonly #reader = new MessageReader(messageBytesMax)
  readonly #events: LoginEvents
  readonly #logIn: (() => ServerLogin) | undefined
  #login: ServerLogin | undefined
  /** What came while an answer is being worked out; it is read after that. */
  #held: Buffer = empty
  #isAnswering = false
  /** The server can bind a login to its connection, which is not the client's. */
  #offersBinding = false
  #over = false
  #problem: string | undefined

  /** `logIn` is called when the server says the first word about the login. */
  constructor(events: LoginEvents, logIn: (() => ServerLogin) | undefined) {
    this.#events = events
    this.#logIn = logIn
  }

  get problem(): string | undefined {
    return this.#problem ?? this.#reader.problem
  }

  push(piece: Buffer): Buffer {
    this.heard = true
    if (this.#isAnswering) {
      this.#hold(piece)
      return empty
    }
    const rest = this.#reader.push(piece, (code, body) => {
      this.#message(code, body)
      return !this.#over && !this.#isAnswering && this.#problem === undefined
    })
    if (!this.#isAnswering) return rest
    this.#hold(rest)
    return empty
  }

  /** Whether the server may be given this answer of the client (the body of it); if not, the login has failed. */
  mayAnswer(body: Buffer): boolean {
    if (!this.#offersBinding || !missesChannelBinding(body)) return true
    this.#refuse({
      message: 'pgherd: a login over TLS on both sides cannot be passed on with SCRAM and channel binding',
      hint:
        'Let pgherd check logins (proxy.auth.method: proxy), set proxy.server_tls.mode to disable, ' +
        'or connect with channel_binding=disable.',
    })
    return false
  }

  #refuse(fields: { message: string; hint?: string }): void {
    this.#over = true
    this.#events.onRefused({
      kind: 'refused',
      body: writeErrorBody({ severity: 'FATAL', code: '28000', ...fields }),
    })
  }

  #hold(piece: Buffer): void {
    this.#held = Buffer.concat([this.#held, piece])
    if (this.#held.length > messageBytesMax)
      this.#problem = 'it does not wait for the answer to its challenge'
  }

  #message(code: number, body: Buffer): void {
    const events = this.#events
    switch (code) {
      case Code.Authentication:
        if (this.#logIn) return this.#answer((this.#login ??= this.#logIn()), body)
        if (body.length >= 4 && body.readUInt32BE(0) === Authentication.Ok) return
        this.challenged = true
        this.#offersBinding ||= withoutChannelBinding(body) !== body
        return events.onChallenge(withoutChannelBinding(body))
      case Code.ParameterStatus: {
        const parameter = readParameterStatus(body)
        if (parameter) events.onParameter(parameter.name, parameter.value)
        return
      }
      case Code.BackendKeyData:
        if (body.length >= 8) events.onKey(body.readInt32BE(0), Buffer.from(body.subarray(4)))
        return
      case Code.NoticeResponse:
        return events.onNotice(body)
      case Code.ErrorResponse:
        this.#over = true
        return events.onRefused(classify(body))
      case Code.ReadyForQuery:
        this.#over = true
        return events.onReady()
      default:
        this.#problem = `unexpected message '${String.fromCharCode(code)}' during the login`
    }
  }

  /** The answer may take a hash of some milliseconds, which is not worked out on this thread. */
  #answer(login: ServerLogin, body: Buffer): void {
    this.#isAnswering = true
    void login.receive(Buffer.from(body)).then(step => this.#onStep(step))
  }

  #onStep(step: ServerLoginStep): void {
    this.#isAnswering = false
    const held = this.#held
    this.#held = empty
    if (step.kind === 'failed') {
      return this.#refuse({ message: `pgherd cannot log in to the server for this user: ${step.message}` })
    }
    if (step.kind === 'done' && step.keys) this.#events.onKeys(step.keys)
    if (step.kind === 'send') {
      this.answered = true
      this.#events.onAnswer(frame(Client.Password, step.body))
    }
    this.#events.onAnswered(held)
  }
}

/** What an ErrorResponse during login means for the one who wanted to log in. */
function classify(body: Buffer): LoginFailure {
  const fields = readErrorFields(body)
  const message = fields.get('M') ?? 'no message'
  const sqlstate = fields.get('C') ?? ''
  if (['57P01', '57P02', '57P03'].includes(sqlstate)) return { kind: 'not_accepting', message }
  if (sqlstate === '53300') return { kind: 'full', message }
  return { kind: 'refused', body: Buffer.from(body) }
}

/** The rows of each statement that completed; `failed` when any of them did not. */
export interface Answer {
  failed: boolean
  /** Body of the first ErrorResponse. */
  error?: Buffer
  replies: Reply[]
}

export interface Reply {
  /** Bodies of DataRow, or the one of a FunctionCallResponse. */
  rows: Buffer[]
}

/** Reads the answers to the proxy's own statements. What the server says aside is passed on. */
export class QuestionConversation implements Conversation {
  readonly answer: Answer = { failed: false, replies: [] }
  /** Transaction status at the last ReadyForQuery. */
  status: number = TransactionStatus.Idle
  readonly #reader = new MessageReader(answerBytesMax)
  readonly #onAside: (code: number, body: Buffer) => void
  #rows: Buffer[] = []
  #owed: number

  /** `readyForQueries`: how many of them end the conversation. */
  constructor(readyForQueries: number, onAside: (code: number, body: Buffer) => void) {
    this.#owed = readyForQueries
    this.#onAside = onAside
  }

  get problem(): string | undefined {
    return this.#reader.problem
  }

  get isOver(): boolean {
    return this.#owed === 0
  }

  push(piece: Buffer): Buffer {
    return this.#reader.push(piece, (code, body) => {
      this.#message(code, body)
      return this.#owed > 0
    })
  }

  #message(code: number, body: Buffer): void {
    switch (code) {
      case Code.DataRow:
        this.#rows.push(Buffer.from(body))
        return
      case Code.CommandComplete:
        this.answer.replies.push({ rows: this.#rows })
        this.#rows = []
        return
      case Code.FunctionCallResponse:
        this.answer.replies.push({ rows: [Buffer.from(body)] })
        return
      case Code.ErrorResponse:
        this.answer.failed = true
        this.answer.error ??= Buffer.from(body)
        return
      case Code.ReadyForQuery:
        this.status = body[0] ?? TransactionStatus.Idle
        this.#owed--
        return
      case Code.ParameterStatus:
      case Code.NoticeResponse:
      case Code.NotificationResponse:
        this.#onAside(code, body)
        return
      default:
    }
  }
}

/** An idle server may report a changed parameter or a notice; anything else (mostly: it shuts down) is a problem. */
export class IdleConversation implements Conversation {
  problem: string | undefined
  readonly #reader = new MessageReader(messageBytesMax)
  readonly #onParameter: (body: Buffer) => void

  constructor(onParameter: (body: Buffer) => void) {
    this.#onParameter = onParameter
  }

  /** Nothing that has begun is still to come. */
  get atBoundary(): boolean {
    return this.#reader.atBoundary
  }

  push(piece: Buffer): Buffer {
    return this.#reader.push(piece, (code, body) => {
      if (code === Code.ParameterStatus) this.#onParameter(body)
      else if (code !== Code.NoticeResponse) this.problem = 'the server ended an idle connection'
      return this.problem === undefined
    })
  }
}

const empty = Buffer.alloc(0)
