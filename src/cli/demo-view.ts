import type { LoadCounts } from '../demo/load.ts'
import type { WorkerCountersData } from '../proxy/counters.ts'
import type { Topology, TopologyNode } from '../topology/types.ts'
import { formatBytes, formatElapsed, formatNumber, painter, printable, table } from './output.ts'
import { clip, linesThatFit } from './screen.ts'

/** Everything the demo shows at one moment. */
export interface DemoMoment {
  topology: Topology
  counters: WorkerCountersData
  load: LoadCounts | undefined
  nowMs: number
}

export interface DemoRates {
  /** Requests per second by node. */
  byNode: ReadonlyMap<string, number>
  total: number
  reads: number
  writes: number
}

/** Rates between two moments. */
export function ratesBetween(before: DemoMoment | undefined, now: DemoMoment): DemoRates {
  const seconds = before ? (now.nowMs - before.nowMs) / 1000 : 0
  const rate = (from: number, to: number): number =>
    seconds > 0 ? Math.max(0, Math.round((to - from) / seconds)) : 0
  const byNode = new Map<string, number>()
  let total = 0
  for (const [name, { queries }] of Object.entries(now.counters.nodes)) {
    const perSecond = rate(before?.counters.nodes[name]?.queries ?? 0, queries)
    byNode.set(name, perSecond)
    total += perSecond
  }
  return {
    byNode,
    total,
    reads: rate(before?.load?.reads ?? 0, now.load?.reads ?? 0),
    writes: rate(before?.load?.writes ?? 0, now.load?.writes ?? 0),
  }
}

interface ViewOptions {
  colour: boolean
  width: number | undefined
  height: number | undefined
}

/**
 * The live view: a table of the nodes, what is wrong, the load, and the newest events, as many as fit. No line is
 * longer than the terminal is wide, and the view is not taller than it.
 */
export function renderDemo(
  moment: DemoMoment,
  rates: DemoRates,
  events: readonly string[],
  options: ViewOptions,
): string {
  const { topology, counters, load } = moment
  const paint = painter(options.colour)
  const nodes = table<TopologyNode>(
    [
      { title: 'NODE', value: node => node.name },
      {
        title: 'ROLE',
        value: node => node.role,
        paint: (cell, node) => (node.writable ? paint.bold(cell) : cell),
      },
      {
        title: 'TAKES',
        value: takes,
        paint: (cell, node) => (node.writable || node.readable ? paint.green(cell) : paint.red(cell)),
      },
      { title: 'LAG', value: node => (node.lagBytes === undefined ? '-' : formatBytes(node.lagBytes)) },
      {
        title: 'LAG TIME',
        value: node => (node.lagMs === undefined ? '-' : formatElapsed(node.lagMs)),
        optional: true,
      },
      { title: 'CONNECTIONS', value: node => node.connections?.used ?? '-' },
      { title: 'SESSIONS', value: node => counters.nodes[node.name]?.sessions ?? 0 },
      { title: 'REQUESTS/S', value: node => rates.byNode.get(node.name) ?? 0 },
      { title: 'ADDRESS', value: node => `${node.host}:${node.port}`, optional: true },
    ],
    topology.nodes,
    options,
  )
  const lines = [...nodes.trimEnd().split('\n'), '']
  for (const alarm of topology.alarms) lines.push(paint.red(printable(`! ${alarm}`)))
  for (const node of topology.nodes) {
    for (const reason of node.reasons) lines.push(paint.yellow(printable(`  ${node.name}: ${reason}`)))
  }
  lines.push(
    `clients ${formatNumber(counters.clients)}, waiting ${formatNumber(counters.clientsWaiting)}, requests ${formatNumber(rates.total)}/s`,
  )
  if (load) lines.push(printable(loadLine(load, rates)))
  const { width = Number.POSITIVE_INFINITY, height = Number.POSITIVE_INFINITY } = options
  const room = linesThatFit(height)
  const shown = events.slice(-Math.max(room - lines.length - 1, 0)).map(event => paint.dim(printable(event)))
  if (lines.length + 1 < room && shown.length > 0) lines.push('', ...shown)
  return lines
    .slice(0, room)
    .map(line => `${clip(line, width)}\n`)
    .join('')
}

/** The same in one line, for a log. */
export function demoLine({ topology, counters, load }: DemoMoment, rates: DemoRates): string {
  const nodes = topology.nodes.map(node => {
    const lag = node.lagBytes === undefined ? '' : `, lag ${formatBytes(node.lagBytes)}`
    const sessions = counters.nodes[node.name]?.sessions ?? 0
    return `${node.name} ${node.role} (${takes(node)}${lag}, ${sessions} sessions, ${rates.byNode.get(node.name) ?? 0} requests/s)`
  })
  const alarms = topology.alarms.map(alarm => `; ! ${alarm}`).join('')
  return `${nodes.join('; ')}${load ? `; ${loadLine(load, rates)}` : ''}${alarms}`
}

function takes(node: TopologyNode): string {
  if (node.writable) return 'writes'
  return node.readable ? 'reads' : 'nothing'
}

function loadLine(load: LoadCounts, rates: DemoRates): string {
  const last = load.lastError === undefined ? '' : ` (last: ${load.lastError})`
  return `load: ${formatNumber(rates.reads)} reads/s, ${formatNumber(rates.writes)} writes/s, ${formatNumber(load.errors)} errors${last}`
}
