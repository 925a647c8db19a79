import assert from 'node:assert/strict'
import { systemClock } from '../../src/runtime/clock.ts'
import { pause, systemTimers } from '../../src/runtime/timers.ts'

/**
 * Waits until `probe` returns something truthy and gives that back; fails with `what` after `limitMs`. An error
 * thrown by the probe counts as "not yet" and is shown when time runs out.
 */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  limitMs = 10_000,
): Promise<NonNullable<T>> {
  const deadlineMs = systemClock.nowMs() + limitMs
  let last: unknown
  for (;;) {
    try {
      last = await probe()
      if (last) return last as NonNullable<T>
    } catch (cause) {
      last = cause
    }
    if (systemClock.nowMs() > deadlineMs)
      assert.fail(`not within ${limitMs} ms: ${what}; last seen: ${String(last)}`)
    await pause(systemTimers, 20)
  }
}
