import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { saslPrep } from './saslprep.ts'

/**
 * SCRAM-SHA-256: keys, verifiers and what both roles share. Sources: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929
 * (tls-server-end-point) and PostgreSQL's documentation, "SASL Authentication".
 */

export const scramSha256 = 'SCRAM-SHA-256'
export const scramSha256Plus = 'SCRAM-SHA-256-PLUS'
/** The only type of channel binding that PostgreSQL knows. */
export const channelBindingType = 'tls-server-end-point'

/** PostgreSQL's default, and the least that RFC 7677 allows. */
export const scramIterationsDefault = 4096
/** Beyond this a login would take the better part of a second of CPU time. */
export const scramIterationsMax = 1_000_000
export const scramKeyBytes = 32
const saltBytesDefault = 16
const saltBytesMax = 256

/** What a server keeps of a password. It lets nobody log in. */
export interface ScramVerifier {
  iterations: number
  salt: Buffer
  storedKey: Buffer
  serverKey: Buffer
}

/**
 * What a password becomes for one salt and iteration count. As good as the password itself for a server that
 * keeps the verifier with the same salt and count, hence a secret.
 */
export interface ScramKeys {
  iterations: number
  salt: Buffer
  clientKey: Buffer
  serverKey: Buffer
}

const pbkdf2Async = promisify(pbkdf2)

/** Derives the keys of a password, off the main thread. `iterations` is to be checked by the caller. */
export async function deriveKeys(
  password: string | Uint8Array,
  salt: Buffer,
  iterations: number,
): Promise<ScramKeys> {
  const salted = await pbkdf2Async(saslPrep(password), salt, iterations, scramKeyBytes, 'sha256')
  return { iterations, salt, clientKey: hmac(salted, 'Client Key'), serverKey: hmac(salted, 'Server Key') }
}

export function verifierOf({ iterations, salt, clientKey, serverKey }: ScramKeys): ScramVerifier {
  return { iterations, salt, storedKey: sha256(clientKey), serverKey }
}

/** The verifier of a password, for a server that was given the password itself. */
export async function makeVerifier(
  password: string | Uint8Array,
  salt: Buffer,
  iterations = scramIterationsDefault,
): Promise<ScramVerifier> {
  return verifierOf(await deriveKeys(password, salt, iterations))
}

/**
 * The verifier for a user who does not exist or cannot use SCRAM: its salt is the same at every attempt, as a real
 * user's is. `secret` must therefore be the same in every process that answers for one address.
 */
export function mockVerifier(secret: Uint8Array, user: string): ScramVerifier {
  const salt = hmac(secret, user).subarray(0, saltBytesDefault)
  const noKey = Buffer.alloc(scramKeyBytes)
  return { iterations: scramIterationsDefault, salt, storedKey: noKey, serverKey: noKey }
}

const verifierForm = /^SCRAM-SHA-256\$([1-9]\d{0,6}):([^$:]+)\$([^$:]+):([^$:]+)$/

/** Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; undefined when it is anything else. */
export function parseVerifier(text: string): ScramVerifier | undefined {
  const match = verifierForm.exec(text)
  if (!match) return undefined
  const [, count, saltText, storedText, serverText] = match
  const iterations = Number(count)
  const salt = decodeBase64(saltText!)
  const storedKey = decodeBase64(storedText!)
  const serverKey = decodeBase64(serverText!)
  if (iterations > scramIterationsMax || !salt || salt.length > saltBytesMax) return undefined
  if (storedKey?.length !== scramKeyBytes || serverKey?.length !== scramKeyBytes) return undefined
  return { iterations, salt, storedKey, serverKey }
}

/** The form in which PostgreSQL stores it. */
export function formatVerifier({ iterations, salt, storedKey, serverKey }: ScramVerifier): string {
  const [saltText, storedText, serverText] = [salt, storedKey, serverKey].map(part => part.toString('base64'))
  return `SCRAM-SHA-256$${iterations}:${saltText}$${storedText}:${serverText}`
}

/** Whether a password that came as such is the verifier's. */
export async function passwordFitsVerifier(
  verifier: ScramVerifier,
  password: string | Uint8Array,
): Promise<boolean> {
  const keys = await deriveKeys(password, verifier.salt, verifier.iterations)
  return timingSafeEqual(keys.serverKey, verifier.serverKey)
}

export function hmac(key: Uint8Array, ...parts: (string | Uint8Array)[]): Buffer {
  const mac = createHmac('sha256', key)
  for (const part of parts) mac.update(part)
  return mac.digest()
}

export function sha256(data: Uint8Array): Buffer {
  return createHash('sha256').update(data).digest()
}

export function xor(left: Buffer, right: Buffer): Buffer {
  return Buffer.from(left.map((byte, index) => byte ^ right[index]!))
}

/** Base64 as RFC 4648 wants it: padded, without a foreign character; undefined otherwise and when empty. */
export function decodeBase64(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}
