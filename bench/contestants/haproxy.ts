import { join } from 'node:path'
import type { Contestant, Setup } from './contestant.ts'

/** HAProxy as a relay of TCP: it has no pool, so each client has a server process of its own. */
export function haproxy(program: string, version: string): Contestant {
  return {
    ...contestant(program, 'roundrobin'),
    name: 'haproxy',
    title: 'HAProxy',
    version,
    balances: true,
  }
}

/** The same, with new clients going where the fewest are. */
export function haproxyLeastconn(program: string, version: string): Contestant {
  return {
    ...contestant(program, 'leastconn'),
    name: 'haproxy-leastconn',
    title: 'HAProxy leastconn',
    version,
    balances: 'only',
  }
}

function contestant(
  program: string,
  algorithm: 'roundrobin' | 'leastconn',
): Omit<Contestant, 'name' | 'title' | 'version'> {
  return {
    checksPasswords: false,
    isSubject: false,
    asServerAccount: true,
    launch: setup => ({
      files: { 'haproxy.cfg': configText(setup, algorithm) },
      command: [program, '-db', '-f', join(setup.dir, 'haproxy.cfg')],
    }),
  }
}

function configText(setup: Setup, algorithm: string): string {
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
    ...(setup.replicaPorts.length > 0
      ? [
          `  balance ${algorithm}`,
          ...setup.replicaPorts.map((port, at) => `  server r${at + 1} 127.0.0.1:${port}`),
        ]
      : [`  server a 127.0.0.1:${setup.serverPort}`]),
  ].join('\n')}\n`
}
