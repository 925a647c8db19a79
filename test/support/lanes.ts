import assert from 'node:assert/strict'
import type { Host } from '../../src/cli/host.ts'
import type { LaneCountersData } from '../../src/proxy/lanes/counters.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { systemTimers } from '../../src/runtime/timers.ts'
import {
  frame,
  readErrorFields,
  sync,
  writeExecute,
  writeParse,
  writeQuery,
} from '../../src/wire/messages.ts'
import { writeCancelRequest } from '../../src/wire/startup.ts'
import { proxyCounters } from './counters.ts'
import { startTestHost, testConfig, untilRolesAreKnown } from './host.ts'
import type { TestCluster } from './postgres.ts'
import { type Received, WireClient } from './wire-client.ts'

/** Requests of the kinds that clients may share a server connection for, and what came of them. */
export interface Unit {
  text: string
  bytes: Buffer
}

/** What a Bind brings: text, bytes for a parameter in binary, null for NULL. */
export type Value = string | Buffer | null

export interface Form {
  /** With a Describe of the portal. */
  describes?: boolean
  /** The result as binary. */
  binary?: boolean
}

export const describePortal = frame(0x44, Buffer.from('P\0'))
export const describeStatement = (name: string): Buffer => frame(0x44, Buffer.from(`S${name}\0`))

/** A Query. */
export function simple(sql: string): Unit {
  return { text: `simple ${sql.slice(0, 200)}`, bytes: writeQuery(sql) }
}

/** Parse and Bind of the unnamed statement, Execute, Sync. */
export function parsed(sql: string, values: readonly Value[], form: Form = {}): Unit {
  const run = bound('', values, form)
  return {
    text: `parse ${sql.slice(0, 200)} | ${run.text}`,
    bytes: Buffer.concat([writeParse('', sql, []), run.bytes]),
  }
}

/** Bind of a statement that is there already, Execute, Sync. */
export function bound(name: string, values: readonly Value[], { binary, describes }: Form = {}): Unit {
  const shown = values.map(value => (Buffer.isBuffer(value) ? `0x${value.toString('hex')}` : value))
  const parts = [bind(name, values, binary), ...(describes ? [describePortal] : []), writeExecute(''), sync]
  const more = `${describes ? ' describe' : ''}${binary ? ' binary' : ''}`
  return { text: `bind ${name} (${shown.join(', ')})${more}`, bytes: Buffer.concat(parts) }
}

function bind(name: string, values: readonly Value[], binary = false): Buffer {
  const formats = values.map(value => uint16(Buffer.isBuffer(value) ? 1 : 0))
  const parameters = values.flatMap(value => {
    if (value === null) return [Buffer.from([255, 255, 255, 255])]
    const bytes = Buffer.isBuffer(value) ? value : Buffer.from(value, 'latin1')
    return [uint16(0), uint16(bytes.length), bytes]
  })
  return frame(
    0x42,
    Buffer.concat([
      Buffer.from(`\0${name}\0`, 'latin1'),
      uint16(values.length),
      ...formats,
      uint16(values.length),
      ...parameters,
      uint16(binary ? 1 : 0),
      ...(binary ? [uint16(1)] : []),
    ]),
  )
}

/** The number of an `int4` parameter in binary. */
export function int4(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff])
}

/** Sends something and gives back what came up to as many ReadyForQuery, without ParameterStatus. */
export async function answerTo(
  client: WireClient,
  { bytes, text }: Unit,
  readyForQueries = 1,
  limitMs = 30_000,
): Promise<Received[]> {
  const from = client.received.length
  client.send(bytes)
  await untilReady(client, from, readyForQueries, text, limitMs)
  return client.received.slice(from).filter(({ code }) => code !== 'S')
}

/** Waits until as many ReadyForQuery have come behind `from`. */
export async function untilReady(
  client: WireClient,
  from: number,
  readyForQueries: number,
  text: string,
  limitMs = 30_000,
): Promise<void> {
  const { socket } = client
  let seen = 0
  let at = from
  const isReady = (): boolean => {
    for (; at < client.received.length; at++) if (client.received[at]!.code === 'Z') seen++
    return seen >= readyForQueries
  }
  if (!isReady() && !client.closed) {
    await new Promise<void>(resolve => {
      const look = (): void => {
        if (isReady()) done()
      }
      const done = (): void => {
        timer.cancel()
        socket.off('data', look).off('close', done)
        resolve()
      }
      const timer = systemTimers.after(limitMs, done)
      socket.on('data', look).on('close', done)
    })
  }
  const why = client.closed
    ? `the connection was closed: ${client.error?.get('M')}`
    : `not within ${limitMs} ms`
  assert.ok(isReady(), `no answer to ${text}, ${why}`)
}

/** The messages as they came. */
export function exactly(received: readonly Received[]): string[] {
  return received.map(({ body, code }) => `${code} ${body.toString('latin1')}`)
}

/** What the workers have counted of requests that shared a server connection. */
export async function laneCounters(host: Host): Promise<LaneCountersData> {
  return (await proxyCounters(host.config.admin.port)).lanes
}

/** Repeats something that clients could share server connections for, until they do for so many requests. */
export async function untilShared(host: Host, repeat: () => Promise<unknown>, units = 1): Promise<void> {
  const { shared } = await laneCounters(host)
  const deadlineMs = systemClock.nowMs() + 60_000
  for (;;) {
    await repeat()
    const now = await laneCounters(host)
    if (now.shared >= shared + units) return
    if (systemClock.nowMs() > deadlineMs)
      assert.fail(`${now.shared - shared} of ${units} requests have shared: ${JSON.stringify(now)}`)
  }
}

/** Does something while others keep asking, of whom each has to be answered. */
export async function alongside(
  asking: readonly (() => Promise<unknown>)[],
  work: () => Promise<void>,
): Promise<void> {
  const over = new AbortController()
  const all = asking.map(async ask => {
    while (!over.signal.aborted) await ask()
  })
  const [worked] = await Promise.allSettled([work()])
  over.abort()
  const asked = await Promise.allSettled(all)
  for (const result of [worked, ...asked]) if (result.status === 'rejected') throw result.reason
}

/** Tables and functions that statements share server connections with. */
export const laneTables = `
  create table numbers (n int primary key, t text);
  insert into numbers select n, 'number ' || n from generate_series(0, 49) n;
  create view evens as select n from numbers where n % 2 = 0;
  create function nap(ms int) returns int language plpgsql stable as
    $$ begin perform pg_sleep(ms / 1000.0); return ms; end $$;
  create function noisy(what text) returns text language plpgsql stable as
    $$ begin raise notice 'about to give %', what; return what; end $$;
  create function picky(i int) returns int language plpgsql immutable as
    $$ begin if i > 5 then raise exception 'not %', i using hint = 'less'; end if; return i; end $$`

/** A proxy, and clients that are gone when the test is over. */
export class LaneProxy {
  readonly host: Host
  readonly port: number
  readonly #clients: WireClient[] = []

  constructor(host: Host) {
    this.host = host
    this.port = host.config.proxy.port
  }

  open(parameters?: Record<string, string>): Promise<WireClient> {
    return this.openAt(this.port, parameters)
  }

  async openAt(port: number, parameters?: Record<string, string>): Promise<WireClient> {
    const client = await WireClient.open(port, parameters)
    this.#clients.push(client)
    return client
  }

  openMany(count: number, port = this.port): Promise<WireClient[]> {
    return Promise.all(Array.from({ length: count }, () => this.openAt(port)))
  }

  /** Asks for what a client waits for to be cancelled. */
  cancel({ processId, secret }: WireClient): void {
    const request = new WireClient(this.port)
    request.send(writeCancelRequest(processId, secret))
    request.socket.end()
  }

  closeAll(): void {
    for (const client of this.#clients) client.close()
  }
}

/** Runs something with a proxy of these settings in front of a cluster. None of its workers may crash. */
export async function withProxy(
  { primary, replicas }: TestCluster,
  settings: Record<string, unknown>,
  use: (proxy: LaneProxy) => Promise<void>,
): Promise<void> {
  const servers = [primary, ...replicas].map(({ name, port }) => ({ name, port }))
  const config = await testConfig(servers, { 'proxy.pool_mode': 'auto', 'proxy.workers': 1, ...settings })
  const host = await startTestHost(config)
  const proxy = new LaneProxy(host)
  try {
    await untilRolesAreKnown(host)
    await use(proxy)
    assert.equal(host.proxy!.crashes, 0)
  } finally {
    proxy.closeAll()
    await host.stop()
  }
}

/** What a result has in its first column, as text. */
export function firstColumn(received: readonly Received[]): string[] {
  return received
    .filter(({ code }) => code === 'D')
    .map(({ body }) => body.toString('latin1', 6, 6 + body.readInt32BE(2)))
}

export function sqlstateOf(received: readonly Received[]): string | undefined {
  const error = received.find(({ code }) => code === 'E')
  return error && readErrorFields(error.body).get('C')
}

/** Gives a statement a name and has it described, as drivers do. */
export function prepare(name: string, sql: string): Unit {
  const bytes = Buffer.concat([writeParse(name, sql, []), describeStatement(name), sync])
  return { text: `prepare ${name}: ${sql.slice(0, 200)}`, bytes }
}

/** A message as text; of a RowDescription without the numbers of the tables, which are others each time. */
export function bodyWithoutTables(code: string, body: Buffer): string {
  if (code !== 'T') return body.toString('latin1')
  const columns: string[] = []
  let at = 2
  for (let count = body.readUInt16BE(0); count > 0; count--) {
    const end = body.indexOf(0, at)
    columns.push(body.toString('latin1', at, end + 1) + body.toString('latin1', end + 5, end + 19))
    at = end + 19
  }
  return columns.join('|')
}
