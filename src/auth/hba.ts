import { type AddressRange, inRange, parseAddress } from './addresses.ts'

/** Who may come in, from where and how: rules in the manner of PostgreSQL's pg_hba.conf, the first that fits counts. */

export const hbaMethods = ['trust', 'reject', 'md5', 'scram-sha-256', 'password', 'cert'] as const
export type HbaMethod = (typeof hbaMethods)[number]

export const hbaTypes = ['local', 'host', 'hostssl', 'hostnossl'] as const
export type HbaType = (typeof hbaTypes)[number]

export type HbaDatabase =
  | { kind: 'all' }
  /** The database that is named like the user. */
  | { kind: 'sameuser' }
  /** Physical replication, which is no database: no other word fits it. */
  | { kind: 'replication' }
  | HbaName

export type HbaUser = { kind: 'all' } | HbaName

export type HbaName = { kind: 'name'; name: string } | { kind: 'pattern'; pattern: RegExp }

export interface HbaRule {
  type: HbaType
  databases: readonly HbaDatabase[]
  users: readonly HbaUser[]
  /** `all` for type `local` too. */
  address: 'all' | AddressRange
  method: HbaMethod
  /** For `cert`: the map that says which users a certificate may be; without it the common name is the user. */
  map: string | undefined
  /** Where it stands: the line of a file or the place in a list, from 1. */
  line: number
}

/** What is known of a connection when its StartupMessage has come. */
export interface HbaConnection {
  /** Undefined for a Unix socket. */
  address: string | undefined
  tls: boolean
  user: string
  database: string
  /** `physical` for `replication=true`; a logical one names a database and counts as any other. */
  replication: 'none' | 'logical' | 'physical'
}

/** The first rule that fits; undefined for none, which is a refusal. */
export function findHbaRule(rules: readonly HbaRule[], connection: HbaConnection): HbaRule | undefined {
  const address = connection.address === undefined ? undefined : parseAddress(connection.address)
  return rules.find(rule => {
    if (!typeFits(rule.type, connection)) return false
    if (rule.address !== 'all' && !(address && inRange(rule.address, address))) return false
    return (
      rule.databases.some(database => databaseFits(database, connection)) &&
      rule.users.some(user => user.kind === 'all' || nameFits(user, connection.user))
    )
  })
}

function typeFits(type: HbaType, { address, tls }: HbaConnection): boolean {
  switch (type) {
    case 'local':
      return address === undefined
    case 'host':
      return address !== undefined
    case 'hostssl':
      return address !== undefined && tls
    default:
      return address !== undefined && !tls
  }
}

function databaseFits(wanted: HbaDatabase, { database, user, replication }: HbaConnection): boolean {
  if (replication === 'physical') return wanted.kind === 'replication'
  if (wanted.kind === 'all') return true
  if (wanted.kind === 'sameuser') return database === user
  return wanted.kind !== 'replication' && nameFits(wanted, database)
}

function nameFits(wanted: HbaName, name: string): boolean {
  return wanted.kind === 'name' ? wanted.name === name : wanted.pattern.test(name)
}

/**
 * Why a connection is refused before any question: no rule fits it (`rule` undefined), or one with `reject` does. In
 * the words that PostgreSQL's users know. SQLSTATE 28000.
 */
export function hbaRefusal(rule: HbaRule | undefined, connection: HbaConnection): string {
  const { address, tls, user, database, replication } = connection
  const from = address === undefined ? 'local connection' : `host "${address}"`
  const encryption = address === undefined ? '' : tls ? ', SSL encryption' : ', no encryption'
  const what =
    replication === 'physical'
      ? `replication connection from ${from}, user "${user}"`
      : `${from}, user "${user}", database "${database}"`
  return rule
    ? `pgherd's access rules reject connection for ${what}${encryption}`
    : `no entry in pgherd's access rules (as in pg_hba.conf) for ${what}${encryption}`
}
