import type { Socket } from 'node:net'
import type { Link } from '../../runtime/link.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { Client as ClientCode } from '../../wire/codes.ts'
import { frame } from '../../wire/messages.ts'
import { writeStartup } from '../../wire/startup.ts'
import { type Conversation, LoginConversation, type LoginFailure } from '../relay/conversations.ts'
import type { Target } from '../server.ts'
import { dial, type LinkSecurity } from './dial.ts'
import type { ServerAccount } from './server-account.ts'

export interface OpeningOptions {
  target: Target
  /** Of the StartupMessage. */
  parameters: ReadonlyMap<string, string>
  /** What to log in with; undefined: somebody else answers what the server asks. */
  credentials: ServerAccount | undefined
  /** Limit for connecting, and for each answer of the server. */
  connectTimeoutMs: number
  timers: Timers
}

export interface OpeningEvents {
  /** It can be talked on: returns what takes what is sent, and what it brings is to be pushed. */
  onOpen(socket: Socket): Link
  /** Only without credentials: the server asks for something, the body of an Authentication message. */
  onChallenge(body: Buffer): void
  /** What had come while an answer was worked out, to be pushed now. */
  onHeld(held: Buffer): void
  onNotice(body: Buffer): void
  onParameter(name: string, value: string): void
  onKey(processId: number, secret: Buffer): void
  /** The session has begun. */
  onReady(): void
  /** There will be none: `end` says why. */
  onFailed(message: string): void
}

/**
 * The beginning of a server connection: it is dialled, encrypted where its target says so, and logged in on, with a
 * limit for everything that the server is waited for.
 */
export class ServerOpening implements Conversation {
  readonly #options: OpeningOptions
  readonly #events: OpeningEvents
  readonly #login: LoginConversation
  #socket: Socket
  /** Undefined until it is open. */
  #link: Link | undefined
  #security: LinkSecurity | undefined
  #timer: Timer | undefined
  #failure: LoginFailure | undefined

  constructor(options: OpeningOptions, events: OpeningEvents) {
    this.#options = options
    this.#events = events
    this.#login = this.#loginConversation()
    const { host, port, tls } = options.target
    this.#socket = dial({
      host,
      port,
      tls: tls(),
      onOpen: (socket, security) => this.#onOpen(socket, security),
      onFailed: message => events.onFailed(message),
    })
    this.#limit()
  }

  /** That of the TCP connection until it is open. */
  get socket(): Socket {
    return this.#socket
  }

  /** Undefined without TLS. */
  get security(): LinkSecurity | undefined {
    return this.#security
  }

  /** The server has asked for something that only the client knows. */
  get challenged(): boolean {
    return this.#login.challenged
  }

  /** The server has let this user in without asking for anything. */
  get isTrusting(): boolean {
    return !this.#login.challenged && !this.#login.answered
  }

  get problem(): string | undefined {
    return this.#login.problem
  }

  push(piece: Buffer): Buffer {
    if (!this.challenged) this.#limit()
    return this.#login.push(piece)
  }

  /** The client's answer to a challenge: the body of its message. */
  answerChallenge(body: Buffer): void {
    if (!this.#login.mayAnswer(body)) return
    this.#limit()
    this.#link!.write(frame(ClientCode.Password, body))
  }

  /** It comes to nothing, because of `message` unless the server has said why itself. */
  end(message: string): LoginFailure {
    this.#timer?.cancel()
    if (this.#failure) return this.#failure
    if (this.challenged) return { kind: 'lost', message }
    return { kind: this.#login.heard ? 'not_accepting' : 'unreachable', message }
  }

  #onOpen(socket: Socket, security: LinkSecurity | undefined): void {
    this.#socket = socket
    this.#security = security
    this.#link = this.#events.onOpen(socket)
    this.#link.write(writeStartup(this.#options.parameters))
  }

  #loginConversation(): LoginConversation {
    const { credentials: account, target } = this.#options
    const events = this.#events
    return new LoginConversation(
      {
        onChallenge: body => {
          // From now on it is the client's turn, which has its own limit.
          this.#timer?.cancel()
          events.onChallenge(body)
        },
        onAnswer: message => this.#link!.write(message),
        onAnswered: held => events.onHeld(held),
        onKeys: keys => account?.keep(keys),
        onNotice: body => events.onNotice(body),
        onParameter: (name, value) => events.onParameter(name, value),
        onKey: (processId, secret) => events.onKey(processId, secret),
        onRefused: failure => {
          this.#failure = failure
          if (failure.kind === 'refused') account?.noteRefusal(target.node, failure.body)
          events.onFailed('login failed')
        },
        onReady: () => {
          this.#timer?.cancel()
          events.onReady()
        },
      },
      account && (() => account.logIn(target.host, this.#security)),
    )
  }

  /** Limits the time until the server says something. */
  #limit(): void {
    this.#timer?.cancel()
    const { timers, connectTimeoutMs } = this.#options
    this.#timer = timers.after(connectTimeoutMs, () =>
      this.#events.onFailed(`no answer within ${connectTimeoutMs} ms`),
    )
  }
}
