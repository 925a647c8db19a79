import { hostname, networkInterfaces } from 'node:os'

const wildcards: Readonly<Record<string, 'IPv4' | 'IPv6'>> = { '0.0.0.0': 'IPv4', '::': 'IPv6', '*': 'IPv6' }

/**
 * Where other machines find what listens on `listen`: that itself, unless it stands for every address of this
 * machine; then the first address that is not the loopback's, IPv4 before IPv6, or else the machine's name.
 */
export function reachableHost(listen: string): string {
  const family = wildcards[listen]
  if (!family) return listen
  const outer = Object.values(networkInterfaces())
    .flatMap(addresses => addresses ?? [])
    .filter(({ address, internal }) => !internal && !address.startsWith('fe80:'))
  const found = outer.find(each => each.family === 'IPv4') ?? outer.find(each => each.family === family)
  return found?.address ?? hostname()
}
