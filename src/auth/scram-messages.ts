import { decodeBase64, scramKeyBytes } from './scram.ts'

/** The messages of a SCRAM exchange (RFC 5802, section 7), read strictly and with bounds. */

export type ScramFailureCode =
  /** A message breaks the grammar, holds what is not allowed or is over its limit. */
  | 'malformed'
  /** It is valid, but asks for what is not implemented: an authorization identity, a mandatory extension. */
  | 'unsupported'
  /** Channel binding was left out where both sides can do it, or binds another channel: a man in the middle. */
  | 'channel_binding'
  /** The nonce is not the one of this exchange. */
  | 'nonce'
  /** The client does not know the password, or the user is not known. */
  | 'wrong_password'
  /** The server does not know the password's verifier, although it wanted to see a proof. */
  | 'server_unproven'
  /** The server refused; for a wrong password it says so by an ErrorResponse as a rule. */
  | 'server_refused'
  /** The server wants more or fewer rounds of the hash than is acceptable. */
  | 'iterations'
  /** The keys are for another salt or iteration count than the server's, and there is no password. */
  | 'keys_do_not_fit'
  /** A message came when none was due. */
  | 'out_of_order'

export interface ScramFailure {
  kind: 'failed'
  code: ScramFailureCode
  /** A sentence for a log. It holds nothing secret and nothing unprintable. */
  message: string
}

export function scramFailure(code: ScramFailureCode, message: string): ScramFailure {
  return { kind: 'failed', code, message }
}

/** PostgreSQL's own limit of what a client sends (PG_MAX_SASL_MESSAGE_LENGTH). */
export const clientMessageBytesMax = 1024
/** A server may have a longer salt and nonce, but not without end. */
export const serverMessageBytesMax = 4096

interface ClientFirst {
  /** The GS2 header with its last comma, which the client repeats in its final message. */
  header: string
  binding: { flag: 'n' | 'y' } | { flag: 'p'; type: string }
  bare: string
  nonce: string
}

interface ClientFinal {
  withoutProof: string
  /** What the client says that the header and the channel are. */
  channelBinding: Buffer
  nonce: string
  proof: Buffer
}

interface ServerFirst {
  nonce: string
  salt: Buffer
  iterations: number
}

type Read<T> = { ok: true; value: T } | { ok: false; failure: ScramFailure }

const malformed = (what: string): { ok: false; failure: ScramFailure } => ({
  ok: false,
  failure: scramFailure('malformed', `malformed SCRAM message: ${what}`),
})
const unsupported = (what: string): { ok: false; failure: ScramFailure } => ({
  ok: false,
  failure: scramFailure('unsupported', `the SCRAM message asks for ${what}, which is not supported`),
})

const header = /^(?:([ny])|p=([A-Za-z0-9.-]{1,64})),(a=[^,]*)?,/
const printable = /^[\x21-\x2b\x2d-\x7e]{1,512}$/

export function readClientFirst(message: Buffer): Read<ClientFirst> {
  const text = readText(message, clientMessageBytesMax)
  if (text === undefined) return malformed('client-first-message is empty, too long or holds a zero byte')
  const match = header.exec(text)
  if (!match) return malformed('client-first-message has no valid GS2 header')
  if (match[3] !== undefined) return unsupported('an authorization identity')
  const bare = text.slice(match[0].length)
  const attributes = readAttributes(bare)
  if (!attributes) return malformed('client-first-message is not a list of attributes')
  const [first, second] = attributes
  if (first?.name === 'm') return unsupported('a mandatory extension')
  // The name in `n` is ignored: the user is the one of the startup message.
  if (first?.name !== 'n' || second?.name !== 'r') return malformed('client-first-message lacks n or r')
  if (!printable.test(second.value)) return malformed('the nonce is empty, too long or unprintable')
  const binding =
    match[2] === undefined ? { flag: match[1] as 'n' | 'y' } : { flag: 'p' as const, type: match[2] }
  return { ok: true, value: { header: match[0], binding, bare, nonce: second.value } }
}

export function readClientFinal(message: Buffer): Read<ClientFinal> {
  const text = readText(message, clientMessageBytesMax)
  if (text === undefined) return malformed('client-final-message is empty, too long or holds a zero byte')
  const attributes = readAttributes(text)
  if (!attributes) return malformed('client-final-message is not a list of attributes')
  const [first, second] = attributes
  if (first?.name !== 'c' || second?.name !== 'r') return malformed('client-final-message lacks c or r')
  const proofAt = attributes.findIndex(attribute => attribute.name === 'p')
  if (proofAt < 0 || proofAt !== attributes.length - 1)
    return malformed('the proof is not the last attribute')
  const channelBinding = decodeBase64(first.value)
  if (!channelBinding) return malformed('the channel binding is not base64')
  const proof = decodeBase64(attributes[proofAt]!.value)
  if (proof?.length !== scramKeyBytes) return malformed('the proof is not 32 bytes in base64')
  const withoutProof = text.slice(0, text.lastIndexOf(',p='))
  return { ok: true, value: { withoutProof, channelBinding, nonce: second.value, proof } }
}

export function readServerFirst(message: Buffer): Read<ServerFirst> {
  const text = readText(message, serverMessageBytesMax)
  if (text === undefined) return malformed('server-first-message is empty, too long or holds a zero byte')
  const attributes = readAttributes(text)
  if (!attributes) return malformed('server-first-message is not a list of attributes')
  const [first, second, third] = attributes
  if (first?.name === 'm') return unsupported('a mandatory extension')
  if (first?.name !== 'r' || second?.name !== 's' || third?.name !== 'i') {
    return malformed('server-first-message lacks r, s or i')
  }
  if (!printable.test(first.value)) return malformed('the nonce is empty, too long or unprintable')
  const salt = decodeBase64(second.value)
  if (!salt) return malformed('the salt is not base64')
  if (!/^[1-9]\d{0,9}$/.test(third.value)) return malformed('the iteration count is not a number')
  return { ok: true, value: { nonce: first.value, salt, iterations: Number(third.value) } }
}

/** The server's signature, or the reason for which it refuses. */
export function readServerFinal(message: Buffer): Read<{ signature: Buffer } | { error: string }> {
  const text = readText(message, serverMessageBytesMax)
  const [first] = (text === undefined ? undefined : readAttributes(text)) ?? []
  if (first?.name === 'e') {
    return { ok: true, value: { error: /^[a-z-]{1,64}$/.test(first.value) ? first.value : 'unknown error' } }
  }
  const signature = first?.name === 'v' ? decodeBase64(first.value) : undefined
  if (signature?.length !== scramKeyBytes) return malformed('server-final-message has no signature')
  return { ok: true, value: { signature } }
}

/** One character a byte, so that what is signed are the bytes that came. */
function readText(message: Buffer, bytesMax: number): string | undefined {
  if (message.length === 0 || message.length > bytesMax || message.includes(0)) return undefined
  return message.toString('latin1')
}

function readAttributes(text: string): { name: string; value: string }[] | undefined {
  const parts = text.split(',')
  if (!parts.every(part => /^[A-Za-z]=/.test(part))) return undefined
  return parts.map(part => ({ name: part[0]!, value: part.slice(2) }))
}
