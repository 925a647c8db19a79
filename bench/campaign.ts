import type { Contestant } from './contestants/contestant.ts'
import { readEnvironment } from './environment.ts'
import { clientCounts, contestantsFor, demandsOf, measureWorkload } from './measure.ts'
import { type MetricName, metrics, shown } from './metrics.ts'
import type { BenchOptions } from './options.ts'
import { BenchPostgres, serverSettings } from './postgres.ts'
import {
  type Cell,
  type Configuration,
  compare,
  type Environment,
  type Results,
  valuesOf,
} from './results.ts'

/** Connections of proxies that ask by themselves, and of the bench. */
const spareConnections = 100

export interface Campaign {
  options: BenchOptions
  contestants: readonly Contestant[]
  /** Why some that were asked for do not take part. */
  leftOut: readonly string[]
  /** Told all results so far after each workload, so that little is lost when a long campaign is ended. */
  onWorkload: (results: Results) => Promise<void>
  signal: AbortSignal
}

/** Starts a PostgreSQL and runs all workloads on it, one after the other. Throws `BenchError` when it cannot begin. */
export async function measureAll(campaign: Campaign): Promise<Results> {
  const { options, contestants, signal } = campaign
  const replicas = Math.max(0, ...options.workloads.map(workload => workload.replicas ?? 0))
  const postgres = await BenchPostgres.start(connectionsMax(options, contestants), options.scale, replicas)
  try {
    const environment = await readEnvironment(postgres.version)
    const cells: Cell[] = []
    let results = resultsOf(campaign, environment, cells)
    for (const workload of options.workloads) {
      const onRun = (cell: Cell): void => console.error(progress(cell, workload.columns[0]!))
      cells.push(...(await measureWorkload(workload, contestants, postgres, { ...options, onRun, signal })))
      results = resultsOf(campaign, environment, cells)
      await campaign.onWorkload(results)
    }
    return results
  } finally {
    await postgres.stop()
  }
}

function resultsOf(campaign: Campaign, environment: Environment, cells: readonly Cell[]): Results {
  const { options, contestants, leftOut } = campaign
  const { rounds, seconds, poolSize, scale, jobs } = options
  const subjects = new Set(contestants.filter(({ isSubject }) => isSubject).map(({ name }) => name))
  const comparedOf = (name: string): readonly MetricName[] =>
    options.workloads.find(workload => workload.name === name)!.compared
  return {
    environment,
    options: { rounds, seconds, poolSize, scale, jobs },
    serverSettings,
    contestants: contestants.map(({ name, title, version, statementsRemark }) => ({
      ...{ name, title, version },
      ...(statementsRemark !== undefined && { statementsRemark }),
    })),
    configurations: configurationsOf(options, contestants),
    leftOut,
    cells,
    comparisons: compare(cells, subjects, comparedOf),
  }
}

/**
 * How each contestant is configured for each workload. Ports and folders, which are others in each run, are examples;
 * a configuration that several workloads share is told once, with the first.
 */
export function configurationsOf(
  options: Pick<BenchOptions, 'workloads' | 'clients' | 'poolSize' | 'workers'>,
  contestants: readonly Contestant[],
): Configuration[] {
  const configurations: Configuration[] = []
  const told = new Set<string>()
  for (const workload of options.workloads) {
    for (const { name, launch } of contestantsFor(workload, contestants)) {
      const launched = launch?.({
        ...demandsOf(workload, options, [5433, 5434, 5435]),
        dir: name,
        ports: [6432, 6433, 6434],
        serverPort: 5432,
        usersFile: 'users.txt',
        verifier: 'SCRAM-SHA-256$4096:…',
      })
      if (!launched) continue
      const key = JSON.stringify([name, launched])
      if (told.has(key)) continue
      told.add(key)
      configurations.push({
        ...{ workload: workload.name, contestant: name },
        ...{ files: launched.files, command: launched.command.join(' ') },
      })
    }
  }
  return configurations
}

/** Connections that contestants without a pool need; those that some of them keep for seconds overlap. */
function connectionsMax(options: BenchOptions, contestants: readonly Contestant[]): number {
  const counts = options.workloads
    .filter(({ proxiesOnly }) => !proxiesOnly)
    .flatMap(workload => clientCounts(workload, options.clients))
  return 3 * Math.max(0, ...counts) + contestants.length * options.poolSize + spareConnections
}

function progress(cell: Cell, metric: keyof typeof metrics): string {
  const where = `${cell.workload}, ${cell.clients} clients, round ${cell.samples.length}: ${cell.contestant}`
  if (cell.failure !== undefined) return `${where} failed: ${cell.failure}`
  return `${where} ${shown(valuesOf(cell, metric).at(-1) ?? Number.NaN)} ${metrics[metric].title}`
}
