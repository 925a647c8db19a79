import type { ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Route } from '../../routing/choose.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { ListeningHandle, Sendable } from '../../runtime/listeners.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Random } from '../../runtime/random.ts'
import { closeCounterFile, openCounterFile } from '../../runtime/shared-counters.ts'
import { stopReading } from '../../runtime/sockets.ts'
import type { Timer, Timers } from '../../runtime/timers.ts'
import type { Topology } from '../../topology/types.ts'
import { writeErrorResponse } from '../../wire/messages.ts'
import { errorFor } from '../client/failures.ts'
import { ConsoleDesk, type Operator } from '../console/desk.ts'
import { addCounters, type WorkerCountersData } from '../counters.ts'
import { shareOf } from '../pool/limits.ts'
import { withoutRecent } from '../stats.ts'
import { type Arrival, Entrance, type Place } from './entrance.ts'
import type { FromWorker, WorkerSettings } from './ipc.ts'
import { Refuser } from './refuser.ts'
import { forkWorker, WorkerProcess } from './worker-process.ts'

/** A socket that the service manager listens on. */
export interface Inherited {
  fd: number
  route: Route
}

/** The other proxies of the cluster. */
export interface Fleet {
  /** What the cancel keys of this proxy begin with. */
  readonly prefix: number
  /** Sends a cancel key to the proxy that has made it; resolves with whether there is one. */
  passOn(processId: number, secret: Buffer): Promise<boolean>
}

export interface ProxyControlOptions {
  /** Of the whole proxy: limits are divided among the workers. */
  settings: WorkerSettings
  workers: number
  /** Sockets to take in place of ports of one's own. */
  inherited: readonly Inherited[]
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
  /** Where the workers' log lines go. */
  writeLog: (lines: string) => void
  /** A worker could not use a node: look at it at once. */
  onSuspect: (node: string, reason: string) => void
  /** Every worker has applied the topology of this intent revision. */
  onApplied: (intentRevision: number) => void
  /** Cancel requests for other proxies. */
  fleet: Fleet
  /** What the console knows of the process, and may do to it. */
  operator: Operator
  memory: () => NodeJS.MemoryUsage
  /** Starts a worker's process. */
  fork?: (acknowledged: number) => ChildProcess
}

/** A worker that lived shorter than this is started again only after a pause. */
const shortLifeMs = 5000
const restartPauseMs = 1000
const judgeEveryMs = 1000
/** As many clients as may be connected may wait for a worker to take them, within these bounds. */
const waitingLeast = 1024
const waitingMost = 16_384
/** Workers send their figures several times a second: one that is silent for this long hangs. */
const silentMaxMs = 5000
/** The same for one that is still being started. */
const bootMaxMs = 20_000
/** What a worker gets on top of `shutdownTimeoutMs` to end by itself. */
const stopGraceMs = 2000

/**
 * The control process's side of the data plane: starts the workers, hands them the clients and every new
 * topology, adds up what they count, passes cancel requests between them, and replaces one that dies or hangs.
 */
export class ProxyControl {
  readonly #options: ProxyControlOptions
  readonly #workers = new Map<number, WorkerProcess>()
  /** Those that are being replaced, and those that are to replace them. */
  readonly #besides = new Set<WorkerProcess>()
  #replacing: Promise<void> | undefined
  readonly #entrance: Entrance
  readonly #console: ConsoleDesk
  readonly #restarts = new Set<Timer>()
  /** Counts of workers that have ended, so that totals never fall. */
  #retired = addCounters([])
  #settings: WorkerSettings
  readonly #mockSecret: string
  #topology: Topology | undefined
  #appliedRevision = -1
  #stopping = false
  #isStopped = false
  #crashes = 0
  #judging: Timer | undefined
  #judgedMs = 0
  /** Cancel requests that workers are asked about, by number. */
  readonly #answers = new Map<number, (found: boolean) => void>()
  #cancelRequests = 0
  /** The file in which the workers count what they acknowledge, and how many of them there ever were. */
  readonly #acknowledged: number
  #created = 0

  constructor(options: ProxyControlOptions) {
    this.#options = options
    this.#settings = options.settings
    this.#mockSecret = options.random.bytes(32).toString('hex')
    this.#acknowledged = openCounterFile(options.random.bytes(8).toString('hex'))
    const { clock, log } = options
    const takers = (): WorkerProcess[] => [...this.#workers.values()].filter(({ state }) => state === 'ready')
    const serving = (): WorkerProcess[] => this.#all().filter(({ serves }) => serves)
    const refuser = new Refuser({
      timers: options.timers,
      hasTls: () => this.#settings.tls.mode !== 'disable',
    })
    this.#entrance = new Entrance({
      clock,
      timers: options.timers,
      log,
      takers,
      waitingMax: () => Math.min(waitingMost, Math.max(waitingLeast, this.#settings.clientsMax)),
      refuse: (socket, message) => refuser.refuse(socket, message),
    })
    this.#console = new ConsoleDesk({
      workers: serving,
      settings: () => this.#settings,
      topology: () => this.#topology,
      counters: () => this.counters(),
      operator: options.operator,
      closeEntrance: () => this.#closeEntrance(),
      hurry: () => this.setSettings({ ...this.#settings, shutdownTimeoutMs: 0 }, false),
      memory: options.memory,
      clock,
      timers: options.timers,
      log,
    })
  }

  /** Resolves when every worker runs and the ports are open; rejects when that cannot be had. */
  async start(): Promise<void> {
    const { workers, timers, clock } = this.#options
    this.#judgedMs = clock.nowMs()
    this.#judging = timers.every(judgeEveryMs, () => this.#judge())
    try {
      await Promise.all(Array.from({ length: workers }, (_, index) => this.#fork(index)))
      await this.#openPorts()
    } catch (cause) {
      await this.stop()
      throw cause
    }
  }

  async #openPorts(): Promise<void> {
    const { inherited } = this.#options
    const { listen: host, port, readPort } = this.#settings
    for (const { fd, route } of inherited) await this.#entrance.listen({ fd }, route)
    const lacks = (wanted: Route): boolean => !inherited.some(({ route }) => route === wanted)
    if (lacks('primary')) await this.#entrance.listen({ host, port }, 'primary')
    if (lacks('replica') && readPort !== 0) await this.#entrance.listen({ host, port: readPort }, 'replica')
  }

  #closeEntrance(): void {
    this.#entrance.close()
    for (const worker of this.#all()) worker.send({ kind: 'stop_listening' })
  }

  /** The ports that are open. */
  get places(): Place[] {
    return this.#entrance.places
  }

  setTopology(topology: Topology): void {
    this.#topology = topology
    for (const worker of this.#all()) worker.setTopology(topology)
  }

  /** The prefix of cancel keys is another one from now on. */
  setCancelPrefix(prefix: number): void {
    for (const worker of this.#all()) worker.send({ kind: 'cancel_prefix', prefix })
  }

  /**
   * Takes new settings over; only what may change while running. `readFiles`: the files that they name are read again,
   * also when their names are the same. A topology that is set later is applied after them.
   */
  setSettings(settings: WorkerSettings, readFiles: boolean): void {
    this.#settings = settings
    for (const worker of this.#all()) worker.tellSettings(readFiles)
  }

  /** The sum over all workers, ended ones included where it is a total. */
  counters(): WorkerCountersData {
    const living = this.#all().flatMap(({ counters }) => counters ?? [])
    return addCounters([this.#retired, ...living])
  }

  /** Newest intent revision that every worker has applied; -1 before the first. */
  get appliedRevision(): number {
    return this.#appliedRevision
  }

  /** Every worker has applied the newest topology. */
  get isCurrent(): boolean {
    return this.#all().every(worker => worker.isCurrent)
  }

  get workers(): { index: number; pid: number; clients: number }[] {
    return [...this.#workers.values()].map(({ index, pid, counters }) => ({
      index,
      pid,
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
    this.#judging?.cancel()
    this.#entrance.close()
    for (const timer of this.#restarts) timer.cancel()
    const limitMs = this.#settings.shutdownTimeoutMs + stopGraceMs
    await Promise.all(this.#all().map(worker => worker.stop(this.#options.timers, limitMs)))
    if (this.#isStopped) return
    this.#isStopped = true
    closeCounterFile(this.#acknowledged)
  }

  #all(): WorkerProcess[] {
    return [...this.#workers.values(), ...this.#besides]
  }

  /**
   * Replaces every worker, one after the other: a new one takes the new clients, and the old one ends when its own
   * have gone to other workers or away, after `shutdownTimeoutMs` at the latest. Asked again meanwhile, it is the same replacement.
   * Rejects when a new worker cannot start; the old one goes on then.
   */
  replaceWorkers(): Promise<void> {
    this.#replacing ??= this.#replaceAll().finally(() => {
      this.#replacing = undefined
    })
    return this.#replacing
  }

  /** Whether workers are being replaced now. */
  get isReplacing(): boolean {
    return this.#replacing !== undefined
  }

  async #replaceAll(): Promise<void> {
    const { log } = this.#options
    for (const index of [...this.#workers.keys()]) {
      if (this.#stopping) return
      await this.#replace(index)
      log.info({ event: 'worker.replaced', worker: index }, `worker ${index} is a new process`)
    }
  }

  async #replace(index: number): Promise<void> {
    const fresh = this.#create(index)
    this.#besides.add(fresh)
    await fresh.ready
    this.#besides.delete(fresh)
    const old = this.#workers.get(index)
    this.#workers.set(index, fresh)
    this.#entrance.resume()
    // It has died by itself meanwhile.
    if (!old) return
    this.#besides.add(old)
    await old.leave(this.#options.timers, this.#settings.shutdownTimeoutMs + stopGraceMs)
  }

  /** Resolves when the worker is ready; rejects when it ends before. */
  async #fork(index: number): Promise<void> {
    const worker = this.#create(index)
    this.#workers.set(index, worker)
    await worker.ready
  }

  #create(index: number): WorkerProcess {
    const { clock, writeLog, fork = forkWorker } = this.#options
    const worker = new WorkerProcess({
      index,
      child: fork(this.#acknowledged),
      acknowledgedSlot: this.#created++,
      clock,
      settings: () => shareOf(this.#settings, this.#options.workers, index),
      mockSecret: this.#mockSecret,
      writeLog,
      onMessage: (from, message, handle) => this.#onMessage(from, message, handle),
      onExit: (ended, how) => this.#onExit(ended, how),
    })
    if (this.#topology) worker.setTopology(this.#topology)
    return worker
  }

  #onMessage(worker: WorkerProcess, message: FromWorker, handle: Sendable | undefined): void {
    switch (message.kind) {
      case 'ready':
        this.#console.greet(worker)
        worker.send({ kind: 'cancel_prefix', prefix: this.#options.fleet.prefix })
        this.#entrance.resume()
        return
      case 'taken':
        this.#entrance.resume()
        return
      case 'listening':
        if (handle) this.#entrance.onLent(worker, message.door, handle as ListeningHandle)
        return
      case 'surplus':
        if (handle) {
          const { route, isTurnedAway } = message
          this.#passOn({ socket: handle as Socket, route, isTurnedAway })
        }
        return
      case 'hand_over':
        if (handle) {
          this.#passOn({ socket: handle as Socket, route: message.client.route, client: message.client })
        }
        return
      case 'applied':
        this.#noteApplied()
        return
      case 'suspect':
        this.#options.onSuspect(message.node, message.reason)
        return
      case 'catalog':
      case 'free_database':
        for (const other of this.#workers.values()) if (other !== worker) other.send(message)
        return
      case 'cancel':
        this.#askOthers(worker, message)
        return
      case 'cancelled':
        this.#answers.get(message.request)?.(message.found)
        return
      case 'console_command':
      case 'console_cancel':
      case 'console_told':
        this.#console.onMessage(worker, message)
        return
      case 'loaded':
      case 'counters':
        return
      default:
        message satisfies never
    }
  }

  /** A connection goes from one worker to another: a new one, or a client at rest. Its socket is not read here. */
  #passOn(arrival: Arrival): void {
    const { socket } = arrival
    socket.on('error', () => undefined)
    if (this.#stopping) {
      socket.write(writeErrorResponse(errorFor('shutdown', 'the proxy is shutting down')))
      return socket.destroySoon()
    }
    if (stopReading(socket)) this.#entrance.admit(arrival)
    else socket.destroy()
  }

  #noteApplied(): void {
    const revision = Math.min(...this.#all().map(each => each.appliedRevision))
    if (revision <= this.#appliedRevision) return
    this.#appliedRevision = revision
    this.#options.onApplied(revision)
  }

  /**
   * A cancel request that its worker does not know: the other workers are asked, then the proxy that its key names,
   * and the asker is told what they say.
   */
  #askOthers(from: WorkerProcess, message: Extract<FromWorker, { kind: 'cancel' }>): void {
    const others = this.#all().filter(worker => worker !== from && worker.serves)
    let owed = others.length
    const finish = (found: boolean): void => {
      this.#answers.delete(request)
      timer.cancel()
      const tell = (known: boolean): void =>
        from.send({ kind: 'cancelled', request: message.request, found: known })
      if (found || message.isPassedOn) return tell(found)
      void this.#options.fleet.passOn(message.processId, Buffer.from(message.secret, 'hex')).then(tell)
    }
    const request = ++this.#cancelRequests
    const timer = this.#options.timers.after(this.#settings.pool.serverConnectTimeoutMs, () => finish(false))
    if (owed === 0) return finish(false)
    this.#answers.set(request, found => {
      owed--
      if (found || owed === 0) finish(found)
    })
    for (const worker of others) {
      worker.send({ kind: 'cancel', processId: message.processId, secret: message.secret, request })
    }
  }

  /** Ends workers that have been silent for too long. */
  #judge(): void {
    const { clock, log } = this.#options
    const nowMs = clock.nowMs()
    // This process was stopped or starved itself: what the workers have said meanwhile has yet to be read.
    const wasAway = nowMs - this.#judgedMs > 2 * judgeEveryMs
    this.#judgedMs = nowMs
    if (wasAway) for (const worker of this.#all()) worker.excuse(nowMs)
    this.#entrance.stepIn()
    for (const worker of this.#all()) {
      const silentMs = worker.silentMs(nowMs)
      if (silentMs <= (worker.serves ? silentMaxMs : bootMaxMs)) continue
      log.error(
        { event: 'worker.silent', worker: worker.index },
        `worker ${worker.index} has not been heard of for ${Math.round(silentMs / 1000)} s; it is killed`,
      )
      worker.kill()
    }
  }

  #onExit(worker: WorkerProcess, how: string): void {
    if (worker.counters) this.#retired = addCounters([this.#retired, withoutGauges(worker.counters)])
    const isBeside = this.#besides.delete(worker)
    if (!isBeside) this.#workers.delete(worker.index)
    this.#console.forget(worker)
    const left = worker.takeBack()
    if (this.#stopping) {
      for (const { socket } of left) socket.destroy()
      return
    }
    for (const arrival of left) this.#entrance.admit(arrival)
    this.#entrance.resume()
    this.#entrance.stepIn()
    if (isBeside) return
    this.#crashes++
    const { clock, timers, log } = this.#options
    log.error(
      { event: 'worker.died', worker: worker.index },
      `worker ${worker.index} ended (${how}); it is replaced`,
    )
    const pauseMs = clock.nowMs() - worker.startedMs < shortLifeMs ? restartPauseMs : 0
    const timer = timers.after(pauseMs, () => {
      this.#restarts.delete(timer)
      if (this.#workers.has(worker.index)) return
      // Its exit is told and tried again in any case.
      this.#fork(worker.index).catch(() => undefined)
    })
    this.#restarts.add(timer)
  }
}

/** What a dead worker leaves: its totals. What it held is gone. */
function withoutGauges(counters: WorkerCountersData): WorkerCountersData {
  const nodes = Object.entries(counters.nodes).map(([name, node]) => [
    name,
    { ...node, sessions: 0, idle: 0, connecting: 0, waiting: 0 },
  ])
  const pinned = Object.fromEntries(Object.keys(counters.pinned).map(reason => [reason, 0]))
  return {
    ...counters,
    clients: 0,
    clientsWaiting: 0,
    pinned: pinned as typeof counters.pinned,
    nodes: Object.fromEntries(nodes),
    databases: withoutRecent(counters.databases),
    pools: [],
  }
}
