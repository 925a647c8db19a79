import type { AdminConfig } from '../config/schema.ts'
import { CommandError, type CommandIo } from './output.ts'

/** The admin interface of a running pgherd. */
export interface AdminAddress {
  url: string
  /** Sent as a bearer token. */
  token: string | undefined
}

const answerTimeoutMs = 5000

/**
 * Where commands find the admin interface: `named` (from `--admin-url`), else `PGHERD_ADMIN_URL`, else where the
 * configuration has it listen. Undefined when it is turned off there.
 */
export function adminAddress(
  io: CommandIo,
  named: string | undefined,
  { listen, port, token }: AdminConfig,
): AdminAddress | undefined {
  const given = named ?? (io.env['PGHERD_ADMIN_URL'] || undefined)
  if (given !== undefined) {
    if (!/^https?:\/\/./.test(given) || !URL.canParse(given)) {
      const message = `"${given}" is no address of an admin interface`
      throw new CommandError('usage', message, { hint: 'write http://host:port' })
    }
    return { url: given.replace(/\/+$/, ''), token }
  }
  if (port === 0) return undefined
  const host = listen === '0.0.0.0' ? '127.0.0.1' : listen === '::' ? '::1' : listen
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`, token }
}

/** Gives up because there is no address: the configuration has turned the interface off. */
export function adminTurnedOff(): CommandError {
  return new CommandError('usage', 'the admin interface is turned off: `admin.port` is 0', {
    hint: 'set `admin.port`, or name one with --admin-url',
  })
}

/**
 * Asks one path for JSON, or with POST has it do something.
 * @throws NoAnswer when nobody is there
 * @throws CommandError when it answers with an error
 */
export async function askAdmin<Answer>(
  { url, token }: AdminAddress,
  path: string,
  method: 'GET' | 'POST' = 'GET',
): Promise<Answer> {
  let status: number
  let body: string
  try {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const signal = AbortSignal.timeout(answerTimeoutMs)
    const response = await fetch(`${url}${path}`, { method, headers, signal })
    status = response.status
    body = await response.text()
  } catch (cause) {
    throw new NoAnswer(url, cause)
  }
  const answer = parseJson(body)
  if (status >= 200 && status < 300 && answer !== undefined) return answer as Answer
  const said = (answer as { error?: { message?: string } } | undefined)?.error?.message
  const message = `${url}${path} answers with HTTP status ${status}${said === undefined ? '' : `: ${said}`}`
  throw new CommandError('failed', message, {
    hint:
      status === 401
        ? 'give the token as admin.token, admin.token_file or PGHERD_ADMIN_TOKEN'
        : 'check that this is the admin interface of a pgherd',
  })
}

/** Nobody listens at an address, or what does never answers. */
export class NoAnswer extends CommandError {
  constructor(url: string, cause: unknown) {
    super('failed', `no pgherd answers at ${url} (${networkReason(cause)})`, {
      cause,
      hint: 'start one with pgherd up, or name its admin interface with --admin-url or PGHERD_ADMIN_URL',
    })
  }
}

/** Why a connection failed, in words: what the innermost error that has a code says. */
export function networkReason(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (at.name === 'TimeoutError') return 'no answer in time'
    const known = 'code' in at && typeof at.code === 'string' ? reasons[at.code] : undefined
    if (known !== undefined) return known
    if (at.cause === undefined) return at.message
  }
  return String(error)
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection closed',
  UND_ERR_SOCKET: 'connection closed',
  ETIMEDOUT: 'no answer in time',
  UND_ERR_CONNECT_TIMEOUT: 'no answer in time',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'the name of the host cannot be looked up now',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
