import { isIP } from 'node:net'

/** Names of clusters, nodes and proxies: they stand in keys, labels and host names. */
export const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/** PostgreSQL's own port. */
export const defaultPort = 5432

export interface Address {
  host: string
  port: number
}

/** A valid name made from any text: `10.0.0.1:5433` becomes `10.0.0.1-5433`. Empty text becomes `unnamed`. */
export function toName(text: string): string {
  const name = text
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 63)
  return name === '' ? 'unnamed' : name
}

/** The name of a node that was given none: its host, and its port unless that is PostgreSQL's own. */
export function nodeNameOf(address: Address): string {
  return toName(address.port === defaultPort ? address.host : `${address.host}:${address.port}`)
}

/**
 * Reads `host`, `host:port`, `::1` and `[::1]:port`. Undefined when the text is none of these.
 * A missing port is `fallbackPort`.
 */
export function parseAddress(text: string, fallbackPort = defaultPort): Address | undefined {
  if (isIP(text) === 6) return { host: text, port: fallbackPort }
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text)
  if (!parts) return undefined
  const [, bracketed, plain, portText] = parts
  const host = bracketed ?? plain ?? ''
  const port = portText === undefined ? fallbackPort : Number(portText)
  if (port < 1 || port > 65535) return undefined
  if (bracketed !== undefined ? isIP(bracketed) !== 6 : !isHost(host)) return undefined
  return { host, port }
}

/** Whether the text can be a host to connect to or to listen on: an IP address or a host name, without a port. */
export function isHost(text: string): boolean {
  return (
    isIP(text) !== 0 || (text.length <= 253 && /^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(text))
  )
}

/** Whether the text is a range of IP addresses, `10.0.0.0/8`. */
export function isAddressRange(text: string): boolean {
  const [, address = '', prefix = ''] = /^([^/%]+)\/(\d{1,3})$/.exec(text) ?? []
  const version = isIP(address)
  return version !== 0 && Number(prefix) <= (version === 4 ? 32 : 128)
}

/** Whether only this machine can reach what listens there. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
