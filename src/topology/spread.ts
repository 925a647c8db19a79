/** So many proxies do everything at once. */
const freeProxies = 20
/** What each further one adds: together they ask the store for two hundred things a second for one event. */
const perProxyMs = 5
const mostMs = 5000

/**
 * Over how long, in ms, the proxies of a fleet spread what all of them have to ask the store for because of one event:
 * its return, or a change of intent. Nothing in a small fleet, where waiting would only be late.
 */
export function spreadOf(proxies: number): number {
  return Math.min(mostMs, Math.max(0, proxies - freeProxies) * perProxyMs)
}
