import { fileURLToPath } from 'node:url'
import { baseEnvironment, type Child, startChild } from '../src/runtime/process.ts'
import { systemTimers } from '../src/runtime/timers.ts'
import { BenchError } from './error.ts'

/** What every answer of the slow replica takes longer, ms: about ten times what one takes with 64 clients. */
export const slowerMs = 20
const startLimitMs = 10_000

/** A process of its own, so that it is in nobody's way, in front of a server that it makes look slow. */
export class SlowServer {
  readonly port: number
  readonly #child: Child

  private constructor(port: number, child: Child) {
    this.port = port
    this.#child = child
  }

  static async before(port: number): Promise<SlowServer> {
    let told: (port: number) => void = () => {}
    let fail: (cause: BenchError) => void = () => {}
    const listening = new Promise<number>((resolve, reject) => {
      told = resolve
      fail = reject
    })
    const child = await startChild({
      command: process.execPath,
      args: [fileURLToPath(new URL('slow-server-main.js', import.meta.url)), String(port), String(slowerMs)],
      env: baseEnvironment(),
      onLine: line => told(Number(line)),
    })
    const deadline = systemTimers.after(startLimitMs, () =>
      fail(new BenchError('not_started', `the slow server did not start: ${child.tail.join('; ')}`)),
    )
    try {
      return new SlowServer(await listening, child)
    } finally {
      deadline.cancel()
    }
  }

  async stop(): Promise<void> {
    await this.#child.stop('SIGTERM', 1000)
  }
}
