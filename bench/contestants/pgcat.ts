import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { benchDatabase, benchUser, type Contestant, type Setup } from './contestant.ts'

/**
 * PgCat with transaction pooling and named prepared statements. In front of replicas all clients are for these, of which
 * it draws one for each transaction: nothing to parse.
 */
export function pgcat(program: string, version: string): Contestant {
  return {
    name: 'pgcat',
    title: 'PgCat',
    version,
    // It can ask for an MD5 password only, and the workloads that are about passwords are about SCRAM.
    checksPasswords: false,
    isSubject: false,
    asServerAccount: false,
    balances: true,
    launch: setup => ({
      files: { 'pgcat.toml': configText(setup) },
      command: [program, '--no-color', '--log-level', 'error', join(setup.dir, 'pgcat.toml')],
    }),
  }
}

function configText(setup: Setup): string {
  return `${[
    '[general]',
    'host = "127.0.0.1"',
    `port = ${setup.ports[0]}`,
    // What its README advises: a processor for each.
    `worker_threads = ${setup.workers ?? availableParallelism()}`,
    // On a busy machine clients wait for more than a second: here as long as PgBouncer lets them.
    'connect_timeout = 120000',
    // It does not start without a name and a password for its console, where nobody comes.
    'admin_username = "admin"',
    'admin_password = "admin"',
    `[pools.${benchDatabase}]`,
    'pool_mode = "transaction"',
    // As in its example; without it there are no named statements.
    'prepared_statements_cache_size = 500',
    ...(setup.replicaPorts.length > 0 ? ['default_role = "replica"', 'load_balancing_mode = "random"'] : []),
    `[pools.${benchDatabase}.users.0]`,
    `username = "${benchUser}"`,
    'auth_type = "trust"',
    // It does not start without one, though neither it nor the server asks for it.
    'password = "unused"',
    `pool_size = ${setup.poolSize}`,
    `[pools.${benchDatabase}.shards.0]`,
    `database = "${benchDatabase}"`,
    `servers = [${servers(setup).join(', ')}]`,
  ].join('\n')}\n`
}

function servers({ replicaPorts, serverPort }: Setup): string[] {
  const server = (port: number, role: string): string => `["127.0.0.1", ${port}, "${role}"]`
  return [server(serverPort, 'primary'), ...replicaPorts.map(port => server(port, 'replica'))]
}
