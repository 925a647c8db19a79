import { Authentication, Server as Code, TransactionStatus } from '../wire/codes.ts'
import { readErrorFields, readParameterStatus } from '../wire/messages.ts'
import { MessageReader } from '../wire/reader.ts'

/** The longest message that is read whole: the proxy's own questions keep their answers below it. */
const messageBytesMax = 1024 * 1024

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
  onChallenge(body: Buffer): void
  onNotice(body: Buffer): void
  onParameter(name: string, value: string): void
  onKey(processId: number, secret: Buffer): void
  onRefused(failure: LoginFailure): void
  onReady(): void
}

/** From the startup message to the first ReadyForQuery. Ends itself when the server says no. */
export class LoginConversation implements Conversation {
  /** The server has asked for something that only the client knows. */
  challenged = false
  /** It has said anything at all. */
  heard = false
  readonly #reader = new MessageReader(messageBytesMax)
  readonly #events: LoginEvents
  #over = false
  #problem: string | undefined

  constructor(events: LoginEvents) {
    this.#events = events
  }

  get problem(): string | undefined {
    return this.#problem ?? this.#reader.problem
  }

  push(piece: Buffer): Buffer {
    this.heard = true
    return this.#reader.push(piece, (code, body) => {
      this.#message(code, body)
      return !this.#over && this.#problem === undefined
    })
  }

  #message(code: number, body: Buffer): void {
    const events = this.#events
    switch (code) {
      case Code.Authentication:
        if (body.length >= 4 && body.readUInt32BE(0) === Authentication.Ok) return
        this.challenged = true
        return events.onChallenge(body)
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
  replies: Reply[]
}

export interface Reply {
  rows: Buffer[]
}

/** Reads the answers to the proxy's own statements. What the server says aside is passed on. */
export class QuestionConversation implements Conversation {
  readonly answer: Answer = { failed: false, replies: [] }
  /** Transaction status at the last ReadyForQuery. */
  status: number = TransactionStatus.Idle
  readonly #reader = new MessageReader(messageBytesMax)
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
      case Code.ErrorResponse:
        this.answer.failed = true
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

  push(piece: Buffer): Buffer {
    return this.#reader.push(piece, (code, body) => {
      if (code === Code.ParameterStatus) this.#onParameter(body)
      else if (code !== Code.NoticeResponse) this.problem = 'the server ended an idle connection'
      return this.problem === undefined
    })
  }
}
