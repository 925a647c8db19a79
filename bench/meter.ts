import type { Sample } from './metrics.ts'
import { memoryOf, processorMs, readProcesses, treeOf } from './processes.ts'

/** Process ids whose trees are told apart; undefined where there is none. */
export interface Metered {
  proxy: number | undefined
  postgres: number
  load: number
}

/** Processor time; `proxyMs` is missing where there is no proxy. */
export interface Used {
  proxyMs?: number
  totalMs: number
}

/** Processor time from its making on. */
export class Meter {
  readonly #metered: Metered
  readonly #before: Required<Used>

  constructor(metered: Metered) {
    this.#metered = metered
    this.#before = this.#read()
  }

  used(): Used {
    const now = this.#read()
    const totalMs = now.totalMs - this.#before.totalMs
    if (this.#metered.proxy === undefined) return { totalMs }
    return { proxyMs: now.proxyMs - this.#before.proxyMs, totalMs }
  }

  #read(): Required<Used> {
    const table = readProcesses()
    const { proxy, postgres, load } = this.#metered
    const proxyMs = processorMs(table, proxy)
    // The load may be this process, which all others descend from.
    const loadMs = load === process.pid ? ownProcessorMs() : processorMs(table, load)
    return { proxyMs, totalMs: proxyMs + processorMs(table, postgres) + loadMs }
  }
}

function ownProcessorMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** The memory that a contestant's processes hold now; nothing for PostgreSQL itself. */
export function memoryNow(root: number | undefined): Sample {
  return root === undefined ? {} : memoryOf(treeOf(readProcesses(), root))
}
