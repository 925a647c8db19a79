import { type MetricName, metrics, shown } from './metrics.ts'
import { type Cell, type Comparison, type Results, valuesOf } from './results.ts'
import { spreadOf } from './statistics.ts'
import type { Workload } from './workloads/workload.ts'

/** One workload in Markdown: where it was measured, what was measured, and the ratios. */
export function workloadSection(workload: Workload, results: Results): string {
  const cells = results.cells.filter(cell => cell.workload === workload.name)
  const comparisons = results.comparisons.filter(each => each.workload === workload.name)
  const took = new Set(cells.map(({ contestant }) => contestant))
  const titleOf = (name: string): string =>
    results.contestants.find(contestant => contestant.name === name)?.title ?? name
  const remarks = results.contestants.filter(({ name }) => workload.keepsStatements && took.has(name))
  const parts = [
    `### ${workload.name}`,
    `${sentence(workload.title)} ${madeWith(results, took)}`,
    figures(workload, cells, titleOf),
    ratios(workload, comparisons, titleOf),
    ...remarks.flatMap(({ statementsRemark }) => statementsRemark ?? []),
    ...cells.flatMap(({ contestant, clients, failure }) =>
      failure === undefined ? [] : [`${titleOf(contestant)} with ${clients} clients: ${failure}`],
    ),
  ]
  return `${parts.filter(part => part !== '').join('\n\n')}\n`
}

function sentence(title: string): string {
  return `${title[0]!.toUpperCase()}${title.slice(1)}.`
}

function madeWith({ environment, options, contestants }: Results, took: ReadonlySet<string>): string {
  const programs = contestants
    .filter(({ name, version }) => name !== 'direct' && took.has(name) && version !== '')
    .map(({ title, version }) => `${title} ${version}`)
  const machine = `${environment.processors} processors (${environment.processor}), ${environment.system}`
  const versions = [`PostgreSQL ${environment.postgres}`, `Node.js ${environment.node}`, ...programs].join(
    ', ',
  )
  const rounds = options.rounds === 1 ? 'One round' : `${options.rounds} rounds`
  const busy =
    environment.loadBefore >= 0.5
      ? ` The machine was busy before (load ${shown(environment.loadBefore)}).`
      : ''
  return (
    `${environment.date}, ${machine}; ${versions}. ${rounds} of ${options.seconds} s in turns, ` +
    `${options.poolSize} server connections, ${options.jobs} threads of pgbench.${busy}`
  )
}

function figures(workload: Workload, cells: readonly Cell[], titleOf: (name: string) => string): string {
  const head = ['clients', '', ...workload.columns.map(metric => metrics[metric].title)]
  const rows = cells.map(cell => [
    String(cell.clients),
    titleOf(cell.contestant),
    ...workload.columns.map(metric => figure(valuesOf(cell, metric))),
  ])
  return markdownTable(head, rows)
}

/** The median, and in brackets the smallest and the largest of the rounds. */
function figure(values: readonly number[]): string {
  if (values.length === 0) return ''
  const { median, min, max } = spreadOf(values)
  return values.length === 1 ? shown(median) : `${shown(median)} [${shown(min)}..${shown(max)}]`
}

function ratios(
  workload: Workload,
  comparisons: readonly Comparison[],
  titleOf: (name: string) => string,
): string {
  if (comparisons.length === 0) return ''
  const rows = new Map<string, string[]>()
  for (const each of comparisons) {
    const row = [String(each.clients), `${titleOf(each.subject)} / ${titleOf(each.against)}`]
    const key = row.join(' ')
    if (!rows.has(key)) rows.set(key, [...row, ...workload.compared.map(() => '')])
    rows.get(key)![2 + workload.compared.indexOf(each.metric)] = ratio(each)
  }
  return markdownTable(['clients', 'ratio', ...workload.compared.map(headOf)], [...rows.values()])
}

function headOf(metric: MetricName): string {
  return `${metrics[metric].title} (${metrics[metric].better} is better)`
}

function ratio({ ratio: { median, min, max }, verdict }: Comparison): string {
  if (verdict === 'single') return `${median.toFixed(2)} in one round`
  const text = `${median.toFixed(2)} [${min.toFixed(2)}..${max.toFixed(2)}]`
  return verdict === 'noise' ? `${text} noise` : text
}

export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}
