import { join } from 'node:path'
import type { Contestant, Setup } from './contestant.ts'

/** The first with named prepared statements in transaction pooling. */
const statementsSince = 1.21

/** PgBouncer with transaction pooling: one process on one processor, as most run it. */
export function pgbouncer(program: string, version: string): Contestant {
  const keepsStatements = Number.parseFloat(version) >= statementsSince
  return {
    name: 'pgbouncer',
    title: 'PgBouncer',
    version,
    checksPasswords: true,
    isSubject: false,
    asServerAccount: true,
    ...(!keepsStatements && {
      statementsRemark: `PgBouncer ${version} has no prepared statements in transaction pooling: it pools sessions here, with as many server connections as clients.`,
    }),
    launch: setup => {
      const bySession = setup.keepsStatements && !keepsStatements
      const pooling = bySession
        ? ['pool_mode = session', `default_pool_size = ${setup.clientsMax}`]
        : ['pool_mode = transaction', `default_pool_size = ${setup.poolSize}`]
      if (keepsStatements) pooling.push('max_prepared_statements = 200')
      return {
        files: { 'pgbouncer.ini': configText(setup, pooling) },
        command: [program, '-q', join(setup.dir, 'pgbouncer.ini')],
        endsAfterTurn: bySession,
      }
    },
  }
}

function configText(setup: Setup, pooling: readonly string[]): string {
  return `${[
    '[databases]',
    `* = host=127.0.0.1 port=${setup.serverPort}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${setup.ports[0]}`,
    'unix_socket_dir =',
    `auth_type = ${setup.login === 'scram' ? 'scram-sha-256' : 'trust'}`,
    `auth_file = ${setup.usersFile}`,
    ...pooling,
    `max_client_conn = ${setup.clientsMax}`,
    'log_connections = 0',
    'log_disconnections = 0',
    'logfile = /dev/null',
  ].join('\n')}\n`
}
