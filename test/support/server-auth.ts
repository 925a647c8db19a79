import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { PostgresServer } from '../../src/demo/postgres.ts'

/**
 * Makes a server ask for passwords: `rules` are the lines of its pg_hba.conf for connections over TCP. The account
 * `postgres` comes in without, for the tests' own statements and the proxy's probes.
 */
export async function askForPasswords(server: PostgresServer, rules: readonly string[]): Promise<void> {
  const fixed = ['local all all trust', 'host all postgres 127.0.0.1/32 trust']
  await writeFile(join(server.folder, 'pg_hba.conf'), `${[...fixed, ...rules].join('\n')}\n`)
  await server.query('select pg_reload_conf()')
}

export interface PsqlResult {
  /** 0 when it succeeded. */
  code: number
  out: string
  err: string
}

/** Runs the real psql with a connection string, and a statement; the password goes by its environment. */
export async function psql(
  connection: string,
  sql: string,
  environment: Record<string, string> = {},
): Promise<PsqlResult> {
  const { PATH = '' } = process.env
  const options = { env: { PATH, PGPASSFILE: '/nonexistent', ...environment }, timeout: 20_000 }
  try {
    const { stderr, stdout } = await promisify(execFile)('psql', ['-XAtq', '-c', sql, connection], options)
    return { code: 0, out: stdout.trim(), err: stderr.trim() }
  } catch (cause) {
    const failure = cause as { code?: number; stdout?: string; stderr?: string }
    return {
      code: failure.code ?? -1,
      out: (failure.stdout ?? '').trim(),
      err: (failure.stderr ?? '').trim(),
    }
  }
}
