import { Startup, startupBytesMax } from './codes.ts'

/** What the first packet of a connection asks for. */
export type StartupPacket =
  | { kind: 'ssl' }
  | { kind: 'gss' }
  | { kind: 'cancel'; processId: number; secret: Buffer }
  | { kind: 'startup'; major: number; minor: number; parameters: Map<string, string> }

/** `bytes` is what the packet takes; `need` how many more bytes are needed at least. */
export type StartupRead =
  | { done: true; packet: StartupPacket; bytes: number }
  | { done: false; need: number }
  | { done: 'invalid'; problem: string }

/**
 * Reads the first packet: StartupMessage, SSLRequest, GSSENCRequest or CancelRequest, which have no code.
 * Bounds are PostgreSQL's own. Source: "Message Formats" and `ProcessStartupPacket`.
 */
export function readStartup(buffer: Buffer): StartupRead {
  if (buffer.length < 4) return { done: false, need: 4 - buffer.length }
  const length = buffer.readUInt32BE(0)
  if (length < 8 || length > startupBytesMax)
    return { done: 'invalid', problem: `invalid length of startup packet: ${length} bytes` }
  if (buffer.length < 8) return { done: false, need: 8 - buffer.length }
  const code = buffer.readUInt32BE(4)
  // A stranger's bytes (HTTP, TLS) are told before their "length" is waited for.
  const major = code >>> 16
  const known =
    code === Startup.SSLRequest || code === Startup.GSSENCRequest || code === Startup.CancelRequest
  if (!known && major !== 3) {
    return {
      done: 'invalid',
      problem: `unsupported frontend protocol ${major}.${code & 0xffff}: pgherd speaks 3.0 to 3.2`,
    }
  }
  if (buffer.length < length) return { done: false, need: length - buffer.length }
  if (code === Startup.SSLRequest || code === Startup.GSSENCRequest) {
    if (length !== 8) return { done: 'invalid', problem: `invalid length of startup packet: ${length} bytes` }
    return { done: true, packet: { kind: code === Startup.SSLRequest ? 'ssl' : 'gss' }, bytes: length }
  }
  if (code === Startup.CancelRequest) {
    if (length < 16 || length > 12 + 256) {
      return { done: 'invalid', problem: `invalid length of cancel request: ${length} bytes` }
    }
    const secret = Buffer.from(buffer.subarray(12, length))
    return { done: true, packet: { kind: 'cancel', processId: buffer.readInt32BE(8), secret }, bytes: length }
  }
  const parameters = readParameters(buffer.subarray(8, length))
  if (!parameters) {
    return {
      done: 'invalid',
      problem: 'invalid startup packet layout: expected terminator as last byte',
    }
  }
  return {
    done: true,
    packet: { kind: 'startup', major, minor: code & 0xffff, parameters },
    bytes: length,
  }
}

/**
 * Name and value pairs, each ended by a zero byte, the list by one more; undefined when it is not so. Every byte
 * becomes one character: what encoding they are in is known to the server alone, and it must get the same bytes.
 */
function readParameters(body: Buffer): Map<string, string> | undefined {
  const parameters = new Map<string, string>()
  let at = 0
  while (at < body.length) {
    if (body[at] === 0) return at === body.length - 1 ? parameters : undefined
    const nameEnd = body.indexOf(0, at)
    const valueEnd = nameEnd < 0 ? -1 : body.indexOf(0, nameEnd + 1)
    if (valueEnd < 0) return undefined
    parameters.set(body.toString('latin1', at, nameEnd), body.toString('latin1', nameEnd + 1, valueEnd))
    at = valueEnd + 1
  }
  return undefined
}

/** A StartupMessage of protocol 3.0 with the given parameters, in their order; one character a byte. */
export function writeStartup(parameters: ReadonlyMap<string, string>): Buffer {
  const parts: Buffer[] = [Buffer.alloc(8)]
  for (const [name, value] of parameters) parts.push(Buffer.from(`${name}\0${value}\0`, 'latin1'))
  parts.push(Buffer.from([0]))
  const packet = Buffer.concat(parts)
  packet.writeUInt32BE(packet.length, 0)
  packet.writeUInt32BE(Startup.protocol3, 4)
  return packet
}

/** A CancelRequest for a server's own key. */
export function writeCancelRequest(processId: number, secret: Uint8Array): Buffer {
  const packet = Buffer.alloc(12 + secret.length)
  packet.writeUInt32BE(packet.length, 0)
  packet.writeUInt32BE(Startup.CancelRequest, 4)
  packet.writeInt32BE(processId, 8)
  packet.set(secret, 12)
  return packet
}

/** Asks a server for TLS; it answers with one byte. */
export function writeSslRequest(): Buffer {
  const packet = Buffer.alloc(8)
  packet.writeUInt32BE(packet.length, 0)
  packet.writeUInt32BE(Startup.SSLRequest, 4)
  return packet
}
