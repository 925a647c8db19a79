import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from './wait.ts'

export interface HaproxyServer {
  name: string
  /** Where its clients go: PostgreSQL. */
  port: number
  /** Port of the HTTP health checks, and of the agent-check where there is one. */
  checkPort: number
  agentPort?: number
}

export interface HaproxyBackend {
  name: string
  /** Port of its frontend on 127.0.0.1. */
  port: number
  /** Path of `option httpchk`. */
  path: string
  servers: HaproxyServer[]
  /** More options of every server line; `weight 100` unless given. */
  serverOptions?: string
}

/** One server as HAProxy sees it, from `show stat`. */
export interface ServerRow {
  /** `UP`, `DOWN`, `DRAIN`, `MAINT`, with additions such as `DOWN (agent)`. */
  status: string
  weight: number
  checkCode: string
  agentStatus: string
  /** What the agent said after `#`. */
  agentText: string
}

export interface Haproxy {
  server(backend: string, server: string): Promise<ServerRow>
  stop(): Promise<void>
}

const checkPeriodMs = 100

/** Starts a real HAProxy in a temporary folder: TCP, HTTP health checks, agent checks, an admin socket. */
export async function startHaproxy(binary: string, backends: HaproxyBackend[]): Promise<Haproxy> {
  const dir = await mkdtemp(join(tmpdir(), 'pgherd-haproxy-'))
  const socketPath = join(dir, 'admin.sock')
  const configPath = join(dir, 'haproxy.cfg')
  await writeFile(configPath, configText(socketPath, backends))
  const child = spawn(binary, ['-db', '-f', configPath], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000)
    })
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exited
    await rm(dir, { recursive: true, force: true })
  }
  try {
    await until(`haproxy listens; it said: ${output}`, async () => {
      if (child.exitCode !== null) throw new Error(`haproxy ended: ${output}`)
      return (await command(socketPath, 'show info')) !== ''
    })
  } catch (cause) {
    await stop()
    throw cause
  }
  return {
    server: async (backend, name) => readServer(await command(socketPath, 'show stat'), backend, name),
    stop,
  }
}

function configText(socketPath: string, backends: HaproxyBackend[]): string {
  const lines = [
    'global',
    `  stats socket ${socketPath} mode 600 level admin`,
    'defaults',
    '  mode tcp',
    '  timeout connect 2s',
    '  timeout client 30s',
    '  timeout server 30s',
    '  timeout check 2s',
    `  default-server inter ${checkPeriodMs}ms fall 2 rise 1 agent-inter ${checkPeriodMs}ms`,
  ]
  for (const { name, port, path, servers, serverOptions = 'weight 100' } of backends) {
    lines.push(
      `listen ${name}`,
      `  bind 127.0.0.1:${port}`,
      `  option httpchk OPTIONS ${path}`,
      '  http-check expect status 200',
    )
    for (const server of servers) {
      const agent =
        server.agentPort === undefined
          ? ''
          : ` agent-check agent-addr 127.0.0.1 agent-port ${server.agentPort}`
      lines.push(
        `  server ${server.name} 127.0.0.1:${server.port} ${serverOptions} check port ${server.checkPort}${agent}`,
      )
    }
  }
  return `${lines.join('\n')}\n`
}

/** Sends one command to the admin socket and gives back what it says. */
function command(socketPath: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(socketPath, () => socket.end(`${text}\n`))
    socket.setTimeout(2_000, () => socket.destroy(new Error(`haproxy did not answer to ${text}`)))
    socket.on('data', chunk => {
      answer += chunk.toString()
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(answer))
  })
}

/** Picks one server's row out of the CSV of `show stat`. */
function readServer(csv: string, backend: string, name: string): ServerRow {
  const [head = '', ...rows] = csv.trim().split('\n')
  const columns = head.replace(/^# /, '').split(',')
  const cells = rows.map(readCells).find(row => row[0] === backend && row[1] === name)
  if (!cells) throw new Error(`haproxy has no server ${backend}/${name}`)
  const cell = (column: string): string => cells[columns.indexOf(column)] ?? ''
  return {
    status: cell('status'),
    weight: Number(cell('weight')),
    checkCode: cell('check_code'),
    agentStatus: cell('agent_status'),
    agentText: cell('last_agt'),
  }
}

/** Cells of one CSV row; one that has a comma in it stands in quotes, with its own quotes doubled. */
function readCells(row: string): string[] {
  return [...row.matchAll(/(?:"((?:[^"]|"")*)"|([^,]*))(?:,|$)/g)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain ?? '') : quoted.replaceAll('""', '"'),
  )
}
