/** What a contestant must be like for a workload, and where it stands. */
export interface Setup {
  /** A folder of its own, for its files. */
  dir: string
  /** Free ports of 127.0.0.1: the first for clients. */
  ports: readonly [number, number, number]
  /** Where PostgreSQL listens on 127.0.0.1; it trusts everybody. */
  serverPort: number
  /** Where its replicas listen, for workloads that are about balancing; else none. */
  replicaPorts: readonly number[]
  /** File of users with their SCRAM verifiers, as PgBouncer and pgherd read it. */
  usersFile: string
  /** The verifier of the bench's user, for those that have their users in a configuration of their own. */
  verifier: string
  /** Most server connections, where a contestant pools them. */
  poolSize: number
  /** Most clients at once. */
  clientsMax: number
  /** How clients log in at a contestant that asks by itself. */
  login: 'trust' | 'scram'
  /** Clients prepare statements by name and use them in later transactions. */
  keepsStatements: boolean
  /** Processes or threads, where a contestant has a choice; undefined: as it chooses by itself. */
  workers: number | undefined
}

/** How a contestant is started. */
export interface Launch {
  /** Its configuration: texts by name, written into its folder. */
  files: Record<string, string>
  command: readonly string[]
  /** It keeps much for each client that has left, which would burden the others' turns: it ends after its own. */
  endsAfterTurn?: boolean
}

/** One way for clients to PostgreSQL. */
export interface Contestant {
  /** As options, results and files have it: `pgbouncer`. */
  name: string
  /** As tables have it: `PgBouncer`. */
  title: string
  version: string
  /** Whether it asks clients for their passwords by itself. */
  checksPasswords: boolean
  /** Whether its ratios to all others are told. */
  isSubject: boolean
  /** Whether it runs as the account of the PostgreSQL server, because it refuses to run as root. */
  asServerAccount: boolean
  /** Whether it spreads reads over replicas; `only`: it takes no part in anything else. */
  balances?: true | 'only'
  /** What it does in place of what is asked for where clients keep prepared statements. */
  statementsRemark?: string
  /** Missing for PostgreSQL itself. */
  launch?: (setup: Setup) => Launch
}

export const benchUser = 'bench'
/** One of its own: Pgpool-II keeps no connections to the database `postgres`. */
export const benchDatabase = 'bench'
