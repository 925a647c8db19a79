import { setMaxListeners } from 'node:events'
import { Client } from 'pg'
import { pause, systemTimers } from '../../src/runtime/timers.ts'

/**
 * A process of its own, so that its work takes nothing from the proxy's: clients that come and go at so many places
 * for so long, each idle between its requests for up to so long. Prints what became of them as one line of JSON.
 */
const [, , port = '', places = '', durationMs = '', idleMs = ''] = process.argv
/** How long a place stays empty at most between two clients. */
const emptyMs = 6000

/** What visitors did, and what went wrong that must not. */
export interface VisitCounts {
  visits: number
  queries: number
  /** Connections given up in the middle of something. */
  broken: number
  /** Answers that were another client's. */
  foreign: number
  /** Unexpected errors by their message. */
  errors: Record<string, number>
}

type Habit = (client: Client, mark: string) => Promise<'stays' | 'leaves'>

/** What a client may do on its visit. Each answer carries the client's mark. */
const habits: Habit[] = [
  ask,
  ask,
  async (client, mark) => {
    await client.query({ name: `named ${mark.length % 5}`, text: 'select $1::text as mark', values: [mark] })
    return ask(client, mark)
  },
  async (client, mark) => {
    await client.query('begin')
    await client.query(`set local application_name = '${mark}'`)
    await ask(client, mark)
    await client.query('commit')
    return 'stays'
  },
  async (client, mark) => {
    await client.query(`set application_name = '${mark}'`)
    const { rows } = await client.query<{ mark: string }>(
      "select current_setting('application_name') as mark",
    )
    return check(rows[0]?.mark, mark)
  },
  async (client, mark) => {
    await client.query('create temp table visited (mark text)')
    await client.query('insert into visited values ($1)', [mark])
    const { rows } = await client.query<{ mark: string }>('select mark from visited')
    await client.query('drop table visited')
    return check(rows.map(({ mark }) => mark).join(), mark)
  },
  async (client, mark) => {
    const failed = await client.query('select 1 / 0').catch((cause: { code?: string }) => cause.code)
    return failed === '22012' ? ask(client, mark) : check('no division by zero', mark)
  },
  async (client, mark) => {
    await client.query("select repeat('x', 100000)")
    return ask(client, mark)
  },
  // Those that leave without a word: during a query, in a transaction, with rows on their way.
  async client => leave(client, 'select pg_sleep(0.05)'),
  async client => leave(client, 'begin; select 1'),
  async client => leave(client, "select repeat('x', 1000) from generate_series(1, 2000)"),
]

class ForeignAnswer extends Error {}

async function ask(client: Client, mark: string): Promise<'stays'> {
  const { rows } = await client.query<{ mark: string }>('select $1::text as mark', [mark])
  return check(rows[0]?.mark, mark)
}

function check(answer: string | undefined, mark: string): 'stays' {
  if (answer !== mark) throw new ForeignAnswer(`${answer} in place of ${mark}`)
  return 'stays'
}

async function leave(client: Client, sql: string): Promise<'leaves'> {
  const running = client.query(sql).catch(() => {})
  await pause(systemTimers, Math.random() * 20)
  ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
  await running
  return 'leaves'
}

/** One client after the other on a place of its own, until `signal` aborts. */
async function visitAgainAndAgain(place: number, counts: VisitCounts, signal: AbortSignal): Promise<void> {
  await pause(systemTimers, Math.random() * emptyMs, signal)
  while (!signal.aborted) {
    await visit(`mark-${place}-${counts.visits++}`, counts).catch((cause: Error) => {
      if (cause instanceof ForeignAnswer) counts.foreign++
      const told = cause.message
      counts.errors[told] = (counts.errors[told] ?? 0) + 1
    })
    await pause(systemTimers, Math.random() * emptyMs, signal)
  }
}

async function visit(mark: string, counts: VisitCounts): Promise<void> {
  const client = new Client({
    host: '127.0.0.1',
    port: Number(port),
    user: 'postgres',
    database: 'postgres',
    ssl: false,
  })
  client.on('error', () => {})
  await client.connect()
  try {
    for (let step = 1 + Math.floor(Math.random() * 4); step > 0; step--) {
      const habit = habits[Math.floor(Math.random() * habits.length)]!
      counts.queries++
      if ((await habit(client, mark)) === 'leaves') {
        counts.broken++
        return
      }
      await pause(systemTimers, Math.random() * Number(idleMs))
    }
  } finally {
    await client.end().catch(() => {})
  }
}

async function main(): Promise<void> {
  const counts: VisitCounts = { visits: 0, queries: 0, broken: 0, foreign: 0, errors: {} }
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  systemTimers.after(Number(durationMs), () => stop.abort())
  const all = Array.from({ length: Number(places) }, (_, place) => place)
  await Promise.all(all.map(place => visitAgainAndAgain(place, counts, stop.signal)))
  process.stdout.write(JSON.stringify(counts))
}

await main()
