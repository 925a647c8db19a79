import type { Row } from './columns.ts'
import { ConsoleError, type RemoteCommand } from './commands.ts'
import type { ConsoleFromWorker, ConsoleToWorker, Outcome } from './messages.ts'

/** What came of a command. */
export interface Result {
  tag: string
  rows: Row[]
  notices: string[]
}

/** A command on its way. */
export interface Run {
  /** Rejects with a ConsoleError. */
  readonly result: Promise<Result>
  cancel(): void
}

interface Waiting {
  rows: Row[]
  finish(outcome: Outcome): void
}

/** The commands that a worker's consoles have given to the control process. */
export class ConsoleRequests {
  readonly #send: (message: ConsoleFromWorker) => void
  readonly #waiting = new Map<number, Waiting>()
  #requests = 0

  constructor(send: (message: ConsoleFromWorker) => void) {
    this.#send = send
  }

  run(command: RemoteCommand): Run {
    const request = ++this.#requests
    const rows: Row[] = []
    const result = new Promise<Result>((resolve, reject) => {
      const finish = (outcome: Outcome): void => {
        this.#waiting.delete(request)
        if ('error' in outcome) reject(new ConsoleError(outcome.error, outcome.message, outcome.hint))
        else resolve({ ...outcome, rows })
      }
      this.#waiting.set(request, { rows, finish })
    })
    this.#send({ kind: 'console_command', request, command })
    return { result, cancel: () => this.#send({ kind: 'console_cancel', request }) }
  }

  onMessage(message: Exclude<ConsoleToWorker, { kind: 'console_ask' }>): void {
    const waiting = this.#waiting.get(message.request)
    if (message.kind === 'console_done') waiting?.finish(message.outcome)
    else waiting?.rows.push(...message.rows)
  }
}
