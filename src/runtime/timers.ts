/** A timer that was started and may be cancelled. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void
}

/** Timers by injection. Background timers never keep a process alive by themselves. */
export interface Timers {
  after(delayMs: number, run: () => void): Timer
  every(periodMs: number, run: () => void): Timer
  /** When everything that has come by now was looked at. */
  soon(run: () => void): void
}

export const systemTimers: Timers = {
  after(delayMs, run) {
    const handle = setTimeout(run, delayMs)
    return { cancel: () => clearTimeout(handle) }
  },
  every(periodMs, run) {
    const handle = setInterval(run, periodMs)
    handle.unref()
    return { cancel: () => clearInterval(handle) }
  },
  soon(run) {
    setImmediate(run)
  },
}

/** Resolves after `delayMs`, or at once when `signal` aborts; never rejects. */
export function pause(timers: Timers, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve()
  return new Promise(resolve => {
    const done = (): void => {
      timer.cancel()
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = timers.after(delayMs, done)
    signal?.addEventListener('abort', done)
  })
}

/**
 * Rejects with `makeError()` when `work` has not settled within `limitMs`. The work itself goes on: give it an
 * AbortSignal of its own where it can be stopped.
 */
export function within<T>(
  timers: Timers,
  limitMs: number,
  work: Promise<T>,
  makeError: () => Error,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = timers.after(limitMs, () => reject(makeError()))
    work.then(
      value => {
        timer.cancel()
        resolve(value)
      },
      (cause: unknown) => {
        timer.cancel()
        reject(cause instanceof Error ? cause : new Error(String(cause)))
      },
    )
  })
}
