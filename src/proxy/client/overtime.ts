import type { PoolLimits } from '../pool/limits.ts'
import type { DisconnectReason } from './failures.ts'

/** What counts of a server connection that works for a client. Times in ms. */
export interface Work {
  readonly isBusy: boolean
  /** Since when it works on its oldest request; else when it answered the last one. */
  readonly requestSinceMs: number
  /** When the open transaction began; 0 without one. */
  readonly transactionSinceMs: number
}

export function queryTooLong(limitMs: number): string {
  return `the query took longer than ${limitMs} ms (query_timeout)`
}

/** Which limit of time is over, if any. */
export function overtime(
  { isBusy, requestSinceMs, transactionSinceMs }: Work,
  { queryTimeoutMs, idleTransactionTimeoutMs, transactionTimeoutMs }: PoolLimits,
  nowMs: number,
): { reason: DisconnectReason; message: string } | undefined {
  const isOver = (sinceMs: number, limitMs: number): boolean => limitMs > 0 && nowMs - sinceMs > limitMs
  if (isBusy && isOver(requestSinceMs, queryTimeoutMs)) {
    return {
      reason: 'query_timeout',
      message: queryTooLong(queryTimeoutMs),
    }
  }
  if (transactionSinceMs === 0) return undefined
  if (isOver(transactionSinceMs, transactionTimeoutMs)) {
    const message = `the transaction took longer than ${transactionTimeoutMs} ms (transaction_timeout)`
    return { reason: 'transaction_timeout', message }
  }
  if (isBusy || !isOver(requestSinceMs, idleTransactionTimeoutMs)) return undefined
  const message = `the transaction was idle for longer than ${idleTransactionTimeoutMs} ms (idle_transaction_timeout)`
  return { reason: 'idle_transaction_timeout', message }
}
