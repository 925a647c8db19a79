import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { putSections } from './docs.ts'
import { plotWorkload } from './plot.ts'
import type { Results } from './results.ts'
import { workloadSection } from './table.ts'
import { workloads } from './workloads/all.ts'
import type { Workload } from './workloads/workload.ts'

/** Plots of the page stand in a folder beside it. */
const docsPlots = 'performance'

/** Writes the results as JSON, as Markdown and as a plot a workload. */
export async function writeResults(folder: string, results: Results): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'results.json'), `${JSON.stringify(results, null, 2)}\n`)
  await writeFile(join(folder, 'results.md'), markdown(results))
  for (const workload of measuredIn(results)) await writePlot(folder, results, workload)
}

export function markdown(results: Results): string {
  return measuredIn(results)
    .map(workload => workloadSection(workload, results))
    .join('\n')
}

/** Puts what was measured into docs/performance.md, and its plots beside it. */
export async function writeDocs(docs: string, results: Results): Promise<void> {
  const path = join(docs, 'performance.md')
  await mkdir(join(docs, docsPlots), { recursive: true })
  const sections = new Map<string, string>()
  for (const workload of measuredIn(results)) {
    await writePlot(join(docs, docsPlots), results, workload)
    const plot = `![${workload.name}](${docsPlots}/${workload.name}.svg)`
    sections.set(workload.name, `${workloadSection(workload, results)}\n${plot}\n`)
  }
  const page = await readFile(path, 'utf8')
  const order = workloads.map(({ name }) => name)
  await writeFile(path, putSections(page, sections, order))
}

function measuredIn(results: Results): Workload[] {
  return workloads.filter(({ name }) => results.cells.some(({ workload }) => workload === name))
}

async function writePlot(folder: string, results: Results, workload: Workload): Promise<void> {
  const cells = results.cells.filter(cell => cell.workload === workload.name)
  await writeFile(join(folder, `${workload.name}.svg`), plotWorkload(workload, cells, results.contestants))
}
