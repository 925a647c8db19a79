import type { Timers } from '../../runtime/timers.ts'
import type { Row } from './columns.ts'
import type { ConsoleFromWorker, ConsoleToWorker, Question } from './messages.ts'

/** A data worker as the console sees it. */
export interface AskedWorker {
  readonly index: number
  send(message: ConsoleToWorker): void
}

export interface Answers {
  /** Of all workers that have answered. */
  rows: Row[]
  /** The others, by number. */
  missing: number[]
}

interface Asked {
  /** Workers that have not answered yet, with what has come of their rows. */
  owed: Map<AskedWorker, Row[]>
  rows: Row[]
  finish(): void
}

/** How long a worker may take. One that hangs is left out, and replaced soon after. */
const answerMs = 2000

/** Asks every worker, and puts together what they answer. */
export class Questions {
  readonly #timers: Timers
  readonly #workers: () => Iterable<AskedWorker>
  readonly #asked = new Map<number, Asked>()
  #requests = 0

  constructor(timers: Timers, workers: () => Iterable<AskedWorker>) {
    this.#timers = timers
    this.#workers = workers
  }

  /** Rows are in no order. Never rejects. */
  ask(question: Question): Promise<Answers> {
    const request = ++this.#requests
    const owed = new Map([...this.#workers()].map((worker): [AskedWorker, Row[]] => [worker, []]))
    const rows: Row[] = []
    return new Promise(resolve => {
      const finish = (): void => {
        timer.cancel()
        this.#asked.delete(request)
        resolve({ rows, missing: [...owed.keys()].map(({ index }) => index) })
      }
      const timer = this.#timers.after(answerMs, finish)
      if (owed.size === 0) return finish()
      this.#asked.set(request, { owed, rows, finish })
      for (const worker of owed.keys()) worker.send({ kind: 'console_ask', request, question })
    })
  }

  onTold(worker: AskedWorker, message: Extract<ConsoleFromWorker, { kind: 'console_told' }>): void {
    const asked = this.#asked.get(message.request)
    const rows = asked?.owed.get(worker)
    if (!asked || !rows) return
    rows.push(...message.rows)
    if (!message.last) return
    asked.owed.delete(worker)
    for (const row of rows) asked.rows.push(row)
    if (asked.owed.size === 0) asked.finish()
  }

  /** A worker has ended: it will not answer, and has nothing to tell. */
  forget(worker: AskedWorker): void {
    for (const asked of [...this.#asked.values()]) {
      if (asked.owed.delete(worker) && asked.owed.size === 0) asked.finish()
    }
  }
}
