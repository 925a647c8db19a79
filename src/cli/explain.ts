import { type Command, InvalidArgumentError } from 'commander'
import { consistencyForms, parseConsistency } from '../config/consistency.ts'
import type { Explanation } from '../proxy/pool/explanation.ts'
import { pause, systemTimers } from '../runtime/timers.ts'
import { syntaxErrorOf } from '../sql/statement-classes.ts'
import { requireConfig } from './config.ts'
import { type Asked, explainFailure, explainsNothing } from './explain-failure.ts'
import { type Column, CommandError, type CommandIo, printJson, printWarning, table } from './output.ts'
import { addSettings, clusterSettings, type OptionValues, overridesOf } from './settings.ts'

interface ExplainOptions {
  host?: string
  port?: number
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
    .option('-p, --port <port>', 'its port (default: `proxy.port`)', readPort)
    .option('-U, --username <name>', 'whom to log in as (default: PGUSER, or postgres)')
    .option('-d, --dbname <name>', 'database (default: PGDATABASE, or the name of the user)')
    .option('--consistency <level>', 'in place of what counts for this database and user', readConsistency)
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
        port: options.port ?? proxy.port,
        user,
        database: options.dbname ?? io.env['PGDATABASE'] ?? user,
        password: io.env['PGPASSWORD'],
        console: proxy.console.database,
        consistency: options.consistency,
      })
      if (options.json) printJson(io, told)
      else io.stdout(format(told, io))
      const wrong = told.refusal === 'unreadable' ? await syntaxErrorOf(statement) : undefined
      if (wrong !== undefined) printWarning(io, `the statement cannot be parsed: ${wrong}`)
    })
}

function readPort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw new InvalidArgumentError('Expected a port from 1 to 65535.')
  return port
}

/** Of a comment that says what cannot be, the proxy would not say that it counts as not said. */
function readConsistency(text: string): string {
  if (!parseConsistency(text)) throw new InvalidArgumentError(`Expected ${consistencyForms}.`)
  return text
}

/** An address to listen on that means all of them is none to connect to. */
function hostOf(listen: string): string {
  if (listen === '0.0.0.0') return '127.0.0.1'
  return listen === '::' ? '::1' : listen
}

interface Target extends Asked {
  consistency: string | undefined
}

async function ask(io: CommandIo, statement: string, target: Target): Promise<Explanation> {
  const { Client } = await import('pg')
  const { host, port, user, database, password, consistency } = target
  const connection = { host, port, user, database, password, ssl: sslOf(io) }
  const client = new Client({ ...connection, application_name: 'pgherd explain' })
  client.on('error', () => undefined)
  try {
    await client.connect()
    // What does not know the comment would run what stands behind it.
    await askOnce(client, '/* pgherd: explain=json */ select 1', target)
    const level = consistency === undefined ? '' : ` consistency=${consistency}`
    const text = `/* pgherd: explain=json${level} */ ${statement}`
    for (let waitedMs = 0; ; waitedMs += retryMs) {
      const told = await askOnce(client, text, target)
      const isLoading = told.refusal === 'unknown' || told.refusal === 'facts_missing'
      if (!isLoading || waitedMs >= waitMs) return told
      // What is known of a database is read when somebody works in it.
      await client.query('select 1')
      await pause(systemTimers, retryMs)
    }
  } catch (cause) {
    throw cause instanceof CommandError ? cause : explainFailure(cause, target)
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function askOnce(
  client: { query(text: string): Promise<{ rows: unknown[] }> },
  text: string,
  target: Target,
): Promise<Explanation> {
  const [row] = (await client.query(text)).rows as { pgherd?: string }[]
  if (row?.pgherd === undefined) throw explainsNothing(target)
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
    `goes to      the ${told.role}${told.node === undefined ? '' : ` ${told.node}`}: ${told.why}`,
  ]
  return `${lines.join('\n')}\n\n${table(columns, told.nodes, io)}`
}
