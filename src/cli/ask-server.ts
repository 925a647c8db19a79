import type { ProbeConfig } from '../config/schema.ts'
import { type ProbeFailure } from '../probe/failure.ts'
import { Probe } from '../probe/probe.ts'
import { systemClock } from '../runtime/clock.ts'
import { systemTimers } from '../runtime/timers.ts'
import type { NodeFacts } from '../topology/types.ts'

type Answer = { facts: NodeFacts; failure?: undefined } | { facts?: undefined; failure: ProbeFailure }

/** Asks one PostgreSQL about itself, once, as a proxy would. Never rejects. */
export async function askOnce(config: ProbeConfig, host: string, port: number): Promise<Answer> {
  const { user, password, database, timeout } = config
  const probe = new Probe({
    postgres: { host, port, user, password, database },
    timeoutMs: timeout,
    renewMs: Number.POSITIVE_INFINITY,
    applicationName: 'pgherd node add',
    clock: systemClock,
    timers: systemTimers,
  })
  try {
    return await probe.sample()
  } finally {
    await probe.close()
  }
}
