import type { Command } from 'commander'
import type { Explanation } from '../proxy/pool/explanation.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import { requireConfig } from './config.ts'
import { type Column, CommandError, type CommandIo, printJson, table } from './output.ts'
import { addSettings, clusterSettings, type OptionValues, overridesOf } from './settings.ts'

interface ExplainOptions {
  host?: string
  port?: string
  username?: string
  dbname?: string
  consistency?: string
  json?: boolean
}

type NodeRow = Explanation['nodes'][number]

const columns: Column<NodeRow>[] = [
  { title: 'NODE', value: row => row.node },
  { title: 'CANDIDATE', value: row => (row.isCandidate ? 'yes' : 'no') },
  { title: 'SCORE', value: row => row.score?.toFixed(2) },
  { title: 'SHARE', value: row => (row.parts ? `${Math.round(row.parts.share * 100)} %` : undefined) },
  { title: 'CLIENTS', value: row => row.parts?.clients },
  { title: 'LATENCY', value: row => (row.parts ? `${row.parts.latencyMs.toFixed(1)} ms` : undefined) },
  { title: 'SLOWDOWN', value: row => row.parts?.slowdown.toFixed(1) },
  { title: 'WHY', value: row => row.reasons.join('; ') },
]

/** How long is waited for the proxy to have looked at the database. */
const waitMs = 3000
const retryMs = 200

/** Adds `explain`. */
export function addExplainCommand(program: Command, io: CommandIo): void {
  const command = program
    .command('explain')
    .description('show where a proxy would send a statement, and why; nothing is run')
    .argument('<statement>')
    .option('-h, --host <host>', 'the proxy (default: `proxy.listen`, or this machine)')
    .option('-p, --port <port>', 'its port (default: `proxy.port`)')
    .option('-U, --username <name>', 'whom to log in as (default: PGUSER, or postgres)')
    .option('-d, --dbname <name>', 'database (default: PGDATABASE, or the name of the user)')
    .option('--consistency <level>', 'in place of what counts for this database and user')
    .option('--json', 'print the result as JSON')
  addSettings(command, clusterSettings)
    .addHelpText(
      'after',
      `
The answer comes from one data worker of the proxy, over an ordinary connection; PGPASSWORD counts as for psql.
Any client can ask the same: /* pgherd: explain */ SELECT ...

Example:
  pgherd explain -d app "SELECT * FROM items WHERE id = 1"`,
    )
    .action(async (statement: string, options: ExplainOptions) => {
      const all: OptionValues = command.optsWithGlobals()
      const file = typeof all['config'] === 'string' ? all['config'] : undefined
      const overrides = overridesOf(clusterSettings, all)
      const { proxy } = requireConfig(io, { file, overrides, sections: [] }).config
      const user = options.username ?? io.env['PGUSER'] ?? 'postgres'
      const told = await ask(io, statement, {
        host: options.host ?? hostOf(proxy.listen),
        port: Number(options.port ?? proxy.port),
        user,
        database: options.dbname ?? io.env['PGDATABASE'] ?? user,
        password: io.env['PGPASSWORD'],
        consistency: options.consistency,
      })
      if (options.json) printJson(io, told)
      else io.stdout(format(told, io))
    })
}

/** An address to listen on that means all of them is none to connect to. */
function hostOf(listen: string): string {
  if (listen === '0.0.0.0') return '127.0.0.1'
  return listen === '::' ? '::1' : listen
}

interface Target {
  host: string
  port: number
  user: string
  database: string
  password: string | undefined
  consistency: string | undefined
}

async function ask(io: CommandIo, statement: string, target: Target): Promise<Explanation> {
  const { Client } = await import('pg')
  const { consistency, ...connection } = target
  const client = new Client({ ...connection, application_name: 'pgherd explain', ssl: sslOf(io) })
  client.on('error', () => undefined)
  try {
    await client.connect()
    // What does not know the comment would run what stands behind it.
    await askOnce(client, '/* pgherd: explain=json */ select 1')
    const level = consistency === undefined ? '' : ` consistency=${consistency}`
    const text = `/* pgherd: explain=json${level} */ ${statement}`
    for (let waitedMs = 0; ; waitedMs += retryMs) {
      const told = await askOnce(client, text)
      const isLoading = told.refusal === 'unknown' || told.refusal === 'facts_missing'
      if (!isLoading || waitedMs >= waitMs) return told
      // What is known of a database is read when somebody works in it.
      await client.query('select 1')
      await pause(systemTimers, retryMs)
    }
  } catch (cause) {
    if (cause instanceof CommandError) throw cause
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new CommandError('failed', `${target.host}:${target.port} does not explain it: ${message}`, {
      cause,
      hint: hintFor(message),
    })
  } finally {
    await client.end().catch(() => undefined)
  }
}

function hintFor(message: string): string {
  if (/password/i.test(message)) return 'set PGPASSWORD to the password of that user'
  if (message.startsWith('pgherd: there is no'))
    return 'a session begins when there is a server for it: see pgherd status'
  return 'it must be the port of a pgherd proxy, and a database in another pool mode than `session`'
}

async function askOnce(
  client: { query(text: string): Promise<{ rows: unknown[] }> },
  text: string,
): Promise<Explanation> {
  const [row] = (await client.query(text)).rows as { pgherd?: string }[]
  if (row?.pgherd === undefined)
    throw new CommandError('failed', 'what answers is no pgherd that explains', { hint: hintFor('') })
  return JSON.parse(row.pgherd) as Explanation
}

function sslOf({ env }: CommandIo): boolean | { rejectUnauthorized: boolean } {
  const mode = env['PGSSLMODE'] ?? ''
  if (mode.startsWith('verify')) return true
  return mode === 'require' ? { rejectUnauthorized: false } : false
}

function format(told: Explanation, io: CommandIo): string {
  const lines = [
    `statement    ${told.sentence ?? 'only reads'}`,
    `consistency  ${told.consistency}`,
    `goes to      the ${told.route}${told.node === undefined ? '' : ` ${told.node}`}: ${told.why}`,
  ]
  return `${lines.join('\n')}\n\n${table(columns, told.nodes, io)}`
}
