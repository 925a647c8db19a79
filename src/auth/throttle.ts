import { parseAddress, rangeOf } from './addresses.ts'

/**
 * Slows down whoever guesses passwords. Each failed login from an address doubles the time that the next one from
 * there has to wait; time forgives. A login that succeeds ends the wait for its address, so that one broken client
 * behind a gateway does not hold up the others, but does not forgive: a guesser may have an account of his own.
 */
export interface ThrottleOptions {
  /** Failures that cost nothing: people mistype. */
  freeFailures: number
  firstDelayMs: number
  delayMsMax: number
  /** One failure is forgiven after this time. */
  forgiveAfterMs: number
  /** Addresses that are remembered; beyond that the one that was quiet for longest is forgotten. */
  addressesMax: number
}

export const throttleDefaults: ThrottleOptions = {
  freeFailures: 2,
  firstDelayMs: 250,
  delayMsMax: 8_000,
  forgiveAfterMs: 60_000,
  addressesMax: 10_000,
}

interface AddressRecord {
  failures: number
  /** Since when the failures have been waiting to be forgiven. */
  countedAtMs: number
  waitUntilMs: number
}

/** `begun`: somebody is about to log in. */
export type LoginOutcome = 'begun' | 'failed' | 'succeeded'

/** What is remembered of the addresses, oldest first. Made by `emptyThrottle`, changed only by `throttleStep`. */
export interface ThrottleState {
  readonly options: ThrottleOptions
  readonly records: Map<string, AddressRecord>
}

export function emptyThrottle(options: ThrottleOptions = throttleDefaults): ThrottleState {
  return { options, records: new Map() }
}

/**
 * How many milliseconds to wait before the login goes on (`begun`) or its refusal is sent (`failed`). Whoever does
 * not wait for the refusal waits when he comes again. `address` is undefined for a Unix socket. `nowMs` is
 * monotonic.
 */
export function throttleStep(
  state: ThrottleState,
  address: string | undefined,
  outcome: LoginOutcome,
  nowMs: number,
): number {
  const key = addressKey(address)
  const record = state.records.get(key)
  if (record) forgive(record, state.options, nowMs)
  switch (outcome) {
    case 'begun':
      return record ? Math.max(0, record.waitUntilMs - nowMs) : 0
    case 'succeeded':
      if (record) record.waitUntilMs = nowMs
      if (record?.failures === 0) state.records.delete(key)
      return 0
    default:
      return fail(state, key, record, nowMs)
  }
}

function fail(state: ThrottleState, key: string, known: AddressRecord | undefined, nowMs: number): number {
  const { options, records } = state
  const record = known ?? { failures: 0, countedAtMs: nowMs, waitUntilMs: nowMs }
  const mostFailures =
    options.freeFailures + 1 + Math.ceil(Math.log2(options.delayMsMax / options.firstDelayMs))
  record.failures = Math.min(record.failures + 1, mostFailures)
  const charged = record.failures - options.freeFailures
  const delayMs = charged <= 0 ? 0 : Math.min(options.delayMsMax, options.firstDelayMs * 2 ** (charged - 1))
  record.waitUntilMs = Math.max(record.waitUntilMs, nowMs + delayMs)
  records.delete(key)
  records.set(key, record)
  if (records.size > options.addressesMax) records.delete(records.keys().next().value!)
  return delayMs
}

function forgive(record: AddressRecord, { forgiveAfterMs }: ThrottleOptions, nowMs: number): void {
  const forgiven = Math.floor((nowMs - record.countedAtMs) / forgiveAfterMs)
  if (forgiven <= 0) return
  record.failures = Math.max(0, record.failures - forgiven)
  record.countedAtMs += forgiven * forgiveAfterMs
}

/** IPv6 by its /64, since one machine has all the addresses of such a network. */
function addressKey(text: string | undefined): string {
  const address = text === undefined ? undefined : parseAddress(text)
  if (!address) return text ?? 'local'
  const network = rangeOf(address, address.bits === 32 ? 32 : 64)!
  return `${address.bits}:${network.first.toString(16)}`
}
