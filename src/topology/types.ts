/**
 * The words of the cluster as data. Everything here is plain JSON: it is what stands in the store's keys
 * (`keys.ts` has their names, `codec.ts` reads and writes them) and what the control process sends to its
 * workers. Fields that this version does not know are kept when a value is rewritten.
 */

/** Log sequence number as a number of bytes since the start of WAL. Safe in a double until 8 PB of WAL. */
export type Lsn = number

export type NodeState = 'active' | 'drain' | 'maintenance'

/** What the operator wants of a node: `intent/nodes/<name>`. */
export interface NodeIntent {
  v: 1
  host: string
  port: number
  /** Share of the load among equals; 0 takes no new sessions. */
  weight: number
  zone: string
  /** Preference at a failover, higher first; 0 never becomes primary. */
  priority: number
  state: NodeState
  tags: Record<string, string>
}

/** What counts for the routing of one process: the fleet's settings and its own configuration together. */
export interface Settings {
  v: 1
  /** A replica further behind than this takes no new reads. */
  replicaLagBytesMax?: number
  /** Whether reads may go to the primary when no replica qualifies. */
  readFallback?: 'primary' | 'none'
  /** How long a session that cannot be moved may stay on a drained node. */
  drainTimeoutMs?: number
}

/** The same with nothing left open. */
export type RoutingSettings = Required<Omit<Settings, 'v'>>

/**
 * Fleet-wide settings: `intent/settings`. What is absent is decided by each proxy's own configuration. The three of
 * `Settings` count where `values` does not say them (`routing.replica_lag_max`, ...).
 */
export interface FleetSettings extends Settings {
  /** By key of the configuration (`proxy.query_wait_timeout`), each as it would stand in a file. */
  values?: Record<string, unknown>
}

/** One change of the intent, with who made it and why: `intent/history/<number>`. */
export interface HistoryEntry {
  v: 1
  /** Made up by who made the change, so that one whose answer was lost can be found again. */
  id: string
  /** ISO time of the change, by the clock of who made it. */
  at: string
  who: string
  /** What was done, as a sentence. */
  what: string
  why?: string
  /** By name; null where there was, or then is, none. */
  nodes: Record<string, { before: NodeIntent | null; after: NodeIntent | null }>
  /** Of the settings, by key; null where it was not, or then is not, set. */
  settings: Record<string, { before: unknown; after: unknown }>
}

export type Role = 'primary' | 'replica' | 'unknown'

/** What an agent reports about its node under a lease: `status/nodes/<name>`. */
export interface NodeStatus {
  v: 1
  /** Grows by one with every report of one agent process. */
  seq: number
  /** Where clients of this node connect to. */
  host: string
  port: number
  zone: string
  role: Role
  /** Whether the server accepts connections now. When false, role and figures are the last known. */
  accepting: boolean
  /** Why it does not accept, as a sentence; absent when it does. */
  reason?: string
  systemId: string
  timeline: number
  /** Primary: current write position. */
  writeLsn?: Lsn
  /** Replica: received and replayed positions. */
  receiveLsn?: Lsn
  replayLsn?: Lsn
  /** Replica: ms since the last replayed commit while behind, 0 when everything received is replayed. */
  lagMs?: number
  /** Replica: state of its WAL receiver, `streaming` when it follows. */
  replicationState?: string
  /** Replica: `host:port` it receives from. */
  upstream?: string
  connections: { max: number; used: number; active: number; idleInTransaction: number }
  /** Of the machine, 0..1; absent where it cannot be read. */
  load?: { cpu: number; io?: number }
  checkpoint?: { requested: number; timed: number }
  /** Replication slots with the WAL bytes each holds back. */
  slots: { name: string; active: boolean; retainedBytes: number }[]
  /** `server_version_num`. */
  version: number
  agentVersion: string
  /** ISO time of the report, for people. */
  at: string
}

/** What a proxy reports about itself under a lease: `status/proxies/<id>`. */
export interface ProxyStatus {
  v: 1
  id: string
  /** Where other machines reach it: `host:port`. */
  address: string
  adminUrl: string
  /** First byte of the cancel keys that it makes; absent where a version does not say. */
  cancelPrefix?: number
  /** Newest store revision whose intent every one of its workers has applied. */
  appliedRevision: number
  clients: number
  /** Sessions of this proxy by node. */
  sessions?: Record<string, number>
  version: string
  /** Settings that its own configuration says, where those of the fleet do not count. */
  ownSettings?: string[]
  at: string
}

/** Who leads, written by an agent in managed mode: `leader`. Its create revision is the epoch. */
export interface Leader {
  v: 1
  node: string
  timeline: number
}

/** What one PostgreSQL says about itself when it is asked: the part of a `NodeStatus` that comes from SQL. */
export type NodeFacts = Pick<
  NodeStatus,
  | 'role'
  | 'systemId'
  | 'timeline'
  | 'writeLsn'
  | 'receiveLsn'
  | 'replayLsn'
  | 'lagMs'
  | 'replicationState'
  | 'upstream'
  | 'connections'
  | 'checkpoint'
  | 'slots'
  | 'version'
>

/** What a proxy saw by asking a server itself. */
export interface Observation {
  /** Grows with every observation of one process; the newer one counts. */
  seq: number
  reachable: boolean
  /** Why not, as a sentence; absent when reachable. */
  reason?: string
  /** When reachable, now; else as it was the last time, if ever. */
  facts?: NodeFacts
  /**
   * Reports of the agent up to this revision may be from before an outage of the store: they do not count beside this.
   * Absent where there is no such doubt.
   */
  doubtedRevision?: number
}

/** One node as routing sees it, with the reasons for what it may do. */
export interface TopologyNode {
  name: string
  host: string
  port: number
  weight: number
  zone: string
  state: NodeState
  tags: Record<string, string>
  role: Role
  accepting: boolean
  /** Whether an operator declared the node, or its agent alone did. */
  declared: boolean
  /** Who said so: the agent, the proxy's own probe, or nobody yet. */
  source: 'agent' | 'probe' | 'none'
  systemId: string
  timeline: number
  lsn: Lsn | undefined
  lagBytes: number | undefined
  lagMs: number | undefined
  connections: { max: number; used: number; active: number; idleInTransaction: number } | undefined
  load: { cpu: number; io?: number } | undefined
  version: number
  /** May take writes now. At most one node of a topology has it. */
  writable: boolean
  /** May take new reads as a replica now. */
  readable: boolean
  /** Why it is not the primary to write to, or not a candidate for reads; sentences for people. */
  reasons: string[]
}

export interface Topology {
  cluster: string
  /** Store revision this was made from. */
  revision: number
  /** Newest revision at which an `intent/` key changed. */
  intentRevision: number
  /** Create revision of the leader key, 0 without one. */
  epoch: number
  systemId: string
  nodes: TopologyNode[]
  /** Name of the one node that is the primary; its `writable` says whether it can take writes now. */
  primary: string | undefined
  /** Names of the nodes that claim to be primary when it cannot be decided which one is; else empty. */
  conflict: string[]
  /** Why there is no primary to write to, or what else is wrong with the cluster; sentences for people. */
  alarms: string[]
  settings: Settings
}
