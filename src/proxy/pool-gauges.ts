import { shown } from './console/columns.ts'
import type { PoolGauges } from './counters.ts'
import type { Pool } from './pool/pool.ts'

/** Pools whose figures are told one by one; those of the others are added up. */
const poolsMax = 200

/** What is going on in the pools of a worker now. */
export function poolGauges(pools: Iterable<Pool>): PoolGauges[] {
  const gauges: PoolGauges[] = []
  for (const pool of pools) {
    const { idleCount: idle, size, waitingCount: waiting } = pool
    const active = size - idle
    if (gauges.length < poolsMax) {
      const node = pool.home.target.node
      gauges.push({ database: shown(pool.database), user: shown(pool.user), node, waiting, active, idle })
      continue
    }
    gauges[poolsMax] ??= { database: 'other', user: 'other', node: 'other', waiting: 0, active: 0, idle: 0 }
    const others = gauges[poolsMax]
    others.waiting += waiting
    others.active += active
    others.idle += idle
  }
  return gauges
}
