/** IP addresses and ranges as numbers, to compare them. IPv4 within IPv6 (`::ffff:1.2.3.4`) is IPv4. */

export interface Address {
  bits: 32 | 128
  value: bigint
}

export interface AddressRange {
  bits: 32 | 128
  first: bigint
  last: bigint
}

const mappedPrefix = 0xffffn

/** Reads an address as people and sockets write it, a zone (`%eth0`) ignored; undefined when it is none. */
export function parseAddress(text: string): Address | undefined {
  const address = text.includes(':') ? parseIPv6(text.split('%', 1)[0]!) : parseIPv4(text)
  if (address?.bits === 128 && address.value >> 32n === mappedPrefix) {
    return { bits: 32, value: address.value & 0xffff_ffffn }
  }
  return address
}

/** The addresses that share the first `prefixBits` of `address`; undefined when there are not so many bits. */
export function rangeOf({ bits, value }: Address, prefixBits: number): AddressRange | undefined {
  if (!Number.isInteger(prefixBits) || prefixBits < 0 || prefixBits > bits) return undefined
  const size = 1n << BigInt(bits - prefixBits)
  const first = (value / size) * size
  return { bits, first, last: first + size - 1n }
}

/** Reads `10.0.0.0/8` or `2001:db8::/32`. Bits beyond the prefix do not count, as in PostgreSQL. */
export function parseRange(text: string): AddressRange | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text)
  const address = match && parseAddress(match[1]!)
  if (!address) return undefined
  // A prefix of mapped IPv6 counts the 96 bits before the IPv4 address.
  const mapped = address.bits === 32 && match[1]!.includes(':')
  return rangeOf(address, Number(match[2]) - (mapped ? 96 : 0))
}

/** Reads an address and a mask of its kind, as `10.0.0.0` and `255.0.0.0`; the mask's ones must come first. */
export function parseMaskedRange(addressText: string, maskText: string): AddressRange | undefined {
  const address = parseAddress(addressText)
  const mask = maskText.includes(':') ? parseIPv6(maskText) : parseIPv4(maskText)
  if (!address || address.bits !== mask?.bits) return undefined
  const zeros = (1n << BigInt(mask.bits)) - 1n - mask.value
  if ((zeros & (zeros + 1n)) !== 0n) return undefined
  return rangeOf(address, mask.bits - (zeros === 0n ? 0 : zeros.toString(2).length))
}

export function inRange(range: AddressRange, address: Address): boolean {
  return range.bits === address.bits && range.first <= address.value && address.value <= range.last
}

function parseIPv4(text: string): Address | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let value = 0n
  for (const part of parts) {
    // A leading zero is refused: some programs read such a number as octal.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    value = (value << 8n) | BigInt(part)
  }
  return { bits: 32, value }
}

function parseIPv6(text: string): Address | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = parseGroups(halves[0]!, halves.length === 1)
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : []
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  const groups = [...head, ...Array.from({ length: missing }, () => 0n), ...tail]
  return { bits: 128, value: groups.reduce((value, group) => (value << 16n) | group, 0n) }
}

/** Groups of 16 bits; the last may be an IPv4 address where it ends the whole. */
function parseGroups(text: string, endsAddress: boolean): bigint[] | undefined {
  if (text === '') return []
  const parts = text.split(':')
  if (parts.length > 8) return undefined
  const groups: bigint[] = []
  for (const [index, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(BigInt(`0x${part}`))
    else {
      const embedded = endsAddress && index === parts.length - 1 ? parseIPv4(part) : undefined
      if (!embedded) return undefined
      groups.push(embedded.value >> 16n, embedded.value & 0xffffn)
    }
  }
  return groups
}
