import type { Topology } from '../../topology/types.ts'
import type { WorkerSettings } from '../control/ipc.ts'
import type { WorkerCountersData } from '../counters.ts'
import type { GatesData } from '../pool/gates.ts'
import { limitsFor } from '../pool/limits.ts'
import type { StatsData } from '../stats.ts'
import { type Row, shown, totalsNames, typed } from './columns.ts'
import { keepReasons } from './pins.ts'
import type { PoolFacts } from './pool-facts.ts'

/** The tables that are made of what all workers tell together. Pure: facts in, rows out. */

/** What the whole proxy knows of its databases. */
export interface ProxyFacts {
  settings: WorkerSettings
  topology: Topology | undefined
  gates: GatesData
  pools: readonly PoolFacts[]
}

export function poolRows(pools: readonly PoolFacts[], { console }: WorkerSettings, consoles: number): Row[] {
  const rows = pools.map((pool): Row => {
    const { active, clients, idle, login, tested, waiting } = pool
    const wait = [Math.floor(pool.waitMsMax / 1000), Math.floor((pool.waitMsMax % 1000) * 1000)]
    const ofClients = [clients, waiting, 0, 0]
    const ofServers = [active, 0, 0, idle, 0, tested, login]
    const rest = [pool.mode, null, pool.pinned, pool.nodes.join(', ')]
    return [pool.database, pool.user, ...ofClients, ...ofServers, ...wait, ...rest]
  })
  const zeros = Array.from({ length: 12 }, () => 0)
  return [...rows, [console.database, console.database, consoles, ...zeros, 'statement', null, 0, '']]
}

export function databaseRows({ settings, topology, gates, pools }: ProxyFacts): Row[] {
  const primary = topology?.nodes.find(({ name }) => name === topology.primary)
  const { databases, console } = settings
  // One that is closed is told of, whoever has asked for it: its name may have been mistyped.
  const closed = [...gates.paused, ...gates.disabled].map(shown)
  const names = new Set([...Object.keys(databases), ...pools.map(({ database }) => database), ...closed])
  const rows = [...names].sort().map((name): Row => {
    const limits = limitsFor(settings, name, '')
    const own = Object.hasOwn(databases, name) ? databases[name] : undefined
    const used = pools.filter(({ database }) => database === name)
    const isPaused = gates.allPaused || gates.paused.includes(typed(name))
    return [
      name,
      primary?.host ?? null,
      primary?.port ?? null,
      own?.dbname ?? name,
      null,
      limits.poolSize,
      limits.minPoolSize,
      limits.reservePoolSize,
      Math.floor(limits.serverLifetimeMs / 1000),
      own?.mode ?? null,
      null,
      limits.dbConnectionsMax,
      sum(used.map(connectionsOf)),
      limits.dbClientsMax,
      sum(used.map(clientsOf)),
      isPaused ? 1 : 0,
      gates.disabled.includes(typed(name)) ? 1 : 0,
    ]
  })
  const own = [console.database, null, settings.port, console.database, console.database]
  return [...rows, [...own, 2, 0, 0, 0, 'statement', null, 0, 0, 0, 0, 0, 0]]
}

export function userRows({ settings, pools }: ProxyFacts): Row[] {
  const names = new Set([...Object.keys(settings.users), ...pools.map(({ user }) => user)])
  return [...names].sort().map((name): Row => {
    const own = Object.hasOwn(settings.users, name) ? settings.users[name] : undefined
    const used = pools.filter(({ user }) => user === name)
    return [
      name,
      own?.poolSize === undefined ? '' : String(own.poolSize),
      own?.reservePoolSize === undefined ? '' : String(own.reservePoolSize),
      own?.mode ?? null,
      own?.userConnectionsMax ?? settings.pool.userConnectionsMax,
      sum(used.map(connectionsOf)),
      own?.userClientsMax ?? settings.pool.userClientsMax,
      sum(used.map(clientsOf)),
    ]
  })
}

/** `told`: for each worker its clients, logins and server connections. */
export function listRows(facts: ProxyFacts, told: readonly Row[]): Row[] {
  const of = (at: number): number => sum(told.map(row => Number(row[at])))
  const lists: [string, number][] = [
    ['databases', databaseRows(facts).length],
    ['users', userRows(facts).length],
    ['peers', 0],
    ['pools', facts.pools.length + 1],
    ['peer_pools', 0],
    ['free_clients', 0],
    ['used_clients', of(0)],
    ['login_clients', of(1)],
    ['free_servers', 0],
    ['used_servers', of(2)],
    ['dns_names', 0],
    ['dns_zones', 0],
    ['dns_queries', 0],
    ['dns_pending', 0],
  ]
  return lists
}

/** Totals and averages of one database, in PgBouncer's units: microseconds, and whole numbers a second. */
function statValues({ totals, recent, recentMs }: StatsData): { totals: number[]; averages: number[] } {
  const of = (index: number): number => recent[index] ?? 0
  const averages = recent.map((value, index) => {
    const events = eventsOf[index]
    if (events !== undefined) return of(events) > 0 ? Math.floor((value * 1000) / of(events)) : 0
    return recentMs > 0 ? Math.floor((value * 1000) / recentMs) : 0
  })
  return {
    totals: totals.map((value, index) => (index in eventsOf ? Math.floor(value * 1000) : value)),
    averages,
  }
}

/** Of which figure the average time is that of one: transactions, queries and assignments. */
const eventsOf: Readonly<Record<number, number>> = { 5: 1, 6: 2, 7: 0 }

export function statRows(
  stats: Readonly<Record<string, StatsData>>,
  which: 'stats' | 'stats_totals' | 'stats_averages',
): Row[] {
  const names = Object.keys(stats).sort()
  return names.map((name): Row => {
    const { averages, totals } = statValues(stats[name]!)
    return [
      shown(name),
      ...(which === 'stats_averages' ? [] : totals),
      ...(which === 'stats_totals' ? [] : averages),
    ]
  })
}

/** The same for all databases together. */
export function totalRows(stats: Readonly<Record<string, StatsData>>): Row[] {
  const all: StatsData = { totals: [], recent: [], recentMs: 0 }
  for (const { recent, recentMs, totals } of Object.values(stats)) {
    all.totals = totals.map((value, index) => value + (all.totals[index] ?? 0))
    all.recent = recent.map((value, index) => value + (all.recent[index] ?? 0))
    all.recentMs = Math.max(all.recentMs, recentMs)
  }
  const { averages, totals } = statValues(all)
  const half = totalsNames.length / 2
  return totalsNames.map(
    (name, index): Row => [name, [...pad(totals, half), ...pad(averages, half)][index] ?? 0],
  )
}

function pad(values: readonly number[], length: number): number[] {
  return Array.from({ length }, (_, index) => values[index] ?? 0)
}

export function nodeRows(topology: Topology | undefined, counters: WorkerCountersData): Row[] {
  return (topology?.nodes ?? []).map((node): Row => {
    const own = counters.nodes[node.name]
    return [
      node.name,
      node.host,
      node.port,
      node.role,
      node.state,
      yesNo(node.accepting),
      yesNo(node.writable),
      yesNo(node.readable),
      node.lagBytes ?? null,
      node.lagMs === undefined ? null : Math.round(node.lagMs),
      own?.sessions ?? 0,
      own?.idle ?? 0,
      own?.connecting ?? 0,
      own?.waiting ?? 0,
      node.connections?.used ?? null,
      node.connections?.max ?? null,
      node.zone,
      node.weight,
      node.source,
      node.reasons.join('; '),
    ]
  })
}

/** `pins`: rows of SHOW PINS. */
export function pinTotalRows(pins: readonly Row[], counters: WorkerCountersData): Row[] {
  const total: Partial<Record<string, number>> = counters.pins
  return Object.entries(keepReasons).map(([reason, meaning]): Row => {
    const pinned = pins.filter(row => String(row[5]).split(', ').includes(reason))
    return [reason, pinned.length, total[reason] ?? null, meaning]
  })
}

function connectionsOf({ active, idle, login, tested }: PoolFacts): number {
  return active + idle + login + tested
}

function clientsOf({ clients, waiting }: PoolFacts): number {
  return clients + waiting
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no'
}
