import { Reporter } from '../../src/agent/reporter.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/log.ts'
import { systemRandom } from '../../src/runtime/random.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import { openEtcdStore } from '../../src/store/etcd.ts'
import { type Address, nodeName, reportOfNode } from './fleet.ts'

/** A process with the reporters of many agents, each with a lease of its own. Reports to whom it is told. */

export interface AgentsSettings {
  endpoints: string[]
  nodes: number
  periodMs: number
  leaseTtlMs: number
  primary: Address
  /** Each has every node; which one gets the reports is said later. */
  clusters: string[]
}

export type ToAgents = { kind: 'start'; settings: AgentsSettings } | { kind: 'report'; cluster: string }

export interface FromAgents {
  written: Record<string, number>
  failed: number
}

const world = { clock: systemClock, timers: systemTimers, random: systemRandom, log: silentLogger }
/** Agents on one connection to etcd: one for each would be a load on this machine, not on etcd. */
const agentsPerStore = 100
const tellEveryMs = 100

async function start(settings: AgentsSettings): Promise<(cluster: string) => void> {
  const { clusters, endpoints, leaseTtlMs, nodes, periodMs, primary } = settings
  const reporters = new Map<string, Reporter[]>()
  for (const cluster of clusters) {
    const all: Reporter[] = []
    for (let index = 0; index < nodes; index += agentsPerStore) {
      const store = await openEtcdStore({ ...world, endpoints, requestTimeoutMs: 5000 })
      for (let each = index; each < Math.min(nodes, index + agentsPerStore); each++) {
        // Slightly less than the period of the reports, so that each of them is written.
        const options = {
          ...world,
          store,
          cluster,
          node: nodeName(each),
          leaseTtlMs,
          periodMs: periodMs * 0.9,
        }
        all.push(new Reporter(options))
      }
    }
    reporters.set(cluster, all)
  }
  let current = clusters[0] ?? ''
  const report = (cluster: string, index: number): void =>
    reporters.get(cluster)?.[index]?.report(reportOfNode(index, systemClock.nowMs(), primary))
  for (let index = 0; index < nodes; index++) {
    systemTimers.after((index * periodMs) / nodes, () => {
      for (const cluster of clusters) report(cluster, index)
      systemTimers.every(periodMs, () => report(current, index))
    })
  }
  systemTimers.every(tellEveryMs, () => {
    const written = [...reporters].map(([cluster, all]) => [
      cluster,
      sum(all.map(({ state }) => state.written)),
    ])
    const failed = sum([...reporters.values()].flat().map(({ state }) => state.failed))
    const message: FromAgents = { written: Object.fromEntries(written) as Record<string, number>, failed }
    process.send?.(message)
  })
  return cluster => {
    current = cluster
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

let turnTo: (cluster: string) => void = () => undefined
process.on('message', (message: ToAgents) => {
  if (message.kind === 'report') return turnTo(message.cluster)
  void start(message.settings).then(turn => {
    turnTo = turn
  })
})
process.on('disconnect', () => process.exit(0))
