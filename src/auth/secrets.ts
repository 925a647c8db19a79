import { md5AnswerFits, md5Secret, sameText } from './md5.ts'
import {
  makeVerifier,
  mockVerifier,
  parseVerifier,
  passwordFitsVerifier,
  type ScramKeys,
  type ScramVerifier,
} from './scram.ts'

/** What is stored of a user's password, in a users file or in the servers' pg_authid. */
export type Secret =
  | { kind: 'plain'; password: string }
  | { kind: 'md5'; secret: string }
  | { kind: 'scram'; verifier: ScramVerifier }

/** How a client shows that it knows its password. */
export type PasswordMethod = 'password' | 'md5' | 'scram-sha-256'

/** Long enough for the access tokens of cloud providers, which go as passwords. */
export const secretBytesMax = 16_384

/**
 * Tells a stored secret by its form, as PostgreSQL's get_password_type does, with one difference: what begins like a
 * SCRAM verifier but is none is not taken for a password, since whoever can read it could log in with it then.
 * Undefined for that, for nothing, for a zero byte and for more than `secretBytesMax`.
 */
export function readSecret(text: string): Secret | undefined {
  if (text === '' || text.includes('\0') || Buffer.byteLength(text) > secretBytesMax) return undefined
  if (/^md5[0-9a-f]{32}$/.test(text)) return { kind: 'md5', secret: text }
  if (!text.startsWith('SCRAM-SHA-256$')) return { kind: 'plain', password: text }
  const verifier = parseVerifier(text)
  return verifier && { kind: 'scram', verifier }
}

const methods: Record<Secret['kind'], readonly PasswordMethod[]> = {
  plain: ['password', 'md5', 'scram-sha-256'],
  md5: ['password', 'md5'],
  scram: ['password', 'scram-sha-256'],
}

/** The methods by which a client can log in against this secret. */
export function methodsOf(secret: Secret): readonly PasswordMethod[] {
  return methods[secret.kind]
}

/**
 * The method to ask a client with, where the access rule says `method`: an `md5` rule becomes SCRAM for a user
 * whose secret is a SCRAM verifier, as in PostgreSQL. For an unknown user it becomes `usual`, the method that such
 * a rule has for most users, so that the question does not tell who exists.
 */
export function methodFor(
  method: PasswordMethod,
  secret: Secret | undefined,
  usual: 'md5' | 'scram-sha-256',
): PasswordMethod {
  if (method !== 'md5') return method
  if (!secret) return usual
  return secret.kind === 'scram' ? 'scram-sha-256' : 'md5'
}

/**
 * The verifier to run SCRAM with; undefined when the secret cannot serve it. A plain password gets the salt that a
 * made-up user of this name would have, and costs the whole hash: keep the result.
 */
export async function scramVerifierFor(
  user: string,
  secret: Secret | undefined,
  mockSecret: Uint8Array,
): Promise<ScramVerifier | undefined> {
  if (secret?.kind === 'scram') return secret.verifier
  if (secret?.kind !== 'plain') return undefined
  return await makeVerifier(secret.password, mockVerifier(mockSecret, user).salt)
}

/** Whether a password that the client sent as such is the user's. */
export async function passwordFits(user: string, secret: Secret, password: Uint8Array): Promise<boolean> {
  if (secret.kind === 'plain') return sameText(secret.password, password)
  if (secret.kind === 'md5') return sameText(secret.secret, md5Secret(user, password))
  return await passwordFitsVerifier(secret.verifier, password)
}

/** Whether the client's answer to an md5 challenge is right. A SCRAM secret never fits. */
export function md5Fits(user: string, secret: Secret, salt: Uint8Array, answer: Uint8Array): boolean {
  if (secret.kind === 'scram') return false
  const stored = secret.kind === 'md5' ? secret.secret : md5Secret(user, secret.password)
  return md5AnswerFits(stored, salt, answer)
}

/** What there is to log in to a server with. Each part is a secret. */
export interface ServerCredentials {
  password?: string | Uint8Array | undefined
  /** `md5...`, as stored. */
  md5?: string | undefined
  /** From the client's own login: they open servers that keep the same verifier. */
  keys?: ScramKeys | undefined
}

/**
 * What a login to a server can be made with: a plain password serves every method, an md5 secret only md5. A SCRAM
 * verifier serves none by itself; with the keys of the client's own login it serves SCRAM.
 */
export function serverCredentials(secret: Secret | undefined, keys?: ScramKeys): ServerCredentials {
  if (secret?.kind === 'plain') return { password: secret.password, keys }
  if (secret?.kind === 'md5') return { md5: secret.secret }
  return { keys }
}
