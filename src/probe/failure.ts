/** What it means that PostgreSQL could not be asked. Decides what is reported about the node. */
export type ProbeFailureKind =
  /** Nobody listens (connection refused, no socket, no route): the server is down. */
  | 'unreachable'
  /** Connected or not, no answer in time: the server or its machine hangs. */
  | 'timeout'
  /** The server says itself that it takes nobody now: it starts, recovers or stops. */
  | 'not_ready'
  /** All connections are taken. The server lives and serves others. */
  | 'busy'
  /** The server lives but does not let itself be asked: wrong password, no such role or database, no right. */
  | 'denied'

/** A probe that failed. `reason` is a sentence for people, with what to do where something can be done. */
export interface ProbeFailure {
  kind: ProbeFailureKind
  reason: string
}

/** Whether a server that failed so accepts the connections of others. */
export function acceptsOthers(kind: ProbeFailureKind): boolean {
  return kind === 'busy' || kind === 'denied'
}

/** `57P01` to `57P03`: admin shutdown, crash shutdown, cannot connect now. `57P05` idle timeout is not among them. */
const notReadyStates = new Set(['57P01', '57P02', '57P03'])
/** Our own limit, the system's, and the server's `statement_timeout` (query_canceled). */
const timeoutCodes = new Set(['probe_timeout', 'ETIMEDOUT', '57014'])
/** The system's own words for "there is nobody". */
const nobodyCodes = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
])

/** The parts of an error that count here: a driver's, a socket's, or one of our own. */
interface ErrorLike {
  code?: unknown
  message?: unknown
  severity?: unknown
}

/** Sorts the error of a connection attempt or a query. `where` is `host:port`, or the socket folder and port. */
export function classifyFailure(error: unknown, where: string): ProbeFailure {
  const { code, message, severity } = (error ?? {}) as ErrorLike
  const text = typeof message === 'string' ? message : String(error)
  const state = typeof code === 'string' ? code : ''
  if (timeoutCodes.has(state)) return { kind: 'timeout', reason: `PostgreSQL at ${where} hangs: ${text}` }
  if (notReadyStates.has(state)) return { kind: 'not_ready', reason: `PostgreSQL at ${where} says: ${text}` }
  if (state === '53300')
    return {
      kind: 'busy',
      reason: `PostgreSQL at ${where} has no connection left for a question (${text}); raise max_connections, or reserve some for the role that asks`,
    }
  if (state === 'ENOTFOUND')
    return {
      kind: 'unreachable',
      reason: `the host name of ${where} is unknown (ENOTFOUND); correct it, or the name service`,
    }
  if (text.includes('client password must be a'))
    return {
      kind: 'denied',
      reason: `PostgreSQL at ${where} asks for a password and none is set: set probe.password_file or PGHERD_PROBE_PASSWORD for a proxy, agent.postgres.password_file or PGHERD_AGENT_PASSWORD for an agent`,
    }
  if (nobodyCodes.has(state))
    return {
      kind: 'unreachable',
      reason: `nothing answers at ${where} (${state}); is PostgreSQL running there?`,
    }
  // An error with a severity came from a server that spoke the protocol; so did an authentication that failed
  // on this side (SASL), for which the driver has no code.
  if (typeof severity === 'string' || text.startsWith('SASL'))
    return {
      kind: 'denied',
      reason: `PostgreSQL at ${where} does not let itself be asked (${text}${state === '' ? '' : `, SQLSTATE ${state}`}); check its user, password, database and the role pg_monitor`,
    }
  return { kind: 'unreachable', reason: `the connection to PostgreSQL at ${where} was lost (${text})` }
}

const retryBaseMs = 250
/** A server that is down is worth a look often: what comes back should be seen at once. */
const retryDownMaxMs = 1_000
/** Each refused login is a line in the server's log. */
const retryDeniedMaxMs = 10_000

/** How long to wait before connection attempt number `attempts + 1`, counted since the last success. */
export function retryDelayMs(kind: ProbeFailureKind, attempts: number): number {
  const maxMs = acceptsOthers(kind) ? retryDeniedMaxMs : retryDownMaxMs
  return Math.min(maxMs, retryBaseMs * 2 ** Math.min(attempts - 1, 10))
}
