import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import { jittered, type Random } from '../runtime/random.ts'
import { type Timer, type Timers, within } from '../runtime/timers.ts'
import { type Lease, type Store, StoreError } from '../store/store.ts'
import { decodeNodeStatus, encode } from '../topology/codec.ts'
import { keysOf } from '../topology/keys.ts'
import type { NodeStatus } from '../topology/types.ts'
import { type NodeReport, shouldWrite } from './status.ts'

export interface ReporterOptions {
  store: Store
  cluster: string
  node: string
  /** After an agent went silent its report stands this long. */
  leaseTtlMs: number
  /** Figures are written at most this often. */
  periodMs: number
  clock: Clock
  timers: Timers
  random: Random
  log: Logger
}

/** What became of the reports so far; for metrics and health. */
export interface ReporterState {
  written: number
  failed: number
  /** Who else reports this node, as a sentence, while this agent keeps off. */
  conflict: string | undefined
}

const retryBaseMs = 200
const retryMaxMs = 5_000
/** Agents that lost the same store do not all come back in the same instant. */
const comebackSpreadMs = 200
/** How often to look whether the other agent of this node has ended. */
const conflictPeriodMs = 1_000
const stopLimitMs = 2_000
/** Leases of ours whose keys may still stand: the current one and a few that were lost. */
const ownLeasesMax = 8

/**
 * Writes one node's status under a lease, by compare-and-set on the revision it wrote last. Hand it every
 * report; it writes those worth writing, one at a time, always the newest. Store errors never leave it: it
 * tries again with bounded backoff, and at once when the store is back.
 */
export class Reporter {
  readonly #options: ReporterOptions
  readonly #key: string
  readonly #unsubscribe: () => void
  readonly #ownLeases: string[] = []
  #latest: NodeReport | undefined
  #written: NodeReport | undefined
  #writtenAtMs = 0
  #seq = 0
  /** Revision of the key as this agent left it, 0 when there is none, undefined when it must be read first. */
  #revision: number | undefined
  #lease: Lease | undefined
  #inFlight: Promise<void> | undefined
  #again = false
  #retry: Timer | undefined
  #attempts = 0
  #troubleCode: string | undefined
  #conflictLease: string | undefined
  #stopped = false
  readonly #state: ReporterState = { written: 0, failed: 0, conflict: undefined }

  constructor(options: ReporterOptions) {
    this.#options = options
    this.#key = keysOf(options.cluster).nodeStatus(options.node)
    this.#unsubscribe = options.store.onConnection(({ up }) => {
      if (!up) return
      // A store that is just back may fail once more: that is tried again soon.
      this.#attempts = 0
      this.#kickIn(options.random.next() * comebackSpreadMs)
    })
  }

  get state(): Readonly<ReporterState> {
    return this.#state
  }

  /** Number of the last report that was written or tried. */
  get seq(): number {
    return this.#seq
  }

  report(report: NodeReport): void {
    this.#latest = report
    // A retry that is due decides itself when to go on: reports come more often than a store in trouble bears.
    if (!this.#retry) this.#kick()
  }

  /** Ends the lease, so that the node's status is gone at once. Resolves within two seconds in any case. */
  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    this.#unsubscribe()
    this.#retry?.cancel()
    const { timers, log } = this.#options
    const end = async (): Promise<void> => {
      await this.#inFlight
      await this.#lease?.revoke()
    }
    await within(timers, stopLimitMs, end(), () => new Error('the store did not answer')).catch(
      (err: unknown) =>
        log.warn({ event: 'agent.stop', err }, 'could not revoke the lease: the status stays until it ends'),
    )
  }

  #kick(): void {
    if (this.#stopped) return
    this.#again = true
    this.#inFlight ??= this.#work().finally(() => {
      this.#inFlight = undefined
    })
  }

  #kickIn(delayMs: number): void {
    if (this.#stopped) return
    this.#retry?.cancel()
    this.#retry = this.#options.timers.after(delayMs, () => {
      this.#retry = undefined
      this.#kick()
    })
  }

  async #work(): Promise<void> {
    while (this.#again && !this.#stopped) {
      this.#again = false
      try {
        await this.#write()
      } catch (cause) {
        this.#failed(cause)
        return
      }
    }
  }

  async #write(): Promise<void> {
    const { store, clock, periodMs } = this.#options
    const report = this.#latest
    if (!report) return
    if (!shouldWrite(this.#written, this.#writtenAtMs, report, clock.nowMs(), periodMs)) return
    if (this.#revision === undefined && !(await this.#takeKey(report))) return
    const lease = this.#lease ?? (await this.#grant())
    if (this.#stopped) return

    const status: NodeStatus = { ...report, seq: ++this.#seq, at: new Date(clock.wallMs()).toISOString() }
    const result = await store.transact({
      compares: [{ key: this.#key, target: 'modified', revision: this.#revision ?? 0 }],
      writes: [{ kind: 'put', key: this.#key, value: encode(status), leaseId: lease.id }],
    })
    this.#recovered()
    if (!result.applied) {
      // Somebody else wrote or removed the key. Reading it tells who.
      this.#revision = undefined
      this.#again = true
      return
    }
    this.#state.written++
    // The lease may have been lost while the answer was under way: then this report is gone as well.
    if (this.#lease !== lease) return
    this.#revision = result.revision
    this.#written = report
    this.#writtenAtMs = clock.nowMs()
  }

  /**
   * Whether the key may be written now; else this agent keeps off and looks again later. A fresh agent takes the
   * key over from one that reported the same server: most likely itself before a crash, whose lease still stands.
   * It does so at most once in its life, so that two agents that both live never fight: the newer one has it.
   */
  async #takeKey(report: NodeReport): Promise<boolean> {
    const { store, node, log } = this.#options
    const { entry } = await store.get(this.#key)
    // A status without a lease has no agent behind it and would stand for ever: it is taken over.
    if (entry?.leaseId !== undefined && !this.#ownLeases.includes(entry.leaseId)) {
      const other = decodeNodeStatus(entry.value).value
      if (this.#state.written > 0 || other?.host !== report.host || other.port !== report.port) {
        this.#recovered()
        this.#keepOff(other, entry.leaseId)
        return false
      }
      log.warn(
        { event: 'agent.takeover', node },
        `takes over from an earlier agent of this server (${describe(other)})`,
      )
    }
    this.#revision = entry?.modRevision ?? 0
    if (this.#conflictLease !== undefined) {
      log.info(
        { event: 'agent.takeover', node },
        'the other agent of this node has ended: this one reports again',
      )
      this.#conflictLease = undefined
      this.#state.conflict = undefined
    }
    return true
  }

  #keepOff(other: NodeStatus | undefined, holder: string): void {
    const { node, leaseTtlMs, log, random } = this.#options
    this.#kickIn(jittered(random, conflictPeriodMs))
    if (this.#conflictLease === holder) return
    this.#conflictLease = holder
    this.#state.conflict =
      `another agent reports node ${node} (${describe(other)}, lease ${holder}); this agent keeps off until it ends. ` +
      `Give every node a name of its own; after a crash the old lease ends within ${leaseTtlMs} ms`
    log.error({ event: 'agent.conflict', node }, this.#state.conflict)
  }

  async #grant(): Promise<Lease> {
    const { store, leaseTtlMs, log, random } = this.#options
    const lease = await store.grantLease(leaseTtlMs)
    this.#lease = lease
    this.#ownLeases.push(lease.id)
    if (this.#ownLeases.length > ownLeasesMax) this.#ownLeases.shift()
    void lease.lost.then(() => {
      if (this.#lease !== lease || this.#stopped) return
      log.warn({ event: 'agent.lease' }, 'the lease was lost: the status is written again under a new one')
      this.#forget()
      this.#lease = undefined
      this.#kickIn(random.next() * comebackSpreadMs)
    })
    return lease
  }

  /** What stands in the store is no longer known: the next write reads first, and is due at once. */
  #forget(): void {
    this.#revision = undefined
    this.#written = undefined
  }

  #failed(cause: unknown): void {
    const { log, random, store } = this.#options
    const code = cause instanceof StoreError ? cause.code : 'unexpected'
    this.#state.failed++
    this.#forget()
    if (code === 'lease_not_found') this.#lease = undefined
    this.#attempts++
    const delayMs = Math.min(retryMaxMs, retryBaseMs * 2 ** Math.min(this.#attempts - 1, 10))
    this.#kickIn(jittered(random, delayMs))
    if (this.#troubleCode === code) return
    this.#troubleCode = code
    log.warn(
      { event: 'agent.store', code, err: cause },
      `the status cannot be written to the ${store.kind} store now`,
    )
  }

  #recovered(): void {
    this.#attempts = 0
    if (this.#troubleCode === undefined) return
    this.#troubleCode = undefined
    this.#options.log.info({ event: 'agent.store' }, 'the store answers again')
  }
}

function describe(status: NodeStatus | undefined): string {
  if (!status) return 'its status cannot be read'
  return `for ${status.host}:${status.port}, agent version ${status.agentVersion}, last report at ${status.at}`
}
