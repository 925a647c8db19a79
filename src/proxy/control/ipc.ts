import type { CertificateMapLine } from '../../auth/certificates.ts'
import type { HbaRuleObject } from '../../auth/hba-parse.ts'
import type { Route } from '../../routing/choose.ts'
import type { TopologyChange } from '../../topology/change.ts'
import type { ConsoleFromWorker, ConsoleToWorker } from '../console/messages.ts'
import type { WorkerCountersData } from '../counters.ts'
import type { GatesData } from '../pool/gates.ts'
import type { DatabaseOverrides, PoolLimits, UserOverrides } from '../pool/limits.ts'
import type { HandOver } from '../session/hand-over.ts'

/** What a worker needs to know of the configuration. Times in ms. */
export interface WorkerSettings {
  listen: string
  port: number
  /** 0: no read-only port. */
  readPort: number
  zone: string
  /** How long a node that comes back takes to get its whole share. */
  slowStartMs: number
  /** Most nodes that get no reads because they are slow or fail, of all that could serve. */
  ejectionMaxPercent: number
  clientLoginTimeoutMs: number
  queryWaitTimeoutMs: number
  /** How long a session waits for a node to go to, e.g. while there is no primary. */
  failoverWaitMs: number
  /** Most clients of this worker. */
  clientsMax: number
  shutdownTimeoutMs: number
  /** For databases and users of which nothing is said; `limitsFor` puts the three together. */
  pool: PoolLimits
  /** By the name that clients ask for. */
  databases: Record<string, DatabaseOverrides>
  users: Record<string, UserOverrides>
  tls: ClientTlsSettings
  serverTls: ServerTlsSettings
  auth: AuthSettings
  /** Address ranges (`10.0.0.0/8`) whose connections begin with a PROXY header. */
  proxyProtocolFrom: string[]
  console: ConsoleSettings
  log: { level: string; format: 'json' | 'text' }
}

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3'

/** TLS of the clients. Files are read by the worker, again with every settings message. */
export interface ClientTlsSettings {
  mode: 'disable' | 'allow' | 'require'
  /** Not undefined unless `mode` is `disable`; the key comes with it. */
  certFile: string | undefined
  keyFile: string | undefined
  /** With it clients are asked for a certificate, and one of another authority is refused. */
  clientCaFile: string | undefined
  minVersion: TlsVersion
  /** By the name that a client asks for (SNI), in lower case. */
  certificates: { serverName: string; certFile: string; keyFile: string }[]
}

/** TLS to the servers, as `sslmode` of libpq. */
export interface ServerTlsSettings {
  mode: 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'
  /** Undefined: the system's own authorities, for the modes that verify. */
  caFile: string | undefined
  certFile: string | undefined
  keyFile: string | undefined
  minVersion: TlsVersion
}

/** Who checks logins. With `passthrough` the rest is not used. */
export interface AuthSettings {
  method: 'passthrough' | 'proxy'
  /** In place of `rules`. */
  hbaFile: string | undefined
  rules: HbaRuleObject[]
  maps: CertificateMapLine[]
  usersFile: string | undefined
  /** Undefined: no server is asked. */
  query: AuthQuerySettings | undefined
}

export interface AuthQuerySettings {
  /** `$1` is the name of the user; the answer is a row of name and secret. */
  text: string
  user: string
  /** Undefined: what the users file says, if anything. */
  password: string | undefined
  /** Undefined: the client's. */
  database: string | undefined
}

export interface ConsoleSettings {
  /** Name of the database that leads to it, beside `pgbouncer`. */
  database: string
  /** With both lists empty all who log in from this machine may do all. */
  adminUsers: string[]
  /** Users who may only look. */
  statsUsers: string[]
}

/** From the control process to a worker. */
export type ToWorker =
  /**
   * The first of them starts it. `mockSecret` (hex) makes up what unknown users would have. In its slot of the file
   * that all workers have it counts what it acknowledges. `readFiles`: the files that the settings name are read again.
   */
  | {
      kind: 'settings'
      settings: WorkerSettings
      index: number
      mockSecret: string
      acknowledgedSlot: number
      readFiles: boolean
    }
  /** From the topology that it was told before. Answered by `applied`; the next one is sent after that. */
  | { kind: 'topology'; change: TopologyChange }
  /**
   * Comes with the socket of a port. Answered by `listening`, also when the worker listens on it already. `backlog`: how
   * many connections the kernel keeps until they are accepted.
   */
  | { kind: 'listen'; door: number; route: Route; backlog: number }
  /** It accepts no more. */
  | { kind: 'stop_listening' }
  /** What comes when it has so many connections is somebody else's. */
  | { kind: 'ceiling'; connections: number }
  /** Comes with the client's socket. Answered by `taken`. */
  | { kind: 'connection'; connection: number; route: Route; isTurnedAway: boolean }
  /** Comes with the socket of a client that was another worker's. Answered by `taken`. */
  | { kind: 'take_over'; connection: number; client: HandOver }
  | { kind: 'cancel'; processId: number; secret: string; request: number }
  | { kind: 'cancelled'; request: number; found: boolean }
  /** A client of another worker has changed what is known of this database. */
  | { kind: 'catalog'; database: string }
  /** Connections to this database that wait for a client are in the way of somebody. */
  | { kind: 'free_database'; database: string }
  /** What cancel keys begin with from now on. */
  | { kind: 'cancel_prefix'; prefix: number }
  | { kind: 'stop' }
  /** It gets no more clients, and ends when those that it has are gone. */
  | { kind: 'drain' }
  /** What is paused or disabled from now on. */
  | { kind: 'gates'; gates: GatesData }
  | ConsoleToWorker

/** From a worker to the control process. One that cannot start ends, and its last words are in the log. */
export type FromWorker =
  /** It has loaded and waits for its settings: what was sent before is lost. */
  | { kind: 'loaded' }
  /** It can take connections. */
  | { kind: 'ready' }
  /** Comes with the socket of the port, to be kept for another worker. */
  | { kind: 'listening'; door: number }
  /** Comes with the socket of a client that came when this worker had more than its part. Nothing of it is read. */
  | { kind: 'surplus'; route: Route; isTurnedAway: boolean; clients: number }
  /**
   * It has these clients' sockets; `clients` is how many connections it has now. One that has a ceiling says so whenever
   * that changes, but not for every single one.
   */
  | { kind: 'taken'; connections: number[]; clients: number }
  /** Comes with the socket of a client at rest, which another worker is to go on with. */
  | { kind: 'hand_over'; client: HandOver }
  | { kind: 'applied'; revision: number }
  | { kind: 'suspect'; node: string; reason: string }
  /** A client has changed what is known of this database: the other workers look at it anew. */
  | { kind: 'catalog'; database: string }
  /** The other workers' idle connections to this database are in the way of a client. */
  | { kind: 'free_database'; database: string }
  /** `isPassedOn`: it came from another proxy, and goes to none. */
  | { kind: 'cancel'; processId: number; secret: string; isPassedOn: boolean; request: number }
  | { kind: 'cancelled'; request: number; found: boolean }
  /** Sent all the time: a worker that does not is taken to hang. */
  | { kind: 'counters'; counters: WorkerCountersData }
  | ConsoleFromWorker
