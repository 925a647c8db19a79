export type DemoErrorCode =
  /** No PostgreSQL server programs on this machine, or the ones named cannot be used. */
  | 'no_binaries'
  /** The folder for the servers cannot be used by the account they run as, or holds something else. */
  | 'folder_unusable'
  /** The data folder was made by another major version of PostgreSQL. */
  | 'version_mismatch'
  /** A server is running on the data folder already. */
  | 'folder_in_use'
  /** Another program listens on the port. */
  | 'port_taken'
  /** initdb or the server ended, or did not answer in time; the message has its last words. */
  | 'start_failed'
  /** A replica could not be made from its primary. */
  | 'clone_failed'
  /** The servers were told to stop while they were being started. */
  | 'closed'

/** What went wrong with the local servers, as a sentence that says what to do. */
export class DemoError extends Error {
  readonly code: DemoErrorCode
  constructor(code: DemoErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'DemoError'
    this.code = code
  }
}
