import { join } from 'node:path'
import type { Contestant, Setup } from './contestant.ts'

/** Pgpool-II in front of one server: a process a client, which keeps its server connection for the next client. */
export function pgpool(program: string, version: string): Contestant {
  return {
    name: 'pgpool',
    title: 'Pgpool-II',
    version,
    checksPasswords: false,
    isSubject: false,
    asServerAccount: true,
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
    // One server: nothing to balance, and no standby to look for.
    `backend_clustering_mode = 'raw'`,
    `listen_addresses = '127.0.0.1'`,
    `port = ${port}`,
    `socket_dir = '${setup.dir}'`,
    `pcp_listen_addresses = '127.0.0.1'`,
    `pcp_port = ${pcpPort}`,
    `pcp_socket_dir = '${setup.dir}'`,
    `pid_file_name = '${join(setup.dir, 'pgpool.pid')}'`,
    `logdir = '${setup.dir}'`,
    `backend_hostname0 = '127.0.0.1'`,
    `backend_port0 = ${setup.serverPort}`,
    `num_init_children = ${setup.clientsMax}`,
    // One user and database: a process needs no second connection.
    'max_pool = 1',
    'connection_cache = on',
    // What its manual advises for many processes: they do not all wake up for each client.
    'child_life_time = 0',
    'serialize_accept = on',
    'enable_pool_hba = off',
    'load_balance_mode = off',
    `log_min_messages = 'error'`,
  ].join('\n')}\n`
}
