import { hostname, userInfo } from 'node:os'
import { systemClock } from '../runtime/clock.ts'
import { systemRandom } from '../runtime/random.ts'
import { systemTimers } from '../runtime/timers.ts'
import type { Store } from '../store/store.ts'
import type { Operations } from '../topology/intent-change.ts'

/** What a change of the intent needs, made by `who` and for the reason `why`. */
export function operationsBy(who: string, store: Store, cluster: string, why?: string): Operations {
  return {
    store,
    cluster,
    who,
    ...(why !== undefined && { why }),
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
  }
}

/** The user of this machine, for the history: `anna@db1`. */
export function operatorName(): string {
  return `${userName()}@${hostname()}`
}

/** A process in a container may run as a user that has no name. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`
  }
}
