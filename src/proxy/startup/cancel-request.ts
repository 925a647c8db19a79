import type { Timers } from '../../runtime/timers.ts'
import { writeCancelRequest } from '../../wire/startup.ts'
import { dial, type ServerTls } from './dial.ts'

export interface CancelRequest {
  host: string
  port: number
  /** Undefined: without TLS. */
  tls: ServerTls | undefined
  /** What the server has said when it let the session in. */
  processId: number
  secret: Buffer
  /** Limit for connecting and being heard. */
  timeoutMs: number
  timers: Timers
}

/**
 * Asks a server, on a connection of its own, to cancel what one of its sessions runs. `done` is called once: the signal
 * has been sent, or the server was not to be reached in time.
 */
export function sendCancelRequest(request: CancelRequest, done: () => void): void {
  const { host, port, processId, secret, timeoutMs, timers, tls } = request
  let finished = false
  const finish = (): void => {
    if (finished) return
    finished = true
    timer.cancel()
    socket.destroy()
    done()
  }
  const timer = timers.after(timeoutMs, finish)
  const socket = dial({
    host,
    port,
    tls,
    onOpen: opened => {
      opened.on('error', finish)
      // PostgreSQL closes the connection when the signal has been sent.
      opened.on('close', finish)
      opened.resume()
      opened.write(writeCancelRequest(processId, secret))
    },
    onFailed: finish,
  })
}
