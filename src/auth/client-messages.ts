/**
 * Bodies of what a client sends when it logs in (one letter, 'p', serves them all): PasswordMessage,
 * SASLInitialResponse. Source: PostgreSQL's documentation, "Message Formats". The body of SASLResponse is its data.
 */

/** PostgreSQL's own limit of such a message (PG_MAX_AUTH_TOKEN_LENGTH). */
export const passwordMessageBytesMax = 65_535
const mechanismBytesMax = 64

/** The password's bytes; undefined when the body is not one string that ends in its only zero byte. */
export function readPassword(body: Buffer): Buffer | undefined {
  const end = body.indexOf(0)
  if (end < 0 || end !== body.length - 1 || body.length > passwordMessageBytesMax) return undefined
  return body.subarray(0, end)
}

export function writePassword(password: string | Uint8Array): Buffer {
  return Buffer.concat([typeof password === 'string' ? Buffer.from(password) : password, Buffer.from([0])])
}

export interface SaslInitialResponse {
  mechanism: string
  /** Undefined when the client left the response out, which is not the same as an empty one. */
  data: Buffer | undefined
}

/** Undefined when the lengths contradict each other. */
export function readSaslInitialResponse(body: Buffer): SaslInitialResponse | undefined {
  const end = body.indexOf(0)
  if (end < 0 || end > mechanismBytesMax || body.length < end + 5 || body.length > passwordMessageBytesMax) {
    return undefined
  }
  const mechanism = body.toString('latin1', 0, end)
  const length = body.readInt32BE(end + 1)
  const data = body.subarray(end + 5)
  if (length === -1) return data.length === 0 ? { mechanism, data: undefined } : undefined
  return length === data.length ? { mechanism, data } : undefined
}

export function writeSaslInitialResponse(mechanism: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32BE(data.length, 0)
  return Buffer.concat([Buffer.from(`${mechanism}\0`, 'latin1'), length, data])
}
