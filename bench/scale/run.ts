import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { EtcdMember } from '../../test/support/etcd.ts'
import { until } from '../../test/support/wait.ts'
import { processorMsOf } from '../processes.ts'
import type { AgentsSettings, FromAgents, ToAgents } from './agents.ts'
import type { FromWatchers, WatchersSettings } from './watchers.ts'

/** The processes of a measurement, and what they use. */

const startLimitMs = 60_000

/** Starts one of the programs of this folder. */
function startProgram(name: string): ChildProcess {
  return fork(fileURLToPath(new URL(`./${name}.js`, import.meta.url)), [], { stdio: 'inherit' })
}

export async function endProgram(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

/** Many agents in one process. Resolves when each has reported once. */
export class Agents {
  readonly child: ChildProcess
  told: FromAgents = { written: {}, failed: 0 }

  static async start(settings: AgentsSettings): Promise<Agents> {
    const agents = new Agents()
    agents.#send({ kind: 'start', settings })
    const haveAll = (): boolean =>
      settings.clusters.every(cluster => (agents.told.written[cluster] ?? 0) >= settings.nodes)
    await until('every agent has reported', haveAll, startLimitMs)
    return agents
  }

  private constructor() {
    this.child = startProgram('agents')
    this.child.on('message', (told: FromAgents) => {
      this.told = told
    })
  }

  /** From now on this cluster gets the reports. */
  turnTo(cluster: string): void {
    this.#send({ kind: 'report', cluster })
  }

  get written(): number {
    return Object.values(this.told.written).reduce((sum, each) => sum + each, 0)
  }

  #send(message: ToAgents): void {
    this.child.send(message)
  }
}

/** Many mirrors in one process, each as a proxy has it. Resolves when all have the whole cluster. */
export class Watchers {
  readonly child: ChildProcess
  told: FromWatchers = { ready: 0, changes: 0 }

  static async start(settings: WatchersSettings): Promise<Watchers> {
    const watchers = new Watchers()
    watchers.child.send(settings)
    await until('every watcher is ready', () => watchers.told.ready === settings.proxies, startLimitMs)
    return watchers
  }

  private constructor() {
    this.child = startProgram('watchers')
    this.child.on('message', (told: FromWatchers) => {
      this.told = told
    })
  }
}

/** Processor time of some processes from one moment to another, in percent of one core. */
export class Usage {
  readonly #pids: Record<string, number>
  readonly #before: Record<string, number>
  readonly #sinceMs = performance.now()

  constructor(pids: Record<string, number>) {
    this.#pids = pids
    this.#before = mapValues(pids, processorMsOf)
  }

  percent(): Record<string, number> {
    const elapsedMs = performance.now() - this.#sinceMs
    return mapValues(this.#pids, (pid, name) => {
      const usedMs = processorMsOf(pid) - (this.#before[name] ?? 0)
      return Math.round((usedMs / elapsedMs) * 1000) / 10
    })
  }
}

/** What a member has received from its clients and sent to them, and how large its file is, in bytes. */
export async function etcdBytes(
  member: EtcdMember,
): Promise<{ received: number; sent: number; file: number }> {
  const [received, sent, file] = await Promise.all([
    member.metric('etcd_network_client_grpc_received_bytes_total'),
    member.metric('etcd_network_client_grpc_sent_bytes_total'),
    member.metric('etcd_mvcc_db_total_size_in_bytes'),
  ])
  return { received, sent, file }
}

function mapValues(
  record: Record<string, number>,
  change: (value: number, name: string) => number,
): Record<string, number> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value, name)]))
}
