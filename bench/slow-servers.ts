import { fileURLToPath } from 'node:url'
import { baseEnvironment, type Child, startChild } from '../src/runtime/process.ts'
import { systemTimers } from '../src/runtime/timers.ts'
import { BenchError } from './error.ts'

/** What the way from a replica takes, ms: to most as from another building, so that not the processors are the limit. */
export const nearMs = 2
/** The same for the slow one. */
export const slowMs = 20
const startLimitMs = 10_000

/** A process of its own, so that it is in nobody's way, in front of servers that it makes look far, the last one slow. */
export class SlowServers {
  /** In the order of the servers. */
  readonly ports: readonly number[]
  readonly #child: Child

  private constructor(ports: readonly number[], child: Child) {
    this.ports = ports
    this.#child = child
  }

  static async before(servers: readonly number[]): Promise<SlowServers> {
    let told: (ports: number[]) => void = () => {}
    let fail: (cause: BenchError) => void = () => {}
    const listening = new Promise<number[]>((resolve, reject) => {
      told = resolve
      fail = reject
    })
    const child = await startChild({
      command: process.execPath,
      args: [
        fileURLToPath(new URL('slow-servers-main.js', import.meta.url)),
        ...servers.map((port, at) => `${port}:${at === servers.length - 1 ? slowMs : nearMs}`),
      ],
      env: baseEnvironment(),
      onLine: line => told(line.split(' ').map(Number)),
    })
    const deadline = systemTimers.after(startLimitMs, () =>
      fail(new BenchError('not_started', `the slow servers did not start: ${child.tail.join('; ')}`)),
    )
    try {
      return new SlowServers(await listening, child)
    } finally {
      deadline.cancel()
    }
  }

  async stop(): Promise<void> {
    await this.#child.stop('SIGTERM', 1000)
  }
}
