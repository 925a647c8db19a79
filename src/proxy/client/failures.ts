import { type ErrorFields, type Severity, writeErrorResponse } from '../../wire/messages.ts'

/** Why the proxy refuses or ends a client. Every close of a client carries one; each has a counter. */
export type DisconnectReason =
  | 'client_closed'
  | 'client_lost'
  | 'login_refused'
  | 'login_timeout'
  | 'protocol_violation'
  | 'too_many_clients'
  | 'no_route'
  | 'queue_timeout'
  | 'queue_full'
  | 'session_lost'
  | 'query_timeout'
  | 'transaction_timeout'
  | 'idle_transaction_timeout'
  | 'client_idle_timeout'
  | 'server_lost'
  | 'server_demoted'
  | 'server_drained'
  | 'cancel_request'
  | 'killed'
  | 'database_disabled'
  | 'shutdown'

interface Rule {
  /** SQLSTATE, from PostgreSQL's appendix "Error Codes". */
  sqlstate: string
  severity: Severity
  /** Whether the same thing may work when it is tried again on a new connection. */
  retryable: boolean
}

/** One table from reason to what the client is told. */
export const rules: Record<DisconnectReason, Rule> = {
  client_closed: { sqlstate: '00000', severity: 'FATAL', retryable: false },
  client_lost: { sqlstate: '08006', severity: 'FATAL', retryable: false },
  login_refused: { sqlstate: '28000', severity: 'FATAL', retryable: false },
  login_timeout: { sqlstate: '57014', severity: 'FATAL', retryable: true },
  protocol_violation: { sqlstate: '08P01', severity: 'FATAL', retryable: false },
  too_many_clients: { sqlstate: '53300', severity: 'FATAL', retryable: true },
  no_route: { sqlstate: '57P03', severity: 'FATAL', retryable: true },
  queue_timeout: { sqlstate: '53300', severity: 'FATAL', retryable: true },
  queue_full: { sqlstate: '53300', severity: 'FATAL', retryable: true },
  query_timeout: { sqlstate: '57014', severity: 'FATAL', retryable: false },
  transaction_timeout: { sqlstate: '25P04', severity: 'FATAL', retryable: true },
  idle_transaction_timeout: { sqlstate: '25P03', severity: 'FATAL', retryable: true },
  client_idle_timeout: { sqlstate: '57P05', severity: 'FATAL', retryable: true },
  session_lost: { sqlstate: '57P01', severity: 'FATAL', retryable: true },
  server_lost: { sqlstate: '57P01', severity: 'FATAL', retryable: true },
  server_demoted: { sqlstate: '57P01', severity: 'FATAL', retryable: true },
  server_drained: { sqlstate: '57P01', severity: 'FATAL', retryable: true },
  killed: { sqlstate: '57P01', severity: 'FATAL', retryable: true },
  database_disabled: { sqlstate: '08P01', severity: 'FATAL', retryable: false },
  cancel_request: { sqlstate: '00000', severity: 'FATAL', retryable: false },
  shutdown: { sqlstate: '57P01', severity: 'FATAL', retryable: true },
}

export const disconnectReasons = Object.keys(rules) as DisconnectReason[]

/** What more a client is told. `sqlstate` overrules the table where more is known. */
export interface ErrorDetails {
  sqlstate?: string
  detail?: string
  hint?: string
}

/** What the client is told when it is ended for a reason. */
export function errorFor(reason: DisconnectReason, message: string, more: ErrorDetails = {}): ErrorFields {
  const rule = rules[reason]
  return {
    severity: rule.severity,
    code: more.sqlstate ?? rule.sqlstate,
    message: `pgherd: ${message}`,
    detail: more.detail,
    hint: more.hint,
  }
}

/** What PostgreSQL tells of a request that was cancelled; `detail` says what it was waiting for here. */
export function cancelledWhile(detail: string): Buffer {
  const message = 'canceling statement due to user request'
  return writeErrorResponse({ severity: 'ERROR', code: '57014', message, detail })
}
