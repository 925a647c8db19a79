import type { Random } from '../runtime/random.ts'
import type { Client } from './client.ts'

/**
 * Which client a cancel key belongs to. A client is told the process id of its server, so that it equals
 * `pg_backend_pid()`, and a secret of its own: the server's own key stays here, and a key that outlives its
 * session can never reach the next one.
 */
export class CancelKeys {
  readonly #random: Random
  readonly #clients = new Map<string, Client>()
  readonly #keys = new Map<Client, string>()

  constructor(random: Random) {
    this.#random = random
  }

  /** Makes the secret for a session that begins. Four bytes: protocol 3.0 has no more. */
  register(client: Client, processId: number): Buffer {
    for (;;) {
      const secret = this.#random.bytes(4)
      const key = keyOf(processId, secret)
      if (this.#clients.has(key)) continue
      this.#clients.set(key, client)
      this.#keys.set(client, key)
      return secret
    }
  }

  forget(client: Client): void {
    const key = this.#keys.get(client)
    if (key === undefined) return
    this.#keys.delete(client)
    this.#clients.delete(key)
  }

  find(processId: number, secret: Uint8Array): Client | undefined {
    return this.#clients.get(keyOf(processId, secret))
  }
}

function keyOf(processId: number, secret: Uint8Array): string {
  return `${processId}/${Buffer.from(secret).toString('hex')}`
}
