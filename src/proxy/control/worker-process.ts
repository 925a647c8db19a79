import { type ChildProcess, fork, type StdioOptions } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../runtime/clock.ts'
import type { Sendable } from '../../runtime/listeners.ts'
import { environmentWithoutSecrets } from '../../runtime/process.ts'
import type { Timers } from '../../runtime/timers.ts'
import { changeOf } from '../../topology/change.ts'
import type { Topology } from '../../topology/types.ts'
import type { WorkerCountersData } from '../counters.ts'
import type { GatesData } from '../pool/gates.ts'
import { unlimited } from './doors.ts'
import type { Arrival, Loan, Taker } from './entrance.ts'
import type { FromWorker, ToWorker, WorkerSettings } from './ipc.ts'

export interface WorkerProcessOptions {
  /** Number among its siblings, from 0. */
  index: number
  child: ChildProcess
  clock: Clock
  /** What it is told when it has loaded. */
  settings: () => WorkerSettings
  /** No other worker that lives has the same. */
  acknowledgedSlot: number
  /** Hex. The same for every worker. */
  mockSecret: string
  /** Takes whole lines of its output. */
  writeLog: (lines: string) => void
  /** What it says; its own affairs are dealt with before. */
  onMessage: (worker: WorkerProcess, message: FromWorker, handle: Sendable | undefined) => void
  onExit: (worker: WorkerProcess, how: string) => void
}

/**
 * A young generation of its usual size would cost more memory than thousands of idle clients, whose logins make it
 * grow; what a worker throws away is so short-lived that a small one costs no time. What logins leave in the old
 * generation is given back early. Neither costs processor time a query (the benches `idle-clients` and `select`).
 *
 * The parser, which is WebAssembly, stays as it is compiled at first: it works for moments only, and to compile its
 * largest functions anew, with all that can be done for them, took a fifth of a busy worker's processor time, still
 * twelve seconds after it had begun.
 */
const nodeOptions = ['--max-semi-space-size=1', '--optimize-for-size', '--no-wasm-tier-up']

/** Where a worker finds the file in which all count what they acknowledge. */
export const acknowledgedFd = 4

/** Starts the program of a data worker; `acknowledged`: the descriptor of that file here. */
export function forkWorker(acknowledged: number): ChildProcess {
  const program = fileURLToPath(new URL('../worker-main.js', import.meta.url))
  const stdio = ['pipe', 'pipe', 'pipe', 'ipc', acknowledged] satisfies StdioOptions
  return fork(program, [], { execArgv: nodeOptions, stdio, env: environmentWithoutSecrets() })
}

/** Longest line of a worker's output that is passed on in one piece, in characters. */
const lineCharsMax = 64 * 1024

/**
 * One data worker as the control process sees it: what it was told and has confirmed, when it was last heard,
 * and the connections on their way to it.
 *
 *   booting --loaded--> starting --ready--> ready [--leave--> leaving] --exit--> ended   (exit may come at any time)
 */
export class WorkerProcess implements Taker {
  readonly index: number
  readonly startedMs: number
  /** Resolves when it can take connections; rejects with the reason when it ends before. */
  readonly ready: Promise<void>
  state: 'booting' | 'starting' | 'ready' | 'leaving' | 'ended' = 'booting'
  /** Intent revision of the newest topology that it has applied; -1 before the first. */
  appliedRevision = -1
  most = 0
  /** The last figures it has sent. */
  counters: WorkerCountersData | undefined
  readonly #options: WorkerProcessOptions
  readonly #ended: Promise<void>
  readonly #owed = new Map<number, Arrival & { sinceMs: number }>()
  #handedOver = 0
  /** Its connections, as it said last. */
  #clients = 0
  /** What it was told of how many connections it may have. */
  #ceiling = unlimited
  #heardMs: number
  #newest: Topology | undefined
  #told: Topology | undefined
  #isApplying = false
  #becomeReady: () => void = () => undefined

  constructor(options: WorkerProcessOptions) {
    this.#options = options
    this.index = options.index
    this.startedMs = options.clock.nowMs()
    this.#heardMs = this.startedMs
    const { child } = options
    for (const stream of [child.stdout, child.stderr]) if (stream) forwardLines(stream, options.writeLog)
    child.on('message', (message: FromWorker, handle?: Sendable) => this.#onMessage(message, handle))
    const gone = new Promise<string>(resolve => {
      child.on('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
      child.on('error', error => {
        // It could not be started. Else something could not be sent, and the exit that follows says the rest.
        if (child.pid === undefined) resolve(error.message)
      })
    })
    this.#ended = gone.then(how => {
      this.state = 'ended'
      options.onExit(this, how)
    })
    this.ready = new Promise((resolve, reject) => {
      this.#becomeReady = resolve
      const fail = (how: string): void =>
        reject(new Error(`data worker ${this.index} ended while it started: ${how}`))
      void gone.then(fail)
    })
  }

  get pid(): number {
    return this.#options.child.pid ?? 0
  }

  get load(): number {
    return this.#clients + this.#owed.size
  }

  get owed(): number {
    return this.#owed.size
  }

  get owedSinceMs(): number | undefined {
    return this.#owed.values().next().value?.sinceMs
  }

  give(arrival: Arrival): void {
    const connection = ++this.#handedOver
    this.#owed.set(connection, { ...arrival, sinceMs: this.#options.clock.nowMs() })
    const { client, route, isTurnedAway = false } = arrival
    const message: ToWorker = client
      ? { kind: 'take_over', connection, client }
      : { kind: 'connection', connection, route, isTurnedAway }
    // Sent without success it stays among those that `takeBack` gives to others when the process has ended.
    this.#options.child.send(message, arrival.socket, { keepOpen: true }, () => undefined)
  }

  lend({ door, route, backlog, handle }: Loan): void {
    const { child } = this.#options
    const message: ToWorker = { kind: 'listen', door, route, backlog }
    // A listening handle has no public type.
    if (child.connected) child.send(message, handle as unknown as Socket)
  }

  limit(connections: number): void {
    if (connections === this.#ceiling) return
    this.#ceiling = connections
    this.send({ kind: 'ceiling', connections })
  }

  /** The connections that it did not confirm: they are somebody else's now. */
  takeBack(): Arrival[] {
    const arrivals = [...this.#owed.values()]
    this.#owed.clear()
    return arrivals
  }

  /**
   * Tells it the topology as soon as it has applied the one before: to a worker that hangs, one is under way,
   * and of the later ones only the newest is kept.
   */
  setTopology(topology: Topology): void {
    this.#newest = topology
    this.#tellTopology()
  }

  /** It has applied the newest topology. */
  get isCurrent(): boolean {
    return this.#told === this.#newest && !this.#isApplying
  }

  tellSettings(readFiles: boolean): void {
    const { acknowledgedSlot, mockSecret } = this.#options
    const settings = this.#options.settings()
    this.most = settings.clientsMax
    this.send({ kind: 'settings', settings, index: this.index, mockSecret, acknowledgedSlot, readFiles })
  }

  setGates(gates: GatesData): void {
    this.send({ kind: 'gates', gates })
  }

  send(message: ToWorker): void {
    if (this.#options.child.connected) this.#options.child.send(message)
  }

  /** How long nothing has been heard of it. */
  silentMs(nowMs: number): number {
    return nowMs - this.#heardMs
  }

  /** Counts its silence from now on: it was not listened to. */
  excuse(nowMs: number): void {
    this.#heardMs = nowMs
  }

  kill(): void {
    this.#options.child.kill('SIGKILL')
  }

  /** Asks it to end, and kills it after `limitMs`. Resolves when it is gone. */
  async stop(timers: Timers, limitMs: number): Promise<void> {
    // It has no client yet, and would not hear what it is told before it has loaded.
    if (this.state === 'booting') this.kill()
    else this.send({ kind: 'stop' })
    const timer = timers.after(limitMs, () => this.kill())
    await this.#ended
    timer.cancel()
  }

  /** Gives it no more clients, and waits until it has ended as these have gone; kills it after `limitMs`. */
  async leave(timers: Timers, limitMs: number): Promise<void> {
    this.state = 'leaving'
    this.send({ kind: 'drain' })
    const timer = timers.after(limitMs, () => this.kill())
    await this.#ended
    timer.cancel()
  }

  /** It serves clients, its own or those that are still to come. */
  get serves(): boolean {
    return this.state === 'ready' || this.state === 'leaving'
  }

  #onMessage(message: FromWorker, handle: Sendable | undefined): void {
    this.#heardMs = this.#options.clock.nowMs()
    switch (message.kind) {
      case 'loaded':
        this.state = 'starting'
        this.tellSettings(true)
        break
      case 'ready':
        this.state = 'ready'
        this.#tellTopology()
        this.#becomeReady()
        break
      case 'applied':
        this.appliedRevision = message.revision
        this.#isApplying = false
        this.#tellTopology()
        break
      case 'taken':
        this.#clients = message.clients
        for (const connection of message.connections) this.#release(connection)
        break
      case 'surplus':
        this.#clients = message.clients
        break
      case 'counters':
        this.counters = message.counters
        break
      case 'suspect':
      case 'catalog':
      case 'free_database':
      case 'hand_over':
      case 'listening':
      case 'cancel':
      case 'cancelled':
      case 'console_command':
      case 'console_cancel':
      case 'console_told':
        break
      default:
        message satisfies never
    }
    this.#options.onMessage(this, message, handle)
  }

  #tellTopology(): void {
    if (!this.serves || this.#isApplying || !this.#newest || this.#newest === this.#told) return
    const change = changeOf(this.#told, this.#newest)
    this.#told = this.#newest
    this.#isApplying = true
    this.send({ kind: 'topology', change })
  }

  /** The worker has the connection: this process lets go of its own hold on it, which ends nothing. */
  #release(connection: number): void {
    this.#owed.get(connection)?.socket.destroy()
    this.#owed.delete(connection)
  }
}

/** Passes on whole lines, so that those of several workers do not end up within each other. */
function forwardLines(stream: Readable, write: (lines: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    rest += text
    const end = rest.lastIndexOf('\n') + 1
    if (end > 0) write(rest.slice(0, end))
    rest = rest.slice(end)
    if (rest.length <= lineCharsMax) return
    write(`${rest}\n`)
    rest = ''
  })
  stream.on('end', () => {
    if (rest !== '') write(`${rest}\n`)
  })
}
