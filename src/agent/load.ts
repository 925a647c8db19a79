import { readFile } from 'node:fs/promises'
import { type CpuInfo, cpus } from 'node:os'

/** Ticks of all processors since the machine started. */
export interface CpuTicks {
  busy: number
  total: number
}

/** Load of the machine, 0..1. `io` is the share of time in which some task waited for a disk. */
export interface MachineLoad {
  cpu: number
  io?: number
}

/** Linux keeps it from 4.20 on; absent elsewhere, and where the kernel was built without it. */
const pressurePath = '/proc/pressure/io'

export function sumTicks(processors: Pick<CpuInfo, 'times'>[]): CpuTicks {
  let busy = 0
  let idle = 0
  for (const { times } of processors) {
    busy += times.user + times.nice + times.sys + times.irq
    idle += times.idle
  }
  return { busy, total: busy + idle }
}

/** Share of the time between two readings in which processors were busy; undefined when no tick has passed. */
export function cpuShare(before: CpuTicks, after: CpuTicks): number | undefined {
  const total = after.total - before.total
  if (total <= 0) return undefined
  return Math.min(1, Math.max(0, (after.busy - before.busy) / total))
}

/** The 10-second average of `some`, as 0..1, from the text of a pressure file. */
export function parsePressure(text: string): number | undefined {
  const match = /^some avg10=(\d+(?:\.\d+)?)/m.exec(text)
  return match ? Math.min(1, Number(match[1]) / 100) : undefined
}

/** How much a new reading counts against the ones before: about the last five readings matter. */
const smoothing = 0.3

export interface LoadSources {
  ticks(): CpuTicks
  /** The text of the pressure file; rejects where there is none. */
  pressure(): Promise<string>
}

const systemSources: LoadSources = {
  ticks: () => sumTicks(cpus()),
  pressure: () => readFile(pressurePath, 'utf8'),
}

/** Reads the machine's load, smoothed, so that one busy moment does not swing weights. */
export class LoadMeter {
  readonly #sources: LoadSources
  #before: CpuTicks
  #cpu: number | undefined

  constructor(sources: LoadSources = systemSources) {
    this.#sources = sources
    this.#before = sources.ticks()
  }

  /** Load since the last call, smoothed and rounded to hundredths; undefined until a first interval has passed. */
  async sample(): Promise<MachineLoad | undefined> {
    const now = this.#sources.ticks()
    const share = cpuShare(this.#before, now)
    if (share !== undefined) {
      this.#before = now
      this.#cpu = this.#cpu === undefined ? share : this.#cpu + smoothing * (share - this.#cpu)
    }
    if (this.#cpu === undefined) return undefined
    const io = await this.#sources.pressure().then(parsePressure, () => undefined)
    const cpu = hundredths(this.#cpu)
    return io === undefined ? { cpu } : { cpu, io: hundredths(io) }
  }
}

function hundredths(value: number): number {
  return Math.round(value * 100) / 100
}
