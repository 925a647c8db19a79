import type { Random } from '../../runtime/random.ts'
import type { Client } from './client.ts'

/** What a client may send to have its request cancelled. */
export interface CancelKey {
  processId: number
  secret: Buffer
}

/** Who has a cancel key keeps it here, in the form that it is found by. */
export interface KeyOwner {
  cancelKey: string | undefined
}

/**
 * Which client a cancel key belongs to. A client is told the process id of its server, so that it equals
 * `pg_backend_pid()`, and a secret of its own: the server's own key stays here, and a key that outlives its
 * session can never reach the next one.
 */
export class CancelKeys<Owner extends KeyOwner = Client> {
  readonly #random: Random
  /** First byte of the secrets: which proxy of the fleet has made them. */
  prefix = 0
  readonly #clients = new Map<string, Owner>()

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
      this.#remember(client, text)
      return key
    }
  }

  /** The client keeps the key that another worker has made. */
  takeOver(client: Owner, { processId, secret }: CancelKey): void {
    this.#remember(client, keyOf(processId, secret))
  }

  #remember(client: Owner, key: string): void {
    client.cancelKey = key
    this.#clients.set(key, client)
  }

  /** The key of a client. */
  keyOf({ cancelKey }: Owner): { processId: number; secret: string } | undefined {
    if (cancelKey === undefined) return undefined
    return { processId: Number.parseInt(cancelKey.slice(0, 8), 16), secret: cancelKey.slice(8) }
  }

  /** A positive number that no process of today's systems has. */
  #ownProcessId(): number {
    return 0x40000000 + (this.#random.bytes(4).readUInt32BE(0) & 0x3fffffff)
  }

  forget(client: Owner): void {
    if (client.cancelKey === undefined) return
    this.#clients.delete(client.cancelKey)
    client.cancelKey = undefined
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

/** In hex, as one flat string: put together from others it would take three times the memory. */
function keyOf(processId: number, secret: Uint8Array): string {
  const key = Buffer.allocUnsafe(4 + secret.length)
  key.writeInt32BE(processId, 0)
  key.set(secret, 4)
  return key.toString('hex')
}
