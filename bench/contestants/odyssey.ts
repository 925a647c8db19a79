import { join } from 'node:path'
import { benchDatabase, benchUser, type Contestant, type Setup } from './contestant.ts'

/** Odyssey with transaction pooling and named prepared statements: one worker, as it has by itself. */
export function odyssey(program: string, version: string): Contestant {
  return {
    name: 'odyssey',
    title: 'Odyssey',
    version,
    checksPasswords: true,
    isSubject: false,
    asServerAccount: false,
    launch: setup => ({
      files: { 'odyssey.conf': configText(setup) },
      command: [program, join(setup.dir, 'odyssey.conf')],
    }),
  }
}

function configText(setup: Setup): string {
  const login =
    setup.login === 'scram'
      ? ['    authentication "scram-sha-256"', `    password "${setup.verifier}"`]
      : ['    authentication "none"']
  return `${[
    'daemonize no',
    'log_format "%l (%c) %m\\n"',
    'log_session no',
    'log_stats no',
    // Nobody takes over from it, and nobody else is to listen at its port.
    'enable_online_restart no',
    'bindwith_reuseport no',
    ...(setup.workers === undefined ? [] : [`workers ${setup.workers}`]),
    `client_max ${setup.clientsMax}`,
    // What its manual advises: a coroutine for each client and each server connection.
    `cache_coroutine ${setup.clientsMax + setup.poolSize}`,
    'listen {',
    '  host "127.0.0.1"',
    `  port ${setup.ports[0]}`,
    '}',
    'storage "postgresql" {',
    '  type "remote"',
    '  host "127.0.0.1"',
    `  port ${setup.serverPort}`,
    '}',
    `database "${benchDatabase}" {`,
    `  user "${benchUser}" {`,
    ...login,
    '    storage "postgresql"',
    '    pool "transaction"',
    `    pool_size ${setup.poolSize}`,
    // As with the others, nothing is reset between transactions, and statements stay prepared.
    '    pool_discard no',
    '    pool_reserve_prepared_statement yes',
    '  }',
    '}',
  ].join('\n')}\n`
}
