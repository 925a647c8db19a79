import cluster, { type Worker as ClusterWorker } from 'node:cluster'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Timer, Timers } from '../runtime/timers.ts'
import type { Topology } from '../topology/types.ts'
import { addCounters, type WorkerCountersData } from './counters.ts'
import type { FromWorker, ToWorker, WorkerSettings } from './ipc.ts'

export interface ProxyControlOptions {
  /** Of the whole proxy: limits are divided among the workers. */
  settings: WorkerSettings
  workers: number
  clock: Clock
  timers: Timers
  log: Logger
  /** Where the workers' log lines go. */
  writeLog: (line: string) => void
  /** A worker could not use a node: look at it at once. */
  onSuspect: (node: string, reason: string) => void
  /** Every worker has applied the topology of this intent revision. */
  onApplied: (intentRevision: number) => void
}

interface Slot {
  index: number
  worker: ClusterWorker
  /** -1 until it has applied a topology. */
  appliedRevision: number
  counters: WorkerCountersData | undefined
  startedMs: number
}

/** A worker that lived shorter than this is started again only after a pause. */
const shortLifeMs = 5000
const restartPauseMs = 1000

/**
 * The control process's side of the data plane: starts the workers, gives them every new topology, adds up what
 * they count, passes cancel requests between them, and replaces one that dies.
 */
export class ProxyControl {
  readonly #options: ProxyControlOptions
  readonly #slots = new Map<number, Slot>()
  readonly #restarts = new Set<Timer>()
  /** Counts of workers that have ended, so that totals never fall. */
  #retired = addCounters([])
  #settings: WorkerSettings
  #topology: Topology | undefined
  #appliedRevision = -1
  #stopping = false
  #crashes = 0

  constructor(options: ProxyControlOptions) {
    this.#options = options
    this.#settings = options.settings
  }

  /** Resolves when every worker listens; rejects when one cannot, e.g. because the port is taken. */
  async start(): Promise<void> {
    const starts = Array.from({ length: this.#options.workers }, (_, index) => this.#fork(index))
    const results = await Promise.allSettled(starts)
    const failed = results.find(result => result.status === 'rejected')
    if (failed) {
      await this.stop()
      throw failed.reason
    }
  }

  setTopology(topology: Topology): void {
    this.#topology = topology
    for (const slot of this.#slots.values()) send(slot.worker, { kind: 'topology', topology })
  }

  /** Takes new settings over; only what may change while running. */
  setSettings(settings: WorkerSettings): void {
    this.#settings = settings
    for (const { worker, index } of this.#slots.values()) {
      send(worker, { kind: 'settings', settings: this.#shareOf(settings), index })
    }
  }

  /** The sum over all workers, ended ones included where it is a total. */
  counters(): WorkerCountersData {
    const living = [...this.#slots.values()].flatMap(slot => slot.counters ?? [])
    return addCounters([this.#retired, ...living])
  }

  /** Newest intent revision that every worker has applied; -1 before the first. */
  get appliedRevision(): number {
    return this.#appliedRevision
  }

  get workers(): { index: number; pid: number; clients: number }[] {
    return [...this.#slots.values()].map(({ index, worker, counters }) => ({
      index,
      pid: worker.process.pid ?? 0,
      clients: counters?.clients ?? 0,
    }))
  }

  /** Workers that ended without being asked to, since the start. */
  get crashes(): number {
    return this.#crashes
  }

  /** Lets sessions come to rest within `shutdownTimeoutMs`, then ends every worker. */
  async stop(): Promise<void> {
    this.#stopping = true
    for (const timer of this.#restarts) timer.cancel()
    const { timers } = this.#options
    const { shutdownTimeoutMs } = this.#settings
    await Promise.all(
      [...this.#slots.values()].map(async ({ worker }) => {
        if (worker.isDead()) return
        const gone = new Promise<void>(resolve => worker.once('exit', () => resolve()))
        send(worker, { kind: 'stop' })
        const timer = timers.after(shutdownTimeoutMs + 2000, () => worker.process.kill('SIGKILL'))
        await gone
        timer.cancel()
      }),
    )
  }

  #fork(index: number): Promise<void> {
    cluster.setupPrimary({
      exec: fileURLToPath(new URL('./worker-main.js', import.meta.url)),
      args: [],
      execArgv: [],
      silent: true,
    })
    const worker = cluster.fork()
    const slot: Slot = {
      index,
      worker,
      appliedRevision: -1,
      counters: undefined,
      startedMs: this.#options.clock.nowMs(),
    }
    this.#slots.set(index, slot)
    forwardLines(worker, this.#options.writeLog)
    return new Promise((resolve, reject) => {
      worker.on('message', (message: FromWorker) => {
        if (message.kind === 'loaded') {
          send(worker, { kind: 'settings', settings: this.#shareOf(this.#settings), index })
        } else if (message.kind === 'listening') {
          if (this.#topology) send(worker, { kind: 'topology', topology: this.#topology })
          resolve()
        } else if (message.kind === 'failed') reject(new Error(message.message))
        else this.#onMessage(slot, message)
      })
      worker.on('error', error =>
        this.#options.log.warn({ err: error, worker: index }, 'a worker could not be told'),
      )
      worker.on('exit', (code, signal) => {
        reject(new Error(`worker ${index} ended while starting (${signal ?? code})`))
        this.#onExit(slot, signal ?? String(code))
      })
    })
  }

  #shareOf(settings: WorkerSettings): WorkerSettings {
    const share = (limit: number): number => Math.max(1, Math.ceil(limit / this.#options.workers))
    return {
      ...settings,
      clientsMax: share(settings.clientsMax),
      pool: { ...settings.pool, poolSize: share(settings.pool.poolSize) },
    }
  }

  #onMessage(slot: Slot, message: FromWorker): void {
    switch (message.kind) {
      case 'applied':
        slot.appliedRevision = message.revision
        this.#noteApplied()
        return
      case 'suspect':
        this.#options.onSuspect(message.node, message.reason)
        return
      case 'counters':
        slot.counters = message.counters
        return
      case 'cancel':
        this.#askOthers(slot, message)
        return
      case 'cancelled':
        this.#answers.get(message.request)?.(message.found)
        return
      case 'loaded':
      case 'listening':
      case 'failed':
        return
      default:
        message satisfies never
    }
  }

  #noteApplied(): void {
    const revision = Math.min(...[...this.#slots.values()].map(each => each.appliedRevision))
    if (revision <= this.#appliedRevision) return
    this.#appliedRevision = revision
    this.#options.onApplied(revision)
  }

  // A cancel request that its worker does not know: the others are asked, and the asker told when all answered.

  readonly #answers = new Map<number, (found: boolean) => void>()
  #cancelRequests = 0

  #askOthers(from: Slot, message: Extract<FromWorker, { kind: 'cancel' }>): void {
    const others = [...this.#slots.values()].filter(slot => slot !== from)
    let owed = others.length
    const finish = (found: boolean): void => {
      this.#answers.delete(request)
      timer.cancel()
      send(from.worker, { kind: 'cancelled', request: message.request, found })
    }
    const request = ++this.#cancelRequests
    const timer = this.#options.timers.after(this.#settings.pool.serverConnectTimeoutMs, () => finish(false))
    if (owed === 0) return finish(false)
    this.#answers.set(request, found => {
      owed--
      if (found || owed === 0) finish(found)
    })
    for (const { worker } of others) {
      send(worker, { kind: 'cancel', processId: message.processId, secret: message.secret, request })
    }
  }

  #onExit(slot: Slot, how: string): void {
    if (slot.counters) this.#retired = addCounters([this.#retired, withoutGauges(slot.counters)])
    this.#slots.delete(slot.index)
    if (this.#stopping) return
    this.#crashes++
    const { clock, timers, log } = this.#options
    log.error(
      { event: 'worker.died', worker: slot.index },
      `worker ${slot.index} ended (${how}); it is replaced`,
    )
    const pauseMs = clock.nowMs() - slot.startedMs < shortLifeMs ? restartPauseMs : 0
    const timer = timers.after(pauseMs, () => {
      this.#restarts.delete(timer)
      this.#fork(slot.index).catch((cause: unknown) =>
        log.error({ err: cause }, `worker ${slot.index} did not start`),
      )
    })
    this.#restarts.add(timer)
  }
}

function send(worker: ClusterWorker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message)
}

/** What a dead worker leaves: its totals. What it held is gone. */
function withoutGauges(counters: WorkerCountersData): WorkerCountersData {
  const nodes = Object.entries(counters.nodes).map(([name, node]) => [
    name,
    { ...node, sessions: 0, idle: 0, connecting: 0, waiting: 0 },
  ])
  return { ...counters, clients: 0, clientsWaiting: 0, nodes: Object.fromEntries(nodes) }
}

function forwardLines(worker: ClusterWorker, write: (line: string) => void): void {
  for (const stream of [worker.process.stdout, worker.process.stderr]) {
    stream?.setEncoding('utf8')
    stream?.on('data', (text: string) => write(text))
  }
}
