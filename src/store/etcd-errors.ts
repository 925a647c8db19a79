import { type ServiceError, status } from '@grpc/grpc-js'
import { StoreError } from './store.ts'

/** What a failed exchange with one etcd member means for the request. */
export type Failure =
  /** The answer stands: every member would say the same. */
  | { kind: 'final'; error: StoreError }
  /** The token is no longer good; the request was refused before anything was done. */
  | { kind: 'token'; error: StoreError }
  /**
   * This member did not do it. `untouched`: it certainly changed nothing, so the request may be sent again. `silent`: it
   * did not answer in time.
   */
  | { kind: 'member'; error: StoreError; untouched: boolean; silent?: boolean }

/** Sorts a failure by gRPC status and etcd's own wording (the `rpctypes` errors of its server). */
export function failureOf(target: string, cause: ServiceError): Failure {
  const { code, details } = cause
  const says = (words: string): boolean => details.includes(words)
  const final = (kind: StoreError['code'], advice: string): Failure => ({
    kind: 'final',
    error: new StoreError(kind, `etcd refused a request: ${details}: ${advice}`, { cause }),
  })
  // Refused before it was proposed, to let the member catch up; etcd 3.4 says so with the status UNKNOWN.
  if (says('etcdserver: too many requests')) return member(target, cause, true)
  switch (code) {
    case status.UNAUTHENTICATED:
      return { kind: 'token', error: denied(details, cause) }
    case status.PERMISSION_DENIED:
      return { kind: 'final', error: denied(details, cause) }
    case status.NOT_FOUND:
      return says('lease not found')
        ? final('lease_not_found', 'ask for a new one')
        : final('invalid', 'see etcd')
    case status.INVALID_ARGUMENT:
      if (says('auth store is old')) return { kind: 'token', error: denied(details, cause) }
      if (says('user name is empty') || says('authentication failed')) {
        return { kind: 'final', error: denied(details, cause) }
      }
      return final('invalid', 'this request can never succeed')
    case status.FAILED_PRECONDITION:
      // A user is configured, but etcd would let anybody in: better to hear of it.
      if (says('authentication is not enabled')) return { kind: 'final', error: denied(details, cause) }
      if (/user|role|permission/.test(details)) return final('invalid', 'see what is there now')
      return member(target, cause, false)
    case status.RESOURCE_EXHAUSTED:
      if (says('space exceeded')) return final('full', 'compact, defragment and disarm the NOSPACE alarm')
      return final('invalid', 'make the request or its answer smaller')
    case status.UNAVAILABLE:
      // Said of requests with `hasleader` before anything is done.
      return member(target, cause, details === 'etcdserver: no leader')
    default:
      return member(target, cause, false)
  }
}

export function unreachable(target: string, reason: string, cause?: unknown): StoreError {
  return new StoreError(
    'unavailable',
    `etcd at ${target} cannot be reached (${reason}): check that it runs and that address, TLS and firewall are right`,
    { cause },
  )
}

function member(target: string, cause: ServiceError, untouched: boolean): Failure {
  const error = new StoreError(
    'unavailable',
    `etcd at ${target} did not carry out a request (${cause.details}): it is tried elsewhere where that is safe`,
    { cause },
  )
  return { kind: 'member', error, untouched, silent: cause.code === status.DEADLINE_EXCEEDED }
}

function denied(details: string, cause: ServiceError): StoreError {
  return new StoreError(
    'denied',
    `etcd denied a request (${details}): check the user, the password or certificate, and the role's permissions`,
    { cause },
  )
}
