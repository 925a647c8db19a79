import type { ServerCredentials } from '../../auth/secrets.ts'
import type { Route } from '../../routing/choose.ts'
import type { Client } from '../client/client.ts'

/**
 * A pooled client at rest, as it goes from one worker to another together with its socket. Plain JSON; text is one
 * character a byte where it comes from a client, and other bytes are in base64. It holds secrets.
 */
export interface HandOver {
  route: Route
  address: string
  user: string
  database: string
  parameters: [string, string][]
  minor: number
  home: string
  /** Replica that it has read on last. */
  readOn: string
  connectedForMs: number
  idleMs: number
  cancelKey: { processId: number; secret: string }
  session: SessionHandOver
  /** What the proxy logs in to servers with for it. */
  credentials: CredentialsHandOver | undefined
}

/** What goes along of a client; its cancel key is the worker's to add. */
export function handOverOf(
  client: Client,
  session: SessionHandOver,
  nowMs: number,
): Omit<HandOver, 'cancelKey'> {
  return {
    route: client.door,
    address: client.address,
    user: client.user,
    database: client.database,
    parameters: [...client.parameters],
    minor: client.minor,
    home: client.home,
    readOn: client.readOn,
    connectedForMs: nowMs - client.connectedMs,
    idleMs: nowMs - client.restingSinceMs,
    session,
    credentials: client.credentials?.handOver(),
  }
}

/** What a session carries along. */
export interface SessionHandOver {
  settings: [string, string][]
  told: [string, string][]
  customNames: string[]
  /** Named prepared statements: the body of the Parse message behind the name. */
  statements: { name: string; body: string; shape: string | undefined }[]
  /** The unnamed one. */
  unnamed: string | undefined
  /** It has drawn from a sequence. */
  hasDrawn: boolean
}

export interface CredentialsHandOver {
  password?: string
  md5?: string
  keys?: { iterations: number; salt: string; clientKey: string; serverKey: string }
}

export function packCredentials({ keys, md5, password }: ServerCredentials): CredentialsHandOver {
  return {
    ...(password !== undefined && { password: base64(Buffer.from(password)) }),
    ...(md5 !== undefined && { md5 }),
    ...(keys && {
      keys: {
        iterations: keys.iterations,
        salt: base64(keys.salt),
        clientKey: base64(keys.clientKey),
        serverKey: base64(keys.serverKey),
      },
    }),
  }
}

export function unpackCredentials({ keys, md5, password }: CredentialsHandOver): ServerCredentials {
  return {
    password: password === undefined ? undefined : bytes(password),
    md5,
    keys: keys && {
      iterations: keys.iterations,
      salt: bytes(keys.salt),
      clientKey: bytes(keys.clientKey),
      serverKey: bytes(keys.serverKey),
    },
  }
}

export function base64(from: Uint8Array): string {
  return Buffer.from(from).toString('base64')
}

export function bytes(text: string): Buffer {
  return Buffer.from(text, 'base64')
}
