import { join } from 'node:path'
import { benchDatabase, benchUser, type Contestant, type Setup } from './contestant.ts'

/**
 * Pgpool-II: a process a client, which keeps its server connections for the next client. In front of replicas it draws
 * one for each read.
 */
export function pgpool(program: string, version: string): Contestant {
  return {
    name: 'pgpool',
    title: 'Pgpool-II',
    version,
    checksPasswords: false,
    isSubject: false,
    asServerAccount: true,
    balances: true,
    launch: setup => ({
      files: { 'pgpool.conf': configText(setup), 'pool_hba.conf': '', 'pcp.conf': '' },
      command: [
        program,
        '-n',
        '-D',
        ...['-f', join(setup.dir, 'pgpool.conf')],
        ...['-a', join(setup.dir, 'pool_hba.conf')],
        ...['-F', join(setup.dir, 'pcp.conf')],
      ],
      endsAfterTurn: true,
    }),
  }
}

function configText(setup: Setup): string {
  const [port, pcpPort] = setup.ports
  return `${[
    `listen_addresses = '127.0.0.1'`,
    `port = ${port}`,
    `socket_dir = '${setup.dir}'`,
    `pcp_listen_addresses = '127.0.0.1'`,
    `pcp_port = ${pcpPort}`,
    `pcp_socket_dir = '${setup.dir}'`,
    `pid_file_name = '${join(setup.dir, 'pgpool.pid')}'`,
    `logdir = '${setup.dir}'`,
    ...backends(setup),
    `num_init_children = ${setup.clientsMax}`,
    // One user and database: a process needs no second connection.
    'max_pool = 1',
    'connection_cache = on',
    // What its manual advises for many processes: they do not all wake up for each client.
    'child_life_time = 0',
    'serialize_accept = on',
    'enable_pool_hba = off',
    `log_min_messages = 'error'`,
  ].join('\n')}\n`
}

function backends({ replicaPorts, serverPort }: Setup): string[] {
  const server = (port: number, at: number, weight: number): string[] => [
    `backend_hostname${at} = '127.0.0.1'`,
    `backend_port${at} = ${port}`,
    `backend_weight${at} = ${weight}`,
  ]
  // One server: nothing to balance, and no standby to look for.
  if (replicaPorts.length === 0)
    return [`backend_clustering_mode = 'raw'`, 'load_balance_mode = off', ...server(serverPort, 0, 1)]
  return [
    `backend_clustering_mode = 'streaming_replication'`,
    'load_balance_mode = on',
    'statement_level_load_balance = on',
    `sr_check_user = '${benchUser}'`,
    `sr_check_database = '${benchDatabase}'`,
    ...server(serverPort, 0, 0),
    ...replicaPorts.flatMap((port, at) => server(port, at + 1, 1)),
  ]
}
