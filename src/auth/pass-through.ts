import { readSaslInitialResponse } from './client-messages.ts'
import { scramSha256, scramSha256Plus } from './scram.ts'

/**
 * A server's challenge that is passed on to a client over another connection. What binds a login to the connection
 * it is made on (SCRAM's channel binding) cannot pass: the two sides see different certificates.
 */

const saslType = 10

/**
 * The body of an Authentication message without the offer to bind the channel: a client without TLS refuses one, and
 * a client with TLS would bind its login to this proxy's certificate.
 */
export function withoutChannelBinding(body: Buffer): Buffer {
  if (body.length < 4 || body.readUInt32BE(0) !== saslType) return body
  const names = body.toString('latin1', 4).split('\0')
  if (!names.includes(scramSha256Plus) || !names.includes(scramSha256)) return body
  const kept = names.filter(name => name !== scramSha256Plus)
  return Buffer.concat([body.subarray(0, 4), Buffer.from(kept.join('\0'), 'latin1')])
}

/**
 * Whether the body of a client's first answer says that it would have bound the channel: a server that has offered
 * it refuses such a login, since somebody must have taken the offer out.
 */
export function missesChannelBinding(body: Buffer): boolean {
  return readSaslInitialResponse(body)?.data?.[0] === 0x79 // 'y'
}
