import { constants } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { ClientTlsSettings, ServerTlsSettings } from '../control/ipc.ts'
import type { ServerTls } from './dial.ts'

export type TlsErrorCode =
  /** A file cannot be read. */
  | 'unreadable'
  /** Certificate, key and authorities are not what they should be, or do not belong together. */
  | 'unusable'

/** The files of a TLS section cannot be used. The message names them, and shows nothing of them. */
export class TlsError extends Error {
  readonly code: TlsErrorCode

  constructor(code: TlsErrorCode, message: string, cause: unknown) {
    super(message, { cause })
    this.name = 'TlsError'
    this.code = code
  }
}

/** What clients are encrypted with. */
export interface ClientTls {
  mode: 'allow' | 'require'
  context: SecureContext
  /** By the name that a client asks for, in lower case. */
  byName: ReadonlyMap<string, SecureContext>
  /** Clients are asked for a certificate. */
  asksCertificate: boolean
}

/**
 * Reads the files of the clients' TLS; undefined for none.
 * @throws TlsError
 */
export function loadClientTls(settings: ClientTlsSettings): ClientTls | undefined {
  const { mode, certFile, keyFile, clientCaFile, minVersion, certificates } = settings
  if (mode === 'disable' || certFile === undefined || keyFile === undefined) return undefined
  const ca = clientCaFile === undefined ? undefined : read(clientCaFile)
  const contextOf = (cert: string, key: string): SecureContext =>
    usable([cert, key, clientCaFile], () =>
      createSecureContext({
        cert: read(cert),
        key: read(key),
        ca,
        minVersion,
        honorCipherOrder: true,
        // Sessions are not resumed, and keys not negotiated anew: PostgreSQL does neither.
        secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
        sessionIdContext: 'pgherd',
      }),
    )
  return {
    mode,
    context: contextOf(certFile, keyFile),
    byName: new Map(certificates.map(each => [each.serverName, contextOf(each.certFile, each.keyFile)])),
    asksCertificate: ca !== undefined,
  }
}

/**
 * Reads the files of TLS to the servers; undefined for none.
 * @throws TlsError
 */
export function loadServerTls(settings: ServerTlsSettings): ServerTls | undefined {
  const { mode, caFile, certFile, keyFile, minVersion } = settings
  if (mode === 'disable') return undefined
  const files = { ca: readOptional(caFile), cert: readOptional(certFile), key: readOptional(keyFile) }
  const context = usable([caFile, certFile, keyFile], () => createSecureContext({ ...files, minVersion }))
  return { mode, context }
}

function read(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'error'
    throw new TlsError(
      'unreadable',
      `${file} cannot be read (${why}): check that it is there and that pgherd may read it`,
      cause,
    )
  }
}

function readOptional(file: string | undefined): Buffer | undefined {
  return file === undefined ? undefined : read(file)
}

function usable(files: readonly (string | undefined)[], make: () => SecureContext): SecureContext {
  try {
    return make()
  } catch (cause) {
    if (cause instanceof TlsError) throw cause
    const named = files.filter(file => file !== undefined).join(', ')
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new TlsError(
      'unusable',
      `TLS cannot be done with ${named} (${why}): check that they are PEM and belong together`,
      cause,
    )
  }
}
