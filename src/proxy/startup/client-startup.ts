import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { parseAddress } from '../../auth/addresses.ts'
import type { HbaConnection } from '../../auth/hba.ts'
import type { Route } from '../../routing/choose.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import { addressOf, peerIp, peerOf } from '../../runtime/sockets.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import { minorVersionMax, writeErrorResponse, writeNegotiateProtocolVersion } from '../../wire/messages.ts'
import { beginsProxyHeader, readProxyHeader } from '../../wire/proxy-protocol.ts'
import { readStartup, type StartupPacket } from '../../wire/startup.ts'
import { type DisconnectReason, type ErrorDetails, errorFor } from '../client/failures.ts'
import type { WorkerCounters } from '../counters.ts'
import { ClientLogin, type LoginRules } from './client-login.ts'
import { type ClientSecurity, encryptClient } from './client-tls.ts'
import type { LoginRefusal } from './login-refusals.ts'
import type { Security } from './security.ts'
import type { ServerAccount } from './server-account.ts'
import type { ClientTls } from './tls-contexts.ts'

/** A connection whose client has said who it is and what it wants: the session may begin. */
export interface Arrival {
  /** What to talk through: the TCP connection itself, or TLS on it. */
  readonly socket: Socket
  /** Where it connects from: `address:port`; by the PROXY header where a balancer sends one. */
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
  /** To be sent before anything else: NegotiateProtocolVersion, or the end of a login; undefined for nothing. */
  readonly negotiation: Buffer | undefined
  /** What has come behind the startup packets and the login. */
  readonly ahead: Buffer
  /** TLS for people (`TLSv1.3/TLS_AES_256_GCM_SHA384`); empty without. */
  readonly tls: string
  /**
   * What the proxy can log in to servers with, when it has authenticated the client itself; undefined when the
   * servers' own challenges are passed on to the client.
   */
  readonly credentials: ServerAccount | undefined
}

/** What the first packets need of the worker around them. */
export interface StartupHost {
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  readonly log: Logger
  readonly counters: WorkerCounters
  readonly security: Security
  readonly loginTimeoutMs: number
  /** Undefined when one more client is welcome, else the reason against it. */
  refusal(): string | undefined
  cancel(processId: number, secret: Buffer, done: () => void): void
  onArrived(startup: ClientStartup, arrival: Arrival): void
  onEnd(startup: ClientStartup, reason: DisconnectReason): void
}

/** How long the last words to a client that does not read are kept. */
const farewellMs = 2000

/** The first byte of a TLS handshake, which no startup packet begins with. */
const tlsHandshake = 0x16

/** What the StartupMessage says, with what has become of it. */
type Wish = Omit<Arrival, 'ahead' | 'credentials'>

/**
 * The first packets of a connection:
 *
 * ```
 * [PROXY header] -> reading <-> encrypting
 *                      |-> cancelling -> over
 *                      |-> [login at the proxy] -> over: arrived
 * ```
 * Ends in `onArrived`, from where on the socket belongs to someone else, or in `onEnd`.
 */
export class ClientStartup {
  /** Where it connects from: `address:port`. */
  address: string
  readonly #route: Route
  readonly #host: StartupHost
  #socket: Socket
  #ip: string
  #ahead: Buffer = empty
  #timer: Timer | undefined
  #state: 'header' | 'reading' | 'encrypting' | 'cancelling' | 'login' | 'over' = 'reading'
  #encryptionAsked = 0
  #security: ClientSecurity | undefined
  #login: ClientLogin | undefined
  #listeners: [string, (...args: never[]) => void][] = []

  constructor(socket: Socket, route: Route, host: StartupHost) {
    this.#socket = socket
    this.#route = route
    this.#host = host
    this.#ip = peerIp(socket)
    this.address = peerOf(socket)
    if (host.security.isBalancer(socket.remoteAddress)) this.#state = 'header'
    this.#listen()
    const { timers, loginTimeoutMs } = host
    this.#timer = timers.after(loginTimeoutMs, () =>
      this.end('login_timeout', `the login did not finish within ${loginTimeoutMs} ms`),
    )
  }

  #listen(): void {
    this.#listeners = [
      ['data', (chunk: Buffer) => this.#onData(chunk)],
      ['end', () => this.end('client_closed')],
      ['error', () => this.end('client_lost')],
      ['close', () => this.end('client_closed')],
    ]
    for (const [event, listener] of this.#listeners) {
      this.#socket.on(event, listener as (...args: unknown[]) => void)
    }
  }

  #letGo(): void {
    for (const [event, listener] of this.#listeners) {
      this.#socket.off(event, listener as (...args: unknown[]) => void)
    }
  }

  #onData(chunk: Buffer): void {
    this.#host.counters.bytesFromClients += chunk.length
    if (this.#login) return this.#login.push(chunk)
    if (this.#state !== 'header' && this.#state !== 'reading') return
    this.#ahead = this.#ahead.length === 0 ? chunk : Buffer.concat([this.#ahead, chunk])
    if (this.#state === 'header') this.#readHeader()
    while (this.#state === 'reading' && this.#ahead.length > 0) {
      if (this.#ahead[0] === tlsHandshake && !this.#security && this.#encryptionAsked === 0) {
        return this.#startDirectTls()
      }
      const read = readStartup(this.#ahead)
      if (read.done === false) return
      if (read.done === 'invalid') return this.#refuseBytes(read.problem)
      this.#ahead = this.#ahead.subarray(read.bytes)
      this.#onPacket(read.packet)
    }
  }

  #refuseBytes(problem: string): void {
    if (this.#security || !beginsProxyHeader(this.#ahead)) return this.end('protocol_violation', problem)
    const { log } = this.#host
    const why = 'a PROXY header came from an address that is not listed in proxy.proxy_protocol_from'
    log.warn({ event: 'proxy_header.refused', client: this.address }, why)
    this.end('protocol_violation', why)
  }

  /** A balancer says whom it speaks for. What breaks the rules is not told: it would reach the balancer's client. */
  #readHeader(): void {
    const read = readProxyHeader(this.#ahead)
    if (read.done === false) return
    if (read.done === true) {
      this.#ahead = this.#ahead.subarray(read.bytes)
      this.#state = 'reading'
      if (!read.source) return
      if (parseAddress(read.source.address)) {
        this.#ip = read.source.address
        this.address = addressOf(read.source.address, read.source.port)
        return
      }
    }
    const why = read.done === 'invalid' ? read.problem : 'no PROXY header came, or none with a valid address'
    const { log } = this.#host
    log.warn({ event: 'proxy_header.missing', client: this.address }, `a connection is closed: ${why}`)
    this.end('protocol_violation')
  }

  #onPacket(packet: StartupPacket): void {
    switch (packet.kind) {
      case 'ssl':
      case 'gss':
        return this.#onEncryptionRequest(packet.kind)
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

  // Encryption.

  #onEncryptionRequest(kind: 'ssl' | 'gss'): void {
    const tls = this.#host.security.clientTls
    // PostgreSQL answers each once; a client that goes on asking is not one.
    if (++this.#encryptionAsked > 2 || this.#security) {
      return this.end('protocol_violation', 'encryption was asked for too often')
    }
    if (kind === 'gss' || !tls) {
      this.#socket.write(notEncrypted)
      return
    }
    // Sent before the handshake, it was not encrypted, and may be anybody's (CVE-2021-23214).
    if (this.#ahead.length > 0) {
      return this.end('protocol_violation', 'unencrypted data came behind the request for TLS')
    }
    this.#socket.write(encrypted)
    this.#encrypt(tls, false)
  }

  #startDirectTls(): void {
    const tls = this.#host.security.clientTls
    if (tls) return this.#encrypt(tls, true)
    this.#host.log.info(
      { event: 'tls.refused', client: this.address },
      'a client begins with TLS, which is not set up',
    )
    this.end('protocol_violation')
  }

  #encrypt(tls: ClientTls, direct: boolean): void {
    const plain = this.#socket
    const begun = this.#ahead
    this.#ahead = empty
    this.#state = 'encrypting'
    this.#letGo()
    plain.on('error', () => this.end('client_lost'))
    plain.on('close', () => {
      // Once it is encrypted, the socket above this one says so.
      if (this.#socket === plain) this.end('client_closed')
    })
    encryptClient(plain, tls, {
      begun,
      direct,
      onSecure: (socket, security) => {
        if (this.#state !== 'encrypting') return
        this.#becomeSecure(socket, security)
      },
      onGone: () => this.end('client_closed'),
      onFailed: message => {
        if (this.#state !== 'encrypting') return
        this.#host.log.info({ event: 'tls.failed', client: this.address }, message)
        this.end('protocol_violation')
      },
      onRefused: (socket, message) => {
        if (this.#state !== 'encrypting') return
        this.#becomeSecure(socket, undefined)
        this.#refuse('certificate', message)
      },
    })
  }

  #becomeSecure(socket: TLSSocket, security: ClientSecurity | undefined): void {
    this.#socket = socket
    this.#security = security
    this.#state = 'reading'
    this.#listen()
  }

  // The session.

  #onStartupMessage(asked: number, given: Map<string, string>): void {
    const { security } = this.#host
    const refusal = this.#host.refusal()
    if (refusal !== undefined) return this.end('too_many_clients', refusal)
    if (security.clientTls?.mode === 'require' && !this.#security) {
      return this.#refuse('unencrypted', 'this proxy takes encrypted connections only', {
        hint: 'Connect with TLS (sslmode=require).',
      })
    }
    const unknown = [...given.keys()].filter(name => name.startsWith('_pq_.'))
    for (const name of unknown) given.delete(name)
    const user = given.get('user') ?? ''
    if (user === '') {
      return this.end('login_refused', 'the startup packet names no PostgreSQL user', {
        hint: 'Give the user in the connection string, for example with psql -U.',
      })
    }
    const minor = Math.min(asked, minorVersionMax)
    const negotiates = asked > minor || unknown.length > 0
    const wish: Wish = {
      socket: this.#socket,
      address: this.address,
      route: this.#route,
      user,
      database: given.get('database') || user,
      parameters: given,
      replication: replicationOf(given.get('replication')) !== 'none',
      minor,
      negotiation: negotiates ? writeNegotiateProtocolVersion(minor, unknown) : undefined,
      tls: this.#security?.description ?? '',
    }
    if (security.rules) this.#logIn(wish, security.rules)
    else this.#arrive({ ...wish, ahead: this.#ahead, credentials: undefined })
  }

  /** The proxy finds out itself whether the client is who it says. */
  #logIn(wish: Wish, rules: LoginRules): void {
    const { clock, log, random, timers } = this.#host
    if (wish.negotiation) this.#socket.write(wish.negotiation)
    const connection: HbaConnection = {
      address: this.#ip,
      tls: this.#security !== undefined,
      user: fromWire(wish.user),
      database: fromWire(wish.database),
      replication: replicationOf(wish.parameters.get('replication')),
    }
    this.#state = 'login'
    this.#login = new ClientLogin({
      rules,
      connection,
      client: this.address,
      security: this.#security,
      clock,
      timers,
      random,
      log,
      send: message => void this.#socket.write(message),
      onAccepted: ({ account, last, rest }) =>
        this.#arrive({ ...wish, negotiation: last, ahead: rest, credentials: account }),
      onRefused: (reason, message, details) => this.#refuse(reason, message, details),
    })
    const ahead = this.#ahead
    this.#ahead = empty
    if (ahead.length > 0) this.#login.push(ahead)
    this.#login.start()
  }

  #refuse(reason: LoginRefusal, message: string, details?: ErrorDetails): void {
    this.#host.counters.loginRefusals[reason]++
    this.end('login_refused', message, details)
  }

  #arrive(arrival: Arrival): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#timer?.cancel()
    this.#letGo()
    this.#ahead = empty
    this.#host.onArrived(this, arrival)
  }

  /** Ends the connection; with a message the client is told why, as a FATAL ErrorResponse. */
  end(reason: DisconnectReason, message?: string, more?: ErrorDetails): void {
    if (this.#state === 'over') return
    // In the middle of a handshake nothing can be told.
    const isMute = this.#state === 'encrypting'
    this.#state = 'over'
    this.#timer?.cancel()
    this.#login?.close()
    if (message !== undefined) {
      this.#host.log.debug({ client: this.address, reason }, message)
      if (this.#socket.writable && !isMute)
        this.#socket.write(writeErrorResponse(errorFor(reason, message, more)))
    }
    // A client that does not read is not waited for long.
    if (isMute) this.#socket.destroy()
    else this.#socket.destroySoon()
    if (this.#socket.writableLength > 0) {
      this.#host.timers.after(farewellMs, () => this.#socket.destroy())
    }
    this.#host.onEnd(this, reason)
  }
}

const empty = Buffer.alloc(0)
const encrypted = Buffer.from('S')
const notEncrypted = Buffer.from('N')

/** Names come as bytes; where they are compared with configured ones they are text. */
function fromWire(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8')
}

/** As PostgreSQL reads the parameter: `database` makes a walsender that is in a database. */
function replicationOf(value: string | undefined): HbaConnection['replication'] {
  if (value === undefined || ['', 'false', 'off', 'no', '0'].includes(value.toLowerCase())) return 'none'
  return value === 'database' ? 'logical' : 'physical'
}
