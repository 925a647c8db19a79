/**
 * What was done for each database, as PgBouncer counts it: the figures of `SHOW STATS`. Plain numbers, added to in
 * place; times in ms.
 */

/** The figures, in this order: assignments, transactions, queries, ... as the fields of `DatabaseStats`. */
export const statFields = [
  'assignments',
  'transactions',
  'queries',
  'receivedBytes',
  'sentBytes',
  'transactionMs',
  'queryMs',
  'waitMs',
  'clientParses',
  'serverParses',
  'binds',
] as const

/** One database in one worker. */
export class DatabaseStats {
  /** How often a client got a server connection. */
  assignments = 0
  transactions = 0
  queries = 0
  receivedBytes = 0
  sentBytes = 0
  transactionMs = 0
  queryMs = 0
  /** Time that clients waited for a server connection. */
  waitMs = 0
  clientParses = 0
  serverParses = 0
  binds = 0

  values(): number[] {
    return statFields.map(field => this[field])
  }
}

/** The same as plain data. */
export interface StatsData {
  /** Since the start, in the order of `statFields`. */
  totals: number[]
  /** Those of them that came in the last period, and how long that was until now. */
  recent: number[]
  recentMs: number
}

interface Entry {
  stats: DatabaseStats
  /** The totals one and two periods ago. */
  before: number[]
  earlier: number[]
}

/** Databases that are counted by name; what is done for others is counted together. */
const databasesMax = 200
export const otherDatabases = '(other)'

/** The databases of one worker. */
export class StatsBook {
  readonly #entries = new Map<string, Entry>()
  #beforeMs: number
  #earlierMs: number

  constructor(nowMs: number) {
    this.#beforeMs = nowMs
    this.#earlierMs = nowMs
  }

  /** To be asked for a database that somebody could log in to. */
  of(database: string): DatabaseStats {
    const name = this.#entries.has(database) || this.#entries.size < databasesMax ? database : otherDatabases
    let entry = this.#entries.get(name)
    if (!entry) {
      const none = statFields.map(() => 0)
      entry = { stats: new DatabaseStats(), before: none, earlier: none }
      this.#entries.set(name, entry)
    }
    return entry.stats
  }

  /** A period has ended. */
  turn(nowMs: number): void {
    this.#earlierMs = this.#beforeMs
    this.#beforeMs = nowMs
    for (const entry of this.#entries.values()) {
      entry.earlier = entry.before
      entry.before = entry.stats.values()
    }
  }

  data(nowMs: number): Record<string, StatsData> {
    const recentMs = nowMs - this.#earlierMs
    const rows = [...this.#entries].map(([name, { stats, earlier }]): [string, StatsData] => {
      const totals = stats.values()
      return [name, { totals, recent: totals.map((total, index) => total - earlier[index]!), recentMs }]
    })
    return Object.fromEntries(rows)
  }
}

/** Adds the figures of another worker to `sum`. */
export function addStats(sum: Record<string, StatsData>, one: Readonly<Record<string, StatsData>>): void {
  for (const [name, stats] of Object.entries(one)) {
    const known = (sum[name] ??= { totals: [], recent: [], recentMs: 0 })
    known.totals = stats.totals.map((value, index) => value + (known.totals[index] ?? 0))
    known.recent = stats.recent.map((value, index) => value + (known.recent[index] ?? 0))
    known.recentMs = Math.max(known.recentMs, stats.recentMs)
  }
}

/** What a worker that has ended leaves: its totals. */
export function withoutRecent(all: Readonly<Record<string, StatsData>>): Record<string, StatsData> {
  const rows = Object.entries(all).map(([name, { totals, recent }]): [string, StatsData] => [
    name,
    { totals, recent: recent.map(() => 0), recentMs: 0 },
  ])
  return Object.fromEntries(rows)
}
