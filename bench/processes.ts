import { readdirSync, readFileSync } from 'node:fs'

/** Processor time and memory of processes, from Linux's /proc. */

interface ProcessRow {
  parent: number
  threads: number
  /** Processor time of those of its children that have ended, in ticks. */
  waitedTicks: number
}

/** All processes of the machine at one moment. */
export type ProcessTable = ReadonlyMap<number, ProcessRow>

/** A tick is 10 ms wherever Linux runs today. */
const tickMs = 10
const nanosecondsPerMs = 1e6
const megabyteKb = 1024

export function readProcesses(): ProcessTable {
  const rows = new Map<number, ProcessRow>()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const row = parseStat(readOrEmpty(`/proc/${entry}/stat`))
    if (row) rows.set(Number(entry), row)
  }
  return rows
}

/** One line of /proc/<pid>/stat; the name in brackets may hold anything. Undefined for a process that is gone. */
export function parseStat(stat: string): ProcessRow | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields.length < 18) return undefined
  return {
    parent: Number(fields[1]),
    threads: Number(fields[17]),
    waitedTicks: Number(fields[13]) + Number(fields[14]),
  }
}

/** A process and all that descend from it; nothing when it is gone. */
export function treeOf(table: ProcessTable, root: number): number[] {
  const children = new Map<number, number[]>()
  for (const [pid, { parent }] of table) {
    const siblings = children.get(parent)
    if (siblings) siblings.push(pid)
    else children.set(parent, [pid])
  }
  const tree = table.has(root) ? [root] : []
  for (const pid of tree) tree.push(...(children.get(pid) ?? []))
  return tree
}

/** Processor time, user and system, that a process and all that descend or have descended from it have used. */
export function processorMs(table: ProcessTable, root: number | undefined): number {
  if (root === undefined) return 0
  return treeOf(table, root).reduce((sum, pid) => {
    const { threads, waitedTicks } = table.get(pid)!
    return sum + ownProcessorMs(pid, threads) + waitedTicks * tickMs
  }, 0)
}

/** That of one process alone. */
export function processorMsOf(pid: number): number {
  return ownProcessorMs(pid, 2)
}

/** In nanoseconds, as the scheduler counts: in ticks a thousand processes that each do little seem to do nothing. */
function ownProcessorMs(pid: number, threads: number): number {
  const counts = threads === 1 ? [readOrEmpty(`/proc/${pid}/schedstat`)] : threadCounts(pid)
  return counts.reduce((sum, count) => sum + Number.parseInt(count || '0', 10), 0) / nanosecondsPerMs
}

function threadCounts(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(thread =>
      readOrEmpty(`/proc/${pid}/task/${thread}/schedstat`),
    )
  } catch {
    return []
  }
}

/** Memory of processes: their share of it (PSS), and resident with shared pages counted for each (RSS). */
export function memoryOf(pids: readonly number[]): { memoryMb: number; residentMb: number } {
  let memoryKb = 0
  let residentKb = 0
  for (const pid of pids) {
    const rollup = readOrEmpty(`/proc/${pid}/smaps_rollup`)
    memoryKb += kilobytes(rollup, 'Pss')
    residentKb += kilobytes(rollup, 'Rss')
  }
  return { memoryMb: memoryKb / megabyteKb, residentMb: residentKb / megabyteKb }
}

/** The most that each of the processes has ever held, together. */
export function peakMb(pids: readonly number[]): number {
  const peaksKb = pids.map(pid => kilobytes(readOrEmpty(`/proc/${pid}/status`), 'VmHWM'))
  return peaksKb.reduce((sum, each) => sum + each, 0) / megabyteKb
}

function kilobytes(text: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0)
}

/** A process may end between the listing and the reading. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
