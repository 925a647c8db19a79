import type { ServiceManager } from '../runtime/systemd.ts'
import { systemTimers, type Timer } from '../runtime/timers.ts'
import type { Topology } from '../topology/types.ts'
import type { Host } from './host.ts'

/** More nodes than these are counted: it is one line. */
const namesMax = 8

/**
 * Tells the service manager how a process of pgherd is: ready when its ports are open and the cluster is known, or
 * when clients would have been refused for that, and from then on in one line what it can do.
 */
export class ServiceReport {
  readonly #host: Host
  readonly #service: ServiceManager
  readonly #unsubscribe: () => void
  readonly #latest: Timer
  #isReady = false

  constructor(host: Host, service: ServiceManager) {
    this.#host = host
    this.#service = service
    this.#latest = systemTimers.after(host.config.proxy.failover_wait, () => this.#becomeReady())
    this.#unsubscribe = host.onTopology(topology => this.#look(topology))
  }

  reloading(): void {
    if (this.#isReady) this.#service.reloading()
  }

  reloaded(): void {
    if (this.#isReady) this.#service.ready()
  }

  close(): void {
    this.#latest.cancel()
    this.#unsubscribe()
  }

  #look(topology: Topology | undefined): void {
    const problem = this.#host.notReady()
    const isProxy = topology && this.#host.proxy
    this.#service.status(problem ?? (isProxy ? useOf(topology) : `reports ${this.#host.config.agent.node}`))
    if (problem === undefined) this.#becomeReady()
  }

  #becomeReady(): void {
    this.#latest.cancel()
    if (!this.#isReady) this.#service.ready()
    this.#isReady = true
  }
}

/** `writes go to a, reads to b and c`. */
function useOf({ nodes, primary }: Topology): string {
  const writes = nodes.some(({ writable }) => writable) ? `writes go to ${primary}` : 'nothing can be written'
  const readable = nodes.filter(node => node.readable).map(({ name }) => name)
  if (readable.length === 0) return writes
  return `${writes}, reads to ${readable.length > namesMax ? `${readable.length} nodes` : readable.join(' and ')}`
}
