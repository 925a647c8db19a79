import { painter } from './output.ts'

/** What the demo tells when it is ready. */
export interface GreetingFacts {
  tookMs: number
  port: number
  /** 0 for none, as for `adminPort`. */
  readPort: number
  adminPort: number
  /** Where commands look for the admin interface by themselves. */
  adminPortDefault: number | undefined
  /** In a clone, which commands are not on the PATH of: where npx finds them, as `in this folder`. */
  npxPlace: string | undefined
  /** How to call psql; undefined where there is none. */
  psql: string | undefined
  pgCtl: string
  /** Who has to run pg_ctl, where that is not this user. */
  serverUser: string | undefined
  /** Data folders. */
  primary: string
  replica: string
  colour: boolean
}

type Line = [command: string, what: string]

/** What to try, as commands that work as they are printed. */
export function greeting(facts: GreetingFacts): string {
  const { tookMs, psql } = facts
  const paint = painter(facts.colour)
  const lines = [
    '',
    `pgherd is ready after ${(tookMs / 1000).toFixed(1)} s. In another terminal:`,
    '',
    ...columns(clients(facts), paint.bold),
    ...(psql === undefined ? ['  There is no psql on this PATH: install postgresql-client for psql.'] : []),
    '',
    ...(facts.adminPort === 0 ? [] : operations(facts, paint.bold)),
    '  A failover by hand: stop the primary, promote a replica, see the writes move.',
    ...columns([pgCtl(facts, 'stop', facts.primary), pgCtl(facts, 'promote', facts.replica)], paint.bold),
    '',
    'Everyone on this machine can connect as superuser without a password.',
    'Ctrl-C stops everything.',
    '',
  ]
  return lines.join('\n')
}

function clients({ psql = 'psql', port, readPort, adminPort }: GreetingFacts): Line[] {
  const session = (at: number): string => `${psql} -h 127.0.0.1 -p ${at} -U postgres`
  const lines: Line[] = [[session(port), 'reads and writes']]
  if (readPort !== 0) lines.push([session(readPort), 'reads, balanced over the replicas'])
  if (adminPort !== 0) lines.push([`curl http://127.0.0.1:${adminPort}/metrics`, 'Prometheus metrics'])
  return lines
}

function operations(
  { npxPlace, adminPort, adminPortDefault }: GreetingFacts,
  emphasise: (text: string) => string,
): string[] {
  const program = npxPlace === undefined ? 'pgherd' : 'npx pgherd'
  const address = adminPort === adminPortDefault ? '' : ` --admin-url http://127.0.0.1:${adminPort}`
  const lines: Line[] = [
    [`${program} status${address}`, 'what is, and why'],
    [`${program} node drain b${address}`, 'takes b out'],
    [`${program} node resume b${address}`, 'brings it back'],
  ]
  const place = npxPlace === undefined ? [] : [`  npx finds pgherd ${npxPlace}:`]
  return [...place, ...columns(lines, emphasise), '']
}

function pgCtl({ pgCtl: program, serverUser }: GreetingFacts, what: string, folder: string): Line {
  const plain = `${program} ${what} -D ${folder}`
  return [serverUser === undefined ? plain : `su ${serverUser} -s /bin/sh -c '${plain}'`, '']
}

function columns(lines: Line[], emphasise: (text: string) => string): string[] {
  const width = Math.max(...lines.map(([command]) => command.length))
  return lines.map(([command, what]) => {
    const padding = ' '.repeat(width - command.length + 2)
    return `  ${emphasise(command)}${what === '' ? '' : `${padding}${what}`}`
  })
}
