/** Everything that is measured; a workload has some of it. */
export const metrics = {
  tps: { title: 'a second', better: 'more' },
  p50Ms: { title: 'p50 ms', better: 'less' },
  p95Ms: { title: 'p95 ms', better: 'less' },
  p99Ms: { title: 'p99 ms', better: 'less' },
  /** Of the contestant's processes, a transaction. */
  proxyCpuUs: { title: 'proxy CPU µs each', better: 'less' },
  /** Of PostgreSQL, the contestant and the load, a transaction. */
  totalCpuUs: { title: 'all CPU µs each', better: 'less' },
  /** The contestant's share of memory (PSS) while it works. */
  memoryMb: { title: 'proxy MB', better: 'less' },
  /** The same as resident memory (RSS), which counts shared pages once a process. */
  residentMb: { title: 'proxy RSS MB', better: 'less' },
  speedMb: { title: 'MB/s', better: 'more' },
  proxyCpuMs: { title: 'proxy CPU ms a 100 MB', better: 'less' },
  totalCpuMs: { title: 'all CPU ms a 100 MB', better: 'less' },
  clientBytes: { title: 'bytes a client', better: 'less' },
  /** The most that the contestant's processes have held, together, and how much of that was not there before. */
  peakMb: { title: 'most MB', better: 'less' },
  growthMb: { title: 'of it new', better: 'less' },
} as const

export type MetricName = keyof typeof metrics

/** What one run gave. */
export type Sample = Partial<Record<MetricName, number>>

/** A figure with as many digits as it is worth. */
export function shown(value: number): string {
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
