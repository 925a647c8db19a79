import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { benchDatabase, benchUser, type Contestant, type Setup } from './contestant.ts'

/** What its manual advises. */
const workersPerProcessor = 2

/**
 * PgDog with transaction pooling and named prepared statements; in front of one server there is nothing to parse. Reads go
 * to the replicas in turns.
 */
export function pgdog(program: string, version: string): Contestant {
  return {
    name: 'pgdog',
    title: 'PgDog',
    version,
    checksPasswords: true,
    isSubject: false,
    asServerAccount: false,
    balances: true,
    launch: setup => {
      const config = join(setup.dir, 'pgdog.toml')
      const users = join(setup.dir, 'users.toml')
      return {
        files: { 'pgdog.toml': configText(setup), 'users.toml': usersText(setup) },
        command: [program, '--config', config, '--users', users],
      }
    },
  }
}

function configText(setup: Setup): string {
  return `${[
    '[general]',
    'host = "127.0.0.1"',
    `port = ${setup.ports[0]}`,
    `workers = ${setup.workers ?? workersPerProcessor * availableParallelism()}`,
    'pooler_mode = "transaction"',
    `default_pool_size = ${setup.poolSize}`,
    'prepared_statements = "extended"',
    // On a busy machine clients wait for more than five seconds: here as long as PgBouncer lets them.
    'checkout_timeout = 120000',
    `auth_type = "${setup.login}"`,
    'log_level = "error"',
    ...(setup.replicaPorts.length > 0 ? ['load_balancing_strategy = "round_robin"'] : []),
    ...server(setup.serverPort, 'primary'),
    ...setup.replicaPorts.flatMap(port => server(port, 'replica')),
  ].join('\n')}\n`
}

function server(port: number, role: string): string[] {
  return [
    '[[databases]]',
    `name = "${benchDatabase}"`,
    'host = "127.0.0.1"',
    `port = ${port}`,
    `role = "${role}"`,
  ]
}

/** A user without a password is refused, even where all are trusted. */
function usersText(setup: Setup): string {
  return `${[
    '[[users]]',
    `name = "${benchUser}"`,
    `database = "${benchDatabase}"`,
    `password_hash = "${setup.verifier}"`,
    // It connects to no server without one, though the server does not ask for it.
    'server_password = "unused"',
  ].join('\n')}\n`
}
