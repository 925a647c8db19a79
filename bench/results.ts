import type { MetricName, Sample } from './metrics.ts'
import { ratiosOf, type Spread, spreadOf, type Verdict, verdictOf } from './statistics.ts'

/** All runs of a workload with one number of clients at one contestant. */
export interface Cell {
  workload: string
  clients: number
  contestant: string
  /** Round by round. */
  samples: Sample[]
  /** Why it could not be measured to the end. */
  failure?: string
}

/** How one contestant did beside another, in the same rounds. */
export interface Comparison {
  workload: string
  clients: number
  subject: string
  against: string
  metric: MetricName
  ratio: Spread
  verdict: Verdict
}

/** What the machine and the programs were. */
export interface Environment {
  date: string
  processor: string
  processors: number
  memoryGb: number
  system: string
  node: string
  postgres: string
  pgbench: string
  /** Processes that wanted a processor before the bench began, on average: more than a few tenths disturb it. */
  loadBefore: number
}

/** What a contestant is started with, for a workload and those after it that want the same. */
export interface Configuration {
  workload: string
  contestant: string
  files: Record<string, string>
  command: string
}

export interface Results {
  environment: Environment
  options: { rounds: number; seconds: number; poolSize: number; scale: number; jobs: number }
  serverSettings: Record<string, string>
  contestants: { name: string; title: string; version: string; statementsRemark?: string }[]
  configurations: Configuration[]
  /** Peers that were asked for and did not take part, each with the reason. */
  leftOut: readonly string[]
  cells: readonly Cell[]
  comparisons: readonly Comparison[]
}

/** A metric round by round; rounds that failed have none. */
export function valuesOf(cell: Cell, metric: MetricName): number[] {
  return cell.samples.map(sample => sample[metric]).filter(value => value !== undefined)
}

/** Compares each subject with every other contestant of the same workload and number of clients. */
export function compare(
  cells: readonly Cell[],
  subjects: ReadonlySet<string>,
  comparedOf: (workload: string) => readonly MetricName[],
): Comparison[] {
  const comparisons: Comparison[] = []
  for (const subject of cells.filter(({ contestant }) => subjects.has(contestant))) {
    const { workload, clients } = subject
    for (const other of cells) {
      if (other === subject || other.workload !== workload || other.clients !== clients) continue
      for (const metric of comparedOf(workload)) {
        const ratios = ratiosOf(valuesOf(subject, metric), valuesOf(other, metric)).filter(Number.isFinite)
        if (ratios.length === 0) continue
        comparisons.push({
          ...{ workload, clients, subject: subject.contestant, against: other.contestant, metric },
          ...{ ratio: spreadOf(ratios), verdict: verdictOf(ratios) },
        })
      }
    }
  }
  return comparisons
}
