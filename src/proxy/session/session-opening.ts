import type { Timer, Timers } from '../../runtime/timers.ts'
import { Client as Code, Server as ServerCode } from '../../wire/codes.ts'
import {
  authenticationOk,
  frame,
  readErrorFields,
  readyForQueryIdle,
  writeBackendKeyData,
  writeErrorResponse,
  writeParameterStatus,
} from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import type { CancelKey } from '../client/cancels.ts'
import type { Reported } from './reported.ts'

/** The longest answer to a challenge: GSS tokens are the largest. */
const answerBytesMax = 64 * 1024
/** Notices of a login that are kept for the client; more are left out. */
const noticesMax = 20

/**
 * What passes between a client and the proxy before its session begins: the challenges of a server that checks the
 * login itself, with the client's answers, and at last what a client expects after a login.
 */
export class SessionOpening {
  /** Comes before everything else. */
  #first: Buffer | undefined
  /** Puts the client's answers to a server's challenges together. */
  #answers: MessageReader | undefined
  #notices: readonly Buffer[] = []
  #timer: Timer | undefined

  /** `first`: what the client is sent before anything else. */
  constructor(first: Buffer | undefined) {
    this.#first = first
  }

  /** Limits the time for the client's next answer. */
  limit(timers: Timers, limitMs: number, onOver: () => void): void {
    this.#timer?.cancel()
    this.#timer = timers.after(limitMs, onOver)
  }

  /** Nothing more is waited for. */
  stop(): void {
    this.#timer?.cancel()
  }

  /**
   * Takes the next piece of the client's answers: `onAnswer` gets the body of each. Returns what is wrong with them,
   * if anything.
   */
  answer(chunk: Buffer, onAnswer: (body: Buffer) => void): string | undefined {
    this.#answers ??= new MessageReader(answerBytesMax)
    let unexpected: string | undefined
    this.#answers.push(chunk, (code, body) => {
      if (code !== Code.Password) {
        unexpected = `expected the answer to a challenge, got message '${String.fromCharCode(code)}'`
        return false
      }
      this.#timer?.cancel()
      onAnswer(body)
      return true
    })
    return unexpected ?? this.#answers.problem
  }

  /** A NoticeResponse is kept until the login has succeeded: before that, clients do not expect any. */
  keepNotice(body: Buffer): void {
    if (this.#notices.length < noticesMax) {
      this.#notices = [...this.#notices, frame(ServerCode.NoticeResponse, body)]
    }
  }

  /** Another server is logged in to: what the one before has said does not count. */
  forgetNotices(): void {
    this.#notices = []
  }

  /** `message` as the client gets it: behind what comes first. */
  told(message: Buffer): Buffer {
    const first = this.#first
    this.#first = undefined
    return first ? Buffer.concat([first, message]) : message
  }

  /** All that the client is told when the session begins. */
  greeting(reported: Reported, { processId, secret }: CancelKey): Buffer {
    const messages = [authenticationOk, ...this.#notices]
    for (const [name, value] of reported) messages.push(writeParameterStatus(name, value))
    messages.push(writeBackendKeyData(processId, secret), readyForQueryIdle)
    return this.told(Buffer.concat(messages))
  }
}

/** The end of a login, by what a server has refused it with: the body of its ErrorResponse. */
export function fatalOf(error: Buffer): Buffer {
  const fields = readErrorFields(error)
  return writeErrorResponse({
    severity: 'FATAL',
    code: fields.get('C') ?? '28000',
    message: fields.get('M') ?? 'the server refused the login',
    detail: fields.get('D'),
    hint: fields.get('H'),
  })
}
