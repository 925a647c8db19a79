import { networkReason } from './admin-client.ts'
import { CommandError } from './output.ts'

/** Whom `pgherd explain` has asked, as far as it matters for what went wrong. */
export interface Asked {
  host: string
  port: number
  user: string
  database: string
  password: string | undefined
  /** The database that is the proxy's console. */
  console: string
}

/** What the proxy, or PostgreSQL behind it, says in an ErrorResponse. */
interface ServerError extends Error {
  /** SQLSTATE. */
  code: string
  severity: string
  hint?: string
}

/** Ends the command when it was not told where the statement would go: by what went wrong, and what to do about it. */
export function explainFailure(cause: unknown, asked: Asked): CommandError {
  const place = `${asked.host}:${asked.port}`
  if (isServerError(cause)) {
    const hint = hintOfServer(cause, asked)
    // The question is passed on to the server in a form that is sure to be refused.
    const said = cause.code === '42601' ? 'the session has a server connection of its own' : cause.message
    const message = `${place} does not explain it: ${said}`
    return new CommandError('failed', message, { cause, ...(hint !== undefined && { hint }) })
  }
  const [said, hint] = hintOfClient(cause)
  return new CommandError('failed', `${place} does not explain it: ${said}`, { cause, hint })
}

/** What answers takes the question for a comment, and has run what stands behind it. */
export function explainsNothing({ console, database, host, port }: Asked): CommandError {
  const message = `${host}:${port} does not explain it: what answers has run a comment that asks pgherd`
  const hint =
    database === console || database === 'pgbouncer'
      ? `the database ${database} is the console of pgherd: -d names one of the servers'`
      : '-p must be the port of a pgherd proxy, not of PostgreSQL or of another pooler'
  return new CommandError('failed', message, { hint })
}

function isServerError(error: unknown): error is ServerError {
  return error instanceof Error && 'severity' in error && 'code' in error
}

function hintOfServer({ code, hint }: ServerError, { password, user }: Asked): string | undefined {
  if (hint?.includes('sslmode=require')) return 'set PGSSLMODE=require'
  switch (code) {
    case '28P01':
      return password === undefined
        ? `set PGPASSWORD to the password of ${user}`
        : `PGPASSWORD is not the password of ${user} (-U names another user)`
    case '28000':
      return hint ?? '-U names the user to log in as: one that may log in from here'
    case '3D000':
      return '-d names the database (default: PGDATABASE, or the name of the user)'
    case '57P03':
      return 'a session begins when there is a server for it: see pgherd status'
    case '42601':
      return 'all that it sends goes there: pool mode `session`, or a password that the server itself checks'
    default:
      return hint
  }
}

/** What went wrong on this side, and what to do about it. */
function hintOfClient(cause: unknown): [said: string, hint: string] {
  const message = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  if (message.includes('password must be')) return ['it asks for a password', 'set PGPASSWORD']
  if (message.includes('does not support SSL')) {
    return ['it takes no TLS', 'PGSSLMODE asks for TLS: unset it, or set up `proxy.tls`']
  }
  if (/CERT|SIGNATURE|ERR_TLS/.test(code)) {
    return [
      `its certificate is not trusted: ${message}`,
      'NODE_EXTRA_CA_CERTS names a file of more authorities; PGSSLMODE=require trusts any certificate',
    ]
  }
  if (message.startsWith('Connection terminated')) {
    return [
      'it has closed the connection',
      '-p must be the port of a pgherd proxy (`proxy.port`), not that of its admin interface',
    ]
  }
  return [networkReason(cause), 'start a proxy with pgherd up, or name one with -h and -p']
}
