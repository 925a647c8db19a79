import { join } from 'node:path'
import type { Contestant, Setup } from './contestant.ts'

/** HAProxy as a relay of TCP: it has no pool, so each client has a server process of its own. */
export function haproxy(program: string, version: string): Contestant {
  return {
    name: 'haproxy',
    title: 'HAProxy',
    version,
    checksPasswords: false,
    isSubject: false,
    asServerAccount: true,
    launch: setup => ({
      files: { 'haproxy.cfg': configText(setup) },
      command: [program, '-db', '-f', join(setup.dir, 'haproxy.cfg')],
    }),
  }
}

function configText(setup: Setup): string {
  // Each client takes two sockets.
  return `${[
    'global',
    `  maxconn ${setup.clientsMax}`,
    ...(setup.workers === undefined ? [] : [`  nbthread ${setup.workers}`]),
    'defaults',
    '  mode tcp',
    '  timeout connect 10s',
    '  timeout client 30m',
    '  timeout server 30m',
    'listen postgresql',
    `  bind 127.0.0.1:${setup.ports[0]}`,
    `  server a 127.0.0.1:${setup.serverPort}`,
  ].join('\n')}\n`
}
