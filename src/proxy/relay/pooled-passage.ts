import { headerBytes } from '../../wire/codes.ts'
import { Scanner } from '../../wire/scanner.ts'
import type { Database } from '../catalog/database.ts'
import type { ClientHost } from '../client/client-host.ts'
import type { PooledClient } from '../client/pooled-checkout.ts'
import type { PoolLimits } from '../pool/limits.ts'
import type { ServerConnection } from '../server.ts'
import type { PooledSession } from '../session/pooled-session.ts'
import type { Outcome, Owed } from './answers.ts'

/** What came of one message: passed on, kept until more of it has come, or held back until others are answered. */
export type Passed = 'done' | 'wait' | 'barrier'

const empty = Buffer.alloc(0)
const none: readonly Buffer[] = []

/**
 * The bytes of pooled clients on their way to one server: messages that have to be seen as a whole are put together,
 * and what goes in the place of a message, or before it, is put in.
 */
export class Passage {
  readonly server: ServerConnection
  readonly scanner = new Scanner()
  /** Whose bytes they are. */
  client!: PooledClient
  session!: PooledSession
  host!: ClientHost
  database!: Database
  /** The piece that is passing. */
  chunk: Buffer = empty
  /** The beginning of a message that has to be seen as a whole. */
  #kept: readonly Buffer[] = none
  #keptBytes = 0
  /** How many bytes must have come before it is worth looking at them again. */
  #neededBytes = 0
  #nowMs = 0
  #parts: Buffer[] = []
  /** Where what has not been put out yet begins. */
  #from = 0

  constructor(server: ServerConnection) {
    this.server = server
  }

  /** Another client's bytes pass from now on; of the one before it nothing is left. */
  serve(client: PooledClient, host: ClientHost): void {
    this.client = client
    this.session = client.session
    this.database = host.knowledgeOf(client.database)
    this.host = host
    this.scanner.reset()
    this.chunk = empty
    this.#kept = none
    this.#keptBytes = 0
    this.#parts = []
  }

  get limits(): PoolLimits {
    return this.host.limitsOf(this.client)
  }

  /** Bytes that were kept and are still to be passed on. */
  get keptBytes(): number {
    return this.#keptBytes
  }

  /** The next piece, behind what was kept; undefined when more has to come first. */
  join(piece: Buffer): Buffer | undefined {
    if (this.#keptBytes === 0) return piece
    this.#kept = [...this.#kept, piece]
    this.#keptBytes += piece.length
    if (this.#keptBytes < this.#neededBytes) return undefined
    const chunk = Buffer.concat(this.#kept, this.#keptBytes)
    this.#kept = none
    this.#keptBytes = 0
    return chunk
  }

  begin(chunk: Buffer, nowMs: number): void {
    this.chunk = chunk
    this.#nowMs = nowMs
    this.#from = 0
  }

  /** Keeps what begins at `start` until `bytes` of it have come. */
  keep(start: number, bytes: number): void {
    const rest = Buffer.from(this.chunk.subarray(start))
    this.#kept = [rest]
    this.#keptBytes = rest.length
    this.#neededBytes = bytes
  }

  /** Keeps the message whose body begins at `at` until `bodyBytes` of that have come. */
  keepMessage(at: number, bodyBytes: number): void {
    this.scanner.rewind()
    this.keep(at - headerBytes, headerBytes + bodyBytes)
  }

  /** Whether the body is here as a whole; if not and it is short enough, it is waited for. */
  whole(at: number, bytesMax: number): 'whole' | 'wait' | 'too_long' {
    const { bodyBytes } = this.scanner
    if (at + bodyBytes <= this.chunk.length) return 'whole'
    if (bodyBytes > bytesMax) return 'too_long'
    this.keepMessage(at, bodyBytes)
    return 'wait'
  }

  /** Puts out `message` instead of what stands between `start` and `end`. */
  replace(start: number, end: number, message: Buffer): void {
    this.#putOut(start)
    if (message.length > 0) this.#parts.push(message)
    this.#from = end
  }

  /** Puts out `message` before what stands at `start`. */
  putBefore(start: number, message: Buffer): void {
    this.replace(start, start, message)
  }

  /** Something is passed on that the server answers. */
  request(kind: Owed, outcome?: Outcome): void {
    this.server.request(kind, this.#nowMs, outcome)
  }

  /**
   * Sends everything up to `end`; without it, what is put out already. False: the server is slow, and the client
   * should not be read from.
   */
  flush(end = this.#from): boolean {
    this.#putOut(end)
    const parts = this.#parts
    this.chunk = empty
    if (parts.length === 0) return true
    this.#parts = []
    return this.server.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  }

  #putOut(end: number): void {
    if (end > this.#from) this.#parts.push(this.chunk.subarray(this.#from, end))
    this.#from = end
  }
}
