import { systemClock } from '../runtime/clock.ts'
import { silentLogger } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import { mirror } from '../store/mirror.ts'
import type { Store } from '../store/store.ts'
import { decodeProxyStatus } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import type { ProxyStatus } from '../topology/types.ts'

/** Who has taken over a change, by the ids of the proxies. */
export interface Applied {
  by: string[]
  notBy: string[]
  /** How long it took until everyone had, or the limit. */
  elapsedMs: number
  /** Whether the store has told who lives; where it has not, nobody is in the lists. */
  isKnown: boolean
  proxies: ProxyStatus[]
}

/**
 * Waits until every live proxy says that its workers have applied the intent of `revision`, for `limitMs` at
 * most. A proxy whose row goes away no longer counts.
 */
export async function waitUntilApplied(
  store: Store,
  cluster: string,
  revision: number,
  limitMs: number,
): Promise<Applied> {
  const startedMs = systemClock.nowMs()
  const hasApplied = ({ appliedRevision }: ProxyStatus): boolean => appliedRevision >= revision
  const rows = await watchProxies(store, cluster, limitMs, rows => rows.every(hasApplied))
  const proxies = rows ?? []
  const idsOf = (some: ProxyStatus[]): string[] => some.map(({ id }) => id).sort()
  return {
    by: idsOf(proxies.filter(hasApplied)),
    notBy: idsOf(proxies.filter(proxy => !hasApplied(proxy))),
    elapsedMs: Math.round(systemClock.nowMs() - startedMs),
    isKnown: rows !== undefined,
    proxies,
  }
}

/**
 * Waits until no live proxy has a session on the node, for `limitMs` at most. How many there are then; undefined
 * when a proxy does not tell.
 */
export async function waitUntilEmpty(
  store: Store,
  cluster: string,
  node: string,
  limitMs: number,
): Promise<number | undefined> {
  const proxies = await watchProxies(store, cluster, limitMs, rows => sessionsOn(node, rows) === 0)
  return proxies && sessionsOn(node, proxies)
}

function sessionsOn(node: string, proxies: ProxyStatus[]): number | undefined {
  if (proxies.some(({ sessions }) => sessions === undefined)) return undefined
  return proxies.reduce((sum, { sessions }) => sum + (sessions?.[node] ?? 0), 0)
}

/**
 * The rows of the live proxies as soon as they are as wanted, or after `limitMs`; undefined when the store has not told
 * them by then.
 */
async function watchProxies(
  store: Store,
  cluster: string,
  limitMs: number,
  areAsWanted: (proxies: ProxyStatus[]) => boolean,
): Promise<ProxyStatus[] | undefined> {
  const finished = new AbortController()
  let proxies: ProxyStatus[] | undefined
  const known = new Map<string, ProxyStatus>()
  const following = mirror(store, keysOf(cluster).proxyStatuses, {
    // Every proxy of a large fleet writes its row meanwhile: only those are read that are new.
    onChange: (entries, _revision, changedKeys) => {
      if (changedKeys === undefined) known.clear()
      for (const key of changedKeys ?? entries.keys()) {
        const entry = entries.get(key)
        const row = entry && decodeProxyStatus(entry.value).value
        if (row) known.set(key, row)
        else known.delete(key)
      }
      proxies = [...known.values()]
      if (areAsWanted(proxies)) finished.abort()
    },
    timers: systemTimers,
    random: systemRandom,
    log: silentLogger,
  })
  await pause(systemTimers, limitMs, finished.signal)
  following.close()
  return proxies
}
