import type { Timers } from '../../runtime/timers.ts'

export interface LoadReportsOptions {
  timers: Timers
  /** Connections of this worker now. */
  load: () => number
  /** Somebody wants to know how many there are. */
  isWanted: () => boolean
  send: (confirmed: number[], clients: number) => void
}

/** How often connections that were handed over are confirmed, in ms. */
const confirmEveryMs = 1
/** How often the others can learn how many connections this worker has, in ms. */
const loadEveryMs = 10

/**
 * What the control process has to know of a worker's connections: which of those that were handed over have arrived, and
 * how many there are now. At once when nothing was said for a moment, else for all of that moment together.
 */
export class LoadReports {
  readonly #options: LoadReportsOptions
  /** Arrived, and not confirmed. */
  #arrived: number[] = []
  #isConfirming = false
  /** How many connections there were when that was said last, and whether it was a moment ago. */
  #toldLoad = 0
  #isTelling = false

  constructor(options: LoadReportsOptions) {
    this.#options = options
  }

  /** A connection has been handed over; `take` does with it what is to be done before it is confirmed. */
  arrive(connection: number, take: () => void): void {
    // What is said meanwhile of the number of connections is of this one too.
    this.#arrived.push(connection)
    take()
    this.#confirm()
  }

  /** There may be another number of connections. */
  tellLoad(): void {
    const { isWanted, load, timers } = this.#options
    if (this.#isTelling || !isWanted() || load() === this.#toldLoad) return
    this.#isTelling = true
    this.#send()
    timers.after(loadEveryMs, () => {
      this.#isTelling = false
      this.tellLoad()
    })
  }

  #confirm(): void {
    if (this.#isConfirming || this.#arrived.length === 0) return
    this.#isConfirming = true
    this.#send()
    this.#options.timers.after(confirmEveryMs, () => {
      this.#isConfirming = false
      this.#confirm()
    })
  }

  #send(): void {
    this.#toldLoad = this.#options.load()
    this.#options.send(this.#arrived, this.#toldLoad)
    this.#arrived = []
  }
}
