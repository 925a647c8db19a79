import type { WorkerCountersData } from '../../src/proxy/counters.ts'

/** What the proxy behind an admin interface has counted. */
export async function proxyCounters(adminPort: number): Promise<WorkerCountersData> {
  const response = await fetch(`http://127.0.0.1:${adminPort}/api/proxy`)
  return ((await response.json()) as { counters: WorkerCountersData }).counters
}
