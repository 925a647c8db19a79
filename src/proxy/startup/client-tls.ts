import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { commonName } from '../../auth/certificates.ts'
import { serverEndPoint } from '../../auth/channel-binding.ts'
import { describeTls } from './dial.ts'
import type { ClientTls } from './tls-contexts.ts'

/** What is known of a client's TLS once it is agreed on. */
export interface ClientSecurity {
  /** What SCRAM can bind itself to (see `serverEndPoint`). */
  binding: Buffer | undefined
  /** The common name of the client's certificate, which is valid; undefined when it has shown none. */
  certificateName: string | undefined
  /** For people: `TLSv1.3/TLS_AES_256_GCM_SHA384`. */
  description: string
}

export interface EncryptOptions {
  /** Bytes of the handshake that were read already. */
  begun: Buffer
  /** The client began with the handshake instead of a request: then it must name the protocol (ALPN). */
  direct: boolean
  onSecure: (socket: TLSSocket, security: ClientSecurity) => void
  /** The client has gone in the middle of the handshake. */
  onGone: () => void
  /** The handshake failed; the connection is of no use any more. */
  onFailed: (message: string) => void
  /** The handshake succeeded, but the client's certificate does not count: it can be told so. */
  onRefused: (socket: TLSSocket, message: string) => void
}

/** The name of PostgreSQL's protocol in a TLS handshake. */
const applicationProtocol = 'postgresql'

/** The server's side of TLS on a client's connection, which must have no listeners for data. */
export function encryptClient(socket: Socket, tls: ClientTls, options: EncryptOptions): void {
  const { begun, direct, onFailed, onGone, onRefused, onSecure } = options
  socket.pause()
  if (begun.length > 0) socket.unshift(begun)
  const encrypted = new TLSSocket(socket, {
    isServer: true,
    secureContext: tls.context,
    SNICallback: (name, done) => done(null, tls.byName.get(name.toLowerCase())),
    // Whoever names only other protocols is turned away within the handshake.
    ALPNProtocols: [applicationProtocol],
    requestCert: tls.asksCertificate,
    // One that is not valid is refused below, by a message that tells why.
    rejectUnauthorized: false,
  })
  let isSecure = false
  // Stays for good: whoever has given up meanwhile listens to nothing.
  encrypted.on('error', error => {
    if (!isSecure) onFailed(`TLS could not be agreed on: ${error.message}`)
  })
  // A connection that may be half-closed is not ended by its end.
  encrypted.on('end', () => {
    if (!isSecure) onGone()
  })
  encrypted.once('secure', () => {
    isSecure = true
    if (direct && encrypted.alpnProtocol !== applicationProtocol) {
      encrypted.destroy()
      return onFailed('TLS without a request for it has to name the protocol "postgresql" (ALPN)')
    }
    const certificate = tls.asksCertificate ? certificateOf(encrypted) : { name: undefined }
    if ('problem' in certificate) return onRefused(encrypted, certificate.problem)
    const own = encrypted.getX509Certificate()
    onSecure(encrypted, {
      binding: own && serverEndPoint(own.raw),
      certificateName: certificate.name,
      description: describeTls(encrypted),
    })
  })
}

/** The handle of a TLS connection, where the result of the check of the peer's certificate is. */
interface Verified {
  _handle?: { verifyError?: () => Error | null | undefined } | null
}

/** Only `tls.Server` reads that result, and it cannot be told which connection to do it for. */
function certificateOf(socket: TLSSocket): { name: string | undefined } | { problem: string } {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return { name: undefined }
  const handle = (socket as unknown as Verified)._handle
  const problem =
    typeof handle?.verifyError === 'function' ? handle.verifyError() : new Error('it could not be checked')
  if (problem) return { problem: `the client certificate is not valid: ${problem.message}` }
  return { name: commonName(socket.getPeerCertificate().subject) }
}
