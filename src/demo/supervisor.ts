import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import { pause, type Timers } from '../runtime/timers.ts'
import { hasCrashed, isStandby } from './folder.ts'
import type { PostgresServer } from './postgres.ts'
import { type Action, decide, type ServerFacts } from './supervise.ts'

export interface SupervisorOptions {
  servers: PostgresServer[]
  /** Name of the primary at the start. */
  leader: string
  clock: Clock
  timers: Timers
  log: Logger
}

/** One server for a view. */
export interface NodeState {
  name: string
  port: number
  folder: string
  /** Process id of the server, undefined while it is down. */
  pid: number | undefined
  role: 'primary' | 'replica'
  /** `stopped`: by hand, and left so. `crashed`: about to be restarted. `starting`: being restarted or made anew. */
  state: 'running' | 'stopped' | 'crashed' | 'starting'
}

interface Member {
  server: PostgresServer
  pid: number | undefined
  role: 'primary' | 'replica'
  timeline: number
  ended: 'crashed' | 'stopped' | undefined
  cameBack: boolean
  busy: boolean
  /** Failed or short-lived starts in a row. */
  failures: number
  startedMs: number
  notBeforeMs: number
}

const pollMs = 1000
/** Pause before the first restart; doubled with each further one up to the longest. */
const backoffMs = 250
const backoffMsMax = 15_000
/** A server that ran this long is well again. */
const stableMs = 20_000

/** Sees about once a second how the servers are and carries out what `decide` says about it. */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #members: Member[]
  readonly #stopping = new AbortController()
  readonly #work = new Set<Promise<void>>()
  readonly #loop: Promise<void>
  #leader: string

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#leader = options.leader
    const nowMs = options.clock.nowMs()
    this.#members = options.servers.map(server => ({
      server,
      pid: server.childPid,
      role: server.name === options.leader ? 'primary' : 'replica',
      timeline: 0,
      ended: undefined,
      cameBack: false,
      busy: false,
      failures: 0,
      startedMs: nowMs,
      notBeforeMs: 0,
    }))
    this.#loop = this.#run()
  }

  /** Each server as of the last look at it, in the order they were given. */
  readonly nodes = (): NodeState[] =>
    this.#members.map(({ server, pid, role, ended, busy }) => ({
      name: server.name,
      port: server.port,
      folder: server.folder,
      pid: server.childPid ?? pid,
      role,
      state: busy ? 'starting' : (ended ?? 'running'),
    }))

  /** Ends the supervision and waits for what is under way. Closing the servers is left to the caller. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
    await Promise.all(this.#work)
  }

  async #run(): Promise<void> {
    const { timers, clock } = this.#options
    while (!this.#stopping.signal.aborted) {
      await Promise.all(this.#members.filter(member => !member.busy).map(member => this.#look(member)))
      if (this.#stopping.signal.aborted) return
      this.#act()
      const dueMs = this.#members
        .filter(member => member.ended === 'crashed' && !member.busy)
        .map(member => Math.max(member.notBeforeMs - clock.nowMs(), 10))
      await pause(timers, Math.min(pollMs, ...dueMs), this.#stopping.signal)
    }
  }

  async #look(member: Member): Promise<void> {
    const { server } = member
    const pid = await server.pid()
    if (pid === undefined) return this.#lookDown(member)
    if (member.pid !== pid && member.ended !== undefined) {
      this.#options.log.info({ event: 'demo.started_by_hand' }, `${server.name} was started by hand`)
    }
    member.pid = pid
    member.ended = undefined
    // A server that is starting, stopping or frozen does not answer: what it last said still holds.
    const [row] = await server.query<{ timeline: number | null }>(roleQuery).catch(() => [])
    if (!row) return
    member.role = row.timeline === null ? 'replica' : 'primary'
    member.timeline = row.timeline ?? 0
    if (member.role === 'replica') member.cameBack = false
  }

  async #lookDown(member: Member): Promise<void> {
    const { server } = member
    const { clock, log } = this.#options
    member.role = (await isStandby(server.folder)) ? 'replica' : 'primary'
    member.cameBack = true
    if (member.ended !== undefined) return
    const exit = server.exitOf(member.pid)
    const crashed = exit ? exit.code !== 0 : await hasCrashed(server.folder)
    member.pid = undefined
    member.ended = crashed ? 'crashed' : 'stopped'
    if (!crashed) {
      const sentence = `${server.name} was stopped by hand and stays so until it is started by hand`
      return log.warn({ event: 'demo.stopped', node: server.name }, sentence)
    }
    const how = exit?.signal
      ? `was ended by ${exit.signal}`
      : exit
        ? `ended with code ${exit.code}`
        : 'crashed'
    log.warn({ event: 'demo.crashed', node: server.name }, `${server.name} ${how}`)
    if (clock.nowMs() - member.startedMs > stableMs) member.failures = 0
    this.#backOff(member)
  }

  #backOff(member: Member): void {
    const delayMs = Math.min(backoffMs * 2 ** member.failures, backoffMsMax)
    member.failures++
    member.notBeforeMs = this.#options.clock.nowMs() + delayMs
  }

  #act(): void {
    const { clock, log } = this.#options
    const { leader, actions } = decide(
      this.#leader,
      this.#members.map(member => this.#facts(member)),
      clock.nowMs(),
    )
    if (leader !== this.#leader)
      log.info({ event: 'demo.leader', node: leader }, `${leader} is the primary now`)
    this.#leader = leader
    const leading = this.#members.find(member => member.server.name === leader)
    if (leading?.pid !== undefined && leading.role === 'primary') leading.cameBack = false
    for (const action of actions) {
      const member = this.#members.find(({ server }) => server.name === action.node)
      if (!member || !leading) continue
      log[action.kind === 'warn' ? 'warn' : 'info'](
        { event: `demo.${action.kind}`, node: action.node },
        action.reason,
      )
      if (action.kind !== 'warn') this.#start(member, action, leading.server)
    }
  }

  #facts(member: Member): ServerFacts {
    const { server, pid, role, timeline, ended, cameBack, busy, notBeforeMs } = member
    const upstream = this.#members.find(other => other.server.port === server.followsPort)
    return {
      name: server.name,
      running: pid !== undefined,
      role,
      timeline,
      follows: upstream?.server.name,
      ended,
      cameBack,
      brokenStream: server.brokenStream,
      busy,
      notBeforeMs,
    }
  }

  #start(member: Member, action: Action, leader: PostgresServer): void {
    const { clock, log } = this.#options
    member.busy = true
    const work = this.#carryOut(member, action, leader)
      .then(
        () => {
          member.startedMs = clock.nowMs()
          member.pid = member.server.childPid ?? member.pid
          member.ended = undefined
        },
        (cause: Error) => {
          // Down and not stopped by anybody: it is tried again, later each time.
          if (action.kind !== 'follow') member.ended = 'crashed'
          this.#backOff(member)
          log.error({ event: 'demo.failed', node: action.node }, `${action.node}: ${cause.message}`)
        },
      )
      .finally(() => {
        member.busy = false
        this.#work.delete(work)
      })
    this.#work.add(work)
  }

  async #carryOut(member: Member, { kind }: Action, leader: PostgresServer): Promise<void> {
    const { server } = member
    if (kind === 'follow') return server.follow(leader.port)
    if (kind === 'rebuild') {
      await server.stop()
      await server.cloneFrom(leader)
    }
    const asPrimary = kind === 'restart' && member.role === 'primary'
    await server.start(asPrimary ? undefined : leader.port)
  }
}

/** The timeline of a primary; null of a replica. */
const roleQuery = `
  select case when not pg_is_in_recovery() then
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
  end as timeline`
