import type { Clock } from '../../runtime/clock.ts'
import type { Timers } from '../../runtime/timers.ts'
import { Client } from '../client/client.ts'
import type { Lane } from '../lanes/lane.ts'
import type { Pool } from '../pool/pool.ts'
import type { ServerConnection } from '../server.ts'
import { type Row, shown } from './columns.ts'
import { type Question, rowsAtOnce } from './messages.ts'
import { type PinLedger, reasonsOf } from './pins.ts'
import { poolFacts } from './pool-facts.ts'
import type { ConsoleSession } from './session.ts'

export interface ReportOptions {
  /** Number of this worker. */
  index: number
  clock: Clock
  timers: Timers
  clients: () => Iterable<Client>
  consoles: () => Iterable<ConsoleSession>
  pools: () => Iterable<Pool>
  /** Connections that have not said yet what they want. */
  arriving: () => number
  /** Name that the console has in tables. */
  consoleName: () => string
  pins: PinLedger
  memory: () => NodeJS.MemoryUsage
}

/** Ids of one worker leave room for those of 63 others; int4, as PgBouncer has them. */
const workersMax = 64
const idsMax = 2 ** 31 / workersMax

/** What one worker knows for the tables of the console. Its rows are made in slices: others wait only for one. */
export class Report {
  readonly #options: ReportOptions
  /** Numbers for those that were ever shown. */
  readonly #ids = new WeakMap<object, number>()
  #shown = 0

  constructor(options: ReportOptions) {
    this.#options = options
  }

  /** Gives the rows of an answer to `tell`, some at a time; `last` with the last of them. */
  answer(question: Question, tell: (rows: Row[], last: boolean) => void): void {
    switch (question.what) {
      case 'clients':
        return this.#clientsAndConsoles([], tell)
      case 'servers':
        return this.#sliced(this.#servers(), ([server, pool]) => this.#serverRow(server, pool), tell)
      case 'sockets':
        return this.#sockets(() => true, tell)
      case 'active_sockets':
        return this.#sockets(({ state }) => state === 'active', tell)
      case 'pins': {
        const pinned = [...this.#options.clients()].filter(client => reasonsOf(client).length > 0)
        return this.#sliced(pinned, client => this.#pinRow(client), tell)
      }
      case 'lanes':
        return this.#sliced(this.#lanes(), ([lane, limit, pool]) => this.#laneRow(lane, limit, pool), tell)
      case 'pools': {
        const { clients, pools, clock } = this.#options
        return tell(poolFacts(clients(), pools(), clock.nowMs()), true)
      }
      case 'lists':
        return tell([this.#lists()], true)
      case 'mem':
        return tell(this.#memory(), true)
      case 'load':
        return tell([this.#load(question.database)], true)
      default:
        return tell([], true)
    }
  }

  /** The client that a table has shown under this id or ptr. */
  find(idOrPtr: string): Client | ConsoleSession | undefined {
    const id = Number(idOrPtr)
    if (!Number.isInteger(id)) return undefined
    for (const client of this.#options.clients()) if (this.#ids.get(client) === id) return client
    for (const session of this.#options.consoles()) if (this.#ids.get(session) === id) return session
    return undefined
  }

  #sliced<T>(items: readonly T[], rowOf: (item: T) => Row, tell: (rows: Row[], last: boolean) => void): void {
    const slice = (from: number): void => {
      const end = from + rowsAtOnce
      tell(items.slice(from, end).map(rowOf), end >= items.length)
      if (end < items.length) this.#options.timers.after(0, () => slice(end))
    }
    slice(0)
  }

  /** `more`: what stands behind PgBouncer's columns and before pgherd's own. */
  #clientsAndConsoles(more: Row, tell: (rows: Row[], last: boolean) => void): void {
    const { clients, consoles } = this.#options
    const all: (Client | ConsoleSession)[] = [...clients(), ...consoles()]
    this.#sliced(all, each => this.#anyClientRow(each, more), tell)
  }

  #anyClientRow(client: Client | ConsoleSession, more: Row): Row {
    return client instanceof Client ? this.#clientRow(client, more) : this.#consoleRow(client, more)
  }

  /** Clients and servers in one table, with what is buffered for them. */
  #sockets(wanted: (each: { state: string }) => boolean, tell: (rows: Row[], last: boolean) => void): void {
    const { clients, consoles } = this.#options
    const servers = this.#servers().filter(([server]) => wanted({ state: server.stateName }))
    const all = [...clients(), ...consoles()].filter(client =>
      wanted({ state: client instanceof Client ? stateOf(client) : 'active' }),
    )
    const rows: (() => Row)[] = [
      ...all.map(client => () => this.#anyClientRow(client, buffersOf(client.unsentBytes))),
      ...servers.map(
        ([server, pool]) =>
          () =>
            this.#serverRow(server, pool, [...buffersOf(server.unsentBytes), server.target.node, '', '', '']),
      ),
    ]
    this.#sliced(rows, row => row(), tell)
  }

  #clientRow(client: Client, more: Row): Row {
    const { clock, index } = this.#options
    const { servedBy: server, session } = client
    const nowMs = clock.nowMs()
    const waitMs = client.isWaiting ? nowMs - client.waitingSinceMs : 0
    const requestMs = server?.requestSinceMs || client.waitingSinceMs
    return [
      'C',
      shown(client.user),
      shown(client.database),
      client.replication ? 'physical' : 'none',
      stateOf(client),
      ...splitAddress(client.address),
      ...splitAddress(client.localAddress),
      this.#time(client.connectedMs),
      this.#time(requestMs),
      Math.floor(waitMs / 1000),
      Math.floor((waitMs % 1000) * 1000),
      0,
      this.#ptr(client),
      server ? this.#ptr(server) : '',
      0,
      client.tls,
      applicationOf(client),
      session?.statementCount ?? 0,
      this.#id(client),
      ...more,
      server?.target.node ?? '',
      client.mode,
      client.route,
      reasonsOf(client).join(', '),
      index,
    ]
  }

  #consoleRow(session: ConsoleSession, more: Row): Row {
    return [
      'C',
      shown(session.user),
      this.#options.consoleName(),
      'none',
      'active',
      ...splitAddress(session.address),
      ...splitAddress(session.localAddress),
      this.#time(session.connectedMs),
      this.#time(session.requestMs),
      0,
      0,
      0,
      this.#ptr(session),
      '',
      0,
      session.tls,
      shown(session.applicationName),
      session.statementCount,
      this.#id(session),
      ...more,
      '',
      'statement',
      '',
      '',
      this.#options.index,
    ]
  }

  #servers(): [ServerConnection, Pool][] {
    return [...this.#options.pools()].flatMap(pool =>
      [...pool.servers].map((server): [ServerConnection, Pool] => [server, pool]),
    )
  }

  #serverRow(server: ServerConnection, pool: Pool, more: Row = [server.target.node]): Row {
    const client = this.#clientOf(server)
    return [
      'S',
      shown(pool.user),
      shown(pool.database),
      client?.replication ? 'physical' : 'none',
      server.stateName,
      server.target.host,
      server.target.port,
      ...splitAddress(server.localAddress),
      this.#time(server.createdMs),
      this.#time(server.requestSinceMs || server.createdMs),
      0,
      0,
      server.isSpoiled ? 1 : 0,
      this.#ptr(server),
      client ? this.#ptr(client) : '',
      server.processId,
      server.tls,
      shown(server.reported.get('application_name') ?? ''),
      server.statements.size,
      this.#id(server),
      ...more,
      this.#options.index,
    ]
  }

  #clientOf(server: ServerConnection): Client | undefined {
    const { user } = server
    return user instanceof Client ? user : undefined
  }

  #pinRow(client: Client): Row {
    const { clock, index, pins } = this.#options
    const sinceMs = pins.sinceMs(client)
    return [
      this.#id(client),
      shown(client.user),
      shown(client.database),
      client.server?.target.node ?? '',
      client.server?.processId ?? null,
      reasonsOf(client).join(', '),
      this.#time(sinceMs),
      Math.floor((clock.nowMs() - sinceMs) / 1000),
      ...splitAddress(client.address),
      applicationOf(client),
      index,
    ]
  }

  #lanes(): [Lane, number, Pool][] {
    return [...this.#options.pools()].flatMap(pool =>
      [...pool.lanes.withLimits()].map(([lane, limit]): [Lane, number, Pool] => [lane, limit, pool]),
    )
  }

  #laneRow(lane: Lane, limit: number, pool: Pool): Row {
    const { clock, index } = this.#options
    const nowMs = clock.nowMs()
    const { server } = lane
    return [
      this.#id(server),
      shown(pool.database),
      shown(pool.user),
      server.target.node,
      server.processId,
      lane.stateName,
      lane.count,
      lane.clientCount,
      Math.round(lane.headMs(nowMs)),
      lane.answered,
      limit,
      this.#time(lane.sinceMs),
      Math.floor((nowMs - lane.sinceMs) / 1000),
      index,
    ]
  }

  #lists(): Row {
    const { arriving, clients, consoles, pools } = this.#options
    let servers = 0
    for (const pool of pools()) servers += pool.size
    const sessions = count(consoles())
    return [count(clients()) + sessions, arriving(), servers, sessions]
  }

  #load(database: string | undefined): Row {
    let servers = 0
    let closing = 0
    for (const pool of this.#options.pools()) {
      if (database !== undefined && pool.database !== database) continue
      servers += pool.size
      for (const server of pool.servers) if (server.isSpoiled) closing++
    }
    return [servers, closing]
  }

  #memory(): Row[] {
    const { heapTotal, heapUsed, external, rss } = this.#options.memory()
    const name = `worker_${this.#options.index}`
    return [
      memoryRow(`${name}_heap`, heapUsed, heapTotal),
      memoryRow(`${name}_buffers`, external, external),
      memoryRow(`${name}_resident`, rss, rss),
    ]
  }

  #id(shownObject: object): number {
    let id = this.#ids.get(shownObject)
    if (id === undefined) {
      this.#shown = (this.#shown % (idsMax - 1)) + 1
      id = this.#shown * workersMax + (this.#options.index % workersMax)
      this.#ids.set(shownObject, id)
    }
    return id
  }

  #ptr(shownObject: object): string {
    return `0x${this.#id(shownObject).toString(16)}`
  }

  /** A time of the monotonic clock for people. */
  #time(monotonicMs: number): string {
    const { clock } = this.#options
    const wallMs = clock.wallMs() - (clock.nowMs() - monotonicMs)
    return `${new Date(wallMs).toISOString().slice(0, 19).replace('T', ' ')} UTC`
  }
}

function stateOf(client: Client): string {
  if (client.isWaiting) return 'waiting'
  return client.servedBy || client.begun ? 'active' : 'idle'
}

function applicationOf(client: Client): string {
  const reported = client.server?.reported ?? client.session?.told
  return shown(reported?.get('application_name') ?? client.parameters.get('application_name') ?? '')
}

/** `recv_pos` to `send_avail`: what waits to be sent, and nothing else that would be known. */
function buffersOf(unsentBytes: number): Row {
  return [0, 0, 0, 0, 0, 0, unsentBytes]
}

/** In units of a kilobyte: bytes would not fit into the type that PgBouncer has for them. */
function memoryRow(name: string, usedBytes: number, allBytes: number): Row {
  const kilobytes = (bytes: number): number => Math.ceil(bytes / 1024)
  const total = Math.min(allBytes, 2 ** 31 - 1)
  return [name, 1024, kilobytes(usedBytes), kilobytes(allBytes - usedBytes), total]
}

function splitAddress(address: string): [string, number] {
  const at = address.lastIndexOf(':')
  return [address.slice(0, at).replace(/^\[(.*)\]$/, '$1'), Number(address.slice(at + 1))]
}

function count(items: Iterable<unknown>): number {
  let number = 0
  for (const _ of items) number++
  return number
}

/** Rows of memory that a process without a worker's clients has. */
export function memoryRows(name: string, { heapTotal, heapUsed, rss }: NodeJS.MemoryUsage): Row[] {
  return [memoryRow(`${name}_heap`, heapUsed, heapTotal), memoryRow(`${name}_resident`, rss, rss)]
}
