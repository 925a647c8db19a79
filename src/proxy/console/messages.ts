import type { Row } from './columns.ts'
import type { ConsoleErrorCode, RemoteCommand } from './commands.ts'

/** What the control process asks a worker for the console. A database is one by the name that clients ask for. */
export type Question =
  /** Rows of the tables of these names, the columns of pgherd's own among them. */
  | { what: 'clients' | 'servers' | 'sockets' | 'active_sockets' | 'pins' | 'lanes' | 'mem' }
  /** `PoolFacts` rows. */
  | { what: 'pools' }
  /** One row: clients, logins, server connections, and those of the clients that are of the console. */
  | { what: 'lists' }
  /** No rows; its counters are sent before the answer. */
  | { what: 'counters' }
  /** One row: server connections, and those of them that are to be closed. */
  | { what: 'load'; database: string | undefined }
  /** One row: how many server connections or clients it was done to. */
  | { what: 'reconnect' | 'kill'; database: string | undefined }
  | { what: 'kill_client'; client: string }

/** How a command has ended: its tag and what is to be told beside, or why it was not carried out. */
export type Outcome =
  | { tag: string; notices: string[] }
  | { error: ConsoleErrorCode; message: string; hint: string | undefined }

/** What the console says from the control process to a worker. */
export type ConsoleToWorker =
  | { kind: 'console_ask'; request: number; question: Question }
  /** Rows of the answer to a command, some at a time. */
  | { kind: 'console_rows'; request: number; rows: Row[] }
  | { kind: 'console_done'; request: number; outcome: Outcome }

/** What the console says from a worker to the control process. */
export type ConsoleFromWorker =
  /** A client of the console wants this done. */
  | { kind: 'console_command'; request: number; command: RemoteCommand }
  /** That client has changed its mind, or is gone. */
  | { kind: 'console_cancel'; request: number }
  /** Rows of the answer to a question; `last` with the last of them. */
  | { kind: 'console_told'; request: number; rows: Row[]; last: boolean }

/** Rows that are made and sent at a time, so that nobody is kept waiting for long. */
export const rowsAtOnce = 500
