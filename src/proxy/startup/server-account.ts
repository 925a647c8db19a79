import type { ScramKeys } from '../../auth/scram.ts'
import type { ServerCredentials } from '../../auth/secrets.ts'
import { ServerLogin } from '../../auth/server-login.ts'
import type { Random } from '../../runtime/random.ts'
import { readErrorFields } from '../../wire/messages.ts'
import type { LinkSecurity } from './dial.ts'

export interface ServerAccountOptions {
  user: string
  credentials: ServerCredentials
  random: Random
  /** Keys that a server's challenge has led to: with them later logins of this user cost no hashing. */
  onKeys?: (keys: ScramKeys) => void
  /** A server did not let this user in with these credentials. `reason` holds nothing secret. */
  onRefused: (node: string, reason: string) => void
}

/** What the proxy logs in to servers with for one user. The secrets in it are not to be seen from outside. */
export class ServerAccount {
  readonly #options: ServerAccountOptions
  #credentials: ServerCredentials

  constructor(options: ServerAccountOptions) {
    this.#options = options
    this.#credentials = options.credentials
  }

  /** The proxy's part of the login on a new connection to `host`. */
  logIn(host: string, security: LinkSecurity | undefined): ServerLogin {
    const { user, random } = this.#options
    return new ServerLogin({
      user,
      credentials: this.#credentials,
      tls: security,
      cleartextAllowed: isLoopback(host),
      random,
    })
  }

  keep(keys: ScramKeys): void {
    this.#credentials = { ...this.#credentials, keys }
    this.#options.onKeys?.(keys)
  }

  /** Takes the body of the ErrorResponse that a login has ended with. */
  noteRefusal(node: string, body: Buffer): void {
    const fields = readErrorFields(body)
    // Class 28 is about who logs in; the rest (no such database, no such setting) is not.
    if (fields.get('C')?.startsWith('28')) this.#options.onRefused(node, fields.get('M') ?? 'no message')
  }
}

/** Whether what is sent to this address stays on this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^(::ffff:)?127\./.test(host)
}
