import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { giveTo, serverAccount } from '../../src/demo/account.ts'
import { baseEnvironment, signalProcess, startChild } from '../../src/runtime/process.ts'
import { freePorts } from '../../test/support/ports.ts'
import { until } from '../../test/support/wait.ts'
import { logIn } from '../client.ts'
import { BenchError } from '../error.ts'
import { type Placement, placed } from '../placement.ts'
import type { BenchPostgres } from '../postgres.ts'
import type { Contestant, Setup } from './contestant.ts'

/** A contestant that clients can log in at. */
export interface Running {
  name: string
  port: number
  /** The process that all others of it descend from; undefined for PostgreSQL itself. */
  pid: number | undefined
  /** How it has ended by itself, with its last words; undefined while it runs. */
  problem(): string | undefined
  /** It is stopped after each of its turns. */
  endsAfterTurn: boolean
  stop(): Promise<void>
}

/** What a workload wants of all contestants alike. */
export type Demands = Pick<
  Setup,
  'poolSize' | 'clientsMax' | 'login' | 'keepsStatements' | 'workers' | 'replicaPorts'
>

const readyLimitMs = 30_000
const stopGraceMs = 10_000
let started = 0

/** Throws `BenchError` `not_started` with what the contestant said last. */
export async function startContestant(
  contestant: Contestant,
  postgres: BenchPostgres,
  demands: Demands,
  placement: Placement,
): Promise<Running> {
  const { name, launch } = contestant
  if (!launch) {
    const stop = (): Promise<void> => Promise.resolve()
    return { name, port: postgres.port, pid: undefined, problem: () => undefined, endsAfterTurn: false, stop }
  }
  const dir = join(postgres.dir, `${name}-${++started}`)
  const ports = (await freePorts(3)) as [number, number, number]
  const {
    files,
    command,
    endsAfterTurn = false,
  } = launch({
    ...demands,
    dir,
    ports,
    serverPort: postgres.port,
    usersFile: postgres.usersFile,
    verifier: postgres.verifier,
  })
  await mkdir(dir)
  for (const [file, text] of Object.entries(files)) await writeFile(join(dir, file), text, { mode: 0o600 })
  const account = await serverAccount()
  if (contestant.asServerAccount) {
    await giveTo(account, dir)
    await giveTo(account, postgres.usersFile)
  }
  const [program, ...args] = placed(placement, command)
  const child = await startChild({
    command: program!,
    args,
    env: baseEnvironment(),
    cwd: dir,
    ...(contestant.asServerAccount && { identity: account.identity }),
  })
  const stop = async (): Promise<void> => {
    await child.stop('SIGTERM', stopGraceMs)
    // The child leads a group of its own: what it has left behind goes too.
    signalProcess(-child.pid, 'SIGKILL')
  }
  const failure = (cause: unknown): BenchError => {
    const words = child.tail.join('; ') || (cause as Error).message
    return new BenchError('not_started', `${name} cannot be used: ${words}`, { cause })
  }
  try {
    await until(
      `${name} leads to PostgreSQL`,
      async () => {
        if (child.exit) return true
        const visit = await logIn(ports[0], postgres.keys)
        await visit.run('select 1')
        return visit.end()
      },
      readyLimitMs,
    )
  } catch (cause) {
    await stop()
    throw failure(cause)
  }
  if (child.exit) throw failure(new Error('it ended by itself'))
  const problem = (): string | undefined =>
    child.exit &&
    `${name} ended (${child.exit.signal ?? child.exit.code}): ${child.tail.slice(-3).join('; ')}`
  return { name, port: ports[0], pid: child.pid, problem, endsAfterTurn, stop }
}
