import { sameText } from '../../auth/md5.ts'
import type { ScramKeys } from '../../auth/scram.ts'
import type { ServerCredentials } from '../../auth/secrets.ts'
import { ServerLogin } from '../../auth/server-login.ts'
import type { Random } from '../../runtime/random.ts'
import { readErrorFields } from '../../wire/messages.ts'
import { type CredentialsHandOver, packCredentials, unpackCredentials } from '../session/hand-over.ts'
import type { LinkSecurity } from './dial.ts'

export interface ServerAccountOptions {
  user: string
  random: Random
  /** A server did not let this user in with these credentials. `reason` holds nothing secret. */
  onRefused: (node: string, reason: string) => void
}

/**
 * What the proxy logs in to servers with for one user, shared by all clients of that user: what the newest login has
 * brought is right, also for those who came before the password was changed. The secrets in it are not to be seen
 * from outside.
 */
export class ServerAccount {
  readonly #options: ServerAccountOptions
  #credentials: ServerCredentials = {}
  /** Keys that a server's challenge has led to with the password: they save the hash at the next login. */
  #found: ScramKeys | undefined

  constructor(options: ServerAccountOptions) {
    this.#options = options
  }

  /** A client has logged in, and this is what that has brought; nothing changes when it has brought nothing. */
  renew(credentials: ServerCredentials): void {
    const { keys, md5, password } = credentials
    if (keys === undefined && md5 === undefined && password === undefined) return
    const before = this.#credentials.password
    const isSame = before !== undefined && password !== undefined && sameText(before, password)
    if (!isSame) this.#found = undefined
    this.#credentials = credentials
  }

  /** The proxy's part of the login on a new connection to `host`. */
  logIn(host: string, security: LinkSecurity | undefined): ServerLogin {
    const { user, random } = this.#options
    return new ServerLogin({
      user,
      credentials: { ...this.#credentials, keys: this.#found ?? this.#credentials.keys },
      tls: security,
      cleartextAllowed: isLoopback(host),
      random,
    })
  }

  /** What it has, for another worker. */
  handOver(): CredentialsHandOver {
    return packCredentials({ ...this.#credentials, keys: this.#found ?? this.#credentials.keys })
  }

  keep(keys: ScramKeys): void {
    this.#found = keys
  }

  /** Takes the body of the ErrorResponse that a login has ended with. */
  noteRefusal(node: string, body: Buffer): void {
    const fields = readErrorFields(body)
    // Class 28 is about who logs in; the rest (no such database, no such setting) is not.
    if (fields.get('C')?.startsWith('28')) this.#options.onRefused(node, fields.get('M') ?? 'no message')
  }
}

/** Most users whose accounts are kept for their next login; the one that has not logged in for longest is forgotten. */
const accountsMax = 10_000

/** The accounts of the users who have logged in here. */
export class ServerAccounts {
  readonly #random: Random
  readonly #onRefused: (user: string, node: string, reason: string) => void
  readonly #accounts = new Map<string, ServerAccount>()

  constructor(random: Random, onRefused: (user: string, node: string, reason: string) => void) {
    this.#random = random
    this.#onRefused = onRefused
  }

  /** The account of a user whose login was in another worker: what a login here has brought is newer. */
  takenOver(user: string, credentials: CredentialsHandOver): ServerAccount {
    return this.#accounts.get(user) ?? this.renewed(user, unpackCredentials(credentials))
  }

  /** The account of a user, with what a login has just brought. */
  renewed(user: string, credentials: ServerCredentials): ServerAccount {
    const onRefused = (node: string, reason: string): void => this.#onRefused(user, node, reason)
    const account = this.#accounts.get(user) ?? new ServerAccount({ user, random: this.#random, onRefused })
    account.renew(credentials)
    this.#accounts.delete(user)
    this.#accounts.set(user, account)
    if (this.#accounts.size > accountsMax) this.#accounts.delete(this.#accounts.keys().next().value!)
    return account
  }
}

/** Whether what is sent to this address stays on this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^(::ffff:)?127\./.test(host)
}
