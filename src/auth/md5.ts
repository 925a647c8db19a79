import { createHash, timingSafeEqual } from 'node:crypto'

/**
 * PostgreSQL's md5 method: the stored secret is `md5` + md5(password + user), the answer to a challenge is
 * `md5` + md5(that without its prefix + salt), both in hex. Source: PostgreSQL's documentation, "Authentication
 * Methods", and the description of AuthenticationMD5Password.
 */

export const md5SaltBytes = 4

/** The secret that a server keeps for `user`. It is as good as the password for a login with md5. */
export function md5Secret(user: string, password: string | Uint8Array): string {
  return `md5${md5Hex(password, user)}`
}

/** The answer to a challenge of someone who has the stored secret. */
export function md5Answer(secret: string, salt: Uint8Array): string {
  return `md5${md5Hex(secret.slice('md5'.length), salt)}`
}

/** Whether `answer`, as the client sent it, fits the stored secret. The time it takes tells nothing of the secret. */
export function md5AnswerFits(secret: string, salt: Uint8Array, answer: Uint8Array): boolean {
  return sameText(md5Answer(secret, salt), answer)
}

/** Compares in a time that tells nothing of where or in length they differ. */
export function sameText(expected: string | Uint8Array, actual: string | Uint8Array): boolean {
  const [left, right] = [expected, actual].map(text => createHash('sha256').update(text).digest())
  return timingSafeEqual(left!, right!)
}

function md5Hex(...parts: (string | Uint8Array)[]): string {
  const hash = createHash('md5')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
