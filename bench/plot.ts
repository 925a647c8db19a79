import { metrics, shown } from './metrics.ts'
import { type Cell, valuesOf } from './results.ts'
import { type Spread, spreadOf } from './statistics.ts'
import type { Workload } from './workloads/workload.ts'

const width = 720
const height = 320
const margin = { top: 44, right: 16, bottom: 48, left: 64 }
const plotWidth = width - margin.left - margin.right
const plotHeight = height - margin.top - margin.bottom
const colours = [
  ...['#8c8c8c', '#d1495b', '#edae49', '#66a182', '#2e4057'],
  ...['#00798c', '#9d6b9e', '#3f88c5', '#a05d2c', '#8fb339'],
]
const gridLines = 4

interface Bar {
  group: number
  index: number
  title: string
  spread: Spread
}

/**
 * A workload's first metric as SVG: a group of bars for each number of clients, a bar for each contestant, with a line
 * from the smallest to the largest of the rounds.
 */
export function plotWorkload(
  workload: Workload,
  cells: readonly Cell[],
  contestants: readonly { name: string; title: string }[],
): string {
  const metric = workload.columns[0]!
  const groups = [...new Set(cells.map(({ clients }) => clients))]
  const took = contestants.filter(({ name }) => cells.some(({ contestant }) => contestant === name))
  const bars = cells.flatMap<Bar>(cell => {
    const values = valuesOf(cell, metric)
    const index = took.findIndex(({ name }) => name === cell.contestant)
    if (values.length === 0 || index === -1) return []
    return [
      { group: groups.indexOf(cell.clients), index, title: took[index]!.title, spread: spreadOf(values) },
    ]
  })
  const top = niceCeiling(Math.max(...bars.map(({ spread }) => spread.max), 0))
  const groupWidth = plotWidth / Math.max(1, groups.length)
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(margin.left, 18, `${workload.name}: ${metrics[metric].title} (${metrics[metric].better} is better)`),
    ...legend(took),
    ...grid(top),
    ...bars.map(each => bar(each, groupWidth, took.length, top)),
    ...groups.map((clients, group) =>
      text(margin.left + (group + 0.5) * groupWidth, height - 26, String(clients), 'middle'),
    ),
    text(margin.left + plotWidth / 2, height - 8, 'clients', 'middle'),
    '</svg>',
  ].join('\n')}\n`
}

function bar({ group, index, title, spread }: Bar, groupWidth: number, count: number, top: number): string {
  const barWidth = (groupWidth * 0.8) / count
  const x = margin.left + group * groupWidth + groupWidth * 0.1 + index * barWidth
  const y = (value: number): number => margin.top + plotHeight * (1 - value / top)
  const middle = (x + barWidth / 2).toFixed(1)
  const colour = colours[index % colours.length]!
  return (
    `<rect x="${x.toFixed(1)}" y="${y(spread.median).toFixed(1)}" width="${(barWidth * 0.9).toFixed(1)}" ` +
    `height="${((plotHeight * spread.median) / top).toFixed(1)}" fill="${colour}">` +
    `<title>${escaped(title)}: ${shown(spread.median)} [${shown(spread.min)}..${shown(spread.max)}]</title></rect>` +
    `<line x1="${middle}" x2="${middle}" y1="${y(spread.min).toFixed(1)}" y2="${y(spread.max).toFixed(1)}" stroke="#000"/>`
  )
}

function grid(top: number): string[] {
  return Array.from({ length: gridLines + 1 }, (_, line) => {
    const y = margin.top + plotHeight * (1 - line / gridLines)
    return (
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y}" y2="${y}" stroke="#ddd"/>` +
      text(margin.left - 6, y + 4, tick((top * line) / gridLines), 'end')
    )
  })
}

function legend(contestants: readonly { title: string }[]): string[] {
  const step = plotWidth / Math.max(1, contestants.length)
  return contestants.map(({ title }, index) => {
    const x = margin.left + index * step
    const colour = colours[index % colours.length]!
    return `<rect x="${x}" y="26" width="10" height="10" fill="${colour}"/>${text(x + 14, 35, title)}`
  })
}

/** The next number that divides into round steps: 1, 2, 4 or 8 times a power of ten. */
function niceCeiling(value: number): number {
  if (value <= 0) return 1
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 4, 8, 10].map(step => step * power).find(step => step >= value)!
}

function tick(value: number): string {
  return value >= 10_000 ? `${value / 1000}k` : String(Number(value.toPrecision(3)))
}

function text(x: number, y: number, content: string, anchor = 'start'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escaped(content)}</text>`
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
