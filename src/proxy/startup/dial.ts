import { connect, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls'
import { serverEndPoint } from '../../auth/channel-binding.ts'
import { writeSslRequest } from '../../wire/startup.ts'

/** How connections to servers are encrypted: the modes are libpq's, but for those that try without first. */
export interface ServerTls {
  mode: 'prefer' | 'require' | 'verify-ca' | 'verify-full'
  context: SecureContext
}

/** What a login on an open connection has to know about it. */
export interface LinkSecurity {
  /** What SCRAM can bind itself to (see `serverEndPoint`). */
  binding: Buffer | undefined
  /** For people: `TLSv1.3/TLS_AES_256_GCM_SHA384`. */
  description: string
}

export interface DialOptions {
  host: string
  port: number
  /** Undefined: without TLS. */
  tls: ServerTls | undefined
  /** The connection is open, and nothing was read from it yet; `security` with TLS only. */
  onOpen: (socket: Socket, security: LinkSecurity | undefined) => void
  /** It cannot be had; called at most once, and not after `onOpen`. The sentence holds nothing secret. */
  onFailed: (message: string) => void
}

const answer = { yes: 0x53, no: 0x4e }

/**
 * Opens a connection to a PostgreSQL server, encrypted where `tls` wants it. Returns the TCP connection, for the
 * caller to destroy when it has waited long enough.
 */
export function dial(options: DialOptions): Socket {
  const { host, port, tls, onFailed, onOpen } = options
  const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 })
  let over = false
  const fail = (message: string): void => {
    if (over) return
    over = true
    socket.destroy()
    onFailed(message)
  }
  const open = (opened: Socket, security: LinkSecurity | undefined): void => {
    if (over) return
    over = true
    opened.removeAllListeners('data')
    onOpen(opened, security)
  }
  // TLS goes on telling its errors to the connection below it.
  socket.on('error', error => fail(describeSocketError(error)))
  socket.on('close', () => fail('the server closed the connection'))
  socket.once('connect', () => {
    if (!tls) return open(socket, undefined)
    socket.once('data', (bytes: Buffer) => {
      // What came behind the answer, unencrypted, may be anybody's (CVE-2021-23222).
      if (bytes.length !== 1) return fail('the server did not answer the request for TLS with one byte')
      if (bytes[0] === answer.yes) return encrypt(socket, host, tls, open, fail)
      if (bytes[0] !== answer.no) return fail('the server does not understand the request for TLS')
      if (tls.mode === 'prefer') return open(socket, undefined)
      fail(`the server does not use TLS, and server_tls.mode is ${tls.mode}`)
    })
    socket.write(writeSslRequest())
  })
  return socket
}

function encrypt(
  socket: Socket,
  host: string,
  tls: ServerTls,
  open: (socket: TLSSocket, security: LinkSecurity) => void,
  fail: (message: string) => void,
): void {
  const encrypted = connectTls({
    socket,
    host,
    secureContext: tls.context,
    ALPNProtocols: ['postgresql'],
    // Names only: an address is no name that a server could choose its certificate by.
    ...(isIP(host) === 0 && { servername: host }),
    ...verification(tls),
  })
  encrypted.on('error', error => fail(describeTlsError(error)))
  encrypted.once('secureConnect', () => {
    const certificate = encrypted.getPeerX509Certificate()
    open(encrypted, {
      binding: certificate && serverEndPoint(certificate.raw),
      description: describeTls(encrypted),
    })
  })
}

/**
 * The same for a driver's connection. With `prefer` there is no TLS then: a driver cannot go on without when the
 * server has none.
 */
export function driverTls(tls: ServerTls | undefined): ConnectionOptions | undefined {
  if (!tls || tls.mode === 'prefer') return undefined
  return { secureContext: tls.context, ...verification(tls) }
}

/** What is checked of the server's certificate. */
function verification({ mode }: ServerTls): ConnectionOptions {
  switch (mode) {
    case 'verify-full':
      return { rejectUnauthorized: true }
    case 'verify-ca':
      return { rejectUnauthorized: true, checkServerIdentity: () => undefined }
    default:
      return { rejectUnauthorized: false }
  }
}

/** Version and cipher, for people. */
export function describeTls(socket: TLSSocket): string {
  return `${socket.getProtocol() ?? 'TLS'}/${socket.getCipher().standardName}`
}

/** What went wrong on a connection, in the words of the log. */
export function describeSocketError(error: Error): string {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ECONNREFUSED') return 'connection refused'
  if (code === 'ECONNRESET') return 'connection reset by the server'
  if (code === 'ENOTFOUND') return 'its host name is unknown'
  return error.message
}

function describeTlsError(error: Error): string {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return `its TLS certificate is for another host: ${error.message}`
  return `TLS could not be agreed on: ${describeSocketError(error)}`
}
