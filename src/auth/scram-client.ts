import { timingSafeEqual } from 'node:crypto'
import type { Random } from '../runtime/random.ts'
import {
  channelBindingType,
  deriveKeys,
  hmac,
  type ScramKeys,
  scramIterationsDefault,
  scramIterationsMax,
  scramSha256,
  scramSha256Plus,
  sha256,
  xor,
} from './scram.ts'
import { readServerFinal, readServerFirst, type ScramFailure, scramFailure } from './scram-messages.ts'

/**
 * `none`: this side cannot bind the channel (no TLS). `unused`: it could, but the server did not offer it; the server
 * refuses if it had. `bound`: to the hash of the certificate that the server showed.
 */
export type ClientChannelBinding = { kind: 'none' } | { kind: 'unused' } | { kind: 'bound'; data: Buffer }

export interface ScramClientOptions {
  password: string | Uint8Array | undefined
  /** Keys of an earlier login or of the client's own; they save the work of the hash, and the password. */
  keys: ScramKeys | undefined
  channelBinding: ClientChannelBinding
  random: Random
}

export type ScramClientStep =
  /** Body of SASLResponse. */
  | { kind: 'response'; body: Buffer }
  /** The server has proven that it knows the verifier; AuthenticationOk may follow. */
  | { kind: 'verified'; keys: ScramKeys }
  | ScramFailure

const nonceBytes = 18

/** One SCRAM exchange in the client's role. After a failure it takes nothing more. */
export class ScramClient {
  readonly mechanism: string
  readonly #options: ScramClientOptions
  readonly #nonce: string
  readonly #header: string
  #state: 'start' | 'first' | 'deriving' | 'final' | 'over' = 'start'
  #keys: ScramKeys | undefined
  /** All that the server has to sign. */
  #signed = Buffer.alloc(0)

  constructor(options: ScramClientOptions) {
    this.#options = options
    this.#nonce = options.random.bytes(nonceBytes).toString('base64')
    const { kind } = options.channelBinding
    this.mechanism = kind === 'bound' ? scramSha256Plus : scramSha256
    this.#header = kind === 'bound' ? `p=${channelBindingType},,` : kind === 'unused' ? 'y,,' : 'n,,'
  }

  /** client-first-message, the data of SASLInitialResponse. The user's name stays empty, as libpq leaves it. */
  start(): Buffer {
    this.#state = 'first'
    return Buffer.from(this.#header + this.#bare(), 'latin1')
  }

  /** Takes the data of AuthenticationSASLContinue, then of AuthenticationSASLFinal. Never rejects. */
  async receive(message: Buffer): Promise<ScramClientStep> {
    const state = this.#state
    this.#state = state === 'first' ? 'deriving' : 'over'
    if (state === 'first') return await this.#first(message)
    if (state === 'final') return this.#final(message)
    return scramFailure('out_of_order', 'the server sent a SCRAM message when none was due')
  }

  #bare(): string {
    return `n=,r=${this.#nonce}`
  }

  async #first(message: Buffer): Promise<ScramClientStep> {
    const read = readServerFirst(message)
    if (!read.ok) return read.failure
    const { nonce, salt, iterations } = read.value
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      return scramFailure('nonce', 'the nonce of the server does not continue the one it was sent')
    }
    const keys = await this.#keysFor(salt, iterations)
    if ('kind' in keys) return keys
    if (this.#state !== 'deriving') {
      return scramFailure('out_of_order', 'the server did not wait for the answer to its SCRAM challenge')
    }
    const withoutProof = `c=${this.#binding().toString('base64')},r=${nonce}`
    this.#keys = keys
    this.#signed = Buffer.concat([
      Buffer.from(`${this.#bare()},`, 'latin1'),
      message,
      Buffer.from(`,${withoutProof}`, 'latin1'),
    ])
    const proof = xor(keys.clientKey, hmac(sha256(keys.clientKey), this.#signed))
    this.#state = 'final'
    return { kind: 'response', body: Buffer.from(`${withoutProof},p=${proof.toString('base64')}`, 'latin1') }
  }

  #binding(): Buffer {
    const header = Buffer.from(this.#header, 'latin1')
    const { channelBinding } = this.#options
    return channelBinding.kind === 'bound' ? Buffer.concat([header, channelBinding.data]) : header
  }

  async #keysFor(salt: Buffer, iterations: number): Promise<ScramKeys | ScramFailure> {
    const { keys, password } = this.#options
    if (keys && keys.iterations === iterations && keys.salt.equals(salt)) return keys
    if (password === undefined) {
      return scramFailure(
        'keys_do_not_fit',
        "the server's salt or iteration count for this user is not that of the secret pgherd has: store the same one",
      )
    }
    if (iterations < scramIterationsDefault || iterations > scramIterationsMax) {
      return scramFailure(
        'iterations',
        `the server wants ${iterations} SCRAM iterations: ` +
          `pgherd does from ${scramIterationsDefault} to ${scramIterationsMax}`,
      )
    }
    return await deriveKeys(password, salt, iterations)
  }

  #final(message: Buffer): ScramClientStep {
    const read = readServerFinal(message)
    if (!read.ok) return read.failure
    if ('error' in read.value) {
      return scramFailure('server_refused', `the server refused the SCRAM login: ${read.value.error}`)
    }
    const keys = this.#keys!
    if (!timingSafeEqual(read.value.signature, hmac(keys.serverKey, this.#signed))) {
      return scramFailure('server_unproven', 'the server does not know the stored secret of this user')
    }
    return { kind: 'verified', keys }
  }
}
