/**
 * The PROXY protocol, by which a balancer in front says where a connection comes from: one header before anything
 * else, as a line (version 1) or binary (version 2). Source: HAProxy's "The PROXY protocol, versions 1 & 2".
 */

/**
 * Whom the header names; the address of version 1 as it stands there, for the caller to check. Undefined when it
 * names nobody: a health check of the balancer itself, a Unix socket.
 */
export type ProxySource = { address: string; port: number } | undefined

export type ProxyHeaderRead =
  | { done: true; source: ProxySource; bytes: number }
  /** More of it has to come. */
  | { done: false }
  /** What came is no such header. */
  | { done: 'none' }
  | { done: 'invalid'; problem: string }

const signature1 = Buffer.from('PROXY ')
const signature2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
/** The longest line there is, with its end. */
const lineBytesMax = 107
const head2Bytes = 16
/** Addresses and what else a balancer may tell (TLVs: certificates are the largest). */
const body2BytesMax = 16 * 1024

/** Whether the bytes could be the beginning of a header; three tell it from a startup packet and from TLS. */
export function beginsProxyHeader(buffer: Buffer): boolean {
  return beginsAs(buffer, signature1) || beginsAs(buffer, signature2)
}

/** Reads the header that a connection begins with, of either version. Nothing behind `bytes` is looked at. */
export function readProxyHeader(buffer: Buffer): ProxyHeaderRead {
  if (beginsAs(buffer, signature1)) return readLine(buffer)
  if (beginsAs(buffer, signature2)) return readBinary(buffer)
  return { done: 'none' }
}

function beginsAs(buffer: Buffer, signature: Buffer): boolean {
  const bytes = Math.min(buffer.length, signature.length)
  return buffer.compare(signature, 0, bytes, 0, bytes) === 0
}

/** `PROXY TCP4 192.0.2.7 192.0.2.1 56324 6432`, ended by CR LF; behind `UNKNOWN` anything may stand. */
function readLine(buffer: Buffer): ProxyHeaderRead {
  const end = buffer.subarray(0, lineBytesMax).indexOf('\r\n')
  if (end < 0) {
    return buffer.length < lineBytesMax ? { done: false } : invalid('its line has no end within 107 bytes')
  }
  const bytes = end + 2
  const words = buffer.toString('latin1', 0, end).split(' ')
  const [, family, source, destination, sourcePort, destinationPort] = words
  if (family === 'UNKNOWN') return { done: true, source: undefined, bytes }
  const address = family === 'TCP4' ? /^[\d.]+$/ : family === 'TCP6' ? /^[\da-fA-F:.]+$/ : undefined
  if (!address || words.length !== 6) return invalid('its line is not of the form that version 1 has')
  if (!address.test(source!) || !address.test(destination!)) return invalid('an address in its line is none')
  if (!isPort(sourcePort!) || !isPort(destinationPort!)) return invalid('a port in its line is none')
  return { done: true, source: { address: source!, port: Number(sourcePort) }, bytes }
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}

/** Signature, version and command, family and transport, length, addresses, TLVs. Numbers are big-endian. */
function readBinary(buffer: Buffer): ProxyHeaderRead {
  if (buffer.length < head2Bytes) return { done: false }
  const [version, command] = [buffer[12]! >> 4, buffer[12]! & 0x0f]
  if (version !== 2) return invalid(`its version is ${version}`)
  if (command > 1) return invalid(`its command is ${command}`)
  const length = buffer.readUInt16BE(14)
  if (length > body2BytesMax) return invalid(`it has ${length} bytes`)
  const bytes = head2Bytes + length
  if (buffer.length < bytes) return { done: false }
  const isLocal = command === 0
  const source = isLocal ? undefined : readBinarySource(buffer.subarray(head2Bytes, bytes), buffer[13]!)
  return typeof source === 'string' ? invalid(source) : { done: true, source, bytes }
}

const family2 = { unspecified: 0x00, tcp4: 0x11, tcp6: 0x21, unix: 0x31 }

/** Or what is wrong with it. */
function readBinarySource(body: Buffer, family: number): ProxySource | string {
  switch (family) {
    case family2.unspecified:
    case family2.unix:
      return undefined
    case family2.tcp4:
      if (body.length < 12) return 'it is too short for its addresses'
      return { address: body.subarray(0, 4).join('.'), port: body.readUInt16BE(8) }
    case family2.tcp6: {
      if (body.length < 36) return 'it is too short for its addresses'
      const groups = Array.from({ length: 8 }, (_, index) => body.readUInt16BE(index * 2).toString(16))
      return { address: compressed(groups), port: body.readUInt16BE(32) }
    }
    default:
      return `its address family and transport are 0x${family.toString(16).padStart(2, '0')}`
  }
}

/** The longest run of zero groups is written `::` (RFC 5952). */
function compressed(groups: readonly string[]): string {
  const runs = [
    ...groups
      .map(group => (group === '0' ? '0' : '.'))
      .join('')
      .matchAll(/0{2,}/g),
  ]
  const longest = runs.reduce<RegExpExecArray | undefined>(
    (best, run) => (run[0].length > (best?.[0].length ?? 0) ? run : best),
    undefined,
  )
  if (!longest) return groups.join(':')
  const head = groups.slice(0, longest.index)
  const tail = groups.slice(longest.index + longest[0].length)
  return `${head.join(':')}::${tail.join(':')}`
}

function invalid(problem: string): ProxyHeaderRead {
  return { done: 'invalid', problem: `the PROXY protocol header cannot be read: ${problem}` }
}
