import { readFile } from 'node:fs/promises'
import { cpus, loadavg, release, totalmem, type } from 'node:os'
import { firstLine } from './command.ts'
import type { Environment } from './results.ts'

const gigabyte = 1024 ** 3

/** What the machine and the programs are. */
export async function readEnvironment(postgres: string): Promise<Environment> {
  const processors = cpus()
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: (processors[0]?.model ?? 'unknown').trim(),
    processors: processors.length,
    memoryGb: Math.round(totalmem() / gigabyte),
    system: await systemName(),
    node: process.versions.node,
    postgres,
    pgbench: await firstLine('pgbench', ['--version']),
    loadBefore: loadavg()[0] ?? 0,
  }
}

async function systemName(): Promise<string> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '')
  return /^PRETTY_NAME="?([^"\n]+)/m.exec(text)?.[1] ?? `${type()} ${release()}`
}
