import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Latencies, in µs, of the transactions that a log of pgbench (`--log`) has between two moments of wall time. */
export function latenciesUs(log: string, fromMs: number, toMs: number): number[] {
  const latencies: number[] = []
  for (let at = 0; at < log.length; ) {
    const end = log.indexOf('\n', at)
    // What a log ends with may be cut off.
    if (end === -1) break
    // client, transaction, latency in µs, script, end as seconds and µs of the epoch
    const fields = log.slice(at, end).split(' ')
    const endMs = Number(fields[4]) * 1000 + Number(fields[5]) / 1000
    const latency = Number(fields[2])
    if (endMs >= fromMs && endMs < toMs && Number.isFinite(latency)) latencies.push(latency)
    at = end + 1
  }
  return latencies
}

/** Reads and removes the logs, one a thread, that begin with a prefix. */
export async function takeLogs(dir: string, prefix: string): Promise<string[]> {
  const names = (await readdir(dir)).filter(name => name.startsWith(prefix))
  return Promise.all(
    names.map(async name => {
      const path = join(dir, name)
      const text = await readFile(path, 'latin1')
      await rm(path)
      return text
    }),
  )
}
