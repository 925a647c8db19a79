import { timingSafeEqual } from 'node:crypto'
import type { Random } from '../runtime/random.ts'
import {
  channelBindingType,
  hmac,
  mockVerifier,
  type ScramKeys,
  type ScramVerifier,
  scramSha256,
  scramSha256Plus,
  sha256,
  xor,
} from './scram.ts'
import { readClientFinal, readClientFirst, type ScramFailure, scramFailure } from './scram-messages.ts'

/** What the channel is bound to: nothing without TLS, else the hash of the certificate that the client was shown. */
export type ServerChannelBinding = { kind: 'none' } | { kind: 'offered'; data: Buffer }

export interface ScramServerOptions {
  /** Of the startup message. The name within SCRAM is ignored, as PostgreSQL does. */
  user: string
  /** Undefined for a user who is unknown or has no usable secret: the exchange then runs to its end and fails. */
  verifier: ScramVerifier | undefined
  /** Makes up the salt of such users; the same in every process that answers for one address. */
  mockSecret: Uint8Array
  /** As the client named it in SASLInitialResponse. */
  mechanism: string
  channelBinding: ServerChannelBinding
  random: Random
}

export type ScramServerStep =
  /** Body of AuthenticationSASLContinue. */
  | { kind: 'challenge'; body: Buffer }
  /** Body of AuthenticationSASLFinal, to be followed by AuthenticationOk. The keys open the same user's servers. */
  | { kind: 'success'; body: Buffer; keys: ScramKeys }
  | ScramFailure

/** The mechanisms to offer in AuthenticationSASL, the better one first. */
export function scramMechanisms(binding: ServerChannelBinding): string[] {
  return binding.kind === 'offered' ? [scramSha256Plus, scramSha256] : [scramSha256]
}

const nonceBytes = 18

/** One SCRAM exchange in the server's role. After a failure it takes nothing more. */
export class ScramServer {
  readonly #verifier: ScramVerifier
  readonly #doomed: boolean
  readonly #options: ScramServerOptions
  #state: 'first' | 'final' | 'over' = 'first'
  #nonce = ''
  #header = ''
  /** client-first-message-bare and server-first-message, as they are signed. */
  #signedSoFar = ''

  constructor(options: ScramServerOptions) {
    this.#options = options
    // Made for known users too, so that both take the same time.
    const mock = mockVerifier(options.mockSecret, options.user)
    this.#verifier = options.verifier ?? mock
    this.#doomed = options.verifier === undefined
  }

  /**
   * Takes the client's next message: the data of SASLInitialResponse (undefined when it had none), then the body of
   * each SASLResponse.
   */
  receive(message: Buffer | undefined): ScramServerStep {
    const state = this.#state
    this.#state = 'over'
    if (state === 'over')
      return scramFailure('out_of_order', 'a SCRAM message came after the exchange was over')
    if (state === 'final') return this.#final(message ?? Buffer.alloc(0))
    if (!scramMechanisms(this.#options.channelBinding).includes(this.#options.mechanism)) {
      return scramFailure('malformed', 'the client selected a SASL mechanism that was not offered')
    }
    if (message === undefined) {
      this.#state = 'first'
      return { kind: 'challenge', body: Buffer.alloc(0) }
    }
    return this.#first(message)
  }

  #first(message: Buffer): ScramServerStep {
    const read = readClientFirst(message)
    if (!read.ok) return read.failure
    const { header, binding, bare, nonce } = read.value
    const refused = this.#refuseBinding(binding)
    if (refused) return refused
    this.#header = header
    this.#nonce = nonce + this.#options.random.bytes(nonceBytes).toString('base64')
    const { salt, iterations } = this.#verifier
    const challenge = `r=${this.#nonce},s=${salt.toString('base64')},i=${iterations}`
    this.#signedSoFar = `${bare},${challenge}`
    this.#state = 'final'
    return { kind: 'challenge', body: Buffer.from(challenge, 'latin1') }
  }

  #refuseBinding(binding: { flag: 'n' | 'y' } | { flag: 'p'; type: string }): ScramFailure | undefined {
    const plus = this.#options.mechanism === scramSha256Plus
    if (binding.flag === 'p') {
      if (!plus) {
        return scramFailure(
          'channel_binding',
          'the client binds the channel but selected SCRAM-SHA-256 without it',
        )
      }
      if (binding.type === channelBindingType) return undefined
      return scramFailure(
        'unsupported',
        `the client wants a channel binding other than ${channelBindingType}`,
      )
    }
    if (plus) {
      return scramFailure(
        'channel_binding',
        'the client selected SCRAM-SHA-256-PLUS but does not bind the channel',
      )
    }
    if (binding.flag === 'y' && this.#options.channelBinding.kind === 'offered') {
      // What the client says was hidden from it, this server had offered: somebody in between took it out.
      return scramFailure(
        'channel_binding',
        'the client can bind the channel but was not shown that pgherd can too',
      )
    }
    return undefined
  }

  #final(message: Buffer): ScramServerStep {
    const read = readClientFinal(message)
    if (!read.ok) return read.failure
    const { withoutProof, channelBinding, nonce, proof } = read.value
    if (!channelBinding.equals(this.#expectedBinding())) {
      return scramFailure('channel_binding', "the client's channel binding is not of this connection")
    }
    if (nonce !== this.#nonce)
      return scramFailure('nonce', 'the nonce of the client is not the one of this exchange')
    const { storedKey, serverKey, salt, iterations } = this.#verifier
    const signed = Buffer.from(`${this.#signedSoFar},${withoutProof}`, 'latin1')
    const clientKey = xor(proof, hmac(storedKey, signed))
    const proven = timingSafeEqual(sha256(clientKey), storedKey)
    const signature = hmac(serverKey, signed)
    // Nobody knows a key whose hash is all zeros, but a made-up user shall not depend on that.
    if (!proven || this.#doomed) {
      return scramFailure('wrong_password', 'the proof of the client does not fit the stored secret')
    }
    const body = Buffer.from(`v=${signature.toString('base64')}`, 'latin1')
    return { kind: 'success', body, keys: { iterations, salt, clientKey, serverKey } }
  }

  #expectedBinding(): Buffer {
    const header = Buffer.from(this.#header, 'latin1')
    const { mechanism, channelBinding } = this.#options
    if (mechanism !== scramSha256Plus || channelBinding.kind === 'none') return header
    return Buffer.concat([header, channelBinding.data])
  }
}
