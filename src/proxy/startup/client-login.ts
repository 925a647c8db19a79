import { type CertificateMap, certificateFits } from '../../auth/certificates.ts'
import { passwordMessageBytesMax, readPassword, readSaslInitialResponse } from '../../auth/client-messages.ts'
import { findHbaRule, type HbaConnection, type HbaRule, hbaRefusal } from '../../auth/hba.ts'
import { md5SaltBytes } from '../../auth/md5.ts'
import { ScramServer, type ServerChannelBinding, scramMechanisms } from '../../auth/scram-server.ts'
import {
  md5Fits,
  methodFor,
  type PasswordMethod,
  passwordFits,
  type Secret,
  type ServerCredentials,
  serverCredentials,
} from '../../auth/secrets.ts'
import { type ThrottleState, throttleStep } from '../../auth/throttle.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { Authentication, Client as Code, Server } from '../../wire/codes.ts'
import { frame } from '../../wire/messages.ts'
import { MessageReader } from '../../wire/reader.ts'
import type { ErrorDetails } from '../client/failures.ts'
import type { ClientSecurity } from './client-tls.ts'
import type { LoginRefusal } from './login-refusals.ts'
import { isLoopback, type ServerAccount, type ServerAccounts } from './server-account.ts'
import type { UserSecrets } from './user-secrets.ts'

/** What logins at the proxy are checked with; replaced as a whole at a reload. */
export interface LoginRules {
  rules: readonly HbaRule[]
  maps: ReadonlyMap<string, CertificateMap>
  secrets: UserSecrets
  accounts: ServerAccounts
  throttle: ThrottleState
  mockSecret: Buffer
}

export interface ClientLoginOptions {
  rules: LoginRules
  /** Who wants to come in: names as text. */
  connection: HbaConnection
  /** Address and port, for the log. */
  client: string
  security: ClientSecurity | undefined
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
  send: (message: Buffer) => void
  onAccepted: (accepted: Accepted) => void
  onRefused: (reason: LoginRefusal, message: string, details: ErrorDetails) => void
}

/** The client may come in. */
export interface Accepted {
  /** What to log in to servers with. */
  account: ServerAccount
  /** The last message of the exchange: to be sent with AuthenticationOk, since one write costs less than two. */
  last: Buffer | undefined
  /** What came behind the login. */
  rest: Buffer
}

/** What a client may send ahead of the questions. */
const aheadBytesMax = 64 * 1024

/** A message is the answer that was waited for; what it says leads to the next step. */
type Step = (body: Buffer) => void | Promise<void>

/**
 * The login of one client at the proxy: the first access rule that fits says how the client has to prove who it
 * is. Ends in `onAccepted` or `onRefused`, unless it is closed before.
 */
export class ClientLogin {
  readonly #options: ClientLoginOptions
  readonly #reader = new MessageReader(passwordMessageBytesMax)
  #ahead: Buffer = empty
  /** What the next message of the client is for; undefined while none is waited for. */
  #next: Step | undefined
  #over = false
  #delay: Timer | undefined

  constructor(options: ClientLoginOptions) {
    this.#options = options
  }

  /** Begins, after the time that failures from this address have brought upon it. */
  start(): void {
    this.#after(this.#throttle('begun'), () => this.#run(() => this.#begin()))
  }

  /** Takes what the client sends. */
  push(chunk: Buffer): void {
    this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk])
    if (this.#ahead.length > aheadBytesMax) return this.#malformed('more was sent ahead than a login needs')
    this.#read()
  }

  /** The client is gone. */
  close(): void {
    this.#over = true
    this.#delay?.cancel()
  }

  #read(): void {
    const next = this.#next
    if (!next || this.#over || this.#ahead.length === 0) return
    const piece = this.#ahead
    this.#ahead = empty
    this.#ahead = this.#reader.push(piece, (code, body) => {
      this.#next = undefined
      if (code !== Code.Password)
        this.#malformed(`a message '${String.fromCharCode(code)}' came instead of the answer`)
      else this.#run(() => next(Buffer.from(body)))
      return false
    })
    if (this.#reader.problem !== undefined) this.#malformed(this.#reader.problem)
  }

  /** A step may go on later; whatever it stumbles over ends this login alone. */
  #run(step: () => void | Promise<void>): void {
    Promise.resolve()
      .then(step)
      .catch((cause: unknown) => {
        this.#options.log.error({ event: 'login.failed', err: cause }, 'a login could not be checked')
        this.#refuse('lookup_failed', 'the login cannot be checked now', { sqlstate: '57P03' })
      })
  }

  /** Asks the client, whose next message goes to `next`. */
  #ask(type: number, data: Uint8Array, next: Step): void {
    if (this.#over) return
    this.#options.send(authentication(type, data))
    this.#next = next
    this.#read()
  }

  #begin(): void | Promise<void> {
    const { connection, rules } = this.#options
    const rule = findHbaRule(rules.rules, connection)
    if (!rule) return this.#refuse('no_rule', hbaRefusal(rule, connection))
    switch (rule.method) {
      case 'reject':
        return this.#refuse('rejected', hbaRefusal(rule, connection))
      case 'trust':
        return this.#accept(serverCredentials(rules.secrets.inFile(connection.user)))
      case 'cert':
        return this.#checkCertificate(rule)
      case 'password':
        return this.#askPassword()
      default:
        return this.#askProof(rule.method)
    }
  }

  #checkCertificate(rule: HbaRule): void {
    const { connection, rules, security } = this.#options
    const { user } = connection
    const name = security?.certificateName
    const map = rule.map === undefined ? undefined : rules.maps.get(rule.map)
    const isMissing = rule.map !== undefined && !map
    if (name !== undefined && !isMissing && certificateFits(name, user, map)) {
      return this.#accept(serverCredentials(rules.secrets.inFile(user)))
    }
    const shown = name === undefined ? 'no valid certificate was shown' : `the certificate is of "${name}"`
    const why = isMissing ? `there is no map "${rule.map}"` : shown
    this.#refuse('certificate', `certificate authentication failed for user "${user}": ${why}`)
  }

  #askPassword(): void {
    const { connection, rules, security } = this.#options
    const { address, database, user } = connection
    if (!security && address !== undefined && !isLoopback(address)) {
      const message = 'a password is not taken in clear without TLS'
      return this.#refuse('unencrypted', message, { hint: 'Connect with TLS (sslmode=require).' })
    }
    this.#ask(Authentication.CleartextPassword, empty, async body => {
      const password = readPassword(body)
      if (!password || password.length === 0) return this.#malformed('the password is empty or broken')
      const secret = await rules.secrets.find(user, database)
      const fits = await passwordFits(user, secret ?? rules.secrets.mock(user), password)
      if (!secret || !fits) return this.#wrongPassword()
      // The servers' own secret may be another form of the same password.
      this.#accept({ ...serverCredentials(secret), password })
    })
  }

  /** By md5 or SCRAM, as the rule and the stored secret have it. */
  async #askProof(ruled: PasswordMethod): Promise<void> {
    const { connection, random, rules } = this.#options
    const { database, user } = connection
    const secret = await rules.secrets.find(user, database)
    if (methodFor(ruled, secret, rules.secrets.usual) === 'scram-sha-256') return await this.#askScram(secret)
    const salt = random.bytes(md5SaltBytes)
    this.#ask(Authentication.MD5Password, salt, body => {
      const answer = readPassword(body)
      if (!answer) return this.#malformed('the answer to the md5 challenge is broken')
      if (!secret || !md5Fits(user, secret, salt, answer)) return this.#wrongPassword()
      this.#accept(serverCredentials(secret))
    })
  }

  async #askScram(secret: Secret | undefined): Promise<void> {
    const { connection, random, rules, security } = this.#options
    const { user } = connection
    const verifier = await rules.secrets.verifier(user, secret)
    const channelBinding: ServerChannelBinding = security?.binding
      ? { kind: 'offered', data: security.binding }
      : { kind: 'none' }
    const offered = scramMechanisms(channelBinding)
      .map(name => `${name}\0`)
      .join('')
    this.#ask(Authentication.SASL, Buffer.from(`${offered}\0`), body => {
      const first = readSaslInitialResponse(body)
      if (!first) return this.#malformed('the first answer of SCRAM is broken')
      const { mockSecret } = rules
      const { mechanism } = first
      const scram = new ScramServer({ user, verifier, mockSecret, mechanism, channelBinding, random })
      this.#continueScram(scram, first.data, secret)
    })
  }

  #continueScram(scram: ScramServer, data: Buffer | undefined, secret: Secret | undefined): void {
    const step = scram.receive(data)
    switch (step.kind) {
      case 'challenge':
        return this.#ask(Authentication.SASLContinue, step.body, body =>
          this.#continueScram(scram, body, secret),
        )
      case 'success':
        return this.#accept(
          serverCredentials(secret, step.keys),
          authentication(Authentication.SASLFinal, step.body),
        )
      default:
        if (step.code === 'wrong_password') return this.#wrongPassword()
        return this.#malformed(step.message)
    }
  }

  #accept(credentials: ServerCredentials, last?: Buffer): void {
    if (this.#over) return
    this.#over = true
    this.#throttle('succeeded')
    const { connection, onAccepted, rules } = this.#options
    const account = rules.accounts.renewed(connection.user, credentials)
    onAccepted({ account, last, rest: this.#ahead })
  }

  #wrongPassword(): void {
    const { user } = this.#options.connection
    this.#refuse('wrong_password', `password authentication failed for user "${user}"`, { sqlstate: '28P01' })
  }

  #malformed(what: string): void {
    this.#refuse('malformed', what, { sqlstate: '08P01' })
  }

  /** The client is told after a while when this address has failed before. */
  #refuse(reason: LoginRefusal, message: string, details: ErrorDetails = {}): void {
    if (this.#over) return
    this.#over = true
    const { client, connection, log, onRefused, rules } = this.#options
    const { database, user } = connection
    rules.secrets.forget(user)
    log.info({ event: 'login.refused', client, user, database, reason }, `login refused: ${message}`)
    const isGuess = reason === 'wrong_password' || reason === 'malformed'
    const delayMs = isGuess ? this.#throttle('failed') : 0
    this.#delay = this.#options.timers.after(delayMs, () => onRefused(reason, message, details))
  }

  #throttle(outcome: 'begun' | 'failed' | 'succeeded'): number {
    const { clock, connection, rules } = this.#options
    return throttleStep(rules.throttle, connection.address, outcome, clock.nowMs())
  }

  #after(delayMs: number, run: () => void): void {
    if (delayMs <= 0) run()
    else this.#delay = this.#options.timers.after(delayMs, run)
  }
}

const empty = Buffer.alloc(0)

function authentication(type: number, data: Uint8Array): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(type, 0)
  return frame(Server.Authentication, Buffer.concat([head, data]))
}
