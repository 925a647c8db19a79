import type { Random } from '../runtime/random.ts'
import { writePassword, writeSaslInitialResponse } from './client-messages.ts'
import { md5Answer, md5SaltBytes, md5Secret } from './md5.ts'
import { type ScramKeys, scramSha256, scramSha256Plus } from './scram.ts'
import { type ClientChannelBinding, ScramClient, type ScramClientStep } from './scram-client.ts'
import { type ScramFailureCode, serverMessageBytesMax } from './scram-messages.ts'
import type { ServerCredentials } from './secrets.ts'

export interface ServerLoginOptions {
  user: string
  credentials: ServerCredentials
  /** Whether the connection is encrypted, and what binds a login to it (see `serverEndPoint`). */
  tls: { binding: Buffer | undefined } | undefined
  /** Whether a password may go over the wire as it is without TLS. */
  cleartextAllowed: boolean
  random: Random
}

export type ServerLoginFailureCode =
  | ScramFailureCode
  /** The server wants a method that pgherd does not have. */
  | 'unsupported_method'
  /** Nothing is stored for this user that the server's method can be answered with. */
  | 'no_credentials'
  /** The server wants the password as it is, over a connection that others can read. */
  | 'cleartext_refused'
  /** The server's messages break the protocol, or it wants to skip its own proof. */
  | 'protocol'

export type ServerLoginStep =
  /** Body of a PasswordMessage, SASLInitialResponse or SASLResponse: all have the letter 'p'. */
  | { kind: 'send'; body: Buffer }
  /** Nothing to send: the next Authentication message is to come. */
  | { kind: 'wait' }
  /** Logged in. `keys` are those of SCRAM, if that was it: with them the next login costs no hashing. */
  | { kind: 'done'; keys: ScramKeys | undefined }
  /** The connection is to be closed. The sentence is for log and operator; it holds nothing secret. */
  | { kind: 'failed'; code: ServerLoginFailureCode; message: string }

/** First word of an Authentication message. Source: PostgreSQL's documentation, "Message Formats". */
const request = { ok: 0, cleartext: 3, md5: 5, sasl: 10, saslContinue: 11, saslFinal: 12 }

const unsupported = new Map([
  [1, 'Kerberos 4'],
  [2, 'Kerberos 5'],
  [4, 'crypt'],
  [6, 'SCM credentials'],
  [7, 'GSSAPI'],
  [8, 'GSSAPI'],
  [9, 'SSPI'],
])

/**
 * pgherd as a client of PostgreSQL: takes the bodies of the server's Authentication messages one after the other
 * and says what to answer. One a connection. A server asks once: whatever it wants after that is refused, so that
 * nobody can ask for less than the server would.
 */
export class ServerLogin {
  readonly #options: ServerLoginOptions
  #state: 'asked_nothing' | 'working' | 'answered' | 'scram' | 'verified' | 'over' = 'asked_nothing'
  #scram: ScramClient | undefined
  #keys: ScramKeys | undefined

  constructor(options: ServerLoginOptions) {
    this.#options = options
  }

  /** Never rejects. The next message is taken only after this one was answered. */
  async receive(body: Buffer): Promise<ServerLoginStep> {
    if (this.#state === 'over' || this.#state === 'working') {
      this.#state = 'over'
      return failed('protocol', 'the server sent an Authentication message when none was due')
    }
    if (body.length < 4 || body.length > serverMessageBytesMax) {
      this.#state = 'over'
      return failed('protocol', `the server sent an Authentication message of ${body.length} bytes`)
    }
    const type = body.readUInt32BE(0)
    const rest = body.subarray(4)
    const step = this.#state === 'scram' ? await this.#continue(type, rest) : this.#begin(type, rest)
    if (step.kind === 'failed' || step.kind === 'done') this.#state = 'over'
    return step
  }

  #begin(type: number, rest: Buffer): ServerLoginStep {
    if (type === request.ok) {
      return rest.length === 0
        ? { kind: 'done', keys: this.#keys }
        : failed('protocol', 'the server sent an AuthenticationOk with something in it')
    }
    if (this.#state !== 'asked_nothing') {
      return failed('protocol', 'the server asked for another login method after it had got its answer')
    }
    switch (type) {
      case request.cleartext:
        return this.#answerCleartext()
      case request.md5:
        return this.#answerMd5(rest)
      case request.sasl:
        return this.#startScram(rest)
      case request.saslContinue:
      case request.saslFinal:
        return failed('protocol', 'the server sent a step of SCRAM before it had begun')
      default:
        return failed(
          'unsupported_method',
          `the server wants a login with ${unsupported.get(type) ?? `method ${type}`}, which pgherd does not have: ` +
            "use scram-sha-256, md5, password, cert or trust for pgherd's address in the server's pg_hba.conf",
        )
    }
  }

  #answerCleartext(): ServerLoginStep {
    const { credentials, tls, cleartextAllowed } = this.#options
    if (tls === undefined && !cleartextAllowed) {
      return failed(
        'cleartext_refused',
        'the server wants the password in clear over a connection without TLS: ' +
          'use TLS to the server, or scram-sha-256 in its pg_hba.conf',
      )
    }
    if (credentials.password === undefined) return this.#noCredentials('password', 'the password itself')
    return this.#answer(writePassword(credentials.password))
  }

  #answerMd5(salt: Buffer): ServerLoginStep {
    if (salt.length !== md5SaltBytes) {
      return failed('protocol', `the server sent an md5 salt of ${salt.length} bytes`)
    }
    const { md5, password } = this.#options.credentials
    const secret = md5 ?? (password === undefined ? undefined : md5Secret(this.#options.user, password))
    if (secret === undefined) return this.#noCredentials('md5', 'the password or its md5 secret')
    return this.#answer(writePassword(md5Answer(secret, salt)))
  }

  #answer(body: Buffer): ServerLoginStep {
    this.#state = 'answered'
    return { kind: 'send', body }
  }

  #startScram(rest: Buffer): ServerLoginStep {
    const mechanisms = readMechanisms(rest)
    if (!mechanisms) return failed('protocol', 'the server sent a broken list of SASL mechanisms')
    const binding = this.#chooseBinding(mechanisms)
    if ('code' in binding) return binding
    const { password, keys } = this.#options.credentials
    if (password === undefined && keys === undefined) {
      return this.#noCredentials('SCRAM', 'the password, or the keys of a SCRAM login of this user at pgherd')
    }
    this.#scram = new ScramClient({ password, keys, channelBinding: binding, random: this.#options.random })
    this.#state = 'scram'
    return { kind: 'send', body: writeSaslInitialResponse(this.#scram.mechanism, this.#scram.start()) }
  }

  #chooseBinding(mechanisms: readonly string[]): ClientChannelBinding | Failed {
    const { tls } = this.#options
    const plus = mechanisms.includes(scramSha256Plus)
    if (plus && !tls) {
      return failed('channel_binding', 'the server offers SCRAM-SHA-256-PLUS over a connection without TLS')
    }
    if (plus && tls?.binding) return { kind: 'bound', data: tls.binding }
    if (mechanisms.includes(scramSha256)) return { kind: tls?.binding ? 'unused' : 'none' }
    return failed(
      'unsupported_method',
      `the server offers no SASL mechanism that pgherd has here: it needs ${scramSha256} for this user`,
    )
  }

  async #continue(type: number, rest: Buffer): Promise<ServerLoginStep> {
    if (type === request.ok) {
      return failed(
        'server_unproven',
        'the server ended the SCRAM login without the proof that it knows the secret: it is not the right server',
      )
    }
    if (type !== request.saslContinue && type !== request.saslFinal) {
      return failed('protocol', 'the server asked for another login method in the middle of SCRAM')
    }
    const scram = this.#scram!
    this.#state = 'working'
    const step = await scram.receive(rest)
    // A message that came meanwhile has ended the login.
    if (this.#state !== 'working') return failed('protocol', 'the server did not wait for an answer')
    return this.#take(type, step)
  }

  #take(type: number, step: ScramClientStep): ServerLoginStep {
    if (step.kind === 'failed') return step
    const fits = step.kind === 'response' ? request.saslContinue : request.saslFinal
    if (type !== fits) return failed('protocol', 'the server sent the steps of SCRAM under the wrong type')
    if (step.kind === 'response') {
      this.#state = 'scram'
      return { kind: 'send', body: step.body }
    }
    this.#keys = step.keys
    this.#state = 'verified'
    return { kind: 'wait' }
  }

  #noCredentials(method: string, needed: string): ServerLoginStep {
    return failed(
      'no_credentials',
      `the server wants a login with ${method} for user "${this.#options.user}", for which pgherd needs ${needed}`,
    )
  }
}

type Failed = Extract<ServerLoginStep, { kind: 'failed' }>

function failed(code: ServerLoginFailureCode, message: string): Failed {
  return { kind: 'failed', code, message }
}

/** Names, each ended by a zero byte, the list by one more. */
function readMechanisms(rest: Buffer): string[] | undefined {
  if (rest.length < 2 || rest.at(-1) !== 0 || rest.at(-2) !== 0) return undefined
  return rest.toString('latin1', 0, rest.length - 2).split('\0')
}
