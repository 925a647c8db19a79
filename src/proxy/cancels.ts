import type { Random } from '../runtime/random.ts'
import type { Client } from './client.ts'

/** What a client may send to have its request cancelled. */
export interface CancelKey {
  processId: number
  secret: Buffer
}

/**
 * Which client a cancel key belongs to. A client is told the process id of its server, so that it equals
 * `pg_backend_pid()`, and a secret of its own: the server's own key stays here, and a key that outlives its
 * session can never reach the next one.
 */
export class CancelKeys<Owner extends object = Client> {
  readonly #random: Random
  /** First byte of the secrets: which proxy of the fleet has made them. */
  prefix = 0
  readonly #clients = new Map<string, Owner>()
  readonly #keys = new Map<Owner, string>()

  constructor(random: Random) {
    this.#random = random
  }

  /**
   * Makes the key for a session that begins. `processId`: that of its server, which it keeps; undefined for one that
   * goes from server to server, and gets a number of its own. Protocol 3.0 has secrets of four bytes, later ones
   * may be longer.
   */
  register(client: Owner, processId: number | undefined, secretBytes = 4): CancelKey {
    for (;;) {
      const secret = this.#random.bytes(secretBytes)
      secret[0] = this.prefix
      const key = { processId: processId ?? this.#ownProcessId(), secret }
      const text = keyOf(key.processId, secret)
      if (this.#clients.has(text)) continue
      this.#clients.set(text, client)
      this.#keys.set(client, text)
      return key
    }
  }

  /** The client keeps the key that another worker has made. */
  takeOver(client: Owner, { processId, secret }: CancelKey): void {
    const text = keyOf(processId, secret)
    this.#clients.set(text, client)
    this.#keys.set(client, text)
  }

  /** The key of a client. */
  keyOf(client: Owner): { processId: number; secret: string } | undefined {
    const [processId, secret] = this.#keys.get(client)?.split('/') ?? []
    return secret === undefined ? undefined : { processId: Number(processId), secret }
  }

  /** A positive number that no process of today's systems has. */
  #ownProcessId(): number {
    return 0x40000000 + (this.#random.bytes(4).readUInt32BE(0) & 0x3fffffff)
  }

  forget(client: Owner): void {
    const key = this.#keys.get(client)
    if (key === undefined) return
    this.#keys.delete(client)
    this.#clients.delete(key)
  }

  find(processId: number, secret: Uint8Array): Owner | undefined {
    return this.#clients.get(keyOf(processId, secret))
  }
}

/** Behind the secret of a request that came to another proxy before: it goes no further. */
const passedOn = Buffer.from('passed on')

export function markPassedOn(secret: Uint8Array): Buffer {
  return Buffer.concat([secret, passedOn])
}

/** The secret of a cancel request, and whether another proxy has passed it on. */
export function readSecret(sent: Buffer): { secret: Buffer; isPassedOn: boolean } {
  const at = sent.length - passedOn.length
  const isPassedOn = at > 0 && sent.subarray(at).equals(passedOn)
  return { secret: isPassedOn ? sent.subarray(0, at) : sent, isPassedOn }
}

function keyOf(processId: number, secret: Uint8Array): string {
  return `${processId}/${Buffer.from(secret).toString('hex')}`
}
