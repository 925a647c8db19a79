import type { Server, Socket } from 'node:net'

/**
 * A socket that clients connect to, as it goes from one process to another. Who has it may listen on it or just keep
 * it open. Node.js sends such handles and listens on them, but has no public name for them.
 */
export interface ListeningHandle {
  close(): void
}

/** What `server` accepts from: its own, closed with it. Throws when it does not listen. */
export function handleOf(server: Server): ListeningHandle {
  const { _handle: handle } = server as Server & { _handle?: ListeningHandle | null }
  if (!handle) throw new Error('a server that does not listen has no handle: let it listen first')
  return handle
}

/** A socket can be sent to another process as well. */
export type Sendable = Socket | ListeningHandle
