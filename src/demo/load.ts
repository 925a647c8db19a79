import { setMaxListeners } from 'node:events'
import { Socket } from 'node:net'
import { Client } from 'pg'
import type { Clock } from '../runtime/clock.ts'
import type { Random } from '../runtime/random.ts'
import { pause, type Timers } from '../runtime/timers.ts'

export interface LoadOptions {
  host: string
  /** Port for reads and writes. */
  port: number
  /** Port for reads; 0 when there is none, then everything goes to `port`. */
  readPort: number
  writers: number
  readers: number
  clock: Clock
  timers: Timers
  random: Random
}

/** What the workload has done so far. */
export interface LoadCounts {
  reads: number
  writes: number
  errors: number
  /** The last error, as a sentence. */
  lastError: string | undefined
}

export interface Load {
  counts(): LoadCounts
  /** Ends its sessions and takes its table away again, if a primary can be had within a second. */
  stop(): Promise<void>
}

const accounts = 1000
/** Between two statements of one session, so that the machine keeps room for whoever tries it. */
const thinkMs = 5
const retryMs = 250
const connectTimeoutMs = 35_000
/** At the end: for statements that run, and again for taking the table away. */
const stopLimitMs = 1000

/**
 * A synthetic workload as an application would be: sessions that read accounts on one port and book on the
 * other, and that connect again when they are thrown out.
 */
export async function startLoad(options: LoadOptions): Promise<Load> {
  const counts: LoadCounts = { reads: 0, writes: 0, errors: 0, lastError: undefined }
  const stopping = new AbortController()
  const cut = new AbortController()
  const signals: Signals = { stopping: stopping.signal, cut: cut.signal }
  for (const signal of [stopping.signal, cut.signal])
    setMaxListeners(2 * (options.writers + options.readers), signal)
  await once(options, options.port, client =>
    client.query(`
      create table if not exists pgherd_demo (id int primary key, balance int not null default 0);
      insert into pgherd_demo select generate_series(1, ${accounts}) on conflict do nothing`),
  )
  const anyAccount = (): number => 1 + Math.floor(options.random.next() * accounts)
  const write = async (client: Client): Promise<void> => {
    await client.query('update pgherd_demo set balance = balance + 1 where id = $1', [anyAccount()])
    counts.writes++
  }
  const read = async (client: Client): Promise<void> => {
    await client.query('select balance from pgherd_demo where id = $1', [anyAccount()])
    counts.reads++
  }
  const readPort = options.readPort === 0 ? options.port : options.readPort
  await untilReplicated(options, readPort)
  const sessions = [
    ...Array.from({ length: options.writers }, () => session(options, options.port, write, counts, signals)),
    ...Array.from({ length: options.readers }, () => session(options, readPort, read, counts, signals)),
  ]
  return {
    counts: () => ({ ...counts }),
    stop: async () => {
      stopping.abort()
      const timer = options.timers.after(stopLimitMs, () => cut.abort())
      await Promise.all(sessions)
      timer.cancel()
      await dropTable(options)
    },
  }
}

async function dropTable(options: LoadOptions): Promise<void> {
  const limit = new AbortController()
  const timer = options.timers.after(stopLimitMs, () => limit.abort())
  const drop = (client: Client): Promise<unknown> => client.query('drop table if exists pgherd_demo')
  try {
    await once(options, options.port, drop, { stopping: limit.signal, cut: limit.signal })
  } catch {
    // The demo's cluster may have no primary any more; then the table goes with it.
  } finally {
    timer.cancel()
  }
}

/** The replicas need a moment to have the table: until then their answers would count as errors. */
async function untilReplicated(options: LoadOptions, port: number): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      // Once a connection: the first ones go to different replicas.
      for (let each = 0; each < 4; each++)
        await once(options, port, client => client.query('table pgherd_demo limit 1'))
      return
    } catch {
      await pause(options.timers, retryMs)
    }
  }
}

async function session(
  options: LoadOptions,
  port: number,
  work: (client: Client) => Promise<void>,
  counts: LoadCounts,
  signals: Signals,
): Promise<void> {
  const signal = signals.stopping
  const workOn = async (client: Client): Promise<void> => {
    while (!signal.aborted) {
      await work(client)
      await pause(options.timers, thinkMs, signal)
    }
  }
  while (!signal.aborted) {
    try {
      await once(options, port, workOn, signals)
    } catch (cause) {
      if (signal.aborted) return
      counts.errors++
      counts.lastError = cause instanceof Error ? cause.message : String(cause)
      await pause(options.timers, retryMs, signal)
    }
  }
}

/** `stopping` gives up connections that are being opened, `cut` those that are open as well. */
interface Signals {
  stopping: AbortSignal
  cut: AbortSignal
}

/** Runs `work` on a connection of its own. */
async function once(
  { host }: LoadOptions,
  port: number,
  work: (client: Client) => Promise<unknown>,
  signals?: Signals,
): Promise<void> {
  const socket = new Socket()
  const client = new Client({
    host,
    port,
    user: 'postgres',
    database: 'postgres',
    ssl: false,
    application_name: 'pgherd demo',
    connectionTimeoutMillis: connectTimeoutMs,
    stream: () => socket,
  })
  // What breaks an idle session shows at its next statement.
  client.on('error', () => undefined)
  const destroy = (): void => void socket.destroy()
  try {
    signals?.stopping.addEventListener('abort', destroy)
    await client.connect()
    signals?.stopping.removeEventListener('abort', destroy)
    signals?.cut.addEventListener('abort', destroy)
    await work(client)
  } finally {
    for (const signal of [signals?.stopping, signals?.cut]) signal?.removeEventListener('abort', destroy)
    await client.end().catch(() => undefined)
  }
}
