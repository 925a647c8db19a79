import type { Client } from '../client/client.ts'
import type { Pool } from '../pool/pool.ts'
import { type Row, shown } from './columns.ts'
import { reasonsOf } from './pins.ts'

/** What one database and user have, on all nodes together. */
export interface PoolFacts {
  database: string
  user: string
  mode: string
  clients: number
  waiting: number
  pinned: number
  active: number
  idle: number
  tested: number
  login: number
  /** Longest wait of a client now. */
  waitMsMax: number
  nodes: string[]
}

/** Counts clients and server connections by database and user. One row each, for `readPoolFacts`. */
export function poolFacts(clients: Iterable<Client>, pools: Iterable<Pool>, nowMs: number): Row[] {
  const all = new Map<string, PoolFacts>()
  const of = (key: string, database: string, user: string, mode: string): PoolFacts => {
    let facts = all.get(key)
    if (!facts) {
      facts = emptyFacts(shown(database), shown(user), mode)
      all.set(key, facts)
    }
    return facts
  }
  for (const client of clients) {
    const facts = of(client.poolKey, client.database, client.user, client.mode)
    if (client.isWaiting) {
      facts.waiting++
      facts.waitMsMax = Math.max(facts.waitMsMax, nowMs - client.waitingSinceMs)
    } else facts.clients++
    if (reasonsOf(client).length > 0) facts.pinned++
  }
  for (const pool of pools) {
    const facts = of(`${pool.database}\0${pool.user}`, pool.database, pool.user, pool.limits.mode)
    if (pool.size > 0) facts.nodes.push(pool.home.target.node)
    for (const { stateName } of pool.servers) {
      if (stateName === 'new') facts.login++
      else facts[stateName]++
    }
  }
  return [...all.values()].map(writeFacts)
}

function emptyFacts(database: string, user: string, mode: string): PoolFacts {
  return {
    database,
    user,
    mode,
    clients: 0,
    waiting: 0,
    pinned: 0,
    active: 0,
    idle: 0,
    tested: 0,
    login: 0,
    waitMsMax: 0,
    nodes: [],
  }
}

function writeFacts(facts: PoolFacts): Row {
  const { database, user, mode, clients, waiting, pinned, active, idle, tested, login } = facts
  const nodes = facts.nodes.join(' ')
  return [database, user, mode, clients, waiting, pinned, active, idle, tested, login, facts.waitMsMax, nodes]
}

/** Adds up the rows of several workers, by database and user in order. */
export function readPoolFacts(rows: readonly Row[]): PoolFacts[] {
  const all = new Map<string, PoolFacts>()
  for (const row of rows) {
    const [database, user, mode] = row.slice(0, 3).map(String) as [string, string, string]
    const numbers = row.slice(3, 11).map(Number)
    const [clients = 0, waiting = 0, pinned = 0, active = 0, idle = 0, tested = 0, login = 0, waitMs = 0] =
      numbers
    const key = `${database}\0${user}`
    const facts = all.get(key) ?? emptyFacts(database, user, mode)
    all.set(key, facts)
    facts.clients += clients
    facts.waiting += waiting
    facts.pinned += pinned
    facts.active += active
    facts.idle += idle
    facts.tested += tested
    facts.login += login
    facts.waitMsMax = Math.max(facts.waitMsMax, waitMs)
    const nodes = String(row[11]).split(' ')
    facts.nodes = [...new Set([...facts.nodes, ...nodes])].filter(name => name !== '').sort()
  }
  return [...all].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, facts]) => facts)
}
