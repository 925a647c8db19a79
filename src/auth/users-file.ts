import type { Problem } from '../config/problem.ts'
import { readSecret, type Secret } from './secrets.ts'

/** PgBouncer's users file (`auth_file`, userlist.txt): a line a user, `"name" "secret"`, the rest of it ignored. */

export const usersFileBytesMax = 32 * 1024 * 1024
const userBytesMax = 255

export interface UsersFile {
  /** Undefined for a user whose secret is empty: known, but cannot log in with a password. */
  users: Map<string, Secret | undefined>
  /** None of them shows a secret. */
  problems: Problem[]
}

const quotedText = '"((?:[^"]|"")*)"'
const userLine = new RegExp(`^\\s*${quotedText}\\s+${quotedText}(?:\\s|$)`)

/**
 * Reads a users file. A quote within a name or a secret is doubled; a line that begins with `;` is a comment.
 * Unlike PgBouncer it reads on behind a broken line, and says of each what is wrong. `file` is how the problems
 * name it.
 */
export function parseUsersFile(text: string, file: string): UsersFile {
  const users: UsersFile['users'] = new Map()
  const problems: Problem[] = []
  const report = (line: number, message: string) =>
    problems.push({ file, line, column: line > 0 ? 1 : 0, path: '', message })
  if (Buffer.byteLength(text) > usersFileBytesMax) {
    report(0, `a users file of more than ${usersFileBytesMax} bytes`)
    return { users, problems }
  }
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(;|$)/.test(line)) continue
    const user = readUser(line)
    if (typeof user === 'string') report(index + 1, user)
    else if (users.has(user.name))
      report(index + 1, `the user "${user.name}" stands here for the second time`)
    else users.set(user.name, user.secret)
  }
  return { users, problems }
}

/** What is wrong with a line is told without showing any of it: a secret may stand where a name should. */
function readUser(line: string): { name: string; secret: Secret | undefined } | string {
  const match = userLine.exec(line)
  if (!match) return 'a line is "user" "secret", both in double quotes, a quote within them doubled'
  const [name, text] = [match[1]!, match[2]!].map(quoted => quoted.replaceAll('""', '"'))
  if (!name || name.includes('\0') || Buffer.byteLength(name) > userBytesMax) {
    return `the user's name is empty, longer than ${userBytesMax} bytes or holds a zero byte`
  }
  if (!text) return { name, secret: undefined }
  const secret = readSecret(text)
  if (secret) return { name, secret }
  return text.startsWith('SCRAM-SHA-256$')
    ? `the SCRAM secret of user "${name}" is broken: copy it from pg_authid.rolpassword again`
    : `the secret of user "${name}" is too long or holds a zero byte`
}
