/** The data worker's process: composition root and lifeline to the control process. */
import type { Socket } from 'node:net'
import { systemClock } from '../runtime/clock.ts'
import type { Sendable } from '../runtime/listeners.ts'
import { createLogger, type LogLevel } from '../runtime/log.ts'
import { systemRandom } from '../runtime/random.ts'
import { SharedCounters } from '../runtime/shared-counters.ts'
import { systemTimers } from '../runtime/timers.ts'
import type { FromWorker, ToWorker } from './control/ipc.ts'
import { acknowledgedFd } from './control/worker-process.ts'
import { Worker } from './worker.ts'

let worker: Worker | undefined

function send(message: FromWorker, handle?: Sendable, onSent?: () => void): void {
  // A listening handle has no public type.
  if (process.connected) process.send?.(message, handle as Socket, {}, onSent && (() => onSent()))
}

function start(message: Extract<ToWorker, { kind: 'settings' }>): void {
  const { acknowledgedSlot, settings, index, mockSecret } = message
  const log = createLogger({ level: settings.log.level as LogLevel, format: settings.log.format })
  try {
    worker = new Worker({
      settings,
      index,
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log: log.child({ worker: index }),
      acknowledged: new SharedCounters(acknowledgedFd, acknowledgedSlot),
      mockSecret: Buffer.from(mockSecret, 'hex'),
      memory: () => process.memoryUsage(),
      send,
      onStopped: () => systemTimers.after(50, () => process.exit(0)),
    })
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    log.fatal({ event: 'worker.failed', worker: index }, `a data worker cannot start: ${why}`)
    process.exit(1)
  }
  worker.start()
}

process.on('message', (message: ToWorker, handle?: Sendable) => {
  if (worker) worker.onMessage(message, handle)
  else if (message.kind === 'settings') start(message)
})
// A terminal's Ctrl-C and a service manager's TERM reach the whole group: the control process decides what to do.
process.on('SIGINT', () => undefined)
process.on('SIGTERM', () => undefined)
process.on('SIGHUP', () => undefined)
process.on('SIGUSR2', () => undefined)
// Without its control process a worker would serve a cluster that it no longer knows.
process.on('disconnect', () => process.exit(0))
send({ kind: 'loaded' })
