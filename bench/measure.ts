import { pause, systemTimers } from '../src/runtime/timers.ts'
import type { Contestant } from './contestants/contestant.ts'
import { type Demands, type Running, startContestant } from './contestants/start.ts'
import { BenchError } from './error.ts'
import type { Sample } from './metrics.ts'
import { place } from './placement.ts'
import type { BenchPostgres } from './postgres.ts'
import { readProcesses, treeOf } from './processes.ts'
import type { Cell } from './results.ts'
import type { Workload } from './workloads/workload.ts'

export interface MeasureOptions {
  /** In place of the workloads' own. */
  clients: readonly number[] | undefined
  rounds: number
  seconds: number
  warmUpSeconds: number
  jobs: number
  poolSize: number
  workers: number | undefined
  /** Told after each run. */
  onRun: (cell: Cell) => void
  signal: AbortSignal
}

/** Beyond the usual warm-up, as a new server process is slow at first. */
const clientsPerWarmUpSecond = 200
const settlePollMs = 100
const settleLimitMs = 10_000
/** Whoever looks whether a contestant is ready, and clients that have just left. */
const spareClients = 10

export function clientCounts(workload: Workload, asked: readonly number[] | undefined): readonly number[] {
  return workload.hasFixedClients ? workload.clients : (asked ?? workload.clients)
}

/** Those that can take part in a workload. */
export function contestantsFor(workload: Workload, all: readonly Contestant[]): Contestant[] {
  return all.filter(
    ({ balances, checksPasswords, launch }) =>
      (workload.replicas ? balances !== undefined : balances !== 'only') &&
      (workload.login === 'trust' || checksPasswords) &&
      (!workload.proxiesOnly || launch !== undefined),
  )
}

/** What all contestants must provide for a workload. */
export function demandsOf(
  workload: Workload,
  options: Pick<MeasureOptions, 'clients' | 'poolSize' | 'workers'>,
  replicaPorts: readonly number[],
): Demands {
  return {
    poolSize: options.poolSize,
    clientsMax:
      Math.max(...clientCounts(workload, options.clients)) + (workload.extraClients ?? 0) + spareClients,
    login: workload.login,
    keepsStatements: workload.keepsStatements ?? false,
    workers: options.workers ?? workload.workers,
    replicaPorts: workload.replicas ? replicaPorts : [],
  }
}

/**
 * Runs a workload in turns, A B C A B C, at all contestants: what the machine does meanwhile meets all of them. They are
 * started for it and stopped after it. A contestant that fails has no further turn with that number of clients.
 */
export async function measureWorkload(
  workload: Workload,
  contestants: readonly Contestant[],
  postgres: BenchPostgres,
  options: MeasureOptions,
): Promise<Cell[]> {
  await place(workload.placement, [process.pid, postgres.pid])
  await workload.prepare?.(postgres)
  const turns = new Turns(workload, contestants, postgres, options)
  try {
    const cells: Cell[] = []
    for (const clients of clientCounts(workload, options.clients)) cells.push(...(await turns.take(clients)))
    return cells
  } finally {
    await turns.stop()
    await place('shared', [process.pid, postgres.pid])
  }
}

class Turns {
  readonly #workload: Workload
  readonly #contestants: readonly Contestant[]
  readonly #postgres: BenchPostgres
  readonly #options: MeasureOptions
  readonly #running = new Map<string, Running>()

  constructor(
    workload: Workload,
    contestants: readonly Contestant[],
    postgres: BenchPostgres,
    options: MeasureOptions,
  ) {
    this.#workload = workload
    this.#contestants = contestantsFor(workload, contestants)
    this.#postgres = postgres
    this.#options = options
  }

  /** All rounds with that many clients. */
  async take(clients: number): Promise<Cell[]> {
    const { name } = this.#workload
    const cells = this.#contestants.map<Cell>(contestant => ({
      ...{ workload: name, clients, contestant: contestant.name, samples: [] },
    }))
    for (let round = 0; round < this.#options.rounds; round++) {
      for (const [index, cell] of cells.entries()) {
        if (cell.failure !== undefined) continue
        this.#options.signal.throwIfAborted()
        try {
          cell.samples.push(await this.#run(this.#contestants[index]!, clients))
        } catch (cause) {
          // What is not foreseen is a fault of the bench, not of a contestant.
          if (!(cause instanceof BenchError)) throw cause
          const problem = this.#running.get(cell.contestant)?.problem()
          cell.failure = problem === undefined ? cause.message : `${cause.message}; ${problem}`
        }
        this.#options.onRun(cell)
        await this.#endTurn(cell)
      }
    }
    return cells
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map(name => this.#end(name)))
  }

  async #run(contestant: Contestant, clients: number): Promise<Sample> {
    const running = this.#running.get(contestant.name)
    if (running) return this.#turn(running, clients)
    const started = await this.#start(contestant)
    // A program that compiles itself while it runs is slow at first: who stays has a turn that does not count.
    const stays = !this.#workload.startsFresh && !started.endsAfterTurn
    if (stays && started.pid !== undefined) await this.#turn(started, clients)
    return this.#turn(started, clients)
  }

  #turn(contestant: Running, clients: number): Promise<Sample> {
    const { seconds, jobs } = this.#options
    const warmUpSeconds = this.#options.warmUpSeconds + Math.floor(clients / clientsPerWarmUpSecond)
    return this.#workload.run({
      ...{ contestant, postgres: this.#postgres, clients, seconds, warmUpSeconds, jobs },
    })
  }

  /** Ends who is not to stay, and waits until PostgreSQL has got rid of the processes of clients that have left. */
  async #endTurn({ contestant, failure }: Cell): Promise<void> {
    const endsNow = this.#workload.startsFresh || this.#running.get(contestant)?.endsAfterTurn
    if (endsNow || failure !== undefined) await this.#end(contestant)
    const countServers = (): number => treeOf(readProcesses(), this.#postgres.pid).length
    const deadlineMs = performance.now() + settleLimitMs
    for (let before = 0, now = countServers(); now !== before && performance.now() < deadlineMs; ) {
      await pause(systemTimers, settlePollMs)
      before = now
      now = countServers()
    }
  }

  async #start(contestant: Contestant): Promise<Running> {
    const demands = demandsOf(this.#workload, this.#options, this.#postgres.replicaPorts)
    const running = await startContestant(contestant, this.#postgres, demands, this.#workload.placement)
    this.#running.set(contestant.name, running)
    return running
  }

  async #end(name: string): Promise<void> {
    await this.#running.get(name)?.stop()
    this.#running.delete(name)
  }
}
