import type { Socket } from 'node:net'
import type { ServerCredentials } from '../../auth/secrets.ts'
import type { Route } from '../../routing/choose.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { writeErrorResponse, writeNegotiateProtocolVersion } from '../../wire/messages.ts'
import { readStartup, type StartupPacket } from '../../wire/startup.ts'
import type { WorkerCounters } from '../counters.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from '../failures.ts'

/** A connection whose client has said who it is and what it wants: the session may begin. */
export interface Arrival {
  /** What to talk through: the TCP connection itself, or TLS on it. */
  readonly socket: Socket
  /** Where it connects from: `address:port`. */
  readonly address: string
  readonly route: Route
  readonly user: string
  readonly database: string
  /** Startup parameters as they came, but for protocol options (`_pq_.`). */
  readonly parameters: ReadonlyMap<string, string>
  /** A walsender session. */
  readonly replication: boolean
  /** Minor version of protocol 3 that is spoken. */
  readonly minor: number
  /** NegotiateProtocolVersion, to be sent before anything else. */
  readonly negotiation: Buffer | undefined
  /** What has come behind the startup packets. */
  readonly ahead: Buffer
  /**
   * What the proxy can log in to servers with, when it has authenticated the client itself; undefined when the
   * servers' own challenges are passed on to the client.
   */
  readonly credentials: ServerCredentials | undefined
}

/** What the first packets need of the worker around them. */
export interface StartupHost {
  readonly timers: Timers
  readonly log: Logger
  readonly counters: WorkerCounters
  readonly loginTimeoutMs: number
  /** Undefined when one more client is welcome, else the reason against it. */
  refusal(): string | undefined
  cancel(processId: number, secret: Buffer, done: () => void): void
  onArrived(startup: ClientStartup, arrival: Arrival): void
  onEnd(startup: ClientStartup, reason: DisconnectReason): void
}

/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000

/**
 * The first packets of a connection: requests for encryption, a CancelRequest, or the StartupMessage of a session.
 * Ends in `onArrived`, from where on the socket belongs to someone else, or in `onEnd`.
 */
export class ClientStartup {
  readonly address: string
  readonly #route: Route
  readonly #host: StartupHost
  readonly #socket: Socket
  #ahead: Buffer = empty
  #timer: Timer | undefined
  #encryptionAsked = 0
  #state: 'reading' | 'cancelling' | 'over' = 'reading'
  readonly #listeners: [string, (...args: never[]) => void][] = []

  constructor(socket: Socket, route: Route, host: StartupHost) {
    this.#socket = socket
    this.#route = route
    this.#host = host
    this.address = `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 30_000)
    this.#listen('data', (chunk: Buffer) => this.#onData(chunk))
    this.#listen('end', () => this.end('client_closed'))
    this.#listen('error', () => this.end('client_lost'))
    this.#listen('close', () => this.end('client_closed'))
    const { timers, loginTimeoutMs } = host
    this.#timer = timers.after(loginTimeoutMs, () =>
      this.end('login_timeout', `the login did not finish within ${loginTimeoutMs} ms`),
    )
  }

  #listen(event: string, listener: (...args: never[]) => void): void {
    this.#listeners.push([event, listener])
    this.#socket.on(event, listener as (...args: unknown[]) => void)
  }

  #onData(chunk: Buffer): void {
    this.#host.counters.bytesFromClients += chunk.length
    this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk])
    while (this.#state === 'reading') {
      const read = readStartup(this.#ahead)
      if (read.done === false) return
      if (read.done === 'invalid') return this.end('protocol_violation', read.problem)
      this.#ahead = this.#ahead.subarray(read.bytes)
      this.#onPacket(read.packet)
    }
  }

  #onPacket(packet: StartupPacket): void {
    switch (packet.kind) {
      case 'ssl':
      case 'gss':
        // PostgreSQL answers each once; a client that goes on asking is not one.
        if (++this.#encryptionAsked > 2)
          return this.end('protocol_violation', 'encryption was asked for too often')
        this.#socket.write(notEncrypted)
        return
      case 'cancel':
        this.#state = 'cancelling'
        this.#host.cancel(packet.processId, packet.secret, () => this.end('cancel_request'))
        return
      case 'startup':
        return this.#onStartupMessage(packet.minor, packet.parameters)
      default:
        packet satisfies never
    }
  }

  #onStartupMessage(minor: number, asked: Map<string, string>): void {
    const refusal = this.#host.refusal()
    if (refusal !== undefined) return this.end('too_many_clients', refusal)
    const unknown = [...asked.keys()].filter(name => name.startsWith('_pq_.'))
    for (const name of unknown) asked.delete(name)
    const user = asked.get('user') ?? ''
    if (user === '') {
      return this.end('login_refused', 'the startup packet names no PostgreSQL user', {
        hint: 'Give the user in the connection string, for example with psql -U.',
      })
    }
    this.#arrive({
      socket: this.#socket,
      address: this.address,
      route: this.#route,
      user,
      database: asked.get('database') || user,
      parameters: asked,
      replication: isReplication(asked.get('replication')),
      minor: 0,
      negotiation: minor > 0 || unknown.length > 0 ? writeNegotiateProtocolVersion(unknown) : undefined,
      ahead: this.#ahead,
      credentials: undefined,
    })
  }

  #arrive(arrival: Arrival): void {
    this.#state = 'over'
    this.#timer?.cancel()
    for (const [event, listener] of this.#listeners) {
      this.#socket.off(event, listener as (...args: unknown[]) => void)
    }
    this.#ahead = empty
    this.#host.onArrived(this, arrival)
  }

  /** Ends the connection; with a message the client is told why, as a FATAL ErrorResponse. */
  end(reason: DisconnectReason, message?: string, more?: ErrorDetails): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#timer?.cancel()
    if (message !== undefined) {
      this.#host.log.debug({ client: this.address, reason }, message)
      if (this.#socket.writable) this.#socket.write(writeErrorResponse(errorFor(reason, message, more)))
    }
    // A client that does not read is not waited for long.
    this.#socket.destroySoon()
    if (this.#socket.writableLength > 0) {
      this.#host.timers.after(farewellMs, () => this.#socket.destroy())
    }
    this.#host.onEnd(this, reason)
  }
}

const empty = Buffer.alloc(0)
const notEncrypted = Buffer.from('N')

function isReplication(value: string | undefined): boolean {
  return value !== undefined && !['', 'false', 'off', 'no', '0'].includes(value.toLowerCase())
}
