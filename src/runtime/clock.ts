/**
 * Time as the rest of the program sees it. Everything that decides takes `nowMs` as an argument or a `Clock`
 * by injection, so that tests and the simulation can own time.
 */
export interface Clock {
  /** Milliseconds on a monotonic clock. Only differences mean anything. */
  nowMs(): number
  /** Milliseconds since the Unix epoch, for people and for comparing with other machines. May jump. */
  wallMs(): number
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
}
